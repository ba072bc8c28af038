"""The edits against a parser: what they make is what the edit made on the parsed value, and no byte more."""

import sys
from collections.abc import Callable
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.api import edit, find_member, insert_member, remove_member, replace_member

NAMES = ["usage", "a", "é", "🌊", "", "a/b", 'quo"te', "back\\slash", "line\n", "stream_options", "\x7f"]
VALUE = b'{"new":[1,2]}'


# -- JSON as nobody formats it ---------------------------------------------------------------------------


def escaped(character: str, how: int) -> str:
    units = character.encode("utf-16-be").hex()
    long = "".join(f"\\u{units[at : at + 4]}" for at in range(0, len(units), 4))
    short = {'"': '\\"', "\\": "\\\\", "/": "\\/", "\n": "\\n", "\b": "\\b", "\t": "\\t"}.get(character)
    ways = [long, long.upper().replace("\\U", "\\u")]
    ways += [short] if short else [] if character < " " else [character, character, character, character]
    return ways[how % len(ways)]


spaces = st.sampled_from(["", "", "", " ", "\n", "\r\n\t", "  "])
texts = st.one_of(st.text(max_size=8).filter(lambda text: text.isprintable()), st.sampled_from(NAMES))


@st.composite
def strings(draw: st.DrawFn, of: st.SearchStrategy[str] = texts) -> str:
    text = draw(of)
    ways = draw(st.lists(st.integers(0, 9), min_size=len(text), max_size=len(text)))
    return '"' + "".join(escaped(c, way) for c, way in zip(text, ways, strict=True)) + '"'


numbers = st.sampled_from(
    ["0", "-1", "18446744073709551616", "1e5", "-0.25E-3", "true", "null", "4.1400000000000003e-05"]
)


def joined(draw: st.DrawFn, opening: str, items: list[str], closing: str) -> str:
    parts = [draw(spaces) + item + draw(spaces) for item in items]
    return opening + (",".join(parts) or draw(spaces)) + closing


@st.composite
def members(draw: st.DrawFn, values: st.SearchStrategy[str], names: st.SearchStrategy[str]) -> str:
    return draw(names) + draw(spaces) + ":" + draw(spaces) + draw(values)


@st.composite
def arrays(draw: st.DrawFn, values: st.SearchStrategy[str]) -> str:
    return joined(draw, "[", draw(st.lists(values, max_size=4)), "]")


@st.composite
def nested(draw: st.DrawFn, values: st.SearchStrategy[str]) -> str:
    depth = draw(st.integers(1, 40))
    return "[" * depth + draw(values) + "]" * depth


@st.composite
def objects(draw: st.DrawFn, values: st.SearchStrategy[str], names: st.SearchStrategy[str]) -> str:
    return joined(draw, "{", draw(st.lists(members(values, names), max_size=5)), "}")


anything = st.recursive(
    st.one_of(strings(), numbers),
    lambda values: st.one_of(arrays(values), objects(values, strings()), nested(values)),
    max_leaves=8,
)


@st.composite
def bodies(draw: st.DrawFn) -> bytes:
    names = strings(st.one_of(st.sampled_from(NAMES), texts))
    return (draw(spaces) + draw(objects(anything, names)) + draw(spaces)).encode()


# -- the same as on the parsed value -----------------------------------------------------------------------


@given(bodies(), st.sampled_from(NAMES))
def test_a_member_is_found_where_its_value_stands(body: bytes, name: str) -> None:
    value = orjson.loads(body)
    found = find_member(body, name)
    assert (found is not None) == (name in value)
    if found is not None:
        assert orjson.loads(body[found.value : found.end]) == value[name]
        assert orjson.loads(b"{" + body[found.start : found.end] + b"}") == {name: value[name]}


@given(bodies(), st.sampled_from(NAMES))
def test_remove_is_removing(body: bytes, name: str) -> None:
    value = orjson.loads(body)
    removed = remove_member(body, name)
    assert orjson.loads(removed) == {key: value[key] for key in value if key != name}
    if name not in value:
        assert removed is body


@given(bodies(), st.sampled_from(NAMES))
def test_replace_is_replacing(body: bytes, name: str) -> None:
    value = orjson.loads(body)
    if name not in value:
        with pytest.raises(KeyError):
            replace_member(body, name, VALUE)
        return
    found = find_member(body, name)
    assert found is not None
    replaced = replace_member(body, name, VALUE)
    assert orjson.loads(replaced) == {**value, name: orjson.loads(VALUE)}
    assert replaced == body[: found.value] + VALUE + body[found.end :]


@given(bodies(), st.sampled_from(NAMES))
def test_insert_is_inserting_and_remove_gives_the_same_bytes_back(body: bytes, name: str) -> None:
    value = orjson.loads(body)
    if name in value:
        with pytest.raises(ValueError, match="already"):
            insert_member(body, name, VALUE)
        return
    inserted = insert_member(body, name, VALUE)
    assert orjson.loads(inserted) == {**value, name: orjson.loads(VALUE)}
    assert remove_member(inserted, name) == body


@given(bodies(), st.sampled_from(NAMES))
def test_an_old_python_finds_the_same(body: bytes, name: str) -> None:
    """With the patterns of before 3.11.5, which leave more to the loops."""
    with pytest.MonkeyPatch.context() as patch:
        for attribute, value in OLD.items():
            patch.setattr(edit, attribute, value)
        edit._look.cache_clear()
        try:
            old = find_member(body, name), remove_member(body, name)
        finally:
            edit._look.cache_clear()
    assert old == (find_member(body, name), remove_member(body, name))


def _old() -> dict[str, Any]:
    """What the module would be there."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "version_info", (3, 11, 4))
        module: dict[str, Any] = {"__name__": edit.__name__}
        with open(edit.__file__) as file:
            exec(compile(file.read(), edit.__file__, "exec"), module)  # noqa: S102
    return {name: module[name] for name in ("_FAILS_WELL", "_DEPTH", "_VALUE", "_value", "_rest")}


OLD = _old()


def test_an_old_python_is_told_apart() -> None:
    assert (OLD["_FAILS_WELL"], OLD["_DEPTH"]) == (False, 0)
    assert (sys.version_info >= (3, 11, 5)) == edit._FAILS_WELL


# -- what it looks like ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "left"),
    [
        (b'{"usage":null}', b"{}"),
        (b'{ "usage" : null }', b"{  }"),
        (b'{"usage":null,"b":2}', b'{"b":2}'),
        (b'{"usage": null, "b": 2}', b'{"b": 2}'),
        (b'{"a": 1, "usage": null, "b": 2}', b'{"a": 1, "b": 2}'),
        (b'{"a": 1, "usage": null}', b'{"a": 1}'),
        (b'{"a": 1 , "usage": null , "b": 2 }', b'{"a": 1 , "b": 2 }'),
        (b'{"a": 1 , "usage": null }', b'{"a": 1 }'),
        (b'{\n  "a": 1,\n  "usage": null\n}\n', b'{\n  "a": 1\n}\n'),
        (b'{\n  "usage": null,\n  "b": 2\n}', b'{\n  "b": 2\n}'),
        (b'{"us\\u0061ge":1,"b":18446744073709551616,"b":2}', b'{"b":18446744073709551616,"b":2}'),
        (b'{"usage":1,"usage":{},"b":2,"usage":3}', b'{"b":2}'),
        (b'{"usage":1,"usage":2}', b"{}"),
        (b'{"b":{"usage":1},"c":["usage"],"d":"\\"usage\\":1"}', None),
        (b'{"b\\"usage":1,"Usage":2,"usag":3}', None),
        (b'{"b\\\\":"usage"}', None),
        (b'{"usage"\n:\t[{"usage":"}"}]\r,"b":"{"}', b'{"b":"{"}'),
    ],
)
def test_a_comma_goes_with_it(body: bytes, left: bytes | None) -> None:
    assert remove_member(body, "usage") == (body if left is None else left)


@pytest.mark.parametrize(
    ("body", "more"),
    [
        (b"{}", b'{"seed":7}'),
        (b" { } ", b' { "seed":7} '),
        (b'{"a":1}', b'{"seed":7,"a":1}'),
        (b'\n{\n  "a": 1 }', b'\n{\n  "seed":7,"a": 1 }'),
    ],
)
def test_a_new_member_comes_first(body: bytes, more: bytes) -> None:
    assert insert_member(body, "seed", b"7") == more


def test_a_name_is_written_as_json() -> None:
    assert insert_member(b"{}", 'a"\n', b"1") == b'{"a\\"\\n":1}'


@pytest.mark.parametrize("spelled", ["é", "\\u00e9", "\\u00E9"])
@pytest.mark.parametrize("wave", ["🌊", "\\ud83c\\udf0a", "\\uD83C\\uDF0A"])
def test_a_name_is_found_however_it_is_spelled(spelled: str, wave: str) -> None:
    assert remove_member(f'{{"{spelled}{wave}":1}}'.encode(), "é🌊") == b"{}"


def test_the_last_of_two_is_replaced() -> None:
    assert replace_member(b'{"a":1,"\\u0061":2,"b":3}', "a", b"9") == b'{"a":1,"\\u0061":9,"b":3}'


# -- what is no object, or made to hurt ------------------------------------------------------------------

EDITS: list[Callable[[bytes], object]] = [
    lambda body: find_member(body, "usage"),
    lambda body: insert_member(body, "usage", b"1"),
    lambda body: remove_member(body, "usage"),
]


@pytest.mark.parametrize("body", [b"", b"[]", b'"usage"', b"null", b'x{"usage":1}', b"\xef\xbb\xbf{}"])
def test_what_is_no_object_is_refused(body: bytes) -> None:
    for change in EDITS:
        with pytest.raises(ValueError, match="not a JSON object"):
            change(body)


@pytest.mark.parametrize(
    "body",
    [
        b'{"usage":',
        b'{"usage":1',
        b'{"usage":1,',
        b'{"usage":[[[[[[[[[[[[]',
        b'{"usage":]}',
        b'{"usage":"}',
        b'{"usage" 1}',
        b'{usage:1,"usage":1}',
        b'{"a":"usage}',
        b'{"a":1 2,"usage":1}',
        b'{"a":' + b"[" * 100_000 + b'"usage"',
    ],
)
def test_what_is_broken_is_refused(body: bytes) -> None:
    for change in EDITS:
        with pytest.raises(ValueError, match=r"not a JSON object|already"):
            change(body)


@given(st.binary(max_size=40) | st.text(alphabet='{}[]":,\\u061age1 \n', max_size=40).map(str.encode))
def test_nothing_worse_than_a_value_error(noise: bytes) -> None:
    for body in (noise, b'{"usage":' + noise, b'{"usage":1,' + noise + b"}"):
        for change in EDITS:
            try:
                change(body)
            except ValueError:
                pass


HOSTILE: dict[str, Callable[[int], bytes]] = {
    "pairs": lambda n: b'{"m":[' + b"[]," * n + b'1],"usage":1}',
    "wide": lambda n: b"{" + b'"a":1,' * n + b'"usage":1}',
    "named alike": lambda n: b"{" + b'"usage":1,' * n + b'"usage":1}',
    "tall": lambda n: b'{"m":[' + (b"[" * 20 + b"]" * 20 + b",") * (n // 40) + b'1],"usage":1}',
    "tall in tall": lambda n: (
        b'{"m":'
        + b"".join(b"[" + b"[]," * (n // 1000) for _ in range(900))
        + b"1"
        + b"]" * 900
        + b',"usage":1}'
    ),
    "nested": lambda n: b'{"m":[' + b'{"usage":1},' * n + b'1],"usage":1}',
    "unfinished": lambda n: b'{"usage":' + b"[{" * n,
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_bodies_take_linear_time_and_no_stack(kind: str) -> None:
    """A quadratic one would not come back from 1 MB within the test's two minutes."""
    body = HOSTILE[kind](100_000)
    for change in EDITS:
        try:
            change(body)
        except ValueError:
            pass
    if kind != "unfinished":
        found = find_member(body, "usage")
        assert found is not None
        assert found.end == len(body) - 1
