"""A connection of the pool, and the exchanges on it.

A connection frees its socket and its place in the pool whenever connecting fails or is cancelled, is closed
when it has rested for `pool.idle` or as soon as its upstream closes it, and is never handed on with bytes
that nobody asked for. An HTTP/2 stream that is given up is reset, and what was read for nobody is given back
to the connection's flow control: httpcore2 alone would let the upstream go on, and starve all other streams.

Rules for whoever edits this file: private names of httpcore2 are touched here alone, below the line that says
so.
"""

import asyncio
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any

import h2.errors
import h2.events
import h2.exceptions
import h11
import httpcore2

from proxy.core.upstream.httpx2.frames import refused
from proxy.core.upstream.httpx2.wire import Wire, current

if TYPE_CHECKING:
    from proxy.core.upstream.httpx2.attempt import Attempt
    from proxy.core.upstream.httpx2.client import Httpx2Upstream

MAX_STREAMS = 100
"""Streams on one HTTP/2 connection, if the upstream does not ask for fewer."""
WINDOW = 160 * 1024
"""Bytes that an HTTP/2 stream may be sent ahead of who reads it. `MAX_STREAMS` of them fit into the 16 MiB
that httpcore2 gives to a connection, so that readers who stall do not hold up the others."""
_FIRST_WINDOW = 65_535  # RFC 9113, 6.9.2
_CANCEL = h2.errors.ErrorCodes.CANCEL


class Link(httpcore2.AsyncConnectionInterface):
    """A connection of the pool, and the exchanges on it."""

    def __init__(self, inner: httpcore2.AsyncConnectionInterface, upstream: "Httpx2Upstream") -> None:
        self._inner = inner
        self._upstream = upstream
        self._idle_timer: asyncio.TimerHandle | None = None
        self.wire: Wire | None = None
        self.attempts: set[Attempt] = set()
        self.maker: Attempt | None = None
        """Who connects it; nobody once a request has gone out."""
        self.made = False
        """Whether a request has gone out on it."""
        self.distrusted = False
        """Whether it must not serve again."""
        self.spoilt = False
        """Whether it is of no use to anybody any more."""

    async def handle_async_request(self, request: httpcore2.Request) -> httpcore2.Response:
        attempt: Attempt = request.extensions["attempt"]
        if self.spoilt or self._stale() or (attempt.fresh and self.made and self.is_idle()):
            await self.cut()
            raise httpcore2.ConnectionNotAvailable
        if self._idle_timer is not None:
            self._idle_timer.cancel()
            self._idle_timer = None
        attempt.board(self)
        current.set(attempt)
        try:
            return await self._inner.handle_async_request(request)
        except BaseException:
            attempt.leave()
            if self.maker is attempt:
                await self.cut()  # who waits for it goes elsewhere
            self.rest()
            raise

    async def cut(self) -> None:
        """Close at once, whatever runs on it; the pool drops it when it next looks."""
        self.spoilt = True
        if self.wire is not None:
            await self.wire.aclose()

    def rest(self) -> None:
        """An exchange has ended: a connection that is idle now is closed in time, or when its peer closes."""
        if self.spoilt or self.attempts or self.wire is None or not self._inner.is_idle():
            return
        self.wire.watch()
        if self._idle_timer is None:
            loop = asyncio.get_running_loop()
            self._idle_timer = loop.call_later(self._upstream.idle, self._expire)

    def woken(self) -> None:
        """Something came while nobody read. In HTTP/2 it may be of use to the next who does."""
        if self._stale():
            self._expire()

    def _stale(self) -> bool:
        stirred = self.wire is not None and self.wire.stirred and not self.attempts
        return stirred and not (self.can_multiplex() and self.alive)

    def _expire(self) -> None:
        if not self.attempts and not self.spoilt:
            self.spoilt = True
            self.background(self.cut())

    @property
    def alive(self) -> bool:
        """Whether it is connected, as far as is known, and may stay so."""
        wire = self.wire
        return wire is not None and not (wire.leaving or wire.broken or wire.ended)

    def background(self, work: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
        """See `Httpx2Upstream.background`."""
        return self._upstream.background(work)

    def refuse(self, last: int) -> bytes:
        """The upstream answers streams up to `last`: frames that tell the later ones."""
        return b"".join(refused(attempt.stream_id) for attempt in self.attempts if attempt.stream_id > last)

    # What the pool asks.

    async def aclose(self) -> None:
        if self._idle_timer is not None:
            self._idle_timer.cancel()
        await self.cut()

    def info(self) -> str:
        return "SPOILT" if self.spoilt else self._inner.info()

    def can_handle_request(self, origin: httpcore2.Origin) -> bool:
        return self._inner.can_handle_request(origin)

    def can_multiplex(self) -> bool:
        return isinstance(self._protocol(), httpcore2.AsyncHTTP2Connection)

    def is_connected(self) -> bool:
        return not self.spoilt and self._inner.is_connected()

    def is_available(self) -> bool:
        if self.spoilt or (self.wire is not None and not self.alive):
            return False
        return self._inner.is_available() and len(self.attempts) < self._stream_limit()

    def has_expired(self) -> bool:
        return self.spoilt or self._inner.has_expired() or (self._inner.is_idle() and not self.alive)

    def is_idle(self) -> bool:
        return self._inner.is_idle() and not self._in_the_making

    def is_closed(self) -> bool:
        return self.spoilt or (self._inner.is_closed() and not self._in_the_making)

    @property
    def _in_the_making(self) -> bool:
        # httpcore2 gives a connection up, and forgets to close it, when one that waits for it is cancelled.
        return self.maker in self.attempts

    # What httpcore2 does not show. Everything private is here.

    def _protocol(self) -> Any:
        connection: Any = self._inner
        while not isinstance(
            connection, httpcore2.AsyncHTTP11Connection | httpcore2.AsyncHTTP2Connection | None
        ):
            connection = getattr(connection, "_connection", None)
        return connection

    def h11(self) -> h11.Connection:
        """The state of HTTP/1.1 on this connection."""
        state: h11.Connection = self._protocol()._h11_state
        return state

    def _stream_limit(self) -> int:
        # 1 is what httpcore2 begins with, before the upstream has said anything.
        limit: int = getattr(self._protocol(), "_max_streams", 1)
        if limit != 1:
            self._upstream.stream_limit = limit
        return self._upstream.stream_limit

    def surplus(self) -> bool:
        """Whether bytes came behind an answer in HTTP/1: h11 would take them for the next one."""
        protocol = self._protocol()
        return isinstance(protocol, httpcore2.AsyncHTTP11Connection) and bool(
            protocol._h11_state.trailing_data[0]
        )

    def narrow(self) -> None:
        """Before HTTP/2 begins: let each stream have `WINDOW`. httpcore2 would give it 16 MiB."""
        state = self._protocol()._h2_state
        grow = state.increment_flow_control_window

        def grow_less(increment: int, stream_id: int | None = None) -> None:
            grow(increment if stream_id is None else WINDOW - _FIRST_WINDOW, stream_id)

        state.increment_flow_control_window = grow_less

    def give_up(self, stream_id: int) -> None:
        """Reset a stream unless it has ended, and give back the flow-control window of what nobody reads."""
        protocol = self._protocol()
        state = protocol._h2_state
        stream = state.streams.get(stream_id)
        unread = sum(
            event.flow_controlled_length
            for event in protocol._events.get(stream_id, ())
            if isinstance(event, h2.events.DataReceived)
        )
        try:
            if unread:
                state.acknowledge_received_data(unread, stream_id)
            if stream is not None and not stream.closed:
                state.reset_stream(stream_id, _CANCEL)
        except h2.exceptions.ProtocolError:
            return  # the connection is at its end
        frames = state.data_to_send()
        if frames and self.wire is not None:
            self.wire.write_soon(frames)


class Pool(httpcore2.AsyncConnectionPool):
    """httpcore2's pool, of `Link`s."""

    def __init__(self, upstream: "Httpx2Upstream", **settings: Any) -> None:
        super().__init__(**settings)
        self._upstream = upstream

    def create_connection(self, origin: httpcore2.Origin) -> httpcore2.AsyncConnectionInterface:
        return Link(super().create_connection(origin), self._upstream)
