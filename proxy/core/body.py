"""The request's body: streamed through, or read once and played again.

Nothing is received before somebody asks: a client that waits with `Expect: 100-continue` is told to go on
by the first `receive`, and that comes after the chain has let the request in.
"""

from collections.abc import Awaitable, Callable
from typing import Any

from proxy.api.errors import ClientError, ClientGone
from proxy.core.flight import Flight

Receive = Callable[[], Awaitable[Any]]


def _too_slow() -> ClientError:
    return ClientError(408, "request_timeout", "The request body did not arrive in time.")


def too_large(limit: int) -> ClientError:
    """The refusal of a body that a plugin would have to read."""
    return ClientError(
        413,
        "request_too_large",
        f"The request body is larger than {limit} bytes (limits_http.json_body).",
    )


class Body:
    """A request body, read by nobody yet.

    `framed` says whether the request has a body at all, `length` what Content-Length promised; the gate
    fills in both.
    """

    __slots__ = (
        "_client",
        "_flight",
        "_idle",
        "_limit",
        "_peeked",
        "_receive",
        "_whole",
        "awaited",
        "framed",
        "length",
    )

    def __init__(
        self,
        receive: Receive,
        flight: Flight,
        limit: int,
        idle: float,
        client: Any = None,
    ) -> None:
        self._receive = receive
        self._flight = flight
        self._client = client
        self._limit = limit
        self._idle = idle
        self._whole: bytes | None = None
        self._peeked = b""  # of a body that is not all here, and has more than this
        self.awaited = True
        """Whether nothing but this body is waited for: once an answer has begun, its own deadlines count."""
        self.framed = False
        self.length: int | None = None

    async def read(self) -> bytes:
        """See `Request.read`."""
        if self._whole is None:
            if self.length is not None and self.length > self._limit:
                raise too_large(self._limit)
            if self.at_hand():
                return self._within_limit()
            pieces = [self._peeked] if self._peeked else []
            size = len(self._peeked)
            more = True
            while more:
                piece, more = await self._next()
                size += len(piece)
                if size > self._limit:
                    raise too_large(self._limit)
                pieces.append(piece)
            self._whole = pieces[0] if len(pieces) == 1 else b"".join(pieces)
            if self.awaited:
                self._flight.rest()  # what a hook waits for from here on is no slow upload
            self.listen()
        return self._whole

    async def peek(self, count: int) -> bytes:
        """See `Request.peek`."""
        more = True
        while not self.at_hand() and len(self._peeked) < count:
            piece, more = await self._next()
            self._peeked += piece
            if not more:
                self._whole = self._peeked
        return (self._peeked if self._whole is None else self._whole)[:count]

    def at_hand(self) -> bool:
        """Whether the whole body is here, so that nothing has to be awaited for it."""
        if self._whole is None and self._client is not None:
            self._whole = self._client.take()
        return self._whole is not None

    def _within_limit(self) -> bytes:
        whole = self._whole
        assert whole is not None  # noqa: S101 # asked for when it is at hand
        if len(whole) > self._limit:
            raise too_large(self._limit)
        return whole

    def replace(self, body: bytes) -> None:
        """See `Request.set_body`."""
        if self._whole is None and self.framed:
            raise RuntimeError("read the body before replacing it: the client's must not be left half-read")
        self.framed = True
        self._whole = body

    def listen(self) -> None:
        """Once the body is here: have the exchange end if the client leaves, while nobody else watches it."""
        client = self._client
        if client is not None and self._whole is not None and not client.watched:
            client.watch(self._flight.leave)

    def whole(self) -> bytes | None:
        """What goes upstream, when it is at hand; None without a body."""
        return self._whole if self.framed else None

    async def outgoing(self) -> "bytes | Stream | None":
        """What goes upstream: the whole body where it is known at once, else a stream; None without one."""
        if self._whole is None:
            if self._peeked or (self.framed and not self._arrived()):
                return Stream(self, self._peeked)  # the upstream may have its say before the first byte
            self._flight.arm(self._idle, _too_slow)
            message = await self._receive()
            if message.get("more_body", False):
                return Stream(self, message["body"])
            if message["type"] == "http.disconnect":
                raise ClientGone("client_closed_upload")
            self._whole = message.get("body", b"")
        return self.whole()

    def _arrived(self) -> bool:
        """Whether the whole body is known to be here; other servers than ours do not tell."""
        return self._client is None or self._client.arrived

    async def _next(self) -> tuple[bytes, bool]:
        if self.awaited:
            self._flight.arm(self._idle, _too_slow)
        message = await self._receive()
        if message["type"] == "http.disconnect":
            raise ClientGone("client_closed_upload")
        return message.get("body", b""), message.get("more_body", False)


class Stream:
    """The rest of a body, piece by piece, for one pass. A client that breaks off interrupts the exchange."""

    __slots__ = ("_body", "_first", "_more", "length", "on_end")

    def __init__(self, body: Body, first: bytes) -> None:
        self._body = body
        self._first = first
        self._more = True
        self.length = body.length
        self.on_end: Callable[[], None] | None = None
        """Called once the body is complete: from then on it takes a watcher to see the client leave."""

    def __aiter__(self) -> "Stream":
        return self

    async def __anext__(self) -> bytes:
        piece = self._first
        self._first = b""
        body = self._body
        while not piece:
            if not self._more:
                raise StopAsyncIteration
            try:
                piece, self._more = await body._next()
            except ClientError as error:
                body._flight.interrupt(error)
                raise
            if not self._more and self.on_end is not None:
                self.on_end()
        return piece
