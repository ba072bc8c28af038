"""A connection over TCP or a unix socket that takes in no more than is asked for.

anyio's own would do but for one thing: it says stop only when its reader has its turn, and an event loop may
have read megabytes by then. Here reading stops with each read, so that a stream whose client is slow holds
`READ` bytes, whatever the kernel has.
"""

import asyncio
import select
import socket
from typing import cast

import anyio
import anyio.abc

READ = 64 * 1024
"""Bytes that are read at once, and all that is held while nobody asks for more."""
STAGGER = 0.25
"""Seconds until the next address of a name is tried beside the one before (RFC 8305, 8)."""


class SocketStream(asyncio.BufferedProtocol, anyio.abc.ByteStream):
    """One connection. `buffer` is where reads arrive; connections of one event loop may share it."""

    _transport: asyncio.Transport

    def __init__(self, buffer: memoryview) -> None:
        self._buffer = buffer
        self._arrived = b""
        self._ended = False
        self._lost = False
        self._error: Exception | None = None
        self._closed = False
        self._to_read = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()

    async def receive(self, max_bytes: int = READ) -> bytes:
        """What has come, at least a byte. EndOfStream at a clean end, BrokenResourceError at any other."""
        if not self._to_read.is_set():
            self._transport.resume_reading()
            try:
                await self._to_read.wait()
            finally:
                self._pause()
        if not self._arrived:
            self._raise_if_over()
            raise anyio.EndOfStream
        data, self._arrived = self._arrived[:max_bytes], self._arrived[max_bytes:]
        if not (self._arrived or self._ended or self._lost):
            self._to_read.clear()
        return data

    async def send(self, item: bytes) -> None:
        """Return when the kernel has taken all of it."""
        await self._room.wait()
        self._raise_if_over()
        self._transport.write(item)
        await self._room.wait()
        self._raise_if_over()

    async def send_eof(self) -> None:
        """Half-close."""
        if not self._lost:
            self._transport.write_eof()

    async def aclose(self) -> None:
        """Close at once; who reads or sends gets ClosedResourceError."""
        self._closed = True
        self._transport.abort()

    @property
    def readable(self) -> bool:
        """Whether bytes or an end wait to be read."""
        if self._to_read.is_set() or self._transport.is_closing():
            return True
        sock: socket.socket = self._transport.get_extra_info("socket")
        poll = select.poll()
        poll.register(sock.fileno(), select.POLLIN)
        return bool(poll.poll(0))

    def _raise_if_over(self) -> None:
        if self._closed:
            raise anyio.ClosedResourceError
        if self._lost:
            raise anyio.BrokenResourceError from self._error

    def _pause(self) -> None:
        if not self._transport.is_closing():
            self._transport.pause_reading()

    # What the event loop calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's are none by inheritance
        self._transport.set_write_buffer_limits(0)

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        self._arrived += self._buffer[:nbytes]
        self._pause()
        self._to_read.set()

    def eof_received(self) -> bool:
        self._ended = True
        self._to_read.set()
        return True  # our side stays open

    def pause_writing(self) -> None:
        self._room.clear()

    def resume_writing(self) -> None:
        self._room.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost = True
        self._error = exc
        self._to_read.set()
        self._room.set()


async def connect_unix(path: str, buffer: memoryview) -> SocketStream:
    """A connection to a unix socket. OSError if there is none to be had."""
    loop = asyncio.get_running_loop()
    return _ready(await loop.create_unix_connection(lambda: SocketStream(buffer), path))


async def connect_tcp(host: str, port: int, buffer: memoryview) -> SocketStream:
    """A connection to the first of a host's addresses that answers. OSError if none does or there is none.

    The addresses are tried in the system's order, but with one of the other family in the second place, and
    each `STAGGER` after the one before or when that has failed (RFC 8305).
    """
    loop = asyncio.get_running_loop()
    race = _Race(port, buffer)
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    other = next((n for n, (family, *_) in enumerate(found) if family != found[0][0]), 0)
    if other:
        found.insert(1, found.pop(other))
    return await race.run([str(address[0]) for *_, address in found])


class _Race:
    """Connections to several addresses, begun one after the other; one wins, the others are closed."""

    def __init__(self, port: int, buffer: memoryview) -> None:
        self._port = port
        self._buffer = buffer
        self._winner: SocketStream | None = None
        self._failed: list[OSError] = []

    async def run(self, addresses: list[str]) -> SocketStream:
        try:
            async with anyio.create_task_group() as group:
                for address in addresses:
                    failed = anyio.Event()
                    group.start_soon(self._enter, address, group, failed)
                    with anyio.move_on_after(STAGGER):
                        await failed.wait()
        except BaseException:
            if self._winner is not None:
                await self._winner.aclose()
            raise
        if self._winner is None:
            raise self._failed[-1]
        return self._winner

    async def _enter(self, address: str, group: anyio.abc.TaskGroup, failed: anyio.Event) -> None:
        loop = asyncio.get_running_loop()
        try:
            made = await loop.create_connection(lambda: SocketStream(self._buffer), address, self._port)
        except OSError as error:
            self._failed.append(error)
            failed.set()
            return
        stream = _ready(made)
        if self._winner is None:
            self._winner = stream
            group.cancel_scope.cancel()
        else:
            await stream.aclose()


def _ready(made: tuple[asyncio.Transport, SocketStream]) -> SocketStream:
    transport, stream = made
    transport.pause_reading()  # the loop has begun to, without being asked
    return stream
