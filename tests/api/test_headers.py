import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.api.headers import Headers


def made() -> Headers:
    return Headers([(b"host", b"a"), (b"set-cookie", b"1"), (b"x", b"\xe9"), (b"set-cookie", b"2")])


def test_names_are_looked_up_in_any_case_as_text_or_bytes() -> None:
    headers = made()
    assert headers["HOST"] == headers["host"] == headers[b"Host"] == "a"
    assert headers.get("Set-Cookie") == "1"
    assert headers.getall(b"SET-cookie") == ["1", "2"]
    assert "SET-COOKIE" in headers
    assert headers.get("none") is None
    assert headers.getall("none") == []
    assert "none" not in headers
    with pytest.raises(KeyError):
        headers["none"]


def test_values_are_latin_1() -> None:
    headers = made()
    assert headers["x"] == "é"
    headers["y"] = "ü"
    assert headers.raw[-1] == (b"y", b"\xfc")
    with pytest.raises(ValueError):  # UnicodeEncodeError is one
        headers["y"] = "€"


def test_adding_keeps_what_is_there() -> None:
    headers = made()
    headers.add("Set-Cookie", b"3")
    assert headers.getall("set-cookie") == ["1", "2", "3"]
    assert headers.raw[-1] == (b"set-cookie", b"3")


def test_setting_replaces_all_of_that_name_and_nothing_else() -> None:
    headers = made()
    headers["SET-COOKIE"] = "new"
    assert headers.raw == [(b"host", b"a"), (b"x", b"\xe9"), (b"set-cookie", b"new")]


def test_removing_takes_every_one_and_is_no_error_for_none() -> None:
    headers = made()
    headers.remove("Set-Cookie", b"HOST", "none")
    assert headers.raw == [(b"x", b"\xe9")]


def test_popping() -> None:
    headers = made()
    assert headers.pop("Set-Cookie") == "1"
    assert "set-cookie" not in headers
    assert headers.pop("set-cookie") is None
    assert len(headers) == 2


@pytest.mark.parametrize("bad", ["a\rb", "a\nb", "a\0b", "a\r\nx: y"])
def test_nothing_can_start_a_line_of_its_own(bad: str) -> None:
    headers = Headers()
    with pytest.raises(ValueError, match="not a header field"):
        headers.add("x", bad)
    with pytest.raises(ValueError, match="not a header field"):
        headers["x"] = bad.encode()
    with pytest.raises(ValueError, match="not a header field"):
        headers[bad] = "x"
    with pytest.raises(ValueError, match="not a header field"):
        Headers.of([("x", bad)])
    with pytest.raises(ValueError, match="not a header field"):
        headers[""] = "x"
    assert headers.raw == []


def test_a_refused_value_is_not_in_the_message() -> None:
    with pytest.raises(ValueError) as caught:
        Headers().add("authorization", "Bearer secret\n")
    assert "secret" not in str(caught.value)


def test_a_refused_set_leaves_the_old_one() -> None:
    headers = Headers.of([("a", "1")])
    with pytest.raises(ValueError):
        headers["a"] = "2\n"
    assert headers["a"] == "1"


def test_of_iteration_length_and_equality() -> None:
    headers = Headers.of([("Host", "a"), ("X", "é")])
    assert list(headers) == [("host", "a"), ("x", "é")]
    assert len(headers) == 2
    assert headers == Headers([(b"host", b"a"), (b"x", b"\xe9")])
    assert headers != Headers([(b"x", b"\xe9"), (b"host", b"a")])
    assert headers != [("host", "a")]
    with pytest.raises(TypeError):
        hash(headers)


def test_empty_headers_are_not_shared() -> None:
    one, other = Headers(), Headers()
    one.add("a", "1")
    assert len(other) == 0


def test_its_repr_holds_no_value() -> None:
    assert repr(Headers.of([("Authorization", "Bearer secret")])) == "Headers(['authorization'])"


_NAMES = st.sampled_from(["a", "B", "c"])
_VALUES = st.text(st.characters(max_codepoint=255, exclude_characters="\r\n\0"), max_size=3)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(_NAMES, _VALUES), max_size=8), _NAMES, _VALUES)
def test_edits_touch_one_name_alone(pairs: list[tuple[str, str]], name: str, value: str) -> None:
    others = [(key.lower(), text) for key, text in pairs if key.lower() != name.lower()]
    headers = Headers.of(pairs)
    headers[name] = value
    assert headers.getall(name.upper()) == [value]
    assert [pair for pair in headers if pair[0] != name.lower()] == others
    headers.remove(name)
    assert list(headers) == others
