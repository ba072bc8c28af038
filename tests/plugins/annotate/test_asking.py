from typing import Any

import orjson
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from plugins.annotate import asking
from proxy.api import Event

from .upstream import STYLES, Style, asks

YES = b'{"include_usage":true}'


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b"{}", b'{"stream_options":' + YES + b"}"),
        (b' { "a" : 1 } ', b' { "stream_options":' + YES + b',"a" : 1 } '),
        (b'{"stream_options":null,"a":1}', b'{"stream_options":' + YES + b',"a":1}'),
        (b'{"stream_options": {} }', b'{"stream_options": ' + YES + b" }"),
        (
            b'{"stream_options": { "include_obfuscation":false }}',
            b'{"stream_options": { "include_usage":true,"include_obfuscation":false }}',
        ),
        (b'{"stream_options":{"include_usage": false}}', b'{"stream_options":{"include_usage": true}}'),
        (
            b'{"stream_options":{"include_usage":null,"x":2}}',
            b'{"stream_options":{"include_usage":true,"x":2}}',
        ),
        (b'{"stream_opt\\u0069ons":{}}', b'{"stream_opt\\u0069ons":' + YES + b"}"),
        (b'{"stream_options":1,"stream_options":{}}', b'{"stream_options":1,"stream_options":' + YES + b"}"),
        (b'{"m":{"stream_options":{}}}', b'{"stream_options":' + YES + b',"m":{"stream_options":{}}}'),
        (b'{"m":"\\"stream_options\\":1"}', b'{"stream_options":' + YES + b',"m":"\\"stream_options\\":1"}'),
    ],
)
def test_only_what_asks_is_changed(before: bytes, after: bytes) -> None:
    data = orjson.loads(before)
    assert asking.wants(data)
    assert asking.ask(before, data) == after
    assert asks(after)
    assert not asking.wants(orjson.loads(after))


@pytest.mark.parametrize(
    "options",
    [{"include_usage": True}, {"include_usage": "false"}, {"include_usage": 0}, [], "x", 7, True, False],
)
def test_who_asks_or_is_not_understood_is_left_alone(options: Any) -> None:
    assert not asking.wants({"stream_options": options})


options = st.one_of(
    st.none(),
    st.dictionaries(
        st.sampled_from(["include_usage", "include_obfuscation", "x"]),
        st.sampled_from([None, False]),
        max_size=3,
    ),
)


@given(st.dictionaries(st.text(max_size=5), st.booleans(), max_size=4), options, st.booleans())
def test_the_rest_is_as_before(data: dict[str, Any], options: Any, there: bool) -> None:
    if there:
        data = {**data, "stream_options": options}
    asked = orjson.loads(asking.ask(orjson.dumps(data), data))
    assert asked == {**data, "stream_options": {**(data.get("stream_options") or {}), "include_usage": True}}


# -- taking it out -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("style", STYLES.values(), ids=list(STYLES))
def test_a_chunk_without_its_null_is_the_chunk_as_it_would_have_been(style: Style) -> None:
    asked, unasked = style.events(asked=True)[:-2], style.events(asked=False)[:-1]
    assert len(asked) == len(unasked) > 2
    for number, (raw, expected) in enumerate(zip(asked, unasked, strict=True)):
        event = asking.without_null(Event(raw, opens=number == 0))
        assert event is not None
        assert event.raw == expected
        assert asking.without_null(Event(expected, opens=number == 0)) is None


@pytest.mark.parametrize(
    "data",
    [
        b'{"choices":[{"usage":null}]}',
        b'{"choices":[{"usage":null}],"a":1}',
        b'{"choices":[{"a":{"usage":null,"b":1}}],"usage":{}}',
        b'{"choices":["\\",\\"usage\\":null}"]}',
        b'{"choices":"\\"usage\\":null"}',
        b'{"x\\"usage":null}',
        b'{"a":",\\"usage":null}',
        b'{"a":1,"x,\\"usage":null}',
        b'["usage",null]',
        b'[{"usage":null}]',
        b'{"usage":"null"}',
        b'{"usage":0}',
        b"[DONE]",
        b"null",
        b'{"a":1,"usage":null',
        b"",
    ],
)
def test_other_nulls_stay(data: bytes) -> None:
    assert asking.without_null(Event(b"data: " + data + b"\n\n")) is None


@pytest.mark.parametrize(
    ("raw", "left"),
    [
        (b': ,"usage":null}\ndata: {"a":1}\n\n', None),
        (b'data: {"a":1}\n: ,"usage":null}\n\n', None),
        (b'event: x\ndata: {"a":1,"usage":null}\nid: 7\n\n', b'event: x\ndata: {"a":1}\nid: 7\n\n'),
        (b'data: {"a":1,\ndata: "usage":null}\n\n', b'data: {"a":1}\n\n'),
        (b'data: {"a":{"usage":null},"usage":null}\n\n', b'data: {"a":{"usage":null}}\n\n'),
        (b'data: {"usage":null,"usage":null,"a":1}\n\n', b'data: {"a":1}\n\n'),
        (b'data: {"b":1,"usage":null,"usage":null}\n\n', b'data: {"b":1}\n\n'),
        (b'data: {"usage":null}\n: {"usage":null}\n\n', b'data: {}\n: {"usage":null}\n\n'),
        (b'data: {"a":1,"us\\u0061ge":null,"b":"usage"}\n\n', b'data: {"a":1,"b":"usage"}\n\n'),
        (b'data: {"a":[1],"usage":null,"b":[2]}\n\n', b'data: {"a":[1],"b":[2]}\n\n'),
        (b'data: {"a":1,"usage":null,"b":"\\n"}\n\n', b'data: {"a":1,"b":"\\n"}\n\n'),
        (b'data: {"a":1,"usage":null,"b":2,"c":"d"}\n\n', b'data: {"a":1,"b":2,"c":"d"}\n\n'),
        (b'\n\ndata:{"a":1,"usage":null}\r\n\r\n', b'\n\ndata:{"a":1}\r\n\r\n'),
    ],
)
def test_events_as_nobody_writes_them(raw: bytes, left: bytes | None) -> None:
    event = asking.without_null(Event(raw))
    assert (None if event is None else event.raw) == left


plain = st.sampled_from(
    [
        b"data: {",
        b'"a":1,',
        b'"b":"x"',
        b'"b":{"usage":null}',
        b',"usage":null',
        b', "usage": null',
        b',"usage":{"prompt_tokens":1}',
        b',"obfuscation":"xY3"',
        b',"c":"\\"usage\\":null"',
        b',"c":"usage"',
        b',"c":[1]',
        b"}",
        b"\n",
        b"\r",
        b"\nid: 7",
        b"\rid: 7",
        b"\xef\xbb\xbf",
    ]
)


@given(st.lists(plain, max_size=8).map(b"".join), st.booleans())
@example(b'"b":1,"usage":null,"obfuscation":"xY3"}', True)
@example(b'"b":1,"usage":null}', True)
@example(b'"b":1,"usage":null}\rid: 7', True)
@settings(max_examples=400)
def test_the_quick_way_finds_what_the_slow_one_does(text: bytes, opened: bool) -> None:
    event = Event((b"data: {" if opened else b"") + text + b"\n\n")
    bare = asking.bare(event.raw)
    assert (bare is event.raw) == (event.raw.find(b'"usage"') < 0)
    if bare is None or bare is event.raw:
        return
    before, _, after = event.raw.rpartition(b',"usage":null')
    assert bare == before + after
    assert event.id is None
    quick = Event(bare)
    data = event.json()
    if isinstance(data, dict):
        assert data["usage"] is None
        assert quick.data.count(b'"usage"') == event.data.count(b'"usage"') - 1
        if event.data.count(b'"usage":') == 1:
            slow = asking.without_null(event)
            assert slow is not None
            assert slow.raw == quick.raw


@pytest.mark.parametrize(
    ("raw", "is_plain"),
    [
        (b'data: {"a":1,"usage":null}\n\n', True),
        (b'data: {"a":1,"usage":null,"obfuscation":"xY3","b":""}\n\n', True),
        (b'data: {"a":1,"usage":null,"b":{"c":1}}\n\n', False),
        (b'data: {"a":{"usage":null},"b":{}}\n\n', False),
        (b'data: {"a":1,"usage":null}\r\n\n', False),
        (b'data: {"a":1,"usage":null}\nid: 1\n\n', False),
        (b'id: 1\ndata: {"a":1,"usage":null}\n\n', False),
        (b'data: {"a":1}\rdata: ,"usage":null}\n\n', False),
        (b'data: {"a":1}\nid: 7\n: ,"usage":null}\n\n', False),
        (b'data: {"usage":null}\n\n', False),
        (b'data: {"a":1,"usage":0}\n\n', False),
        (b',"usage":null}\n\n', False),
        (b'data: {"a":1 ,"usage":null}\n\n', False),
        (b'data: {"a":1,"usage":null,"usage":"x"}\n\n', False),
        (b'"usage":null}\n\n', False),
    ],
)
def test_what_the_quick_way_is_for(raw: bytes, is_plain: bool) -> None:
    assert asking.bare(raw) == (raw.replace(b',"usage":null', b"") if is_plain else None)


@pytest.mark.parametrize("raw", [b"", b"data: [DONE]\n\n", b'data: {"usages":null}\n\n', b': ,"usage\n\n'])
def test_most_events_of_who_was_not_asked_have_none(raw: bytes) -> None:
    assert asking.bare(raw) is raw


@pytest.mark.parametrize(
    ("raw", "is_one"),
    [
        (b'data: {"a":1}\n\n', True),
        (b'data: {"a":"\\n"}\n\n', True),
        (b'data: {"a":1}\r\n\r\n', False),
        (b'data: {"a":\rdata: 1}\n\n', False),
        (b'data: {"a":1}\nid: 7\n\n', False),
        (b'id: 7\ndata: {"a":1}\n\n', False),
        (b"data: [DONE]\n\n", False),
        (b"data: {", False),
        (b"", False),
    ],
)
def test_what_is_one_object_in_one_line(raw: bytes, is_one: bool) -> None:
    assert asking.is_one_object(raw) is is_one


@pytest.mark.parametrize(
    ("data", "ours"),
    [
        ({"choices": [], "usage": {"prompt_tokens": 1}}, True),
        ({"choices": [], "usage": {}}, True),
        ({"choices": [], "usage": None}, False),
        ({"choices": []}, False),
        ({"choices": [{}], "usage": {"prompt_tokens": 1}}, False),
        ({"usage": {"prompt_tokens": 1}}, False),
        ({"choices": None, "usage": {}}, False),
        ([], False),
        (None, False),
    ],
)
def test_whose_chunk_it_is(data: Any, ours: bool) -> None:
    assert asking.is_ours(data) is ours


def test_a_chunk_that_was_made_to_be_slow_is_not() -> None:
    """The quick way tries each byte once; a quadratic one would not end within the test's two minutes."""
    hostile = [
        (b',"a":1' * 100_000, True),
        (b" " * 600_000, True),
        (b',"a":"' * 100_000, False),
        (b"," * 600_000, False),
    ]
    for text, is_json in hostile:
        for data in (b'{"b":1,"usage":null' + text + b"}", b'{"b":1' + text + b',"usage":null }'):
            event = asking.without_null(Event(b"data: " + data + b"\n\n"))
            assert event is not None or not is_json
