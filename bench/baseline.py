"""The least that a Python proxy of these parts does: uvicorn, httptools, one key, no plugins, nothing told.

    UPSTREAM=127.0.0.1:9200 uvicorn bench.baseline:app

What Weir costs above it is what Weir does. GET and POST only; a body is held before it is sent on, up to
`LARGEST`; answers stream through, and end for the client as they ended here: one that breaks off breaks off.
"""

import asyncio
import hmac
import os
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any, cast

import httptools

from .scenarios import CLIENT_KEY, UPSTREAM_KEY

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]

LARGEST = 16 << 20
"""Bytes of a request's body; a longer one is refused."""
HIGH = 256 * 1024
"""Bytes of an answer that may wait for a slow client; then the upstream waits."""
IDLE = 256
"""Connections kept for the next request; more are closed."""

_HOP_BY_HOP = frozenset(
    (
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    )
)
_OURS = _HOP_BY_HOP | {b"host", b"content-length", b"authorization", b"expect"}
_CLIENT = f"Bearer {CLIENT_KEY}".encode()
_UPSTREAM = f"Bearer {UPSTREAM_KEY}".encode()


class Connection(asyncio.Protocol):
    """A connection to the upstream, for one exchange after the other."""

    def __init__(self, pool: "Pool") -> None:
        self._pool = pool
        self._loop = pool.loop
        self.closed = False
        self._paused = False
        self._begin()

    def _begin(self) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self.status = 0
        self.headers: Headers = []
        self._sized = self._chunked = False
        self._parts: list[bytes] = []
        self._size = 0
        self._asked = False
        self._head = False
        self._done = False
        self._kept = self._failed = False
        self._waiter: asyncio.Future[None] | None = None

    # -- asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is not one by its class

    def data_received(self, data: bytes) -> None:
        try:
            if not self._asked:
                raise httptools.HttpParserError("an answer to nothing")
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self._failed = True
            self._transport.abort()
        if self._size > HIGH and not self._paused:
            self._paused = True
            self._transport.pause_reading()
        self._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed = True
        self._pool.forget(self)
        if not self._done:
            # Without a length and chunks, the end of the connection is the end of the answer.
            self._done = self._head and not self._sized and not self._chunked and exc is None
            self._failed = not self._done
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    # -- httptools

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        self.status = self._parser.get_status_code()
        if self.status < 200:  # an interim answer
            self.headers = []
            return
        names = {name for name, _ in self.headers}
        self._sized, self._chunked = b"content-length" in names, b"transfer-encoding" in names
        self._head = True

    def on_body(self, body: bytes) -> None:
        self._parts.append(body)
        self._size += len(body)

    def on_message_complete(self) -> None:
        if self._head:
            self._failed = self._failed or self._done  # one answer was asked for, here is another
            self._done = True
            self._kept = self._parser.should_keep_alive()  # later it does not know any more

    # -- an exchange

    async def ask(self, data: bytes) -> None:
        """Send a request and wait for the head of its answer."""
        self._asked = True
        self._transport.write(data)
        while not self._head:
            await self._wait()

    async def read(self) -> tuple[bytes, bool]:
        """What came of the body since, and whether there is more."""
        while not self._parts and not self._done:
            await self._wait()
        body = self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)
        self._parts, self._size = [], 0
        if self._paused and not self.closed:
            self._paused = False
            self._transport.resume_reading()
        return body, not self._done

    async def _wait(self) -> None:
        if self._failed:
            raise ConnectionError("the upstream broke off its answer")
        self._waiter = self._loop.create_future()
        await self._waiter
        self._waiter = None

    def leave(self) -> None:
        """After an exchange: ready for the next one, or closed."""
        if self._kept and not self._failed and not self.closed and len(self._pool.idle) < IDLE:
            self._begin()
            self._pool.idle.append(self)
        else:
            self._transport.abort()


class Pool:
    """The connections to one upstream."""

    def __init__(self, address: str) -> None:
        self.loop = asyncio.get_running_loop()
        self.idle: deque[Connection] = deque()
        self._host, _, self._port = address.rpartition(":")
        self.host = address.encode()

    async def connection(self) -> Connection:
        if self.idle:
            return self.idle.pop()
        _, connection = await self.loop.create_connection(
            lambda: Connection(self), self._host, int(self._port)
        )
        return connection

    def forget(self, connection: Connection) -> None:
        if connection in self.idle:
            self.idle.remove(connection)


_pool: Pool | None = None


async def app(scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
    """See the module."""
    global _pool
    if scope["type"] == "lifespan":
        await receive()
        _pool = Pool(os.environ["UPSTREAM"])
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})
        return
    assert _pool is not None
    headers: Headers = scope["headers"]
    key = next((value for name, value in headers if name == b"authorization"), b"")
    if not hmac.compare_digest(key, _CLIENT):
        await _refuse(send, 401)
        return
    if scope["method"] not in ("GET", "POST"):
        await _refuse(send, 405)
        return
    body = await _body(receive)
    if body is None:
        await _refuse(send, 413)
        return
    connection = await _pool.connection()
    me = asyncio.current_task()
    assert me is not None
    watcher = asyncio.ensure_future(receive())
    watcher.add_done_callback(lambda watched: watched.cancelled() or me.cancel())
    try:
        await connection.ask(_head(scope, headers, body, _pool.host) + body)
        passed = [pair for pair in connection.headers if pair[0] not in _HOP_BY_HOP]
        await send({"type": "http.response.start", "status": connection.status, "headers": passed})
        more = True
        while more:
            data, more = await connection.read()
            if not more:
                watcher.cancel()
            await send({"type": "http.response.body", "body": data, "more_body": more})
    except asyncio.CancelledError:
        pass  # the client left
    finally:
        watcher.cancel()
        connection.leave()


def _head(scope: MutableMapping[str, Any], headers: Headers, body: bytes, host: bytes) -> bytes:
    query = scope["query_string"]
    target = scope["raw_path"] + (b"?" + query if query else b"")
    named = (value for name, value in headers if name == b"connection")
    left_out = _OURS.union(name.strip().lower() for value in named for name in value.split(b","))
    parts = [scope["method"].encode(), b" ", target, b" HTTP/1.1\r\nhost: ", host, b"\r\n"]
    for name, value in _passed(headers, left_out):
        parts += (name, b": ", value, b"\r\n")
    parts += (b"authorization: ", _UPSTREAM, b"\r\n")
    if body or scope["method"] == "POST":
        parts.append(b"content-length: %d\r\n" % len(body))
    parts.append(b"\r\n")
    return b"".join(parts)


def _passed(headers: Headers, left_out: frozenset[bytes]) -> Iterable[tuple[bytes, bytes]]:
    return (pair for pair in headers if pair[0] not in left_out)


async def _body(receive: Receive) -> bytes | None:
    """Held whole, so that it goes on with its length; None if it is too long, or the client left."""
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return None
        part = message.get("body", b"")
        size += len(part)
        if size > LARGEST:
            return None
        if not message.get("more_body"):
            return b"".join((*parts, part)) if parts else part
        parts.append(part)


async def _refuse(send: Send, status: int) -> None:
    headers = [(b"content-length", b"0"), (b"connection", b"close")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": b""})
