"""The splitter against a slow parser written from the standard, for every way to cut a stream."""

import time
from collections.abc import Iterable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from proxy.api.event import Event
from proxy.core.sse import EVENT_LIMIT, Splitter

GOLDEN = sorted((Path(__file__).parents[1] / "golden").glob("*.sse"))
BOM = b"\xef\xbb\xbf"
ENDS = [b"\n\n", b"\r\r", b"\r\n\r\n", b"\r\n\n", b"\n\r\n", b"\n\r", b"\r\n\r", b"\r\r\n"]

golden = pytest.mark.parametrize("path", GOLDEN, ids=[path.stem for path in GOLDEN])


class Dispatched(NamedTuple):
    """An event as a client sees it: its type or None, its data, and the id that it sets or None."""

    name: bytes | None
    data: bytes
    id: bytes | None


def lines_of(stream: bytes) -> tuple[list[bytes], bytes]:
    """WHATWG HTML, 9.2.5: the lines that are ended by CRLF, LF or CR, and what follows the last of them."""
    lines = []
    line = b""
    at = 0
    while at < len(stream):
        byte = stream[at : at + 1]
        at += 1
        if byte in (b"\r", b"\n"):
            if byte == b"\r" and stream[at : at + 1] == b"\n":
                at += 1
            lines.append(line)
            line = b""
        else:
            line += byte
    return lines, line


def dispatched(stream: bytes) -> list[Dispatched]:
    """WHATWG HTML, 9.2.6, for a stream that has ended: what is not followed by an empty line is dropped."""
    lines, _ = lines_of(stream.removeprefix(BOM))
    events = []
    name: bytes | None = None
    identity: bytes | None = None
    data: list[bytes] = []
    for line in lines:
        if not line:
            if data:
                events.append(Dispatched(name, b"\n".join(data), identity))
            name, identity, data = None, None, []
            continue
        if line.startswith(b":"):
            continue
        field, _, value = line.partition(b":")
        if value.startswith(b" "):
            value = value[1:]
        if field == b"data":
            data.append(value)
        elif field == b"event":
            name = value
        elif field == b"id":
            identity = value
    return events


def blocks_of(stream: bytes) -> list[bytes]:
    """Where events end: after the first empty line since the last one that followed a line with something
    in it. Bytes that no empty line ends are the last block, if there are any."""
    blocks = []
    start = at = 0
    breaks = 0  # line ends in a row
    while at < len(stream):
        if stream[at : at + 2] == b"\r\n":
            at += 2
            breaks += 1
        elif stream[at : at + 1] in (b"\r", b"\n"):
            at += 1
            breaks += 1
        else:
            at += 1
            breaks = 0
        if breaks == 2:
            blocks.append(stream[start:at])
            start = at
            breaks = 0
    return [*blocks, stream[start:]] if start < len(stream) else blocks


def is_ended(block: bytes) -> bool:
    return blocks_of(block + b"x")[0] == block


def split(pieces: Iterable[bytes], limit: int = EVENT_LIMIT) -> list[Event]:
    splitter = Splitter(limit)
    events = [event for piece in pieces for event in splitter.feed(piece)]
    return events + splitter.flush()


def seen(events: Iterable[Event]) -> list[Dispatched]:
    """What somebody who looks at the events sees of them; what has no `data` line is no event to a client."""
    found = []
    for event in events:
        if event.kind == "sse" and any(name == b"data" for name, _ in event.fields()):
            name = None if event.name is None else event.name.encode()
            found.append(Dispatched(name, event.data, None if event.id is None else event.id.encode()))
    return found


def joined(events: Iterable[Event]) -> bytes:
    return b"".join(event.raw for event in events)


def cut(stream: bytes, places: Iterable[int]) -> list[bytes]:
    at = [0, *sorted(places), len(stream)]
    return [stream[a:b] for a, b in pairwise(at)]


def every_cut(stream: bytes) -> Iterator[list[bytes]]:
    yield from ([stream[:at], stream[at:]] for at in range(len(stream) + 1))


# -- recorded streams ---------------------------------------------------------------------------------


def test_there_are_golden_streams_and_all_are_described() -> None:
    readme = (GOLDEN[0].parent / "README.md").read_text()
    assert len(GOLDEN) >= 15
    assert [path.name for path in GOLDEN if f"`{path.name}`" not in readme] == []


@golden
def test_a_golden_stream_whole(path: Path) -> None:
    stream = path.read_bytes()
    events = split([stream])
    assert joined(events) == stream
    assert seen(events) == dispatched(stream)


@golden
def test_a_golden_stream_byte_by_byte(path: Path) -> None:
    stream = path.read_bytes()
    events = split(stream[at : at + 1] for at in range(len(stream)))
    assert joined(events) == stream
    assert seen(events) == dispatched(stream)
    assert [event.raw for event in events] == blocks_of(stream)


@golden
def test_a_golden_stream_cut_at_every_place(path: Path) -> None:
    stream = path.read_bytes()
    raws = blocks_of(stream)
    for pieces in every_cut(stream):
        events = split(pieces)
        assert [event.raw for event in events] == raws, len(pieces[0])


@golden
@pytest.mark.parametrize("size", [2, 3, 5, 64, 1000])
def test_a_golden_stream_in_pieces_of_one_size(path: Path, size: int) -> None:
    stream = path.read_bytes()
    events = split(stream[at : at + size] for at in range(0, len(stream), size))
    assert [event.raw for event in events] == blocks_of(stream)


@golden
def test_what_is_given_back_at_once_is_all_that_can_be(path: Path) -> None:
    """After each byte no event is held back whose end is certain."""
    stream = path.read_bytes()
    certain = []  # how much has to come until the end of each block is certain: a CR may be half of a CRLF
    end = 0
    for block in blocks_of(stream):
        end += len(block)
        if is_ended(block):
            certain.append((end + block.endswith(b"\r"), end))
    splitter = Splitter()
    out = 0
    for fed in range(1, len(stream) + 1):
        out += sum(len(event.raw) for event in splitter.feed(stream[fed - 1 : fed]))
        ended = [end for needed, end in certain if needed <= fed]
        assert out == (ended[-1] if ended else 0), fed


def test_the_mixed_ends_are_eight_events() -> None:
    stream = (GOLDEN[0].parent / "mixed_ends.sse").read_bytes()
    events = seen(split([stream]))
    assert [event.data for event in events] == [*(b'{"n":%d}' % n for n in range(1, 8)), b"[DONE]"]


# -- any stream ---------------------------------------------------------------------------------------

_ALPHABET = [
    b"\r",
    b"\n",
    b"\r\n",
    b"\n\n",
    b":",
    b" ",
    b"a",
    b"data",
    b"data: x",
    b"id:",
    b"event: e",
    b": c",
]
_STREAMS = st.lists(st.sampled_from([*_ALPHABET, BOM]), max_size=24).map(b"".join)
_RAW = st.lists(st.sampled_from([b"\r", b"\n", b":", b"d", BOM[:1], BOM]), max_size=16).map(b"".join)


@st.composite
def cut_streams(draw: st.DrawFn) -> tuple[bytes, list[bytes]]:
    stream = draw(st.one_of(_STREAMS, _RAW))
    places = draw(st.lists(st.integers(0, len(stream)), max_size=8))
    return stream, cut(stream, places)


@settings(max_examples=500, deadline=None)
@given(cut_streams())
@example((b"data: x\n\n\n", [b"data: x\n\n\n"]))
@example((b"data: x\n\n\n\n\n", [b"data: x\n\n", b"\n\n\n"]))
@example((b"\n\n\n", [b"\n\n\n"]))
def test_not_a_byte_is_lost(given_: tuple[bytes, list[bytes]]) -> None:
    stream, pieces = given_
    assert joined(split(pieces)) == stream


@settings(max_examples=500, deadline=None)
@given(cut_streams())
@example((b"data: x\r\r\ndata: y\r\n\r\n", [b"data: x\r", b"\r", b"\ndata: y\r\n\r", b"\n"]))
@example((b"data: x\n\n\ndata: y\n\n", [b"data: x\n\n\n", b"data: y\n\n"]))
def test_events_are_the_same_for_any_cutting(given_: tuple[bytes, list[bytes]]) -> None:
    stream, pieces = given_
    events = split(pieces)
    assert [event.raw for event in events] == blocks_of(stream)


@settings(max_examples=500, deadline=None)
@given(cut_streams())
@example((b"data: x\r\n", [b"data: x\r\n"]))  # one line end, of two bytes: no empty line
@example((b"data: x\r\r", [b"data: x\r", b"\r"]))
@example((BOM + b"data: x\n\n", [BOM, b"data: x\n\n"]))
def test_events_are_those_of_the_standard(given_: tuple[bytes, list[bytes]]) -> None:
    stream, pieces = given_
    if BOM in stream[1:]:
        return  # see test_a_mark_inside_the_stream_is_no_mark
    assert seen(split(pieces)) == dispatched(stream)


def test_a_mark_inside_the_stream_is_no_mark() -> None:
    """Only the first bytes of a stream can be a byte order mark: here it makes another field of `data`."""
    stream = b"data: 1\n\n" + BOM + b"data: 2\n\n"
    assert [event.data for event in dispatched(stream)] == [b"1"]
    assert seen(split([stream])) == dispatched(stream)


@pytest.mark.parametrize(
    "stream", [b"data: x\n", b"data: x\r\n", b"data: x\r", b"data: x", b"data: x\n:\r\n"]
)
def test_an_event_without_its_empty_line_is_a_part(stream: bytes) -> None:
    """WHATWG HTML, 9.2.6: at the end of the stream an incomplete event is discarded, so nobody may see it."""
    for pieces in every_cut(stream):
        events = split(pieces)
        assert joined(events) == stream
        assert [event.kind for event in events] == ["part"]


@pytest.mark.parametrize("end", ENDS)
def test_each_pair_of_line_ends_ends_an_event(end: bytes) -> None:
    stream = b"data: 1" + end + b"data: 2" + end
    for pieces in every_cut(stream):
        events = split(pieces)
        assert [(event.kind, event.raw) for event in events] == [
            ("sse", b"data: 1" + end),
            ("sse", b"data: 2" + end),
        ]


def test_an_ended_event_comes_out_with_the_piece_that_ends_it() -> None:
    splitter = Splitter()
    assert splitter.feed(b"data: 1\n") == []
    assert [event.raw for event in splitter.feed(b"\n")] == [b"data: 1\n\n"]
    assert [event.raw for event in splitter.feed(b"data: 2\n\ndata: 3\n\nda")] == [
        b"data: 2\n\n",
        b"data: 3\n\n",
    ]
    assert splitter.feed(b"") == []
    assert [event.raw for event in splitter.feed(b"ta: 4\n\n")] == [b"data: 4\n\n"]
    assert splitter.flush() == []


def test_a_cr_waits_for_what_comes_next() -> None:
    splitter = Splitter()
    assert splitter.feed(b"data: 1\r\r") == []
    assert [event.raw for event in splitter.feed(b"\n")] == [b"data: 1\r\r\n"]
    assert splitter.feed(b"data: 2\r\r") == []
    assert [event.raw for event in splitter.feed(b"d")] == [b"data: 2\r\r"]


def test_flushing_twice_gives_nothing_more() -> None:
    splitter = Splitter()
    splitter.feed(b"data: 1")
    assert [event.raw for event in splitter.flush()] == [b"data: 1"]
    assert splitter.flush() == []


# -- what is too large --------------------------------------------------------------------------------

LIMIT = 16


@st.composite
def large_streams(draw: st.DrawFn) -> tuple[bytes, list[bytes]]:
    events = draw(
        st.lists(
            st.tuples(
                st.integers(0, 3 * LIMIT),
                st.sampled_from([b"\n\n", b"\r\r", b"\r\n\r\n", b"\n\r\n", b"\r\r\n"]),
            ),
            max_size=6,
        )
    )
    stream = b"".join(b"x" * size + end for size, end in events) + b"y" * draw(st.integers(0, 3 * LIMIT))
    return stream, cut(stream, draw(st.lists(st.integers(0, len(stream)), max_size=12)))


@settings(max_examples=400, deadline=None)
@given(st.one_of(large_streams(), cut_streams()))
def test_what_is_kept_is_bounded_and_nothing_is_lost(given_: tuple[bytes, list[bytes]]) -> None:
    stream, pieces = given_
    splitter = Splitter(LIMIT)
    out = b""
    fed = 0
    for piece in pieces:
        fed += len(piece)
        out += joined(splitter.feed(piece))
        assert fed - len(out) <= LIMIT
    assert out + joined(splitter.flush()) == stream


@settings(max_examples=400, deadline=None)
@given(large_streams())
def test_a_part_is_never_of_two_events(given_: tuple[bytes, list[bytes]]) -> None:
    """Every end of an event is the end of something that comes out: afterwards all goes on as before."""
    stream, pieces = given_
    ends = set()
    at = 0
    for block in blocks_of(stream):
        at += len(block)
        ends.add(at)
    at = 0
    given_out = set()
    for event in split(pieces, LIMIT):
        at += len(event.raw)
        given_out.add(at)
    assert ends <= given_out


@settings(max_examples=400, deadline=None)
@given(large_streams())
def test_what_fits_is_an_event_and_what_is_an_event_is_whole(given_: tuple[bytes, list[bytes]]) -> None:
    stream, pieces = given_
    blocks = blocks_of(stream)
    whole = [event.raw for event in split(pieces, LIMIT) if event.kind == "sse"]
    rest = iter(blocks)
    assert all(raw in rest for raw in whole)  # in order, each one a block
    fitting = [block for block in blocks if len(block) <= LIMIT and is_ended(block)]
    assert [raw for raw in whole if len(raw) <= LIMIT] == fitting


def test_an_event_that_is_too_large_comes_out_in_parts_and_the_next_one_whole() -> None:
    splitter = Splitter(8)
    assert splitter.feed(b"data: 12") == []
    parts = splitter.feed(b"3")
    assert [(event.kind, event.raw) for event in parts] == [("part", b"data: 123")]
    assert [(event.kind, event.raw) for event in splitter.feed(b"45")] == [("part", b"45")]
    assert splitter.feed(b"") == []
    assert [(event.kind, event.raw) for event in splitter.feed(b"\n")] == [("part", b"\n")]
    assert [(event.kind, event.raw) for event in splitter.feed(b"\ndata: 1\n\n")] == [
        ("part", b"\n"),
        ("sse", b"data: 1\n\n"),
    ]


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("size", [1, 2, 3])
def test_the_end_of_what_is_too_large_is_found_in_small_pieces(end: bytes, size: int) -> None:
    stream = b"data: " + b"x" * LIMIT + end + b"data: 1" + end + b"data: 2\n\n"
    events = split((stream[at : at + size] for at in range(0, len(stream), size)), LIMIT)
    assert joined(events) == stream
    assert [event.raw for event in events if event.kind == "sse"] == [b"data: 1" + end, b"data: 2\n\n"]


def test_a_stream_without_any_line_is_parts_of_what_came() -> None:
    piece = b"x" * 1000
    splitter = Splitter(999)
    for _ in range(50):
        assert joined(splitter.feed(piece)) == piece
    assert splitter.flush() == []


def test_the_limit_is_a_megabyte_unless_told_otherwise() -> None:
    splitter = Splitter()
    assert EVENT_LIMIT == 1024 * 1024
    assert splitter.feed(b"x" * EVENT_LIMIT) == []
    assert [event.kind for event in splitter.feed(b"x")] == ["part"]


@pytest.mark.parametrize("line", [b"x" * 15 + b"\n", b"x" * 14 + b"\r\n"])
def test_a_large_event_in_small_pieces_is_not_searched_again_each_time(line: bytes) -> None:
    """A megabyte in pieces of 16 bytes takes half a second. Searched from its start each time, minutes."""
    splitter = Splitter()
    began = time.monotonic()
    for _ in range(EVENT_LIMIT // 16 - 1):
        assert splitter.feed(line) == []
        assert time.monotonic() - began < 20
    assert len(splitter.feed(line[-2:].lstrip(b"x"))) == 1
