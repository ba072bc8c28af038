"""One end of a connection on a raw socket: nothing is read or sent that a test did not ask for."""

import asyncio
import select
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

from .framing import MAX_HEAD, FramingError, Left, Message

PIECE = 64 << 10


@asynccontextmanager
async def within(seconds: float | None, what: str | Callable[[], str]) -> AsyncIterator[None]:
    """Bound a wait: AssertionError that says what was waited for. None is for the bench's own loops."""
    deadline = asyncio.timeout(seconds)
    try:
        async with deadline:
            yield
    except TimeoutError:
        if not deadline.expired():
            raise
        said = what if isinstance(what, str) else what()
        raise AssertionError(f"waited {seconds} s for {said}") from None


async def until(
    true: Callable[[], object], timeout: float = 5.0, what: str | Callable[[], str] = "a condition"
) -> float:
    """Wait until `true()`; seconds it took. AssertionError after `timeout`."""
    loop = asyncio.get_running_loop()
    start = loop.time()
    while not true():
        if loop.time() - start > timeout:
            raise AssertionError(f"waited {timeout} s for {what if isinstance(what, str) else what()}")
        await asyncio.sleep(0.002)
    return loop.time() - start


def _wake(future: "asyncio.Future[None]") -> None:
    if not future.done():
        future.set_result(None)


class Ready:
    """Waits on one socket; `abandon` ends them all, so that the socket can be closed under them."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._waits: dict[bool, asyncio.Future[None]] = {}

    async def wait(self, *, write: bool) -> None:
        assert write not in self._waits, "two tasks wait on one direction of a connection"
        loop = asyncio.get_running_loop()
        future = self._waits[write] = loop.create_future()
        (loop.add_writer if write else loop.add_reader)(self._sock.fileno(), _wake, future)
        try:
            await future
        finally:
            del self._waits[write]
            if self._sock.fileno() >= 0:
                (loop.remove_writer if write else loop.remove_reader)(self._sock.fileno())

    def abandon(self) -> None:
        for write, future in self._waits.items():
            loop = future.get_loop()
            (loop.remove_writer if write else loop.remove_reader)(self._sock.fileno())
            if not future.done():
                future.set_exception(ConnectionAbortedError("closed on this side"))


class Link:
    """A connection's near end.

    Reads keep what they do not take in `buffer`; a peer that leaves is not an exception but `left`, set once
    everything it sent before has been read. Sends raise ConnectionError when the peer is gone. Closing here
    ends every wait on the connection.
    """

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        if sock.family == socket.AF_INET:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock = sock
        self.buffer = bytearray()
        self.left: Left | None = None
        self.closed = False
        self._ready = Ready(sock)
        self._unsent = bytearray()
        self.fin_sent = False
        self._was_reset = False
        self._tls: ssl.SSLObject | None = None
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()

    async def start_tls(
        self, context: ssl.SSLContext, *, server_side: bool, server_hostname: str | None = None
    ) -> None:
        """Shake hands; ssl.SSLError or ConnectionError when that fails."""
        tls = context.wrap_bio(self._incoming, self._outgoing, server_side, server_hostname)
        async with within(5.0, "a TLS handshake"):
            while True:
                try:
                    tls.do_handshake()
                except ssl.SSLWantReadError:
                    await self._flush()
                    data = await self._recv()
                    if not data:
                        raise ConnectionResetError("the peer left in the TLS handshake") from None
                    self._incoming.write(data)
                except ssl.SSLError:
                    with suppress(OSError):
                        await self._flush()  # the alert
                    raise
                else:
                    await self._flush()
                    self._tls = tls
                    return

    # -- reading

    async def fill(self) -> bool:
        """Wait for more bytes in `buffer`; False when the peer has left."""
        while self.left is None:
            try:
                data = await self._recv() if self._tls is None else await self._recv_tls(self._tls)
            except ConnectionResetError:
                self.left = "reset"
            except ssl.SSLEOFError:
                self.left = "reset" if self._was_reset else "cut"
            else:
                if data:
                    self.buffer += data
                    return True
                self.left = "reset" if self._was_reset else "fin"
        return False

    def take(self, limit: int = PIECE) -> bytes:
        """Bytes that are here already."""
        data = bytes(self.buffer[:limit])
        del self.buffer[:limit]
        return data

    async def read_head(self) -> bytes | None:
        """Bytes through the next blank line; None when the peer leaves first (`buffer` has what it sent)."""
        seen = 0
        while (end := self.buffer.find(b"\r\n\r\n", max(0, seen - 3))) < 0:
            if len(self.buffer) > MAX_HEAD:
                raise FramingError(f"no end of a head in {MAX_HEAD} bytes")
            seen = len(self.buffer)
            if not await self.fill():
                return None
        return self.take(end + 4)

    async def read_piece(self, message: Message) -> bytes:
        """The next body bytes as they come; b"" once `message.ended` is set."""
        while message.ended is None:
            if self.buffer or await self.fill():
                piece, rest = message.feed(self.take())
                self.buffer[:0] = rest
                if piece:
                    return piece
            else:
                assert self.left is not None
                message.end(self.left)
        return b""

    async def read(self, n: int, timeout: float = 5.0) -> bytes:
        """Exactly the next `n` raw bytes; AssertionError when the peer leaves first."""
        async with within(timeout, lambda: f"{n} bytes; got {bytes(self.buffer[:200])!r}"):
            while len(self.buffer) < n:
                assert await self.fill(), f"the peer left ({self.left}) after {len(self.buffer)} of {n} bytes"
        return self.take(n)

    async def read_until_paused(self, quiet: float = 0.2, timeout: float = 10.0) -> bytes:
        """All raw bytes until none came for `quiet` seconds, counted from now on, or the peer left."""
        async with within(timeout, lambda: f"a pause; got {len(self.buffer)} bytes"):
            with suppress(TimeoutError):
                while True:
                    async with asyncio.timeout(quiet):
                        if not await self.fill():
                            break
        return self.take(len(self.buffer))

    async def wait_closed(self, timeout: float = 5.0) -> float:
        """Seconds until the peer closed or reset; what it still sends stays in `buffer`."""
        loop = asyncio.get_running_loop()
        start = loop.time()
        async with within(timeout, lambda: f"the peer to close; unread: {bytes(self.buffer[:200])!r}"):
            while await self.fill():
                pass
        return loop.time() - start

    @property
    def peer_open(self) -> bool:
        """Whether the peer still holds its sending side open: the kernel's word, nothing is read."""
        return self.left is None and not self._polls(select.POLLRDHUP)

    @property
    def at_rest(self) -> bool:
        """Whether the peer is there and nothing of it waits to be read."""
        return self.left is None and not self._polls(select.POLLRDHUP | select.POLLIN)

    def _polls(self, events: int) -> bool:
        if self.closed:
            return True
        poll = select.poll()
        poll.register(self.sock, events)
        return bool(poll.poll(0))

    # -- sending

    async def send(self, data: bytes, timeout: float | None = 10.0) -> None:
        """Hand all bytes to the kernel."""
        self._queue(data)
        async with within(timeout, lambda: f"the peer to read; {len(self._unsent)} bytes unsent"):
            await self._flush()

    async def send_slowly(self, data: bytes, size: int = 1, gap: float = 0.0) -> None:
        """Pieces of `size` bytes, each a packet of its own, `gap` seconds between them."""
        for at in range(0, len(data), size):
            if at:
                await asyncio.sleep(gap)
            await self.send(data[at : at + size])

    async def send_until_paused(
        self, piece: bytes = bytes(PIECE), quiet: float = 0.5, limit: int = 1 << 30
    ) -> int:
        """Repeat `piece` until no byte went out for `quiet` seconds; bytes sent.

        AssertionError when the peer took `limit` bytes. A half-sent piece is completed by the next send.
        """
        sent = 0
        with suppress(TimeoutError):
            while True:
                if not self._unsent:
                    self._queue(piece)
                async with asyncio.timeout(quiet):
                    sent += await self._push()
                assert sent < limit, f"the peer took {sent} bytes without a pause"
        return sent

    # -- ending

    def fin(self, notify: bool = True) -> None:
        """Half-close: end the sending side. Without `notify` TLS ends with no close_notify."""
        assert not self.fin_sent, "fin() twice"
        if notify:
            self._notify()
        self.fin_sent = True
        with suppress(OSError):
            self.sock.shutdown(socket.SHUT_WR)

    def close(self, notify: bool = True) -> None:
        """End both sides. What has arrived unread is dropped first: it would make the kernel send an RST."""
        if self.closed:
            return
        if notify and not self.fin_sent:
            self._notify()
        with suppress(OSError):
            for _ in range(256):
                if not self.sock.recv(PIECE):
                    break
        self._shut()

    def reset(self) -> None:
        """RST (a unix socket just closes). What the peer's kernel has already it can still read."""
        if not self.closed:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self._shut()

    def _shut(self) -> None:
        self._ready.abandon()
        self.closed = True
        self.sock.close()

    def _notify(self) -> None:
        if self._tls is not None:
            with suppress(ssl.SSLError):
                self._tls.unwrap()
            with suppress(OSError):
                self.sock.send(self._outgoing.read())

    # -- the socket

    async def _recv(self) -> bytes:
        while True:
            self._check()
            try:
                return self.sock.recv(PIECE)
            except BlockingIOError:
                await self._ready.wait(write=False)

    async def _recv_tls(self, tls: ssl.SSLObject) -> bytes:
        while True:
            self._check()
            try:
                return tls.read(PIECE)
            except ssl.SSLZeroReturnError:
                return b""
            except ssl.SSLWantReadError:
                data = await self._recv()
                self._incoming.write(data) if data else self._incoming.write_eof()
            except ssl.SSLError as error:
                if error.reason != "UNEXPECTED_EOF_WHILE_READING":
                    raise
                raise ssl.SSLEOFError(*error.args) from error  # which Python up to 3.11.3 does not tell

    def _queue(self, data: bytes) -> None:
        assert not self.fin_sent, "send after fin()"
        if self._tls is None:
            self._unsent += data
        elif data:
            self._tls.write(data)

    async def _flush(self) -> None:
        self._unsent += self._outgoing.read()
        while self._unsent:
            await self._push()

    async def _push(self) -> int:
        """Wait until the kernel takes some bytes; how many it took."""
        self._unsent += self._outgoing.read()
        while True:
            self._check()
            try:
                sent = self.sock.send(self._unsent[:PIECE])
            except BlockingIOError:
                await self._ready.wait(write=True)
            except ConnectionResetError:
                self._was_reset = True  # the kernel tells this once, and reading must still know
                raise
            else:
                del self._unsent[:sent]
                return sent

    def _check(self) -> None:
        if self.closed:
            raise ConnectionAbortedError("closed on this side")


class Listener:
    """Accepts raw connections. Loopback or a unix path, never anything else."""

    def __init__(
        self,
        *,
        port: int = 0,
        unix: str | None = None,
        backlog: int = 128,
        rcvbuf: int | None = None,
        sndbuf: int | None = None,
    ) -> None:
        sock = socket.socket(socket.AF_UNIX if unix else socket.AF_INET, socket.SOCK_STREAM)
        try:
            sock.setblocking(False)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            set_buffers(sock, rcvbuf, sndbuf)
            sock.bind(unix or ("127.0.0.1", port))
            sock.listen(backlog)
        except BaseException:
            sock.close()
            raise
        self.port: int = 0 if unix else sock.getsockname()[1]
        self._sock = sock
        self._ready = Ready(sock)

    async def accept(self) -> socket.socket:
        """The next connection; ConnectionAbortedError after close()."""
        while self._sock.fileno() >= 0:
            try:
                return self._sock.accept()[0]
            except BlockingIOError:
                await self._ready.wait(write=False)
        raise ConnectionAbortedError("closed on this side")

    def close(self) -> None:
        """From now on connecting is refused."""
        self._ready.abandon()
        self._sock.close()


def set_buffers(sock: socket.socket, rcvbuf: int | None, sndbuf: int | None) -> None:
    """Small kernel buffers: before connect or listen, and never grown by the kernel afterwards."""
    if rcvbuf is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, rcvbuf)
    if sndbuf is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, sndbuf)


async def connect(
    port: int | None, unix: str | None = None, *, rcvbuf: int | None = None, sndbuf: int | None = None
) -> socket.socket:
    """A connected socket to loopback or to a unix path; ConnectionError where that is refused."""
    sock = socket.socket(socket.AF_UNIX if unix else socket.AF_INET, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        set_buffers(sock, rcvbuf, sndbuf)
        async with within(5.0, f"a connection to {unix or port}"):
            await asyncio.get_running_loop().sock_connect(sock, unix or ("127.0.0.1", port))
    except BaseException:
        sock.close()
        raise
    return sock
