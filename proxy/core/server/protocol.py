"""HTTP/1.1 for uvicorn, on httptools: strict, bounded, and quick to see a client leave.

Rules for whoever edits this file:
- Anything ASGI runs on it; what Weir needs beyond ASGI it finds in `scope["weir.client"]`.
- Every wait for the client has a bound: for a head, between requests, for it to read. One timer
  (`Deadlines`) looks after all connections.
- What is refused here is refused before the app sees it, with an OpenAI-shaped body.
- An answer that is not complete never ends as if it were: no terminal chunk, and with HTTP/1.0, where the end
  of the connection is the end of the body, a reset.
"""

import asyncio
import os
import re
import socket
import struct
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from http import HTTPStatus
from typing import Any, cast
from urllib.parse import unquote_to_bytes

import httptools

from proxy.api.errors import ClientError, InternalError, WeirError
from proxy.api.headers import CR, LF, NUL
from proxy.core.config import HttpLimits
from proxy.core.deadlines import NEVER, Deadlines
from proxy.core.eager import begin
from proxy.core.forward import ResponseAborted
from proxy.core.gate import check_framing
from proxy.core.headers import LOWERED, Pairs
from proxy.core.log import log, raised
from proxy.core.seal import sealed
from proxy.core.server.places import Places, descriptors
from proxy.core.shape import DIGITS, MOST, Shape, plain

KEEP_ALIVE = 75.0
"""Seconds that a connection may be idle between two requests."""
LINGER = 2.0
"""Seconds to go on reading what a client still uploads after its answer: closing at once would reset the
connection, and the answer could be lost with it."""
BUFFER = 128 * 1024
"""Bytes that are read at once, into one buffer for all connections: reading allocates nothing, and what one
connection can have in flight is bounded. With half of it a request of 100 KB costs a tenth more."""
HIGH_WATER = 64 * 1024
"""Bytes of a request body that wait for the app before the client is told to wait."""
PIPELINE = 16
"""Requests that may wait behind one that is being answered, before no more is read. Until then a client that
leaves is still noticed."""
_JOIN = 64 * 1024
_LEARN = 2
"""Heads of one connection that are kept to be known again, each in place of the one before. The first is not:
many a connection brings no other. A client whose heads always differ has shown that by then."""
_FIRST = -1
_RESET = struct.pack("ii", 1, 0)  # SO_LINGER, no time: RST

App = Callable[[Any, Any, Any], Awaitable[None]]

_REQUEST_LINE = re.compile(rb"[\r\n]*[!-~]+ [!-~\x80-\xff]+ HTTP/[0-9]\.[0-9]\r\n")
_STATUS_LINES = {status.value: f"HTTP/1.1 {status.value} {status.phrase}".encode() for status in HTTPStatus}
_ASGI = {"version": "3.0", "spec_version": "2.3"}
_DISCONNECT = {"type": "http.disconnect"}
_NOWHERE: Callable[[tuple[bytes, bytes]], None] = deque[tuple[bytes, bytes]](maxlen=0).append
_CONTENT_LENGTH = b"\r\ncontent-length: "
_CONNECTION = b"\r\nconnection: "


def _status_line(status: int) -> bytes:
    return _STATUS_LINES.get(status) or b"HTTP/1.1 %d " % status


class HttpProtocol(asyncio.BufferedProtocol):
    """One client connection. Made by uvicorn; use `bound` to give it limits."""

    limits: HttpLimits
    deadlines: Deadlines
    buffer: memoryview
    places: Places

    def __init__(
        self,
        config: Any,
        server_state: Any,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        if not config.loaded:
            config.load()
        self.app: App = config.loaded_app
        self.loop = _loop or asyncio.get_running_loop()
        self.connections = server_state.connections
        self.tasks: set[asyncio.Task[None]] = server_state.tasks
        self.app_state = app_state
        self.parser: Any = httptools.HttpRequestParser(self)
        # What follows a request that asked to close is dropped below, not an error.
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
        self.transport: asyncio.Transport
        self.server: Any = None
        self.client: Any = None
        self.scheme = "http"
        self.cycle: Cycle | None = None
        self.pipeline: deque[Cycle] = deque()
        self.deadline = NEVER
        self.closing = False
        self._abort_at = NEVER
        self.write_paused = False
        self._drained: asyncio.Future[None] | None = None
        self._reading = True
        self._in_head = False
        self._head_size = 0
        self._line = b""  # the beginning of a request line, while its rest has not come
        self._piece = self.buffer[:0]  # what was read last
        self._sought = 0  # where in it a further request's line is looked for; `_FIRST`: behind the first
        self._kept = b""  # what came before it of a head that began in the middle of a piece
        self._url = b""
        self._headers: Pairs = []
        self._keep = _NOWHERE
        self._refusal: WeirError | None = None
        self._refusal_id = ""
        self._incoming: Cycle | None = None  # the request whose body is coming in
        self._next: Cycle | None = None  # the request that begins once all of what came in is parsed
        self._shape: Shape | None = None  # the head that comes again
        self._parsed = 0  # requests that were begun by the parser, up to the last that is learnt from

    # -- asyncio.Protocol --------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's are none by inheritance
        self.connections.add(self)
        self.server = _address(transport.get_extra_info("sockname"))
        self.client = _address(transport.get_extra_info("peername"))
        if transport.get_extra_info("sslcontext") is not None:
            self.scheme = "https"
        self.deadline = self.loop.time() + self.limits.header_time
        self.deadlines.add(self)
        if len(self.connections) > self.places.most:
            self._turn_away()

    def connection_lost(self, exc: Exception | None) -> None:
        self.connections.discard(self)
        self.deadlines.discard(self)
        self.closing = True
        self.resume_writing()
        for cycle in (self.cycle, *self.pipeline):
            if cycle is not None:
                cycle.lost()
        self.pipeline.clear()

    def get_buffer(self, sizehint: int) -> memoryview:
        return self.buffer

    def buffer_updated(self, nbytes: int) -> None:
        if self.closing or self._refusal is not None:
            return  # lingering: what still comes is for nobody
        data = self._piece = self.buffer[:nbytes]
        self._sought = 0
        if self.cycle is None and not self._in_head:
            begins = not self._head_size  # nothing has come since the last request: the parser waits for one
            if begins and self._shape is not None and nbytes <= MOST:
                read = self._shape.read(bytes(data))
                if read is not None:
                    self._again(self._shape, *read)
                    return
            self.deadline = self.loop.time() + self.limits.header_time
        else:
            begins = False
        if self._incoming is None:
            self._head_size += nbytes
            if not self._in_head:
                self._sought = _FIRST
            if (not self._in_head or self._line) and not self._first_line(data):
                self._refuse(ClientError(400, "invalid_http", "The request is not valid HTTP/1.1."))
                return
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            # The gate refuses upgrades. What follows the head is no HTTP that we could read.
            if self._incoming is not None:
                self._incoming.keep_alive = False
        except httptools.HttpParserCallbackError as error:
            cause = error.__context__
            if not isinstance(cause, WeirError):
                raise
            self._refuse(cause)
        except httptools.HttpParserError:
            self._refuse(ClientError(400, "invalid_http", "The request is not valid HTTP/1.1."))
        else:
            if self._in_head:
                if self._head_size > self.limits.header_bytes + self.limits.uri:
                    self._refuse(_headers_too_large())
                elif not self._head_size or self._kept:
                    self._kept = self._unsought()
        begun = self._next
        if begun is not None:
            self._next = None
            if begins and self._parsed <= _LEARN:
                self._learn(begun)
            self._begin(begun)

    def _begin(self, cycle: "Cycle") -> None:
        # Not in the next turn of the loop: that costs more than all of `buffer_updated`.
        task = begin(self.loop, cycle.run(self.app, cycle.take_scope()))
        if not task.done():
            cycle.task = task
            self.tasks.add(task)

    def _learn(self, cycle: "Cycle") -> None:
        """Know the head of this request when it comes again, if it came alone, whole and in one piece."""
        piece, scope = self._piece, cycle.scope
        if len(piece) > MOST or not cycle.keep_alive:
            return
        self._parsed += 1
        if self._parsed > 1 and _size(scope["headers"]) + DIGITS <= self.limits.header_bytes:
            lines = plain(bytes(piece), scope["headers"], cycle.taken)
            if lines is not None:
                try:
                    framing = check_framing(scope["http_version"], scope["headers"])
                except ClientError:
                    return
                told = {**scope, "weir.framing": framing, "weir.client": None}  # that is of one request alone
                self._shape = Shape(lines, scope["headers"], told)

    def _again(self, shape: Shape, headers: Pairs, body: bytes) -> None:
        """Begin a request whose head came before, and which is all here: as the callbacks below would."""
        scope: dict[str, Any] = shape.told.copy()
        scope["headers"] = headers
        framed, _, named = scope["weir.framing"]
        scope["weir.framing"] = framed, len(body), named
        cycle = self.cycle = scope["weir.client"] = Cycle(self, scope, False)
        if body:
            cycle.feed(body)
        cycle.feed_end()
        self.deadline = NEVER
        self._begin(cycle)

    def _first_line(self, data: memoryview) -> bool:
        """Whether a request line is one, or is not all here yet.

        llhttp takes RTSP, ICE and two blanks for HTTP; a server behind us need not.
        """
        if not self._line and _REQUEST_LINE.match(data):
            return True
        line = self._line + bytes(data)
        if _REQUEST_LINE.match(line):
            self._line = b""
            return True
        self._line = line if len(line) <= self.limits.uri else b""  # then on_url sees to it
        return line.lstrip(b"\r\n").find(b"\n") < 0

    def _further_line(self) -> bool:
        """The same of a request that began behind the end of another, in the middle of a piece. Its head is
        here.

        The parser does not say where, so the line that it has read is looked for, as it should be, behind
        the lines of those before. Only somebody who has written it into the body before, too, can have one
        taken that has blanks to spare or is RTSP's; and what we send upstream never depends on that.
        """
        text = self._unsought()
        parser = self.parser
        version = parser.get_http_version().encode()
        line = b"%b %b HTTP/%b\r\n" % (parser.get_method(), self._url, version)
        at = text.find(line)
        # It ends in this piece, if not with its line: what was kept of earlier ones has been looked at.
        self._sought += max(0, at + len(line) - len(self._kept))
        self._kept = b""
        self._head_size = max(self._head_size, len(text))  # or more: then the headers are measured
        return at >= 0

    def _unsought(self) -> bytes:
        """What is kept and what is in the piece behind the last request line that was found there."""
        piece = bytes(self._piece)
        if self._sought == _FIRST:
            first = _REQUEST_LINE.match(piece)
            self._sought = first.end() if first is not None else 0
        return self._kept + piece[self._sought :]

    def pause_writing(self) -> None:
        self.write_paused = True
        self.deadline = self.loop.time() + self.limits.write_idle

    def resume_writing(self) -> None:
        if self.write_paused:
            self.write_paused = False
            self._rest()
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)

    def _rest(self) -> None:
        """Set the deadline that goes with what this connection now waits for."""
        if self.closing:
            wait = LINGER
            self._abort_at = min(self._abort_at, self.loop.time() + self.limits.write_idle)
        elif self.write_paused:
            wait = self.limits.write_idle
        elif self.cycle is not None:
            wait = NEVER  # the exchange has deadlines of its own
        elif self._incoming is not None:
            wait = LINGER  # for what little is missing of a body that nobody wants any more
        else:
            wait = self.limits.header_time if self._in_head else KEEP_ALIVE
        self.deadline = self.loop.time() + wait

    # -- uvicorn -----------------------------------------------------------------------------------

    def shutdown(self) -> None:
        """Asked by uvicorn: take no further request."""
        if self.cycle is None:
            self.closing = True
            self.transport.close()
        else:
            self.cycle.keep_alive = False

    # -- deadlines ---------------------------------------------------------------------------------

    def expire(self, now: float) -> None:
        """The client made us wait too long."""
        if self.closing and self.transport.get_write_buffer_size() and now < self._abort_at:
            pass  # it still reads its last bytes
        elif self.write_paused or self.closing:
            if self.cycle is not None:
                self.cycle.left("client_stalled")
            self.transport.abort()
        elif self._in_head:
            self._refuse(ClientError(408, "request_timeout", "The request's head did not arrive in time."))
        else:
            self.closing = True
            self.transport.close()
        self.deadline = now + LINGER

    # -- httptools ---------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        self._in_head = True
        self._url = b""
        self._headers = []
        self._keep = self._headers.append

    def on_url(self, url: bytes) -> None:
        self._url += url
        if len(self._url) > self.limits.uri:
            raise ClientError(414, "uri_too_long", f"The URI is longer than {self.limits.uri} bytes.")

    def on_header(self, name: bytes, value: bytes) -> None:
        self._keep((LOWERED[name], value))

    def on_headers_complete(self) -> None:
        if (not self._head_size or self._kept) and not self._further_line():
            raise ClientError(400, "invalid_http", "The request is not valid HTTP/1.1.")
        if len(self._headers) > self.limits.headers or (
            self._head_size > self.limits.header_bytes and _size(self._headers) > self.limits.header_bytes
        ):
            raise _headers_too_large()
        self._in_head = False
        self._keep = _NOWHERE  # trailers never become headers
        parser = self.parser
        version = parser.get_http_version()
        if version not in ("1.1", "1.0"):
            raise ClientError(505, "http_version_not_supported", "Weir speaks HTTP/1.1.")
        path, separator, query = self._url.partition(b"?")
        if not path.startswith(b"/"):
            path = _origin_form(path, self._headers)
        scope = {
            "type": "http",
            "asgi": _ASGI,
            "http_version": version,
            "method": parser.get_method().decode("ascii"),
            "scheme": self.scheme,
            "path": _decoded(path),
            "raw_path": path,
            "query_string": query,
            "root_path": "",
            "headers": self._headers,
            "client": self.client,
            "server": self.server,
            "state": self.app_state,
            "weir.target": path + separator + query,
        }
        cycle = Cycle(self, scope, version == "1.0")
        cycle.keep_alive = version == "1.1" and parser.should_keep_alive()
        scope["weir.client"] = cycle
        self._incoming = cycle
        if self.cycle is None:
            self.cycle = self._next = cycle
            self.deadline = NEVER
        else:
            self.pipeline.append(cycle)  # answered in turn
            if len(self.pipeline) >= PIPELINE:
                self.pause_reading()

    def on_body(self, body: bytes) -> None:
        cycle = self._incoming
        if cycle is not None:
            cycle.feed(body)

    def on_message_complete(self) -> None:
        cycle = self._incoming
        self._incoming = None
        self._head_size = 0
        if cycle is not None:
            cycle.feed_end()
        if self.cycle is None and not self.closing:
            self._rest()  # it was answered already; now the connection is free for the next

    # -- the requests of this connection -----------------------------------------------------------

    def _start(self, cycle: "Cycle") -> None:
        self.cycle = cycle
        self.deadline = NEVER
        task = cycle.task = self.loop.create_task(cycle.run(self.app, cycle.take_scope()))
        self.tasks.add(task)

    def done(self, cycle: "Cycle") -> None:
        """The answer to this request is out."""
        self.cycle = None
        if self.closing:
            return
        if not cycle.keep_alive:
            if self._incoming is cycle:
                self._linger()
            else:
                self._close()
        elif self.pipeline:
            self._start(self.pipeline.popleft())
        elif self._refusal is not None:
            self._write_refusal(self._refusal)
        else:
            self._rest()
            self.resume_reading()

    def broken(self, cycle: "Cycle", *, old: bool) -> None:
        """The answer was broken off: end the connection, after what is written, so that it shows."""
        self.cycle = None
        if old:
            # Without chunks a close is a clean end: only a reset tells the client.
            sock = self.transport.get_extra_info("socket")
            if sock is not None and sock.family != socket.AF_UNIX:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            self.transport.abort()
        elif self._incoming is cycle:
            self._linger()
        else:
            self._close()

    def _close(self) -> None:
        self.closing = True
        self.transport.close()
        self._rest()

    def _linger(self) -> None:
        """The client still uploads what nobody wants: let it read its answer before the connection ends."""
        self.closing = True
        self.resume_reading()
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self._rest()

    def _refuse(self, error: WeirError) -> None:
        if self._refusal is not None:
            return
        self._refusal = error
        cycle = self.cycle
        if cycle is not None and self._incoming is cycle:
            cycle.fail(error)  # whoever reads its body hears of it, and answers
            return
        self._refusal_id = os.urandom(13).hex()
        log.info(
            "refused",
            extra={
                "fields": {
                    "id": self._refusal_id,
                    "status": error.status,
                    "end_reason": "rejected",
                    "end_code": error.code,
                    "address": self.client[0] if self.client else None,
                }
            },
        )
        if cycle is None:
            self._write_refusal(error)

    def _turn_away(self) -> None:
        told = self.places.turn_away(len(self.connections))
        if told:
            self.transport.write(told)
            self._linger()
        else:
            self.closing = True
            self.transport.abort()

    def _write_refusal(self, error: WeirError) -> None:
        body = error.body()
        head = [_status_line(error.status), b"\r\n"]
        head += [name + b": " + value + b"\r\n" for name, value in sealed(error.headers())]
        head.append(b"x-request-id: %b\r\n" % self._refusal_id.encode())
        head.append(b"content-length: %d\r\nconnection: close\r\n\r\n" % len(body))
        self.transport.write(b"".join(head) + body)
        self._linger()

    # -- flow --------------------------------------------------------------------------------------

    async def drain(self) -> None:
        """Wait until the client has read enough of what was written."""
        self._drained = self.loop.create_future()
        await self._drained

    def pause_reading(self) -> None:
        if self._reading and not self.transport.is_closing():
            self._reading = False
            self.transport.pause_reading()

    def resume_reading(self) -> None:
        if not self._reading and not self.transport.is_closing():
            self._reading = True
            self.transport.resume_reading()


class Cycle:
    """One request and its answer: ASGI's `receive` and `send`, and what Weir needs beyond them."""

    __slots__ = (
        "_body",
        "_chunked",
        "_delivered",
        "_failure",
        "_gone",
        "_head",
        "_headers",
        "_is_head",
        "_left",
        "_more",
        "_old",
        "_protocol",
        "_remaining",
        "_size",
        "_told_to_go_on",
        "_trailers",
        "_waiter",
        "complete",
        "disconnected",
        "keep_alive",
        "scope",
        "sent",
        "started",
        "taken",
        "task",
    )

    def __init__(self, protocol: HttpProtocol, scope: dict[str, Any], old: bool) -> None:
        self._protocol = protocol
        self.task: asyncio.Task[None] | None = None
        self.scope = scope
        self._old = old
        self._headers: Pairs = scope["headers"]
        self._told_to_go_on = old
        self._is_head = scope["method"] == "HEAD"
        self.keep_alive = True
        self.disconnected = False
        self.started = False
        self.complete = False
        self._body: list[bytes] = []
        self.taken = 0
        """Bytes of the request's body that have come."""
        self.sent = 0
        """Bytes of the answer's body that were handed to the kernel, or wait for it."""
        self._size = 0
        self._more = True
        self._delivered = False
        self._waiter: asyncio.Future[None] | None = None
        self._head: bytes | None = None
        self._chunked = False
        self._trailers = False
        self._remaining: int | None = None
        self._gone: Callable[[str], None] | None = None
        self._left = "client_closed"
        self._failure: WeirError | None = None

    # -- beyond ASGI -------------------------------------------------------------------------------

    def watch(self, gone: Callable[[str], None]) -> None:
        """Call `gone` once, with how the client left, when it does. Never within this call."""
        self._gone = gone
        if self.disconnected:
            self._protocol.loop.call_soon(self._tell_gone)

    @property
    def watched(self) -> bool:
        """Whether somebody will be told."""
        return self._gone is not None

    @property
    def arrived(self) -> bool:
        """Whether all is known of the request's body: it is here, or it is broken."""
        return not self._more or self._failure is not None

    def take(self) -> bytes | None:
        """The whole body if it is here and nobody has received any of it, and None otherwise."""
        if (
            self._more
            or self._delivered
            or self.disconnected
            or self._failure is not None
            or self.taken != self._size
        ):
            return None
        body = self._body
        self._body = []
        self._size = 0
        self._delivered = True
        protocol = self._protocol
        if len(protocol.pipeline) < PIPELINE:
            protocol.resume_reading()
        return body[0] if len(body) == 1 else b"".join(body)

    def unwatch(self) -> None:
        """Call nobody."""
        self._gone = None

    # -- from the connection -----------------------------------------------------------------------

    def feed(self, body: bytes) -> None:
        self.taken += len(body)
        if self.complete:
            return
        self._body.append(body)
        self._size += len(body)
        if self._size > HIGH_WATER:
            self._protocol.pause_reading()
        self._wake()

    def feed_end(self) -> None:
        self._more = False
        self._wake()

    def fail(self, error: WeirError) -> None:
        """The body is broken; it must not be taken for whole."""
        self._failure = error
        self._wake()

    def left(self, code: str) -> None:
        """How the client is about to be found gone."""
        self._left = code

    def lost(self) -> None:
        """The connection is gone."""
        if not self.complete:
            self.disconnected = True
            self._wake()
            self._tell_gone()

    def _tell_gone(self) -> None:
        gone = self._gone
        if gone is not None:
            self._gone = None
            gone(self._left)

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    # -- ASGI --------------------------------------------------------------------------------------

    def take_scope(self) -> dict[str, Any]:
        """The scope, for the one run there is; it knows this cycle, so it is not kept."""
        scope, self.scope = self.scope, {}
        return scope

    async def run(self, app: App, scope: dict[str, Any]) -> None:
        protocol = self._protocol
        try:
            await app(scope, self.receive, self.send)
        except ResponseAborted:
            pass
        except asyncio.CancelledError:
            pass
        except Exception as error:  # noqa: BLE001 # the app's; its message may quote anything
            log.error("the app failed", extra={"fields": raised(error)})
            if not self.started and not self.disconnected:
                await self._send_failure()
        finally:
            if self.task is not None:
                protocol.tasks.discard(self.task)
                self.task = None  # it holds this coroutine: without a cycle there is nothing to collect
        if not self.complete and not self.disconnected:
            self._flush_head()
            protocol.broken(self, old=self._old and self._remaining is None)

    async def _send_failure(self) -> None:
        error = InternalError()
        body = error.body()
        headers = [*error.headers(), (b"content-length", b"%d" % len(body))]
        await self.send({"type": "http.response.start", "status": 500, "headers": headers})
        await self.send({"type": "http.response.body", "body": body})

    async def receive(self) -> dict[str, Any]:
        protocol = self._protocol
        if not self._told_to_go_on and not self.started and not self.disconnected:
            self._told_to_go_on = True
            if self._expects():
                protocol.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        while True:
            if self.disconnected or self.complete:
                return _DISCONNECT
            if self._failure is not None:
                raise self._failure
            if self._body or not (self._more or self._delivered):
                body = self._body
                self._body = []
                self._size = 0
                self._delivered = not self._more
                if len(protocol.pipeline) < PIPELINE:
                    protocol.resume_reading()  # to see the client leave, if nothing else
                return {
                    "type": "http.request",
                    "body": body[0] if len(body) == 1 else b"".join(body),
                    "more_body": self._more,
                }
            protocol.resume_reading()
            self._waiter = protocol.loop.create_future()
            await self._waiter

    def answer(self, status: int, headers: list[tuple[bytes, bytes]], body: bytes) -> bool:
        """Send a whole answer at once. False if the client has to read first: `send` waits for that."""
        if self._protocol.write_paused:
            return False
        if not self.disconnected:
            self._start(status, headers, True)
            self._write(body, False)
        return True

    async def send(self, message: dict[str, Any]) -> None:
        protocol = self._protocol
        if protocol.write_paused and not self.disconnected:
            await protocol.drain()
        if self.disconnected:
            return
        if not self.started:
            if message["type"] != "http.response.start":
                raise RuntimeError(f"expected http.response.start, got {message['type']}")
            follows = "weir.body_follows" in message
            trailers = message.get("weir.trailers", ())
            if trailers:
                _check_lines(trailers, "a trailer")
            self._start(message["status"], message.get("headers", ()), follows, trailers)
        elif self.complete:
            raise RuntimeError("the response is complete")
        else:
            more = message.get("more_body", False)
            if self._trailers and not more:
                self._write(message.get("body", b""), True)
                self._write_trailers(message.get("weir.trailers", ()))
            else:
                self._write(message.get("body", b""), more)

    def _start(self, status: int, headers: Any, body_follows: bool, trailers: Sequence[bytes] = ()) -> None:
        fields = [_status_line(status), *map(b": ".join, headers)]
        _check_lines(fields, "a response header")
        self.started = True
        head = b"\r\n".join(fields)
        # Of two fields the value counts. A loop over all costs three times what these looks at the text do.
        length = head.rfind(_CONTENT_LENGTH)
        if length >= 0:
            self._remaining = int(head[length + len(_CONTENT_LENGTH) :].partition(b"\r")[0])
        close = head.find(_CONNECTION) >= 0 and any(
            name == b"connection" and value.lower() == b"close" for name, value in headers
        )
        if self._is_head or status in (204, 304):
            self._remaining = 0
        elif length < 0:
            if self._old:
                self.keep_alive = False
            else:
                self._chunked = True
                head += b"\r\ntransfer-encoding: chunked"
                if trailers:
                    self._trailers = True
                    head += b"\r\ntrailer: " + b", ".join(trailers)
        if self._more and (status == 408 or not self._little_is_missing()):
            self.keep_alive = False  # the rest of the upload is not waited for
        if close:
            self.keep_alive = False
        elif not self.keep_alive:
            head += b"\r\nconnection: close"
        head += b"\r\n\r\n"
        if body_follows:
            self._head = head  # one write with the body's first piece
        else:
            self._protocol.transport.write(head)

    def _little_is_missing(self) -> bool:
        """Whether what is still to come of the body can be read and dropped rather than end the connection.

        Clients send head and body one after the other: an upstream that answers to the head alone must not
        cost each of them its connection.
        """
        if (not self._told_to_go_on and self._expects()) or self._failure is not None:
            return False  # it waits to be told to go on, or what it sends cannot be read
        lengths = [value for name, value in self._headers if name == b"content-length" and value.isdigit()]
        return bool(lengths) and int(lengths[-1]) - self.taken <= HIGH_WATER

    def _expects(self) -> bool:
        """Whether the client may wait to be told that its body is wanted. Asked where it is not here yet."""
        return any(name == b"expect" for name, _ in self._headers)

    def _flush_head(self) -> None:
        head = self._head
        if head is not None:
            self._head = None
            self._protocol.transport.write(head)

    def _write(self, body: bytes, more: bool) -> None:
        transport = self._protocol.transport
        size = len(body)
        self.sent += size
        if self._remaining is not None:
            if self._is_head or (not size and not self._remaining):
                body = b""
            elif size > self._remaining:
                raise RuntimeError("the response is longer than its Content-Length")
            else:
                self._remaining -= size
            if not more and self._remaining:
                raise RuntimeError("the response is shorter than its Content-Length")
        elif self._chunked:
            if size > _JOIN:
                self._flush_head()
                transport.write(b"%x\r\n" % size)
                transport.write(body)
                body = b"\r\n" if more else b"\r\n0\r\n\r\n"
            elif size:
                body = b"%x\r\n%b\r\n" % (size, body) if more else b"%x\r\n%b\r\n0\r\n\r\n" % (size, body)
            elif not more:
                body = b"0\r\n\r\n"
        head = self._head
        if head is not None:
            self._head = None
            body = head + body
        if body:
            transport.write(body)
        if not more:
            self._complete()

    def _write_trailers(self, trailers: Sequence[tuple[bytes, bytes]]) -> None:
        """The last chunk, with the fields after it."""
        fields = list(map(b": ".join, trailers))
        _check_lines(fields, "a trailer")
        self._protocol.transport.write(b"\r\n".join((b"0", *fields, b"", b"")))
        self._complete()

    def _complete(self) -> None:
        self.complete = True
        self._wake()
        self._protocol.done(self)


def bound(limits: HttpLimits, deadlines: Deadlines) -> type[HttpProtocol]:
    """The protocol class with its limits, as uvicorn's `Config(http=...)` wants it."""
    own = {
        "limits": limits,
        "deadlines": deadlines,
        "buffer": memoryview(bytearray(BUFFER)),
        "places": Places(descriptors()),
    }
    return type("HttpProtocol", (HttpProtocol,), own)


def _check_lines(fields: Sequence[bytes], what: str) -> None:
    """Nothing that became a field may have brought a line of its own."""
    text = b"".join(fields)
    if LF in text or CR in text or NUL in text:
        raise RuntimeError(f"{what} holds a CR, LF or NUL")


def _headers_too_large() -> ClientError:
    return ClientError(431, "headers_too_large", "The request has too many or too large headers.")


def _size(headers: list[tuple[bytes, bytes]]) -> int:
    return sum(len(name) + len(value) + 4 for name, value in headers)


def _decoded(path: bytes) -> str:
    if path.find(b"%") >= 0:
        path = unquote_to_bytes(path)
    return path.decode("utf-8", "replace")


def _origin_form(target: bytes, headers: list[tuple[bytes, bytes]]) -> bytes:
    """The path of an absolute-form target (RFC 9112, 3.2.2).

    The authority in it never decides where a request goes, and must say the same as Host. Anything else
    (`*`, an authority) stays as it is, for the gate to refuse.
    """
    scheme, separator, rest = target.partition(b"://")
    if separator and scheme.lower() in (b"http", b"https"):
        authority, slash, path = rest.partition(b"/")
        hosts = [value.strip().lower() for name, value in headers if name == b"host"]
        if not authority or hosts != [authority.lower()]:
            raise ClientError(400, "invalid_host", "The request's target and its Host header differ.")
        return slash + path or b"/"
    return target


def _address(address: Any) -> tuple[str, int] | None:
    if isinstance(address, tuple) and len(address) >= 2:
        return str(address[0]), int(address[1])
    return None
