"""The request of an exchange, as it came in and as it will go upstream."""

import asyncio
import re
from typing import Any, Protocol

import orjson

from proxy.api.duplicates import AT_ONCE, ambiguous
from proxy.api.errors import ClientError
from proxy.api.headers import Headers

_UNPARSED: Any = object()
_AS_MOST = b"application/json"
_LOOKED_AT = frozenset((b"content-type", b"content-encoding"))
_CHARSET = re.compile(r"charset\s*=\s*[\"']?([^\s;,\"']*)")
_LIKE_ASCII = re.compile(r"utf-?8|us-ascii|ascii|iso-?8859-\d+|latin-?1|windows-125\d")
"""Charsets in which what is not ASCII, and so no name or structure, may be something else."""


def _is_utf8(content_type: str) -> bool:
    """Whether this can be read as UTF-8. An upstream that believes `charset=utf-7` reads another text."""
    content_type = content_type.lower()
    return "charset" not in content_type or all(map(_LIKE_ASCII.fullmatch, _CHARSET.findall(content_type)))


def _check_readable(headers: Headers) -> None:
    """Raises 415 for a body that is not what its bytes say. One look at each header tells."""
    utf8 = True
    for name, value in headers.raw:
        if name not in _LOOKED_AT:
            continue
        if name == b"content-type":
            utf8 = utf8 and (value == _AS_MOST or _is_utf8(value.decode("latin-1")))
        elif value.lower() != b"identity":
            raise ClientError(415, "unsupported_encoding", "Send the request body without Content-Encoding.")
    if not utf8:
        raise ClientError(415, "unsupported_encoding", "Send the request body in UTF-8.")


class BodySource(Protocol):
    """Where the body comes from; the engine's side of `Request`."""

    @property
    def length(self) -> int | None:
        """What Content-Length says."""

    async def read(self) -> bytes:
        """The whole body, kept for the way upstream."""

    async def peek(self, count: int) -> bytes:
        """Its first bytes; all of it still goes upstream as it comes."""

    def replace(self, body: bytes) -> None:
        """Send this instead."""


class Request:
    """What the client asked for.

    `path` and `query` are as they came, undecoded. `endpoint` is the path without its leading `/` and `v1/`:
    `/v1/chat/completions` and `/chat/completions` are both `chat/completions`. `headers` are as they will go
    upstream, without the hop-by-hop ones: edit freely. `peer` is the other end of the connection, `address`
    the client's address when the peer is a trusted proxy, else the peer's.
    """

    __slots__ = (
        "_body",
        "_json",
        "_path",
        "_query",
        "_raw",
        "address",
        "endpoint",
        "headers",
        "method",
        "peer",
    )

    def __init__(
        self,
        method: str,
        path: bytes,
        query: bytes,
        headers: Headers,
        body: BodySource,
        peer: str,
        address: str,
    ) -> None:
        self.method = method
        self.headers = headers
        self.endpoint = ""
        self.peer = peer
        self.address = address
        self._path = path
        self._query = query
        self._body = body
        self._json = _UNPARSED
        self._raw: bytes | None = None

    @property
    def path(self) -> str:
        """The path as it came, undecoded."""
        return self._path.decode("latin-1")

    @property
    def query(self) -> str:
        """What followed the `?`, as it came, undecoded."""
        return self._query.decode("latin-1")

    async def read(self) -> bytes:
        """The whole body; read once, kept, and sent upstream from there.

        A body that nobody reads is streamed through and never held. Above `limits_http.json_body` bytes this
        raises `ClientError` (413); if the client leaves, `ClientGone`.
        """
        raw = self._raw
        if raw is None:  # many ask; the source has to be awaited but once
            raw = self._raw = await self._body.read()
        return raw

    @property
    def length(self) -> int | None:
        """Bytes of the client's body; None if it did not say, or has none."""
        return self._body.length

    async def peek(self, count: int) -> bytes:
        """The first bytes of the body, `count` of them unless it is shorter, before it streams through.

        For uploads, which are too large to read: keep `count` small, since that much is held, and waited for.
        Raises `ClientGone` if the client leaves.
        """
        return await self._body.peek(count)

    async def json(self) -> Any:
        """The body as JSON, parsed once for all plugins and not to be modified.

        Raises `ClientError`: 400 `invalid_json`; 400 `duplicate_key` if a member of `METERED` stands twice or
        in capitals, since the upstream may read another of the two; 415 for a body that is compressed, or in
        a charset in which the same bytes say something else. Change a body with `set_body`, on bytes:
        parsing and writing JSON again loses 2^64 and duplicate keys.
        """
        if self._json is _UNPARSED:
            _check_readable(self.headers)
            body = self._raw
            if body is None:
                body = self._raw = await self._body.read()
            try:
                parsed = orjson.loads(body)
            except orjson.JSONDecodeError as error:
                # orjson's message names the place and quotes nothing of the body.
                raise ClientError(400, "invalid_json", f"The request body is not JSON: {error}.") from None
            if len(body) <= AT_ONCE:
                wrong = ambiguous(body, parsed)
            else:
                wrong = await asyncio.to_thread(ambiguous, body, parsed)
            if wrong is not None:
                raise ClientError(400, "duplicate_key", wrong)
            self._json = parsed
        return self._json

    def set_body(self, body: bytes) -> None:
        """Send these bytes upstream instead of the client's; `Content-Length` follows by itself."""
        self._json = _UNPARSED
        self._body.replace(body)
        self._raw = None
