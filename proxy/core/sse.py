"""Bytes into server-sent events: sans I/O, and not a byte lost.

Rules for whoever edits this file:
- The `raw` of all events that come out, joined, is what went in, for any cutting of the input.
- Lines end with CR, LF or CRLF (WHATWG HTML 9.2.6). A CR at the end of what has come may be half of a CRLF,
  so it ends nothing until the next byte is known.
- Bytes are looked for with `find`: `in` first tries its left side for a number, and the exception that this
  makes costs more than all the rest of an event.
- What is kept is bounded: an event above `limit` bytes comes out in pieces of kind "part", for nobody to
  look at.
"""

import re

from proxy.api.event import Event
from proxy.api.headers import CR

EVENT_LIMIT = 1024 * 1024
"""Bytes of one event that are kept while its end has not come."""

_END = re.compile(rb"(?:\r\n|\n|\r(?=[^\n])){2}")
_ENDED = re.compile(rb"(?:\r\n|\n|\r(?!\n)){2}\Z")
_LOOK_BACK = 3  # the longest end, CR LF CR LF, less the byte that completes it


class Splitter:
    """Feed it bytes as they come; it gives back the events that are complete."""

    __slots__ = ("_buffer", "_cr", "_limit", "_opening", "_skipping", "_tail")

    def __init__(self, limit: int = EVENT_LIMIT) -> None:
        self._limit = limit
        self._buffer = bytearray()
        self._cr = False
        self._opening = True
        self._skipping = False
        self._tail = b""

    def feed(self, data: bytes) -> list[Event]:
        """The events that these bytes complete, and parts of one that is too large."""
        events = self._feed(data)
        if self._opening and events:
            self._opening = False
            events[0] = Event(events[0].raw, events[0].kind, opens=True)
        return events

    def _feed(self, data: bytes) -> list[Event]:
        if not self._cr and CR in data:
            self._cr = True
        if self._skipping:
            return self._skip(data)
        buffer = self._buffer
        if not buffer and not self._cr and data.endswith(b"\n\n"):
            if data.find(b"\n\n") == len(data) - 2:
                return [Event(data)]
            *pieces, rest = data.split(b"\n\n")
            buffer += rest  # the third of three line ends begins the next event
            return [Event(piece + b"\n\n") for piece in pieces]
        scan = max(0, len(buffer) - _LOOK_BACK)
        buffer += data
        events = []
        start = 0
        while (end := self._find(buffer, scan)) >= 0:
            events.append(Event(bytes(buffer[start:end])))
            start = scan = end
        if start:
            del buffer[:start]
        if len(buffer) > self._limit:
            self._tail = bytes(buffer[-_LOOK_BACK:])
            events.append(Event(bytes(buffer), "part"))
            buffer.clear()
            self._skipping = True
        return events

    def flush(self) -> list[Event]:
        """What is left when the stream has ended: an event, or a part of one if its empty line is missing."""
        rest = bytes(self._buffer)
        self._buffer.clear()
        if not rest:
            return []
        return [Event(rest, "sse" if _ENDED.search(rest) else "part", opens=self._opening)]

    def _find(self, data: bytes | bytearray, start: int) -> int:
        """Where the first event that ends at or after `start` ends, or -1."""
        if not self._cr:
            at = data.find(b"\n\n", start)
            return at + 2 if at >= 0 else -1
        match = _END.search(data, start)
        return match.end() if match else -1

    def _skip(self, data: bytes) -> list[Event]:
        seen = self._tail + data
        end = self._find(seen, 0)
        if end < 0:
            self._tail = seen[-_LOOK_BACK:]
            return [Event(data, "part")] if data else []
        self._skipping = False
        cut = max(0, end - len(self._tail))
        self._tail = b""
        parts = [Event(data[:cut], "part")] if cut else []
        return parts + self._feed(data[cut:])
