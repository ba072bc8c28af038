import re
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.api.duplicates import (
    _EDGE,
    _FEW,
    _LONG,
    _LONGEST,
    _SLICE,
    AT_ONCE,
    METERED,
    NAMES,
    _beside_a_text,
    ambiguous,
)
from proxy.pricing.prompt import ENDPOINTS, read


def look(raw: bytes) -> str | None:
    return ambiguous(raw, orjson.loads(raw))


def escaped(name: str, *at: int) -> str:
    """A name with some of its letters, or all, as escapes."""
    return "".join(
        f"\\u00{ord(letter):02x}" if not at or place in at else letter for place, letter in enumerate(name)
    )


@pytest.mark.parametrize("name", sorted(METERED))
def test_a_name_that_stands_twice_is_told_however_it_is_spelled(name: str) -> None:
    for first in (name, escaped(name), escaped(name, 0), escaped(name, len(name) - 1)):
        for second in (name, escaped(name), escaped(name, 0)):
            raw = f'{{"{first}":1,"x":{{}},"{second}" : 2}}'.encode()
            assert look(raw) == f"The body has `{name}` twice, and servers differ in which one counts."


@pytest.mark.parametrize(
    ("raw", "name"),
    [
        (b'{"Model":1}', "model"),
        (b'{"model":1,"MODEL":1}', "model"),
        (b'{"model":1,"\\u004dodel":1}', "model"),
        ('{"model\u017f":1}'.encode(), "models"),  # Go folds a long s
        ('{"max_to\u212aens":1}'.encode(), "max_tokens"),  # and the sign for kelvin
    ],
)
def test_another_spelling_is_told(raw: bytes, name: str) -> None:
    assert look(raw) == f"Write `{name}` in lower case: servers differ in what other spellings mean."


@pytest.mark.parametrize(
    "raw",
    [
        b"[]",
        b"null",
        b'"model model"',
        b"{}",
        b'{"model":1}',
        b'{"x":1,"x":2}',
        b'{"X":1,"x":2,"\xc3\xa9":3}',
        b'{"user":"model","x":["model","model"]}',
        b'{"model":{"model":1,"model":2}}',
        b'[{"model":1,"model":2}]',
        b'{"model":"model","messages":[{"n":1,"name":"model"},{"n":1}]}',
        b'{"model":1,"x":"\\"model\\":"}',
        b'{"model":1,"x":"\\"model"}',
        b'{"model":1,"x\\"model":2}',
        b'{"model":1,"x":"\\\\","y":{"model":2}}',
        b'{"mod\\u0065l":1}',
        b'{"mod\\u0065l":1,"x":{"model":2}}',
        b'{"weir-0":1,"x":{"model":1},"model":2}',
        b'{"models":1,"model":2,"\\u006d":3,"model_":4}',
    ],
)
def test_what_only_looks_like_it_is_let_by(raw: bytes) -> None:
    assert look(raw) is None


def test_a_body_longer_than_a_piece_is_searched_without_a_gap() -> None:
    """Wherever the second name stands to the border between two pieces of work, it is found."""
    for spelling in ("model", escaped("model")):
        for shift in (*range(-_LONGEST, 3), -_LONGEST - 1, 40):
            for border in (_SLICE, 4 * _SLICE):
                front = b'{"model":1,"x":"'
                pad = b"x" * (border + shift - len(front) - 2)
                raw = front + pad + b'","' + spelling.encode() + b'":2}' + b" " * AT_ONCE
                assert look(raw) is not None, (spelling, shift)
                assert look(raw.replace(b'"' + spelling.encode(), b'"y' + spelling.encode())) is None


def test_what_was_made_to_be_slow_is_refused() -> None:
    """Telling a million names apart would take seconds."""
    for many in (b'{"n":1}', b'"\\u0061"'):
        raw = b'{"n":1,"x":[' + many + (b"," + many) * NAMES + b"]}"
        assert "more than 100000" in str(look(raw))
        fewer = raw[:12] + many + (b"," + many) * (NAMES - 3) + b"]}"
        assert look(fewer) is None


_keys = st.one_of(
    st.sampled_from(sorted(METERED)),
    st.sampled_from(["x", "Model", "modelx", "weir-0", 'a"model', "\\", ""]),
)


@st.composite
def _spellings(draw: Any, key: str) -> str:
    plain = orjson.dumps(key).decode()[1:-1]
    if "\\" in plain or not plain:
        return plain
    at = draw(st.lists(st.integers(0, len(plain) - 1), max_size=3))
    return "".join(f"\\u{ord(c):04X}" if i in at else c for i, c in enumerate(plain))


@st.composite
def _objects(draw: Any, depth: int = 2) -> tuple[str, list[str]]:
    """An object's text, and its own keys."""
    keys = draw(st.lists(_keys, max_size=4))
    members = []
    for key in keys:
        kinds = ["null", '"model"', "[1,2]", '"\\"model\\":1"', '"\\\\"']
        value = draw(st.sampled_from(kinds)) if depth == 0 else None
        if value is None:
            nested = draw(st.booleans())
            value = draw(_objects(depth - 1))[0] if nested else draw(st.sampled_from(kinds))
        space = draw(st.sampled_from(["", " ", "\t\r\n"]))
        members.append(f'"{draw(_spellings(key))}"{space}:{space}{value}')
    return "{" + ",".join(members) + "}", keys


@given(_objects())
def test_it_tells_exactly_the_objects_whose_own_members_stand_twice(made: tuple[str, list[str]]) -> None:
    text, keys = made
    metered = [key for key in keys if key.casefold() in METERED]
    wrong = len(set(metered)) < len(metered) or any(key not in METERED for key in metered)
    assert (look(text.encode()) is not None) is wrong


class Noted(dict[str, Any]):
    """A body that keeps what it was asked for."""

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.asked: set[str] = set()

    def get(self, key: str, default: Any = None) -> Any:
        self.asked.add(key)
        return super().get(key, default)


TEXT_ONLY = {"tool_choice", "function_call", "response_format", "text", "web_search_options"}
"""Read as a few tokens of the prompt, which the upstream's own usage sets right; `text` stands in so many
nested objects that each would cost a closer look."""


@pytest.mark.parametrize("endpoint", sorted(ENDPOINTS))
def test_whatever_an_estimate_is_made_of_may_stand_once(endpoint: str) -> None:
    body = Noted(orjson.loads(b'{"model":"gpt-4o","messages":[],"input":"x","prompt":"x","tools":[]}'))
    assert read(endpoint, body) is not None
    assert body.asked, "nothing was read"
    assert body.asked - TEXT_ONLY <= METERED


def test_all_metered_names_are_plain_words() -> None:
    """What the search takes for granted."""
    assert all(re.fullmatch("[a-z_]+", name) for name in METERED)


MEMBERS = st.lists(
    st.tuples(
        st.sampled_from(
            ["model", "n", "user", "messages", "mod\\u0065l", "\\u006e", "Model", "x\\u00e9", "\\n"]
        ),
        st.sampled_from(['"model"', '"n"', "1", '{"model": 2}', '["n", "user"]', '"\\u006e"', '"\\"n\\""']),
    ),
    max_size=4,
)


@given(MEMBERS, st.sampled_from(["", " ", "\n  "]))
def test_a_short_body_is_told_what_a_long_one_is(members: list[tuple[str, str]], blank: str) -> None:
    """What is looked for name by name, or by writing it again, gives what the search gives."""
    raw = ("{" + f",{blank}".join(f'"{name}":{blank}{value}' for name, value in members) + "}").encode()
    told = look(raw)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("proxy.api.duplicates._each_once", lambda raw, body: False)
        assert look(raw) == told
        patch.setattr("proxy.api.duplicates._as_written", lambda raw, body: False)
        assert look(raw) == told
    plainly = [orjson.loads(f'"{name}"') for name, _ in members]
    if "Model" not in plainly:
        assert (told is None) == all(plainly.count(name) < 2 for name in METERED)


TEXT_TO_BE_ALL = st.sampled_from(
    ["x", "x y", "\\u00e9", "\u00e9", '\\"model\\":', "model\\n", "\\ud83d\\ude00"]
)


@st.composite
def _long_bodies(draw: Any) -> bytes:
    """An object with a text somewhere in it that is nearly all of it, or not quite."""
    unit = draw(TEXT_TO_BE_ALL)
    text = '"' + unit * draw(st.sampled_from([_LONG // len(unit), 2 * _LONG])) + '"'
    front, behind = draw(MEMBERS), draw(MEMBERS)
    key = draw(st.sampled_from(["x", "model", "messages", "n"]))
    within = draw(
        st.sampled_from(["%s", '{"content": %s}', '[{"n": [%s]}, {"role": 1}]', "[" * 40 + "%s" + "]" * 40])
    )
    members = [*front, (key, within % text), *behind]
    blank = draw(st.sampled_from(["", " ", " " * (_LONG // _EDGE // 8)]))
    return ("{" + f",{blank}".join(f'"{name}":{blank}{value}' for name, value in members) + "}").encode()


@given(_long_bodies())
def test_what_stands_beside_a_long_text_is_told_what_it_is_told_otherwise(raw: bytes) -> None:
    told = look(raw)
    beside = _beside_a_text(raw, orjson.loads(raw))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("proxy.api.duplicates._beside_a_text", lambda raw, body: False)
        assert look(raw) == told
        patch.setattr("proxy.api.duplicates._as_written", lambda raw, body: False)
        told_by_search = look(raw)
    assert told_by_search == told
    assert not (beside and told_by_search is not None and "twice" in told_by_search)


@pytest.mark.parametrize(
    "text", ["x" * 100_000, "a line of some seventy characters, as they are written in mails\n" * 1500]
)
def test_a_long_text_is_not_searched(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": text}]
    body = {"model": "gpt-4o", "messages": messages, "stream": True}
    raw = orjson.dumps(body, option=orjson.OPT_INDENT_2)
    assert _beside_a_text(raw, body)
    for twice in (raw[:-1] + b',"model":1}', b'{"model":1,' + raw[1:]):
        assert not _beside_a_text(twice, orjson.loads(twice))
        assert look(twice) is not None
    monkeypatch.setattr("proxy.api.duplicates._as_written", None)
    monkeypatch.setattr("proxy.api.duplicates._quick", None)
    assert look(raw) is None


@pytest.mark.parametrize("pad", [0, 1000, 3000])
def test_all_that_stands_beside_a_long_text_is_looked_at(pad: int) -> None:
    """The second name may be next to the text, with everything else behind it or before it."""
    text, rest = b'"y":"' + b"x" * 100_000 + b'"', b'"z":"' + b"z" * pad + b'"'
    once, twice = [rest, b'"model":1', text], [rest, b'"model":1', b'"model":2', text]
    for members, told in ((once, None), (twice, "twice")):
        for order in (members, members[::-1], [*members[1:], members[0]], [members[-1], *members[:-1]]):
            raw = b"{" + b",".join(order) + b"}"
            assert _beside_a_text(raw, orjson.loads(raw)) is (told is None)
            assert (told or "None") in str(look(raw))


def test_a_long_text_is_looked_for_among_few_values() -> None:
    text = "x" * 100_000
    assert _beside_a_text(orjson.dumps(few := {"x": [1] * (_FEW - 2), "y": text}), few)
    for many in ({"x": [text, *[1] * _FEW]}, {"x": {"y": text, **{f"{n}": n for n in range(_FEW)}}}):
        assert not _beside_a_text(orjson.dumps(many), many)
    assert not _beside_a_text(orjson.dumps(wide := {f"{n}": text for n in range(_FEW + 1)}), wide)
