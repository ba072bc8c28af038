"""HTTP/1.1 framing without input or output: strict, incremental, and independent of where bytes are cut."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

import orjson

Headers = list[tuple[bytes, bytes]]
HeaderLines = Iterable[tuple[bytes | str, bytes | str]]
"""Headers as tests write them."""
Left = Literal["fin", "cut", "reset"]
"""How a peer left: FIN (in TLS after close_notify), FIN without close_notify, RST."""
Ended = Literal["length", "chunked", "close", "truncated", "reset"]
"""How a body ended: by its own framing, by a clean close where close is the framing, or too early."""

MAX_HEAD = 4 << 20
MAX_LINE = 16 << 10
_TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_FIELD = re.compile(rb"(" + _TOKEN + rb"):[ \t]*((?:[^\x00-\x08\x0a-\x1f\x7f]*[^\x00-\x20\x7f])?)[ \t]*")
_REQUEST = re.compile(rb"(" + _TOKEN + rb") ([\x21-\x7e\x80-\xff]+) (HTTP/1\.[01])")
_STATUS = re.compile(rb"(HTTP/1\.[01]) ([1-5][0-9]{2}) ([^\x00-\x08\x0a-\x1f\x7f]*)")
_SIZE = re.compile(rb"([0-9A-Fa-f]{1,16})(?:[ \t]*;[^\x00\r\n]*)?")
_SIZE_BEGUN = re.compile(rb"(?:[0-9A-Fa-f]{0,16}|[0-9A-Fa-f]{1,16}[ \t]*(?:;[^\x00\r\n]*)?)\r?")
_LENGTH = re.compile(rb"[0-9]{1,18}")


def to_bytes(text: bytes | str) -> bytes:
    """Bytes as they are, text as Latin-1."""
    return text if isinstance(text, bytes) else text.encode("latin-1")


class FramingError(AssertionError):
    """The peer broke HTTP/1.1: never mended, never skipped."""


class Deframer:
    """Takes one body out of its framing. The result does not depend on how the bytes were cut."""

    def __init__(self, kind: Literal["length", "chunked", "close"], length: int = 0) -> None:
        self.kind = kind
        self.done = kind == "length" and length == 0
        self.trailers: Headers = []
        self._left = length
        self._state: Literal["size", "data", "crlf", "trailer"] = "size"
        self._held = b""

    def feed(self, data: bytes) -> tuple[bytes, bytes]:
        """(body bytes, what follows the body). What follows is empty until `done`."""
        if self.done:
            return b"", data
        if self.kind == "close":
            return data, b""
        if self.kind == "length":
            body, rest = data[: self._left], data[self._left :]
            self._left -= len(body)
            self.done = self._left == 0
            return body, rest
        return self._chunked(self._held + data)

    def _chunked(self, data: bytes) -> tuple[bytes, bytes]:
        out: list[bytes] = []
        at = 0
        while not self.done:
            if self._state == "data":
                piece = data[at : at + self._left]
                out.append(piece)
                at += len(piece)
                self._left -= len(piece)
                if self._left:
                    break
                self._state = "crlf"
            elif self._state == "crlf":
                found = data[at : at + 2]
                if not b"\r\n".startswith(found):
                    raise FramingError(f"{found!r} where a chunk's CRLF belongs")
                if len(found) < 2:
                    break
                at += 2
                self._state = "size"
            else:
                end = data.find(b"\r\n", at)
                line = data[at:] if end < 0 else data[at:end]
                if len(line) > MAX_LINE:
                    raise FramingError(f"{self._state} line over {MAX_LINE} bytes")
                if end < 0:
                    if self._state == "size" and not _SIZE_BEGUN.fullmatch(line):
                        raise FramingError(f"bad chunk size {line[:80]!r}")
                    break
                at = end + 2
                self._size(line) if self._state == "size" else self._trailer(line)
        self._held = b"" if self.done else data[at:]
        return b"".join(out), data[at:] if self.done else b""

    def _size(self, line: bytes) -> None:
        match = _SIZE.fullmatch(line)
        if not match:
            raise FramingError(f"bad chunk size {line[:80]!r}")
        self._left = int(match[1], 16)
        self._state = "data" if self._left else "trailer"

    def _trailer(self, line: bytes) -> None:
        if line:
            self.trailers.append(parse_field(line))
        else:
            self.done = True


def parse_field(line: bytes) -> tuple[bytes, bytes]:
    """One header line: the name as it came, the value without the blanks around it."""
    match = _FIELD.fullmatch(line)
    if not match:
        raise FramingError(f"bad header line {line[:200]!r}")
    return match[1], match[2]


@dataclass
class Message:
    """A request or a response while it comes in; whole when `ended` is set."""

    version: bytes
    headers: Headers
    head: bytes
    deframer: Deframer
    keep: bool = True
    size: int = 0
    ended: Ended | None = None
    _raw: bytearray = field(default_factory=bytearray, repr=False)
    _body: bytearray = field(default_factory=bytearray, repr=False)

    def __post_init__(self) -> None:
        self._raw += self.head
        if self.deframer.done:
            self.ended = "length"

    @property
    def raw(self) -> bytes:
        """Every byte of it so far: head, framing and all."""
        return bytes(self._raw)

    @property
    def body(self) -> bytes:
        """The body so far, out of its framing. Empty when bodies are not kept (`size` still counts)."""
        return bytes(self._body)

    @property
    def trailers(self) -> Headers:
        return self.deframer.trailers

    def all(self, name: str) -> list[bytes]:
        """Every value of a header, in order, whatever its case."""
        wanted = name.lower().encode()
        return [value for key, value in self.headers if key.lower() == wanted]

    def get(self, name: str) -> bytes | None:
        """The value of a header that may come once; twice is an AssertionError."""
        values = self.all(name)
        assert len(values) < 2, f"{name} came {len(values)} times: {values}"
        return values[0] if values else None

    def json(self) -> Any:
        return orjson.loads(self.body)

    def feed(self, data: bytes) -> tuple[bytes, bytes]:
        """Take more bytes; (new body bytes, bytes that are not of this message)."""
        piece, rest = self.deframer.feed(data)
        self.size += len(piece)
        if self.keep:
            self._raw += data[: len(data) - len(rest)]
            self._body += piece
        if self.deframer.done:
            self.ended = "chunked" if self.deframer.kind == "chunked" else "length"
        return piece, rest

    def end(self, left: Left) -> None:
        """The peer left before the framing was satisfied."""
        if left == "fin" and self.deframer.kind == "close":
            self.ended = "close"
        else:
            self.ended = "reset" if left == "reset" else "truncated"


@dataclass
class Request(Message):
    """What reached the upstream. `ended` is "length" also where no body was announced."""

    method: bytes = b""
    target: bytes = b""
    connection: int = 0
    """The number of its connection, from 0."""


@dataclass
class RawResponse(Message):
    """What reached the client."""

    status: int = 0
    reason: bytes = b""
    interim: list["RawResponse"] = field(default_factory=list)
    """The 1xx answers before it, where `response()` stepped over them."""


def parse_request(head: bytes, keep: bool = True) -> Request:
    """A request from its head (blank line included)."""
    first, headers = _lines(head)
    match = _REQUEST.fullmatch(first)
    if not match:
        raise FramingError(f"bad request line {first[:200]!r}")
    deframer = _framing(match[3], headers) or Deframer("length")
    return Request(match[3], headers, head, deframer, keep, method=match[1], target=match[2])


def parse_response(head: bytes, keep: bool = True, bodyless: bool = False) -> RawResponse:
    """A response from its head (blank line included); `bodyless` for the answer to HEAD."""
    first, headers = _lines(head)
    match = _STATUS.fullmatch(first)
    if not match:
        raise FramingError(f"bad status line {first[:200]!r}")
    status = int(match[2])
    deframer = _framing(match[1], headers)
    if (status < 200 or status == 204) and deframer is not None:
        raise FramingError(f"{status} with a body's framing: {headers}")
    if bodyless or status < 200 or status in (204, 304):
        deframer = Deframer("length")
    deframer = deframer or Deframer("close")
    return RawResponse(match[1], headers, head, deframer, keep, status=status, reason=match[3])


def _lines(head: bytes) -> tuple[bytes, Headers]:
    assert head.endswith(b"\r\n\r\n")
    first, *rest = head[:-4].split(b"\r\n")
    return first, [parse_field(line) for line in rest]


def _framing(version: bytes, headers: Headers) -> Deframer | None:
    codings = [value for name, value in headers if name.lower() == b"transfer-encoding"]
    lengths = [value for name, value in headers if name.lower() == b"content-length"]
    if len(codings) + len(lengths) > 1:
        raise FramingError(f"framing given more than once: {codings + lengths}")
    if codings:
        if codings[0].lower() != b"chunked" or version == b"HTTP/1.0":
            raise FramingError(f"{version!r} with transfer-encoding {codings[0]!r}")
        return Deframer("chunked")
    if lengths:
        if not _LENGTH.fullmatch(lengths[0]):
            raise FramingError(f"bad content-length {lengths[0]!r}")
        return Deframer("length", int(lengths[0]))
    return None
