"""The lean HTTP/1.1 client: asyncio.Protocol, httptools' response parser, a bounded pool.

Rules for whoever edits this file:
- A connection is idle, or in use by one exchange, or closed. `close()` is the one way out of use.
- Framing is strict: what cannot be framed for certain is an error, and its connection is never used again.
- An answer is whole only if its framing says so, or if it had none and the upstream closed properly.
- A request goes out a second time only if its connection had served before, not one byte of an answer came,
  and its body can be played again: then the upstream had closed before it read the request.
"""

import asyncio
import ssl
from collections import deque
from typing import Any, cast
from urllib.parse import urlsplit

import httptools

from proxy.api.errors import UpstreamError, WeirError
from proxy.core.config import UpstreamSettings
from proxy.core.deadlines import NEVER, Deadlines
from proxy.core.headers import LOWERED, Pairs
from proxy.core.shape import MOST, Shapes
from proxy.core.upstream import Answer, Clock, Outgoing, Upload, errors, tls
from proxy.core.upstream.breaker import Breaker

BUFFER = 64 * 1024
"""Bytes that are read at once, into one buffer for all connections of a pool."""
HIGH_WATER = 32 * 1024
"""Bytes of an answer that wait for their reader before the upstream is told to wait. One reading is enough: a
slow reader's stream need not hold two."""
MAX_HEADERS = 200
MAX_HEAD = 128 * 1024
"""Bytes of an answer's head, interim answers included."""
MAX_INTERIM = 32
_FRAMING = frozenset((b"content-length", b"transfer-encoding"))
_FRAMING_WORDS = ("Content-Length", "Transfer-Encoding")  # what llhttp says of a head that has bad framing
_WITHOUT_BODY = (204, 304)
_JOIN = 64 * 1024
"""A body up to this size goes out in one write with its head."""


class Connection(asyncio.BufferedProtocol):
    """One connection, and the answer that is being read from it."""

    __slots__ = (
        "_chunked",
        "_clock",
        "_closed",
        "_eof",
        "_error",
        "_fin",
        "_first_byte",
        "_fresh_headers",
        "_head",
        "_head_bytes",
        "_headers_seen",
        "_interim",
        "_interims",
        "_length",
        "_loop",
        "_parser",
        "_parts",
        "_paused",
        "_pool",
        "_pump",
        "_reader",
        "_reusable",
        "_size",
        "_until_close",
        "_uploaded",
        "_without_body",
        "_writable",
        "complete",
        "deadline",
        "headers",
        "in_use",
        "reused",
        "status",
        "transport",
        "untouched",
        "write_paused",
    )

    transport: asyncio.Transport

    def __init__(self, pool: "Pool") -> None:
        self._pool = pool
        self._loop = pool.loop
        self._parser = _parser(self)
        self._closed = False
        self._writable: asyncio.Future[None] | None = None
        self._pump: asyncio.Task[None] | None = None
        self.write_paused = False
        self._fin = False
        self.in_use = True
        self.reused = False
        self.deadline = NEVER
        self._begin()

    def _begin(self) -> None:
        self.status = 0
        self.headers: Pairs = []
        self.complete = False
        self.untouched = True
        self._fresh_headers: Pairs = []
        self._head: asyncio.Future[None] | None = None
        self._reader: asyncio.Future[None] | None = None
        self._parts: list[bytes] = []
        self._size = 0
        self._paused = False
        self._eof = False  # the framing says that the answer is whole
        self._error: UpstreamError | None = None
        self._reusable = True
        self._uploaded = True
        self._headers_seen = False
        self._head_bytes = 0
        self._interim = False
        self._interims = 0
        self._until_close = False
        self._chunked = False
        self._length: bytes | None = None

    # -- the request -------------------------------------------------------------------------------

    def send(self, head: bytes, request: Outgoing, clock: Clock, timeouts: Any) -> "asyncio.Future[None]":
        """Write a request; the head of its answer is here when the future is done. Call `check` then."""
        self._without_body = request.method == b"HEAD"
        waiting = self._head = self._loop.create_future()
        body = request.body
        if self._closed:
            raise self._error or errors.closed()
        if body is None or isinstance(body, bytes):
            if not body:
                self.transport.write(head)
            elif len(body) <= _JOIN:
                self.transport.write(head + body)
            else:
                self.transport.write(head)
                self.transport.write(body)
            clock.arm(timeouts.first_byte, errors.header_timeout)
        else:
            self._uploaded = False
            self.transport.write(head)
            self._pump = self._loop.create_task(self._upload(body, clock, timeouts))
        return waiting

    def check(self) -> None:
        """Raise if the answer broke right behind its head: still time to say so properly."""
        if self._error is not None and not self._parts:
            raise self._error

    async def _upload(self, body: Upload, clock: Clock, timeouts: Any) -> None:
        """Pass the client's body on as it comes, no faster than the upstream takes it."""
        chunked = body.length is None
        try:
            async for piece in body:
                if self._eof or self._closed:
                    return  # the answer is whole, or there will be none: the rest is for nobody
                self.transport.write(b"%x\r\n%b\r\n" % (len(piece), piece) if chunked else piece)
                if self.write_paused:
                    if not self._headers_seen:
                        clock.arm(timeouts.idle, errors.write_timeout)
                    self._writable = self._loop.create_future()
                    await self._writable
            if chunked and not self._closed:
                self.transport.write(b"0\r\n\r\n")
            self._uploaded = True
            if not self._headers_seen:
                clock.arm(timeouts.first_byte, errors.header_timeout)
        except WeirError:
            # The client broke off, and whoever waits for this answer has been told by the body itself. What
            # went out must stay visibly incomplete.
            self.transport.abort()

    # -- the answer --------------------------------------------------------------------------------

    @property
    def ready(self) -> bool:
        return bool(self._parts) or self._eof

    def whole(self) -> bytes | None:
        if not self._eof or self._paused:
            return None
        parts = self._parts
        self._parts = []
        self.complete = True
        self.release()
        return parts[0] if len(parts) == 1 else b"".join(parts)

    async def read(self) -> bytes:
        if not self._parts:
            if self._error is None and not self._eof:
                self._reader = self._loop.create_future()
                await self._reader
            if not self._parts:
                if self._eof:
                    self.complete = True
                    return b""
                raise self._error or errors.reset()
        parts = self._parts
        data = parts[0] if len(parts) == 1 else b"".join(parts)
        self._parts = []
        self._size = 0
        self.complete = self._eof
        if self._paused:
            self._paused = False
            if not self._closed:
                self.transport.resume_reading()
        return data

    async def close(self) -> None:
        self.release()

    def release(self) -> None:
        """Back to the pool if another exchange can use this connection, else closed."""
        if not self.in_use:
            return
        self.in_use = False
        if self._pump is not None:
            self._pump.cancel()
            self._pump = None
        keep = self._eof and self._uploaded and self._reusable and not self._closed and not self.write_paused
        if keep and self._paused:
            self.transport.resume_reading()
        if not keep and not self._closed:
            self._closed = True
            self.transport.abort()
        self._pool.give_back(self, keep)

    def take(self) -> None:
        """Out of the pool, for a new exchange."""
        self.in_use = True
        self.reused = True
        self.deadline = NEVER
        self._begin()

    @property
    def usable(self) -> bool:
        """Whether an idle connection may still be used."""
        return not self._closed and not self.transport.is_closing()

    def expire(self, now: float) -> None:
        """Idle for too long."""
        if not self.in_use:
            self._pool.drop(self)

    def shut(self) -> None:
        """Close an idle connection."""
        self._closed = True
        self.transport.close()

    # -- asyncio.Protocol --------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's are none by inheritance
        self._pool.deadlines.add(self)  # until it is lost: it is idle and not idle in turn, all the time

    def connection_lost(self, exc: Exception | None) -> None:
        self._pool.deadlines.discard(self)
        self._closed = True
        self._wake_writer()
        if not self.in_use:
            self._pool.drop(self)
        elif not self._eof:
            if exc is not None:
                self._fail(errors.reset())
            elif not self._headers_seen:
                self._fail(errors.closed())
            elif self._until_close and self._fin:
                self._finish()
            else:
                self._fail(errors.truncated())

    def eof_received(self) -> None:
        # Over TLS this comes for close_notify alone: a connection that was cut does not say so.
        self._fin = True

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._pool.buffer

    def buffer_updated(self, nbytes: int) -> None:
        if not self.in_use:
            # Nobody asked: whatever this is, it must not become the answer to the next request.
            self.shut()
            self._pool.drop(self)
            return
        first = self.untouched and nbytes <= MOST and not self._without_body
        if first and self._read_known(nbytes):
            return
        self.untouched = False
        if not self._headers_seen:
            self._head_bytes += nbytes
        try:
            self._parser.feed_data(self._pool.buffer[:nbytes])
        except httptools.HttpParserUpgrade:
            self._broken(errors.bad_response())
        except httptools.HttpParserCallbackError as error:
            cause = error.__context__
            self._broken(cause if isinstance(cause, UpstreamError) else errors.bad_response())
        except httptools.HttpParserError as error:
            framing = self._headers_seen or any(word in str(error) for word in _FRAMING_WORDS)
            self._broken(errors.bad_framing() if framing else errors.bad_response())
        else:
            if self._head_bytes > MAX_HEAD and not self._headers_seen:
                self._broken(errors.headers_too_large())
            elif first and self._eof and self._reusable and self.status not in _WITHOUT_BODY:
                piece = bytes(self._pool.buffer[:nbytes])
                self._pool.shapes.learn(piece, self.headers, self._size, self.status)
        if self._parts or self._eof:
            reader = self._reader
            if reader is not None and not reader.done():
                reader.set_result(None)
            elif self._size > HIGH_WATER and not self._paused and not self._eof:
                self._paused = True
                self.transport.pause_reading()

    def _read_known(self, nbytes: int) -> bool:
        """Take an answer that is all here and whose head is known, past the parser. Whether it is one."""
        read = self._pool.shapes.read(bytes(self._pool.buffer[:nbytes]))
        if read is None:
            return False
        self.untouched = False
        self._headers_seen = True
        self.status, self.headers, body = read
        if body:
            self._parts.append(body)
            self._size = len(body)
        self._finish()
        self._wake_head()
        return True

    def pause_writing(self) -> None:
        self.write_paused = True

    def resume_writing(self) -> None:
        self.write_paused = False
        self._wake_writer()

    # -- httptools ---------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        if self._eof:
            # What follows an answer that was whole, if only the half of a head, is no part of the next one.
            self._reusable = False

    def on_header(self, name: bytes, value: bytes) -> None:
        # What a value must not hold (CR, LF, NUL, a folded line) llhttp refuses; a test says so.
        name = LOWERED[name]
        if name in _FRAMING:
            self._framing(name, value)
        self._fresh_headers.append((name, value))

    def _framing(self, name: bytes, value: bytes) -> None:
        if name == b"content-length":
            if self._length is not None and self._length != value:
                raise errors.bad_framing()
            self._length = value
        else:
            if value.lower() != b"chunked" or self._chunked:
                raise errors.bad_framing()
            self._chunked = True

    def on_headers_complete(self) -> None:
        if self._headers_seen:
            raise errors.bad_framing()  # a second answer to one request
        if len(self._fresh_headers) > MAX_HEADERS:
            raise errors.headers_too_large()
        if self._parser.get_http_version() not in ("1.1", "1.0"):
            raise errors.bad_response()
        status = self._parser.get_status_code()
        if 100 <= status < 200:
            self._interims += 1
            if status == 101 or self._interims > MAX_INTERIM:
                raise errors.bad_response()
            self._interim = True
            self._fresh_headers = []
            self._length = None
            self._chunked = False
            return
        if not 200 <= status <= 599:
            raise errors.bad_status()
        self._headers_seen = True
        self.status = status
        self.headers = self._fresh_headers
        self._fresh_headers = []  # trailers never become headers
        if self._chunked and self._length is not None:
            # RFC 9112, 6.3: the transfer coding counts, and the sender is not to be trusted further.
            self.headers = [pair for pair in self.headers if pair[0] != b"content-length"]
            self._reusable = False
        if self._without_body or status in _WITHOUT_BODY:
            # The parser cannot be told of HEAD: it would wait for a body.
            self._reusable = self._reusable and self._parser.should_keep_alive()
            self._parser = _parser(self)
            self._finish()
        else:
            self._until_close = not self._chunked and self._length is None
        self._wake_head()

    def on_body(self, body: bytes) -> None:
        if self._eof:
            self._reusable = False
            return
        self._parts.append(body)
        self._size += len(body)

    def on_message_complete(self) -> None:
        if self._interim:
            self._interim = False
        elif not self._eof:
            self._reusable = self._reusable and self._parser.should_keep_alive()
            self._finish()

    # -- endings -----------------------------------------------------------------------------------

    def _finish(self) -> None:
        self._eof = True
        self.complete = not self._parts
        self._wake_writer()
        self._wake_reader()

    def _broken(self, error: UpstreamError) -> None:
        self._reusable = False
        if not self._eof:
            self._fail(error)
            self._closed = True
            self.transport.abort()

    def _fail(self, error: UpstreamError) -> None:
        if self._error is None:
            self._error = error
        if self._head is not None and not self._head.done():
            self._head.set_exception(self._error)
        self._wake_writer()
        self._wake_reader()

    def _wake_head(self) -> None:
        if self._head is not None and not self._head.done():
            self._head.set_result(None)

    def _wake_reader(self) -> None:
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)

    def _wake_writer(self) -> None:
        if self._writable is not None and not self._writable.done():
            self._writable.set_result(None)


def _parser(protocol: Connection) -> Any:
    parser = httptools.HttpResponseParser(protocol)
    # Both lengths at once are resolved in on_headers_complete, data after the end in data_received.
    parser.set_dangerous_leniencies(lenient_chunked_length=True)
    return parser


class Pool:
    """The connections to one upstream: at most `size`, the last used first, waiters served in turn."""

    def __init__(self, settings: UpstreamSettings, deadlines: Deadlines) -> None:
        self.loop = asyncio.get_running_loop()
        self._settings = settings
        self.deadlines = deadlines
        self.buffer = memoryview(bytearray(BUFFER))
        self.shapes = Shapes()
        self._idle: deque[Connection] = deque()
        self._waiting: deque[asyncio.Future[Connection | None]] = deque()
        self.taken = 0
        """Places in use: connections that serve, idle or are being made."""
        self.breaker = Breaker(settings, self.loop.time)
        parts = urlsplit(settings.base_url)
        self._host = parts.hostname or ""
        self._port = parts.port or (443 if parts.scheme == "https" else 80)
        self._tls = _tls(settings) if parts.scheme == "https" else None
        self._server_name = settings.tls.server_name or self._host

    def take_idle(self) -> Connection | None:
        """A connection that is there already, the last used first."""
        while self._idle:
            connection = self._idle.pop()
            if connection.usable:
                connection.take()
                return connection
            self._discard(connection)
        return None

    async def acquire(self, *, fresh: bool) -> Connection:
        """A connection when none is idle, or a new one even then (`fresh`): made now, or waited for."""
        if fresh:
            self.close()  # one was found closed: the others will not be better
        if self.taken >= self._settings.pool.max or self._waiting:
            connection_or_place = await self._turn()
            if connection_or_place is not None:
                if not fresh and connection_or_place.usable:
                    connection_or_place.take()
                    return connection_or_place
                connection_or_place.shut()  # its place stays ours
        else:
            self.taken += 1
        try:
            return await self._connect()
        except BaseException:
            self._free_place()
            raise

    async def _turn(self) -> Connection | None:
        """Wait in line: a connection, or None for the right to make one."""
        if len(self._waiting) >= self._settings.pool.waiting:
            raise errors.busy()
        turn: asyncio.Future[Connection | None] = self.loop.create_future()
        self._waiting.append(turn)
        try:
            return await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                # Cancelled with the place in hand: the next in line gets it.
                given = turn.result()
                if given is not None:
                    given.shut()
                self._free_place()
            elif turn in self._waiting:  # or passed over already, as cancelled
                self._waiting.remove(turn)
            raise

    async def _connect(self) -> Connection:
        settings = self._settings
        trial = self.breaker.trial()

        def factory() -> Connection:
            return Connection(self)

        try:
            if settings.unix_socket is not None:
                _, connection = await self.loop.create_unix_connection(
                    factory,
                    str(settings.unix_socket),
                    ssl=self._tls,
                    server_hostname=self._server_name if self._tls else None,
                )
            else:
                _, connection = await self.loop.create_connection(
                    factory,
                    self._host,
                    self._port,
                    ssl=self._tls,
                    server_hostname=self._server_name if self._tls else None,
                )
        except OSError as error:
            trial.failed()
            raise errors.connecting(error) from error
        except BaseException:
            trial.given_up()
            raise
        trial.reached()
        return connection

    def give_back(self, connection: Connection, keep: bool) -> None:
        """An exchange is done with its connection."""
        if not keep:
            self._free_place()
            return
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(connection)
                return
        connection.deadline = self.loop.time() + self._settings.pool.idle
        self._idle.append(connection)

    def drop(self, connection: Connection) -> None:
        """An idle connection is of no use any more."""
        try:
            self._idle.remove(connection)
        except ValueError:
            return  # handed over or dropped already
        self._discard(connection)

    def close(self) -> None:
        """Close what is idle; what serves is closed by its exchange."""
        while self._idle:
            self.drop(self._idle[0])

    def _discard(self, connection: Connection) -> None:
        connection.shut()
        self._free_place()

    def _free_place(self) -> None:
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self.taken -= 1


def _tls(settings: UpstreamSettings) -> ssl.SSLContext:
    context = tls.context(settings)
    context.set_alpn_protocols(["http/1.1"])
    return context


class Http1Upstream:
    """An upstream that is spoken to directly, in HTTP/1.1."""

    def __init__(self, settings: UpstreamSettings, deadlines: Deadlines) -> None:
        self.name = settings.name
        self.pool = Pool(settings, deadlines)
        self.breaker = self.pool.breaker
        self._timeouts = settings.timeouts
        self._host = urlsplit(settings.base_url).netloc.encode()

    async def open(self, request: Outgoing, clock: Clock) -> Answer:
        """See `Upstream.open`."""
        head = self._head(request)
        while True:
            connection = None if request.resent else self.pool.take_idle()
            if connection is None:
                clock.arm(self._timeouts.connect, errors.connect_timeout)
                connection = await self.pool.acquire(fresh=request.resent)
            try:
                await connection.send(head, request, clock, self._timeouts)
                connection.check()
            except UpstreamError:
                stale = connection.reused and connection.untouched and not request.resent
                connection.release()
                if stale and (request.body is None or isinstance(request.body, bytes)):
                    request.resent = True
                    continue
                raise
            except BaseException:
                connection.release()
                raise
            return connection

    async def aclose(self) -> None:
        """See `Upstream.aclose`."""
        self.pool.close()

    def _head(self, request: Outgoing) -> bytes:
        """Request line and headers up to and with the empty line. Framing is always ours."""
        body = request.body
        if body is None:
            framing = b""
        elif isinstance(body, bytes):
            framing = b"content-length: %d\r\n" % len(body)
        elif body.length is None:
            framing = b"transfer-encoding: chunked\r\n"
        else:
            framing = b"content-length: %d\r\n" % body.length
        fields = [self._host, *map(b": ".join, request.headers), framing]
        return b"%b %b HTTP/1.1\r\nhost: %b\r\n" % (request.method, request.target, b"\r\n".join(fields))
