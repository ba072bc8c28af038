import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.api.event import END_OF_EVENTS, Event

BOM = b"\xef\xbb\xbf"


@pytest.mark.parametrize(
    ("raw", "data"),
    [
        (b"data: a\n\n", b"a"),
        (b"data:a\n\n", b"a"),
        (b"data:  a \n\n", b" a "),
        (b"data\n\n", b""),
        (b"data:\n\n", b""),
        (b"data: a\r\n\r\n", b"a"),
        (b"data: a\r\r", b"a"),
        (b"data: a\rdata: b\n\n", b"a\nb"),
        (b"data: a\rid: 1\n\n", b"a"),
        (b"data: a\ndata: b\n\n", b"a\nb"),
        (b"data: a\r\ndata\rdata: b\n\r\n", b"a\n\nb"),
        (b"event: x\ndata: a\nid: 1\n\n", b"a"),
        (b": data: a\n\n", b""),
        (b"dat: a\n\n", b""),
        (b"data : a\n\n", b""),
        (b"data: \xe2\x80\xa8\xc2\x85\x0b\x0c\x1c\n\n", b"\xe2\x80\xa8\xc2\x85\x0b\x0c\x1c"),
        (b"data: a\nx", b"a"),
        (b"\n\n", b""),
        (b"", b""),
    ],
)
def test_data(raw: bytes, data: bytes) -> None:
    assert Event(raw).data == data


def test_a_byte_order_mark_is_one_only_where_a_stream_begins() -> None:
    raw = BOM + b"data: a\n\n"
    assert Event(raw, opens=True).data == b"a"
    assert Event(raw, opens=True).with_data(b"b").raw == BOM + b"data: b\n\n"
    assert Event(raw).data == b""


def test_name_and_id() -> None:
    event = Event(b"event: response.created\nid: 7\nretry: 10\ndata: {}\n\n")
    assert (event.name, event.id) == ("response.created", "7")
    assert event.fields() == [
        (b"event", b"response.created"),
        (b"id", b"7"),
        (b"retry", b"10"),
        (b"data", b"{}"),
    ]
    assert (Event(b"data: {}\n\n").name, Event(b"data: {}\n\n").id) == (None, None)


def test_the_last_of_two_counts_and_bad_utf8_does_not_raise() -> None:
    assert Event(b"event: a\nevent: b\ndata: 1\n\n").name == "b"
    assert Event(b"id: \xff\ndata: 1\n\n").id == "\ufffd"
    assert Event(b"id\ndata: 1\n\n").id == ""


def test_a_comment_has_the_empty_name() -> None:
    assert Event(b": hello\n:\n\n").fields() == [(b"", b"hello"), (b"", b"")]


def test_a_json_body_is_its_data_whole() -> None:
    body = b'{"a":1}\n\ndata: x'
    event = Event(body, "json")
    assert event.data == body
    assert (event.name, event.id) == (None, None)


def test_json_is_parsed_once_and_shared() -> None:
    event = Event(b'data: {"a": [1]}\n\n')
    first = event.json()
    assert first == {"a": [1]}
    assert event.json() is first


@pytest.mark.parametrize("data", [b"[DONE]", b"", b"{", b'{"a": NaN}', b"\xff"])
def test_what_is_no_json_is_none_each_time(data: bytes) -> None:
    event = Event.of(data)
    assert event.json() is None
    assert event.json() is None


def test_json_null_is_none_too() -> None:
    assert Event(b"data: null\n\n").json() is None


def test_of() -> None:
    assert Event.of(b"{}").raw == b"data: {}\n\n"
    assert Event.of(b"a\nb", name="x").raw == b"event: x\ndata: a\ndata: b\n\n"


def test_comment() -> None:
    assert Event.comment(b"weir {}").raw == b": weir {}\n\n"
    for text in (b"a\nb", b"a\rb"):
        with pytest.raises(ValueError, match="one line"):
            Event.comment(text)


@pytest.mark.parametrize(
    ("raw", "changed"),
    [
        (b"data: a\n\n", b"data: new\n\n"),
        (b"event: x\ndata: a\nid: 1\n\n", b"event: x\ndata: new\nid: 1\n\n"),
        (b"data: a\r\nid: 1\r\n\r\n", b"data: new\r\nid: 1\r\n\r\n"),
        (b"event: x\rdata: a\r\r", b"event: x\rdata: new\r\r"),
        (b"id: 1\ndata: a\n: c\ndata: b\n\n", b"id: 1\ndata: new\n: c\n\n"),
        (b"data\n\n", b"data: new\n\n"),
        (b"event: x\n\n", b"data: new\nevent: x\n\n"),
    ],
)
def test_with_data_keeps_every_other_line(raw: bytes, changed: bytes) -> None:
    event = Event(raw)
    assert event.with_data(b"new").raw == changed
    assert event.raw == raw


def test_with_data_of_a_json_body() -> None:
    changed = Event(b'{"a":1}', "json").with_data(b'{"a":2}')
    assert (changed.raw, changed.kind) == (b'{"a":2}', "json")
    assert changed.json() == {"a": 2}


def test_with_data_is_parsed_anew() -> None:
    event = Event(b"data: 1\n\n")
    assert event.json() == 1
    assert event.with_data(b"2").json() == 2


_FIELD = st.sampled_from([b"id: 1", b"event: e", b": c", b"retry: 3", b"data: old", b"data"])
_TEXT = st.binary(max_size=20).map(lambda data: data.replace(b"\r", b""))


@settings(max_examples=200, deadline=None)
@given(st.lists(_FIELD, max_size=5), st.sampled_from([b"\n", b"\r", b"\r\n"]), _TEXT)
def test_new_data_comes_back_and_the_rest_stays(lines: list[bytes], ending: bytes, data: bytes) -> None:
    event = Event(b"".join(line + ending for line in lines) + ending)
    changed = event.with_data(data)
    assert changed.data == data
    others = [field for field in event.fields() if field[0] != b"data"]
    assert [field for field in changed.fields() if field[0] != b"data"] == others
    assert changed.raw.endswith(ending)
    if ending != b"\r\n":
        assert changed.raw.count(b"\r\n") == 0


@settings(max_examples=200, deadline=None)
@given(_TEXT)
def test_made_events_have_the_data_they_were_made_of(data: bytes) -> None:
    assert Event.of(data).data == data
    assert Event.of(data, name="n").data == data


def test_the_end_has_no_bytes() -> None:
    assert (END_OF_EVENTS.kind, END_OF_EVENTS.raw, END_OF_EVENTS.data) == ("end", b"", b"")
    assert END_OF_EVENTS.json() is None
    assert END_OF_EVENTS.name is None


def test_its_repr_holds_none_of_it() -> None:
    assert repr(Event(b"data: a secret\n\n")) == "Event(sse, 16 bytes)"
