"""What plugins see of an answer whose bytes pass by: its events, from a bounded copy."""

import zlib

from proxy.api.event import END_OF_EVENTS, Event
from proxy.core.chain import Run
from proxy.core.sse import Splitter

DECODED_LIMIT = 8 * 1024 * 1024
"""Bytes of a compressed answer that are decoded for plugins to see; a bomb ends there."""

READABLE = frozenset(("", "identity", "gzip", "x-gzip", "deflate"))
"""Content codings that plugins can see through."""


class Decoder:
    """Decodes gzip or deflate as it comes, up to `DECODED_LIMIT` bytes; then, or on rubbish, nothing more."""

    def __init__(self) -> None:
        self._inflate = zlib.decompressobj(wbits=47)  # a gzip or zlib header, whichever comes
        self._left = DECODED_LIMIT
        self.failed = False

    @property
    def ended(self) -> bool:
        """Whether all of it was read, to its proper end."""
        return self._inflate.eof and not self.failed

    def decode(self, data: bytes) -> bytes:
        """The bytes that have become readable."""
        if self.failed:
            return b""
        try:
            decoded = self._inflate.decompress(data, self._left)
        except zlib.error:
            self.failed = True
            return b""
        self._left -= len(decoded)
        if self._inflate.unconsumed_tail or not self._left:
            self.failed = True
        return decoded


class StreamView:
    """The events of a stream that is passed on as it comes."""

    def __init__(self, run: Run, encoding: str) -> None:
        self._run = run
        self._splitter = Splitter()
        self._decoder = None if encoding in ("", "identity") else Decoder()

    def see(self, data: bytes) -> None:
        """These bytes have gone by."""
        if self._decoder is not None:
            data = self._decoder.decode(data)
        events = self._splitter.feed(data)
        if events:
            self._run.events(events)

    def end(self) -> None:
        """The stream ended cleanly."""
        self._run.events(ended(self._splitter.flush()))


def ended(rest: list[Event]) -> list[Event]:
    """What a stream that ended cleanly had left, and its end.

    That comes before a fragment, which is no event: what a plugin adds then must not become a part of it.
    """
    if rest and rest[-1].kind == "part":
        return [*rest[:-1], END_OF_EVENTS, rest[-1]]
    return [*rest, END_OF_EVENTS]


class JsonView:
    """The whole of a JSON body that is passed on as it comes; nothing, if it is larger than `limit`."""

    def __init__(self, run: Run, encoding: str, limit: int) -> None:
        self._run = run
        self._encoding = encoding
        self._pieces: list[bytes] = []
        self._left = limit

    def see(self, data: bytes) -> None:
        """These bytes have gone by."""
        self._left -= len(data)
        if self._left >= 0:
            self._pieces.append(data)
        else:
            self._pieces.clear()

    def end(self) -> None:
        """The body is complete."""
        if self._left >= 0:
            body = readable(b"".join(self._pieces), self._encoding)
            if body:
                self._run.body(body)


def readable(body: bytes, encoding: str) -> bytes:
    """A whole body without its content coding; empty if it cannot be read or is too large to."""
    if encoding in ("", "identity"):
        return body
    decoder = Decoder()
    decoded = decoder.decode(body)
    return decoded if decoder.ended else b""
