import gzip
import zlib
from collections.abc import Callable, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.api import Event, Exchange, Plugin
from proxy.core.chain import Chain, Run
from proxy.core.flight import Flight
from proxy.core.view import DECODED_LIMIT, READABLE, Decoder, JsonView, StreamView, readable
from tests.api.test_exchange import exchange

STREAM = b"data: 1\n\ndata: 2\n\n: c\n\ndata: [DONE]\n\n"
RAWS = [b"data: 1\n\n", b"data: 2\n\n", b": c\n\n", b"data: [DONE]\n\n", b""]

Encode = Callable[[bytes], bytes]
COMPRESSORS: list[Encode] = [gzip.compress, zlib.compress]
ENCODINGS: list[tuple[str, Encode]] = [
    ("", bytes),
    ("identity", bytes),
    ("gzip", gzip.compress),
    ("x-gzip", gzip.compress),
    ("deflate", zlib.compress),
]
encodings = pytest.mark.parametrize(
    ("encoding", "encode"), ENCODINGS, ids=[name or "none" for name, _ in ENCODINGS]
)


class Sees(Plugin):
    name = "sees"

    def __init__(self) -> None:
        self.events: list[Event] = []

    def on_event(self, ex: Exchange, event: Event) -> Event | Sequence[Event] | None:
        self.events.append(event)
        return None


def run() -> tuple[Run, Sees]:
    plugin = Sees()
    made = Run(Chain([plugin]), exchange(), Flight(3600))
    made.entered = 1
    return made, plugin


# -- the decoder ---------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=200), st.integers(1, 20), st.sampled_from(COMPRESSORS))
def test_what_was_compressed_comes_out_however_it_is_cut(body: bytes, size: int, encode: Encode) -> None:
    data = encode(body)
    decoder = Decoder()
    out = b"".join([decoder.decode(data[at : at + size]) for at in range(0, len(data), size)])
    assert out == body
    assert not decoder.failed


@pytest.mark.parametrize("rubbish", [b"not compressed at all", b"\x1f\x8b\x08rubbish" * 3, b"\xff" * 50])
def test_rubbish_is_nothing_and_stays_nothing(rubbish: bytes) -> None:
    decoder = Decoder()
    assert decoder.decode(rubbish) == b""
    assert decoder.failed
    assert decoder.decode(gzip.compress(b"good")) == b""


def test_what_breaks_later_keeps_what_was_good() -> None:
    data = gzip.compress(b"good")
    decoder = Decoder()
    assert decoder.decode(data[:-8]) == b"good"
    assert not decoder.failed
    assert decoder.decode(bytes(8)) == b""  # the check sum
    assert decoder.failed


def test_a_bomb_ends_at_the_limit() -> None:
    bomb = gzip.compress(bytes(4 * DECODED_LIMIT))
    decoder = Decoder()
    out = sum(len(decoder.decode(bomb[at : at + 1000])) for at in range(0, len(bomb), 1000))
    assert out == DECODED_LIMIT == 8 * 1024 * 1024
    assert decoder.failed
    assert decoder.decode(b"x") == b""


def test_a_bomb_in_one_piece_ends_there_too() -> None:
    decoder = Decoder()
    assert len(decoder.decode(gzip.compress(bytes(4 * DECODED_LIMIT)))) == DECODED_LIMIT
    assert decoder.failed


# -- a whole body --------------------------------------------------------------------------------------


@encodings
def test_a_whole_body_is_readable(encoding: str, encode: Encode) -> None:
    assert encoding in READABLE
    assert readable(encode(b'{"a":1}'), encoding) == b'{"a":1}'


def test_a_body_that_cannot_be_read_is_empty() -> None:
    assert readable(b"{}", "gzip") == b""
    assert readable(gzip.compress(bytes(2 * DECODED_LIMIT)), "gzip") == b""
    assert readable(b"", "gzip") == b""


@pytest.mark.parametrize("encode", COMPRESSORS)
def test_half_of_a_compressed_body_is_not_taken_for_the_whole(encode: Encode) -> None:
    whole: bytes = encode(b'{"usage": {"total_tokens": 7}}' * 50)
    assert readable(whole, "gzip")
    assert readable(whole[:-12], "gzip") == b""


# -- streams -------------------------------------------------------------------------------------------


@encodings
@pytest.mark.parametrize("size", [1, 7, 1000])
async def test_a_streams_events_are_seen_and_then_its_end(encoding: str, encode: Encode, size: int) -> None:
    made, plugin = run()
    view = StreamView(made, encoding)
    data: bytes = encode(STREAM)
    for at in range(0, len(data), size):
        view.see(data[at : at + size])
    assert [event.raw for event in plugin.events] == RAWS[:-1]
    view.end()
    assert [event.raw for event in plugin.events] == RAWS
    assert plugin.events[-1].kind == "end"


async def test_events_are_seen_as_soon_as_they_are_whole() -> None:
    made, plugin = run()
    view = StreamView(made, "")
    view.see(b"data: 1\n")
    assert plugin.events == []
    view.see(b"\ndata: 2")
    assert [event.raw for event in plugin.events] == [b"data: 1\n\n"]


async def test_what_is_left_without_its_empty_line_is_not_seen() -> None:
    made, plugin = run()
    view = StreamView(made, "")
    view.see(b"data: 1\n\ndata: 2")
    view.end()
    assert [event.raw for event in plugin.events] == [b"data: 1\n\n", b""]


async def test_a_compressed_stream_that_is_rubbish_has_an_end_all_the_same() -> None:
    made, plugin = run()
    view = StreamView(made, "gzip")
    view.see(b"rubbish")
    view.see(STREAM)
    view.end()
    assert [event.kind for event in plugin.events] == ["end"]


# -- JSON ----------------------------------------------------------------------------------------------


@encodings
async def test_a_json_body_is_seen_once_it_is_complete(encoding: str, encode: Encode) -> None:
    made, plugin = run()
    data: bytes = encode(b'{"a":1}')
    view = JsonView(made, encoding, len(data))
    for at in range(len(data)):
        view.see(data[at : at + 1])
    assert plugin.events == []
    view.end()
    assert [(event.kind, event.raw) for event in plugin.events] == [("json", b'{"a":1}')]
    assert plugin.events[0].json() == {"a": 1}


async def test_a_json_body_that_is_too_large_is_not_seen() -> None:
    made, plugin = run()
    view = JsonView(made, "", 6)
    view.see(b'{"a":')
    view.see(b"1}")
    view.see(b" ")
    view.end()
    assert plugin.events == []


@pytest.mark.parametrize("encoding", ["", "gzip"])
async def test_an_empty_or_unreadable_body_is_not_seen(encoding: str) -> None:
    made, plugin = run()
    view = JsonView(made, encoding, 100)
    view.see(b"")
    view.end()
    assert plugin.events == []
