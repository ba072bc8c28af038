"""HTTP/1.1 as the bench's own two ends speak it: bytes in, a whole message out, or not yet."""

import re
from typing import NamedTuple

_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*(\d+)[ \t]*\r\n", re.IGNORECASE)
_CHUNKED = re.compile(rb"\r\ntransfer-encoding:[ \t]*chunked[ \t]*\r\n", re.IGNORECASE)
LAST_CHUNK = b"0\r\n\r\n"


class FramingError(Exception):
    """What came is no message, or its end cannot be told."""


class Message(NamedTuple):
    """A request or an answer; `head` is its first line and headers, up to and with the empty line."""

    head: bytes
    body: bytes

    @property
    def status(self) -> int:
        """Of an answer."""
        return int(self.head[9:12])


def message(raw: bytes) -> Message | None:
    """The one message that these bytes are, None while something is missing.

    Without a length and chunks there is no body; no answer here ends with its connection.
    Raises FramingError for bytes after the end, and for chunks that are none.
    """
    end = raw.find(b"\r\n\r\n") + 4
    if end == 3:
        return None
    head = raw[:end]
    sized = _LENGTH.search(head)
    if sized is None and _CHUNKED.search(head):
        body = dechunked(raw, end)
        return None if body is None else Message(head, body)
    missing = end + (int(sized[1]) if sized else 0) - len(raw)
    if missing < 0:
        raise FramingError(f"{-missing} bytes after the end of a message")
    return Message(head, raw[end:]) if missing == 0 else None


def dechunked(raw: bytes, at: int) -> bytes | None:
    """The body that is sent in chunks from `at` on, None while something is missing. No trailers."""
    parts: list[bytes] = []
    while (end := raw.find(b"\r\n", at)) >= 0:
        try:
            size = int(raw[at:end].partition(b";")[0], 16)
        except ValueError:
            raise FramingError(f"{raw[at:end]!r} is no length of a chunk") from None
        at = end + 2
        after = at + size
        if len(raw) < after + 2:
            return None
        if raw[after : after + 2] != b"\r\n":
            raise FramingError("a chunk is longer than it says, or trailers follow the last one")
        if not size:
            if len(raw) > after + 2:
                raise FramingError("bytes after the last chunk")
            return b"".join(parts)
        parts.append(raw[at:after])
        at = after + 2
    return None


def chunk(data: bytes) -> bytes:
    """The data as one chunk."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def request(path: str, body: bytes, headers: dict[str, str]) -> bytes:
    """A POST of JSON, or a GET if there is no body."""
    named = {"host": "127.0.0.1", **headers}
    if body:
        named |= {"content-type": "application/json", "content-length": str(len(body))}
    lines = "".join(f"{name}: {value}\r\n" for name, value in named.items())
    return f"{'POST' if body else 'GET'} {path} HTTP/1.1\r\n{lines}\r\n".encode() + body
