"""A scripted upstream on raw sockets: each connection plays one script, and what a script asserts counts."""

import asyncio
import socket
import ssl
from collections.abc import Awaitable, Callable, Sequence
from typing import Self

import orjson

from .framing import HeaderLines, Request, parse_request, to_bytes
from .wire import Link, Listener, connect, until, within


class PeerLeft(ConnectionError):
    """The peer closed or reset where a script wanted to read: that ends the script and fails no test."""


class Conn(Link):
    """The upstream's end of one accepted connection."""

    def __init__(self, sock: socket.socket, number: int, seen: list[Request], keep: bool) -> None:
        super().__init__(sock)
        self.number = number
        self.idle = False
        """Whether it waits for its peer without end: at rest, it does not hold up the bench's exit."""
        self._seen = seen
        self._keep = keep
        self._now: Request | None = None
        self._surplus = bytearray()

    async def head(self, timeout: float = 10.0) -> Request:
        """The next request, read up to its blank line. PeerLeft when none comes.

        `timeout` runs from the first byte; before it a pooled connection may rest as long as the bench lives.
        """
        assert self._now is None or self._now.ended, "the request before has a body that was not read"
        self.idle = True
        try:
            arrived = bool(self.buffer) or await self.fill()
        finally:
            self.idle = False
        head = None
        if arrived:
            async with within(timeout, lambda: f"a request's head; got {bytes(self.buffer[:500])!r}"):
                head = await self.read_head()
        if head is None:
            raise PeerLeft(f"the peer left ({self.left}) with {bytes(self.buffer)!r} sent of a request")
        self._now = request = parse_request(head, self._keep)
        request.connection = self.number
        self._seen.append(request)
        return request

    async def body_bytes(self, n: int, timeout: float = 10.0) -> bytes:
        """Exactly the next `n` bytes of the body; PeerLeft when it breaks off."""
        request = self._request()
        async with within(timeout, lambda: f"{n} body bytes; got {len(self._surplus)}"):
            while len(self._surplus) < n:
                piece = await self.read_piece(request)
                self._whole(request)
                assert piece, f"the body ended {n - len(self._surplus)} bytes short of {n}"
                self._surplus += piece
        got = bytes(self._surplus[:n])
        del self._surplus[:n]
        return got

    async def rest_of_body(self, timeout: float = 10.0) -> bytes:
        """The body from here to its end; PeerLeft when it breaks off (`Request.ended` says how)."""
        request = self._request()
        async with within(timeout, lambda: f"the end of a body; got {request.size} bytes"):
            while piece := await self.read_piece(request):
                if self._keep:
                    self._surplus += piece
        self._whole(request)
        got = bytes(self._surplus)
        self._surplus.clear()
        return got

    async def request(self, timeout: float = 10.0) -> Request:
        """The next request, whole."""
        request = await self.head(timeout)
        await self.rest_of_body(timeout)
        return request

    async def hang(self) -> float:
        """Send nothing more and wait until the peer leaves or the bench exits; seconds it took."""
        loop = asyncio.get_running_loop()
        start = loop.time()
        self.idle = True
        try:
            while await self.fill():
                pass
        finally:
            self.idle = False
        return loop.time() - start

    def _request(self) -> Request:
        assert self._now is not None, "no request yet"
        return self._now

    def _whole(self, request: Request) -> None:
        if request.ended in ("truncated", "reset"):
            raise PeerLeft(f"the request was {request.ended} after {request.size} body bytes")


Script = Callable[[Conn], Awaitable[None]]


class RawUpstream:
    """Listens on loopback (or a unix path) and plays a script on each connection; `port` 0 is any free one.

    A list gives the first connection the first script and so on, and the last one repeats. Without a script
    the test itself is the script: `conn = await up.accept()`. A connection whose script has returned is
    half-closed and stays until its peer leaves.

    On exit every script that is not idle must end within `settle` seconds, and what scripts raised is raised
    again; only a peer that left (ConnectionError) and a failed TLS handshake (kept in `tls_errors`) are not
    failures. When the test failed already, its error keeps the floor and the scripts' errors become notes.
    """

    def __init__(
        self,
        script: Script | Sequence[Script] | None = None,
        *,
        tls: ssl.SSLContext | None = None,
        unix: str | None = None,
        port: int = 0,
        backlog: int = 128,
        rcvbuf: int | None = None,
        sndbuf: int | None = None,
        accepting: bool = True,
        keep: bool = True,
        settle: float = 10.0,
    ) -> None:
        self.requests: list[Request] = []
        """Every request whose head arrived, in that order, whole or not."""
        self.tls_errors: list[Exception] = []
        self.port = port
        self._scripts = [script] if callable(script) else list(script or [self._hand_over])
        self._tls = tls
        self._unix = unix
        self._options = (backlog, rcvbuf, sndbuf)
        self._accepting = accepting
        self._keep = keep
        self._settle = settle
        self._conns: list[Conn] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._errors: list[Exception] = []
        self._waiting: asyncio.Queue[Conn] = asyncio.Queue()
        self._fillers: list[socket.socket] = []

    @property
    def base_url(self) -> str:
        """What a client is given; over a unix socket only the path of it matters."""
        if self._unix:
            return "http://localhost/v1"
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self.port}/v1"

    @property
    def connections(self) -> int:
        """How many connections were accepted."""
        return len(self._conns)

    @property
    def open_connections(self) -> int:
        """How many of them neither side has ended."""
        return sum(conn.peer_open for conn in self._conns)

    async def __aenter__(self) -> Self:
        backlog, rcvbuf, sndbuf = self._options
        self._listener = Listener(
            port=self.port, unix=self._unix, backlog=backlog, rcvbuf=rcvbuf, sndbuf=sndbuf
        )
        self.port = self._listener.port
        self._acceptor = asyncio.create_task(self._accept())
        return self

    async def __aexit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        try:
            self._listener.close()
            if error is None:
                try:
                    await until(lambda: not self._busy(), self._settle)
                except AssertionError:
                    for conn in self._busy():
                        late = (
                            f"the script of connection {conn.number} did not end (to wait for ever: hang())"
                        )
                        self._errors.append(AssertionError(late))
        finally:
            tasks = [self._acceptor, *self._tasks]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            for conn in self._conns:
                conn.close()
            for sock in self._fillers:
                sock.close()
        if error is not None:
            for late_error in self._errors:
                error.add_note(f"and a script of the upstream failed: {late_error!r}")
        elif len(self._errors) == 1:
            raise self._errors[0]
        elif self._errors:
            raise ExceptionGroup("scripts of the upstream failed", self._errors)

    async def accept(self, timeout: float = 5.0) -> Conn:
        """The next connection, for a test that plays the upstream's part in its own body."""
        assert self._by_hand, "this upstream has a script"
        async with within(timeout, "a connection to the upstream"):
            return await self._waiting.get()

    async def seen(self, n: int = 1, timeout: float = 5.0, *, ended: bool = False) -> Request:
        """Wait for the `n`th request's head; with `ended`, until its script read its body to whatever end."""
        await until(
            lambda: len(self.requests) >= n and (not ended or self.requests[n - 1].ended),
            timeout,
            lambda: f"request {n}; {len(self.requests)} came, ended {[r.ended for r in self.requests]}",
        )
        return self.requests[n - 1]

    async def closed(self, timeout: float = 1.0) -> float:
        """Wait until no connection is open any more, by the kernel's word; seconds it took."""
        return await until(
            lambda: not self.open_connections,
            timeout,
            lambda: f"{self.open_connections} upstream connections to close",
        )

    def deaf(self) -> None:
        """From now on connecting is refused; what is connected goes on."""
        self._listener.close()

    async def fill_backlog(self) -> None:
        """With `accepting=False`: take every place in the backlog, so that further connects hang."""
        assert not self._accepting
        for _ in range(1024):
            try:
                async with asyncio.timeout(0.2):
                    self._fillers.append(await connect(self.port))
            except TimeoutError:
                return
        raise AssertionError("the backlog has no end")

    @property
    def _by_hand(self) -> bool:
        return self._scripts == [self._hand_over]

    def _busy(self) -> list[Conn]:
        if self._by_hand:
            return []
        pairs = zip(self._conns, self._tasks, strict=True)
        return [conn for conn, task in pairs if not (task.done() or (conn.idle and conn.at_rest))]

    async def _accept(self) -> None:
        while self._accepting:
            try:
                sock = await self._listener.accept()
            except ConnectionAbortedError:
                return
            except Exception as error:
                self._errors.append(error)
                return
            conn = Conn(sock, len(self._conns), self.requests, self._keep)
            self._conns.append(conn)
            self._tasks.append(asyncio.create_task(self._play(conn)))

    async def _play(self, conn: Conn) -> None:
        script = self._scripts[min(conn.number, len(self._scripts) - 1)]
        try:
            if self._tls is not None:
                try:
                    await conn.start_tls(self._tls, server_side=True)
                except (ssl.SSLError, ConnectionError) as error:
                    self.tls_errors.append(error)
                    conn.close(notify=False)
                    return
            await script(conn)
            if not conn.closed:
                if not conn.fin_sent:
                    conn.fin()
                await conn.hang()
        except ConnectionError:
            pass
        except Exception as error:
            self._errors.append(error)
        conn.close()

    async def _hand_over(self, conn: Conn) -> None:
        self._waiting.put_nowait(conn)
        await asyncio.Event().wait()


def answer(*answers: bytes) -> Script:
    """The plainest script: whole requests in, these answers out in turn (the last repeats), kept alive."""

    async def script(conn: Conn) -> None:
        turn = 0
        while True:
            await conn.request()
            await conn.send(answers[min(turn, len(answers) - 1)])
            turn += 1

    return script


def planted(data: bytes, end: Callable[[Conn], None] | None = Conn.close) -> Script:
    """A script: one request in, these bytes out, then this ending; None is to hang."""

    async def script(conn: Conn) -> None:
        await conn.request()
        await conn.send(data)
        if end is None:
            await conn.hang()
        else:
            end(conn)

    return script


def head(status: int = 200, headers: HeaderLines = (), reason: str = "OK") -> bytes:
    """A response head, the headers exactly as given."""
    lines = [f"HTTP/1.1 {status} {reason}".encode()]
    lines += [to_bytes(name) + b": " + to_bytes(value) for name, value in headers]
    return b"\r\n".join(lines) + b"\r\n\r\n"


def ok_json(body: bytes) -> bytes:
    """A 200 with these very bytes as its JSON, by Content-Length."""
    return head(200, [("content-type", "application/json"), ("content-length", str(len(body)))]) + body


def json_answer(value: object, status: int = 200, headers: HeaderLines = ()) -> bytes:
    """An answer of any status with `value` as its JSON, by Content-Length."""
    body = orjson.dumps(value)
    own = [("content-type", "application/json"), ("content-length", str(len(body)))]
    return head(status, [*own, *headers], "OK" if status == 200 else "Planted") + body


def sse_head(chunked: bool = True, headers: HeaderLines = ()) -> bytes:
    """The head of an event stream; not chunked, it ends with its connection."""
    framing = ("transfer-encoding", "chunked") if chunked else ("connection", "close")
    return head(200, [("content-type", "text/event-stream; charset=utf-8"), framing, *headers])


def event(data: object) -> bytes:
    """One `data:` event; bytes and text go as they are, anything else as JSON."""
    payload = to_bytes(data) if isinstance(data, bytes | str) else orjson.dumps(data)
    return b"data: " + payload + b"\n\n"


def chunk(data: bytes) -> bytes:
    """One chunk."""
    return b"%x\r\n%b\r\n" % (len(data), data)


last_chunk = b"0\r\n\r\n"


def sse(*events: object, done: bool = True) -> bytes:
    """A whole chunked event stream, a chunk for each event, with `data: [DONE]` unless `done` is false."""
    all_events = [*events, "[DONE]"] if done else events
    return sse_head() + b"".join(chunk(event(e)) for e in all_events) + last_chunk
