"""Bytes of a stream into events: nothing is lost, cuts do not matter, and what is kept is bounded."""

from typing import Final

from proxy.api.event import Event
from proxy.core.sse import Splitter
from tests.core.test_sse import dispatched

SMALL: Final = 48
"""A limit that inputs of a fuzzer reach."""


def target(data: bytes) -> None:
    """The first byte says how the rest is cut."""
    how, stream = data[:1] or b"\0", data[1:]
    whole = _split(Splitter(), [stream])
    cut = _split(Splitter(), _pieces(stream, how[0]))
    assert [(each.raw, each.kind) for each in cut] == [(each.raw, each.kind) for each in whole]
    assert b"".join(each.raw for each in whole) == stream
    seen = [told for each in whole if each.kind == "sse" for told in dispatched(each.raw)]
    assert seen == dispatched(stream), "events that a client sees otherwise"
    for each in whole:
        each.data, each.name, each.id  # noqa: B018 # whatever is in it, looking at it raises nothing
    small = Splitter(SMALL)
    raw = b""
    for piece in _pieces(stream, how[0]):
        raw += b"".join(each.raw for each in small.feed(piece))
        assert len(small._buffer) <= SMALL
    assert raw + b"".join(each.raw for each in small.flush()) == stream


def _split(splitter: Splitter, pieces: list[bytes]) -> list[Event]:
    events: list[Event] = []
    for piece in pieces:
        events += splitter.feed(piece)
    return events + splitter.flush()


def _pieces(stream: bytes, how: int) -> list[bytes]:
    """Pieces of 1 to 16 bytes, sizes that differ by a step."""
    size, step = 1 + how % 16, how // 16
    pieces = []
    while stream:
        pieces.append(stream[:size])
        stream = stream[size:]
        size = 1 + (size + step) % 16
    return pieces
