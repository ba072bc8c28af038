"""Tiny proxies and a tiny HTTP/2 upstream: each does what its arguments say, and keeps what it was sent."""

import asyncio
import base64
import ssl
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Self

import h2.config
import h2.connection
import h2.events
import h2.exceptions
import h2.settings

from tests.faults.framing import Headers
from tests.faults.wire import until, within

PIECE = 64 << 10


class Server:
    """Listens on loopback; `serve` plays one connection. What it asserts counts; a peer that left is none."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.port = 0
        self.connections = 0
        self._tls = tls
        self._errors: list[Exception] = []
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0, ssl=self._tls)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self._server.close()
        tasks = list(self._tasks)
        for writer in list(self._writers):
            writer.transport.abort()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if error is None and self._errors:
            raise self._errors[0]

    @property
    def open_connections(self) -> int:
        """How many are not closed yet."""
        return len(self._writers)

    async def closed(self, timeout: float = 2.0) -> None:
        """Wait until every connection is."""
        await until(lambda: not self._writers, timeout, lambda: f"{len(self._writers)} to close")

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        raise NotImplementedError

    def start(self, work: Awaitable[None]) -> "asyncio.Task[None]":
        """Run something until it ends or this server does."""

        async def run() -> None:
            try:
                await work
            except (OSError, asyncio.IncompleteReadError):
                pass
            except Exception as error:
                self._errors.append(error)

        task = asyncio.create_task(run())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._writers.add(writer)

        def ended(_: object) -> None:
            self._writers.discard(writer)
            writer.transport.abort()

        self.start(self.serve(reader, writer)).add_done_callback(ended)


async def pipe(
    a: tuple[asyncio.StreamReader, asyncio.StreamWriter], b: tuple[asyncio.StreamReader, asyncio.StreamWriter]
) -> None:
    """Bytes both ways, until one side ends; then neither goes on."""

    async def one_way(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(PIECE):
                writer.write(data)
                await writer.drain()

    ways = [asyncio.create_task(one_way(a[0], b[1])), asyncio.create_task(one_way(b[0], a[1]))]
    try:
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for way in ways:
            way.cancel()
        for _, writer in (a, b):
            writer.close()  # what it still holds goes out


class HttpProxy(Server):
    """CONNECT and forwarding. `refuse` is what it answers instead; `credentials` is what it wants."""

    def __init__(
        self,
        *,
        refuse: bytes | None = None,
        credentials: bytes | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        super().__init__(tls)
        self.heads: list[bytes] = []
        """The head of each request, as it came."""
        self._refuse = refuse
        self._credentials = credentials

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        self.heads.append(head)
        method, target, version = head.split(b"\r\n", 1)[0].split(b" ")
        refuse = self._refuse
        if self._credentials is not None:
            wanted = b"Proxy-Authorization: Basic " + base64.b64encode(self._credentials)
            if wanted not in head:
                refuse = b"HTTP/1.1 407 Who are you, secret?\r\ncontent-length: 0\r\n\r\n"
        if refuse is not None:
            writer.write(refuse)
            await writer.drain()
            if refuse:
                await reader.read()
            return
        if method == b"CONNECT":
            host, _, port = target.decode().rpartition(":")
            there = await asyncio.open_connection(host.strip("[]"), int(port))
            writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        else:
            authority, slash, path = target.removeprefix(b"http://").partition(b"/")
            host, _, port = authority.decode().rpartition(":")
            there = await asyncio.open_connection(host, int(port))
            lines = head.split(b"\r\n")[1:]
            lines = [line for line in lines if not line.lower().startswith(b"proxy-")]
            there[1].write(b"\r\n".join([b" ".join([method, slash + path, version]), *lines]))
        await pipe((reader, writer), there)


class SocksProxy(Server):
    """SOCKS5. `reply` is the code it answers a connect with, `greeting` replaces its first answer."""

    def __init__(
        self,
        *,
        reply: int = 0,
        greeting: bytes | None = None,
        credentials: tuple[bytes, bytes] | None = None,
    ) -> None:
        super().__init__()
        self.targets: list[tuple[str, int]] = []
        """What it was asked to connect to."""
        self._reply = reply
        self._greeting = greeting
        self._credentials = credentials

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        version, count = await reader.readexactly(2)
        assert version == 5
        methods = await reader.readexactly(count)
        if self._greeting is not None:
            writer.write(self._greeting)
            await writer.drain()
            return
        method = 0 if self._credentials is None else 2
        if method not in methods:
            writer.write(b"\5\xff")
            return
        writer.write(bytes((5, method)))
        if self._credentials is not None:
            await reader.readexactly(1)
            user = await reader.readexactly((await reader.readexactly(1))[0])
            password = await reader.readexactly((await reader.readexactly(1))[0])
            good = (user, password) == self._credentials
            writer.write(bytes((1, not good)))
            if not good:
                return
        _, _, _, kind = await reader.readexactly(4)
        if kind == 1:
            host = ".".join(str(byte) for byte in await reader.readexactly(4))
        else:
            assert kind == 3
            host = (await reader.readexactly((await reader.readexactly(1))[0])).decode()
        port = int.from_bytes(await reader.readexactly(2), "big")
        self.targets.append((host, port))
        there = await asyncio.open_connection(host, port) if not self._reply else None
        writer.write(bytes((5, self._reply, 0, 1, 0, 0, 0, 0, 0, 0)))
        if there is not None:
            await pipe((reader, writer), there)


class H2Stream:
    """The upstream's end of one stream."""

    def __init__(self, conn: "H2Conn", number: int, headers: Headers) -> None:
        self.conn = conn
        self.id = number
        self.headers = headers
        self.body = bytearray()
        self.ended = asyncio.Event()
        """Its body is whole."""
        self.ended_with_headers = False
        self.answered = False
        """Its answer has been sent to the end."""
        self.reset: int | None = None
        """The code of its RST_STREAM."""
        self.sent = 0
        """Bytes of data that flow control has let out."""

    @property
    def path(self) -> bytes:
        return dict(self.headers)[b":path"]

    @property
    def over(self) -> bool:
        """Whether it has ended both ways, or was reset."""
        return self.reset is not None or (self.ended.is_set() and self.answered)

    async def whole(self) -> bytes:
        """Its body, to the end."""
        async with within(5.0, "the end of a stream's body"):
            while not self.ended.is_set():
                self.check()
                await self.conn.moved()
        return bytes(self.body)

    def check(self) -> None:
        """ConnectionResetError if this stream or its connection has ended too soon."""
        if self.reset is not None or self.conn.lost:
            raise ConnectionResetError(f"stream {self.id} was reset")

    async def head(self, status: int = 200, headers: Headers | None = None, *, end: bool = False) -> None:
        """Send a head; any status, interim ones too."""
        self.check()
        lines = [(b":status", b"%d" % status), *(headers or [])]
        self.conn.h2.send_headers(self.id, lines, end_stream=end)
        await self.conn.flush()

    async def send(self, data: bytes, *, end: bool = False, timeout: float = 10.0) -> None:
        """Send data as far as flow control lets it; ConnectionResetError once the stream is reset."""
        async with within(timeout, lambda: f"room for {len(data)} bytes"):
            while data:
                self.check()
                room = min(
                    self.conn.h2.local_flow_control_window(self.id), self.conn.h2.max_outbound_frame_size
                )
                if room <= 0:
                    await self.conn.moved()
                    continue
                self.conn.h2.send_data(self.id, data[:room])
                self.sent += len(data[:room])
                data = data[room:]
                await self.conn.flush()
        self.check()
        if end:
            self.conn.h2.end_stream(self.id)
            self.answered = True
            await self.conn.flush()

    async def answer(self, body: bytes = b"ok", status: int = 200, headers: Headers | None = None) -> None:
        """A whole answer."""
        await self.head(status, headers)
        await self.send(body, end=True)

    async def gone(self, timeout: float = 2.0) -> int:
        """Wait for RST_STREAM; its code."""
        await until(lambda: self.reset is not None, timeout, f"stream {self.id} to be reset")
        assert self.reset is not None
        return self.reset


H2Script = Callable[[H2Stream], Awaitable[None]]


class H2Conn:
    """One HTTP/2 connection of the upstream."""

    def __init__(self, server: "H2Upstream", writer: asyncio.StreamWriter) -> None:
        self.server = server
        self.writer = writer
        self.h2 = h2.connection.H2Connection(
            h2.config.H2Configuration(
                client_side=False, validate_outbound_headers=False, normalize_outbound_headers=False
            )
        )
        self.streams: dict[int, H2Stream] = {}
        self.lost = False
        self._moved = asyncio.Event()

    async def flush(self) -> None:
        self.writer.write(self.h2.data_to_send())
        await self.writer.drain()

    async def raw(self, data: bytes) -> None:
        """Bytes behind h2's back."""
        await self.flush()
        self.writer.write(data)
        await self.writer.drain()

    async def goaway(self, last: int, code: int = 0) -> None:
        """Say that streams above `last` are not served; h2 alone would forget the others too."""
        payload = last.to_bytes(4, "big") + code.to_bytes(4, "big")
        await self.raw(len(payload).to_bytes(3, "big") + b"\7\0\0\0\0\0" + payload)

    async def moved(self) -> None:
        """Wait until something came."""
        self._moved.clear()
        await self._moved.wait()

    async def run(self, reader: asyncio.StreamReader) -> None:
        if self.server.max_streams:
            limit = {h2.settings.SettingCodes.MAX_CONCURRENT_STREAMS: self.server.max_streams}
            self.h2.local_settings = h2.settings.Settings(client=False, initial_values=limit)
        self.h2.initiate_connection()
        await self.flush()
        while data := await reader.read(PIECE):
            for event in self.h2.receive_data(data):
                self._take(event)
            self._moved.set()
            await self.flush()

    def end(self) -> None:
        """The peer has left."""
        self.lost = True
        self._moved.set()

    def _take(self, event: h2.events.Event) -> None:
        if isinstance(event, h2.events.RequestReceived):
            assert event.stream_id is not None
            assert event.headers is not None
            headers = [(bytes(name), bytes(value)) for name, value in event.headers]
            stream = self.streams[event.stream_id] = H2Stream(self, event.stream_id, headers)
            stream.ended_with_headers = event.stream_ended is not None
            self.server.streams.append(stream)
            self.server.start(self.server.script(stream))
        elif isinstance(event, h2.events.DataReceived):
            assert event.stream_id is not None
            self.streams[event.stream_id].body += event.data or b""
            self.h2.acknowledge_received_data(event.flow_controlled_length or 0, event.stream_id)
        elif isinstance(event, h2.events.StreamEnded):
            assert event.stream_id is not None
            self.streams[event.stream_id].ended.set()
        elif isinstance(event, h2.events.StreamReset):
            assert event.stream_id is not None
            self.streams[event.stream_id].reset = int(event.error_code or 0)


class H2Upstream(Server):
    """An HTTP/2 upstream over TLS that plays `script` on each stream."""

    def __init__(self, script: H2Script, tls: ssl.SSLContext, *, max_streams: int = 0) -> None:
        tls.set_alpn_protocols(["h2", "http/1.1"])
        super().__init__(tls)
        self.script = script
        self.max_streams = max_streams
        self.streams: list[H2Stream] = []
        self.conns: list[H2Conn] = []

    @property
    def base_url(self) -> str:
        return f"https://127.0.0.1:{self.port}/v1"

    async def seen(self, n: int = 1, timeout: float = 5.0) -> H2Stream:
        """Wait for the `n`th stream."""
        await until(lambda: len(self.streams) >= n, timeout, lambda: f"stream {n} of {len(self.streams)}")
        return self.streams[n - 1]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tls = writer.get_extra_info("ssl_object")
        assert tls.selected_alpn_protocol() == "h2", "the client did not choose HTTP/2"
        conn = H2Conn(self, writer)
        self.conns.append(conn)
        try:
            await conn.run(reader)
        except h2.exceptions.ProtocolError:
            pass
        finally:
            conn.end()
