"""Reading multipart/form-data (RFC 7578) as it comes."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from .errors import ApiError

_MAX_HEADERS = 16 << 10
_PARAMETER = re.compile(r';\s*([\w*-]+)=(?:"((?:[^"\\]|\\.)*)"|([^;\s]*))')


@dataclass(frozen=True, slots=True)
class Part:
    """The start of a part. `filename` tells a file from a field."""

    name: str
    filename: str | None


class Multipart:
    """An incremental parser: feed it chunks cut anywhere, and get what is in the parts as it becomes known.

    `feed` yields a Part for each part that starts, and after it the bytes of its body in pieces of any size.
    Between calls it holds less than a delimiter, or less than 16 KiB of a part's headers, so that memory does
    not grow with the body. What is malformed raises a 400, at the latest in `close`. Preamble and epilogue
    are skipped.
    """

    def __init__(self, content_type: str) -> None:
        kind, _, _ = content_type.partition(";")
        boundary = _parameters(content_type).get("boundary", "")
        if kind.strip().lower() != "multipart/form-data" or not 0 < len(boundary) <= 70:
            raise ApiError(400, "Expected a body of type multipart/form-data with a boundary.")
        self._delimiter = f"\r\n--{boundary}".encode("latin-1")
        # The first delimiter may stand at the very start, without the line end that precedes all others.
        self._buffer = bytearray(b"\r\n")
        self._step = self._skip

    def feed(self, chunk: bytes) -> Iterator[Part | bytes]:
        self._buffer += chunk
        while (events := self._step()) is not None:
            yield from events

    def close(self) -> None:
        """To be called after the last chunk: raises unless the closing delimiter was seen."""
        if self._step != self._end:
            raise _malformed("it ends too early")

    # A step looks at the buffer and returns what it found there, or None when it needs more bytes to go on.

    def _skip(self) -> list[Part | bytes] | None:
        found = self._body()
        return found and []

    def _body(self) -> list[Part | bytes] | None:
        at = self._buffer.find(self._delimiter)
        if at >= 0:
            self._step = self._headers
            body = self._take(at)
            del self._buffer[: len(self._delimiter)]
            return [body]
        # What could be the start of a delimiter has to wait.
        safe = len(self._buffer) - len(self._delimiter) + 1
        return [self._take(safe)] if safe > 0 else None

    def _headers(self) -> list[Part | bytes] | None:
        if self._buffer.startswith(b"--"):
            self._step = self._end
            return []
        # The line of the delimiter ends here, so that a part without headers has the blank line at once.
        at = self._buffer.find(b"\r\n\r\n")
        if at < 0 and len(self._buffer) < _MAX_HEADERS:
            return None
        if not 0 <= at < _MAX_HEADERS:
            raise _malformed("a part's headers are too long")
        head = self._take(at + 4)
        self._step = self._body
        return [_part(head)]

    def _end(self) -> list[Part | bytes] | None:
        self._buffer.clear()
        return None

    def _take(self, length: int) -> bytes:
        taken = bytes(self._buffer[:length])
        del self._buffer[:length]
        return taken


def _part(head: bytes) -> Part:
    for line in head.decode(errors="replace").split("\r\n"):
        key, _, value = line.partition(":")
        if key.strip().lower() == "content-disposition":
            fields = _parameters(value)
            return Part(fields.get("name", ""), fields.get("filename"))
    raise _malformed("a part has no content-disposition")


def _parameters(value: str) -> dict[str, str]:
    """The `; key="value"` of a header, with the escapes that browsers and curl use in names undone."""
    found = {}
    for key, quoted, bare in _PARAMETER.findall(value):
        plain = re.sub(r'\\(["\\])', r"\1", quoted) or bare
        found[key.lower()] = plain.replace("%22", '"').replace("%0D", "\r").replace("%0A", "\n")
    return found


def _malformed(why: str) -> ApiError:
    return ApiError(400, f"Could not parse the multipart body of your request: {why}.")
