"""The network beneath httpcore2: one connection's bytes, and what is to be known of them.

It is known of each connection whether anything came, whether and how it ended, and whether its upstream means
to leave. Writes of one exchange are never cut by the cancellation of another. What is no head of an answer is
refused while it comes.
"""

import asyncio
import ssl
from collections.abc import Coroutine, Iterable
from contextvars import Context, ContextVar
from typing import TYPE_CHECKING, Any

import anyio
import anyio.abc
import anyio.streams.tls
import httpcore2

from proxy.api.errors import UpstreamError
from proxy.core.upstream.httpx2 import head
from proxy.core.upstream.httpx2.frames import Frames
from proxy.core.upstream.httpx2.stream import READ, SocketStream, connect_tcp, connect_unix

if TYPE_CHECKING:
    from proxy.core.upstream.httpx2.attempt import Attempt
    from proxy.core.upstream.httpx2.link import Link

current: "ContextVar[Attempt]" = ContextVar("attempt")
"""Whose request httpcore2 is busy with."""


class Wire(httpcore2.AsyncNetworkStream):
    """One connection's bytes, before or after TLS. Timeouts are the clock's; httpcore2's are never set."""

    def __init__(self, link: "Link", sock: SocketStream, stream: anyio.abc.ByteStream) -> None:
        self._link = link
        self._sock = sock
        self._stream = stream
        self._ssl = stream.extra(anyio.streams.tls.TLSAttribute.ssl_object, None)  # noqa: S610 # no Django
        shared = self._ssl is not None and self._ssl.selected_alpn_protocol() == "h2"
        self._frames = Frames(link.refuse) if shared else None
        self._turn = asyncio.Lock()
        self._ahead: asyncio.Task[bytes] | None = None
        self.touched = False
        """Whether anything was read since this was last set to False."""
        self.ended = False
        self.broken = False
        self.head: bytearray | None = None
        """All bytes while the head of an answer is awaited, in HTTP/1."""
        link.wire = self

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        if self.head is not None:
            head.check_begun(self.head)
        ahead = self._ahead
        if ahead is None:
            data = await self._next(max_bytes)
        else:
            data = await asyncio.shield(ahead)
            self._ahead = None
        if self.head is not None:
            self.head += data
        return data

    def watch(self) -> None:
        """Read on while nobody asks, to see the upstream leave; the next `read` gets what came."""
        if self._ahead is None:
            # In a context of its own: that of the exchange before is not to be kept so long.
            self._ahead = asyncio.create_task(self._next(READ), context=Context())
            self._ahead.add_done_callback(self._seen)

    @property
    def stirred(self) -> bool:
        """Whether something came while nobody asked."""
        return self._ahead is not None and self._ahead.done()

    @property
    def leaving(self) -> bool:
        """Whether the upstream has said that it takes no more streams."""
        return self._frames is not None and self._frames.leaving

    def _seen(self, ahead: "asyncio.Task[bytes]") -> None:
        if not ahead.cancelled():
            ahead.exception()  # told to the next to read, if anybody does
            self._link.woken()

    async def _next(self, max_bytes: int) -> bytes:
        frames = self._frames
        while True:
            if frames is not None and frames.more:
                await asyncio.sleep(0)  # a read of small frames is many milliseconds' work
                data = b""
            else:
                data = await self._receive(max_bytes)
                if not data:
                    self.ended = True
                    return b""
                self.touched = True
            if frames is not None:
                data = frames.take(data)
            if data:
                return data

    async def _receive(self, max_bytes: int) -> bytes:
        try:
            return await self._stream.receive(max_bytes)
        except anyio.EndOfStream:
            return b""
        except (anyio.BrokenResourceError, anyio.ClosedResourceError, OSError) as error:
            self.broken = True
            raise httpcore2.ReadError(error) from error

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        if not buffer:
            return
        if self._frames is None:
            await self._send(buffer)
        else:
            # A frame that is cut by one exchange's cancellation would end all the others.
            await asyncio.shield(self.write_soon(buffer))

    def write_soon(self, buffer: bytes) -> "asyncio.Task[None]":
        """Write in turn, whatever happens to who asked for it."""
        return self._link.background(self._write_in_turn(buffer))

    async def _write_in_turn(self, buffer: bytes) -> None:
        async with self._turn:
            await self._send(buffer)

    async def _send(self, buffer: bytes) -> None:
        try:
            await self._stream.send(buffer)
        except (anyio.BrokenResourceError, anyio.ClosedResourceError, OSError) as error:
            self.broken = True
            raise httpcore2.WriteError(error) from error

    async def aclose(self) -> None:
        await self._sock.aclose()  # no closing handshake: it would wait for the peer
        if self._ahead is not None:
            await asyncio.wait([self._ahead])

    async def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore2.AsyncNetworkStream:
        try:
            stream = await anyio.streams.tls.TLSStream.wrap(
                self._stream, ssl_context=ssl_context, hostname=server_hostname, server_side=False
            )
        except (anyio.BrokenResourceError, anyio.EndOfStream, OSError) as error:
            await self.aclose()
            raise httpcore2.ConnectError(error) from error
        return Wire(self._link, self._sock, stream)

    def get_extra_info(self, info: str) -> Any:
        if info == "ssl_object":
            return self._ssl
        if info == "is_readable":
            return self._sock.readable
        return None


class Network(httpcore2.AsyncNetworkBackend):
    """Connects, each time for the link that the current attempt was assigned."""

    def __init__(self) -> None:
        self._buffer = memoryview(bytearray(READ))

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        return await self._connect(connect_tcp(host, port, self._buffer))

    async def connect_unix_socket(
        self,
        path: str,
        timeout: float | None = None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        return await self._connect(connect_unix(path, self._buffer))

    async def _connect(self, connecting: Coroutine[Any, Any, SocketStream]) -> Wire:
        attempt = current.get()
        link = attempt.link
        if link.spoilt:  # by whoever began to connect it: httpcore2 would do so again, outside of its pool
            connecting.close()
            raise httpcore2.ConnectionNotAvailable
        link.maker = attempt
        try:
            attempt.try_to_connect()
        except UpstreamError:
            connecting.close()
            raise
        try:
            sock = await connecting
        except OSError as error:
            raise httpcore2.ConnectError(error) from error
        return Wire(link, sock, sock)
