"""The client for upstreams behind an HTTP or SOCKS proxy, or with HTTP/2: httpx2's own transport, httpcore2.

Its pool, proxies and protocols are used as they are, beneath `httpx2.AsyncHTTPTransport`, which cannot be
given a network backend. What is added here is what a proxy needs and they lack; each has its test:
- `_Wire` knows what came, so that a request is replayed only while nothing did; a TLS connection that is cut
  is no clean end; a graceful GOAWAY lets running streams end.
- `_Link` frees its socket and its place in the pool whenever connecting fails or is cancelled, and never
  hands on a connection with bytes that nobody asked for.
- An HTTP/2 stream that is given up is reset. httpcore2 alone would let the upstream go on, and starve the
  connection's flow control with what it sends.
- A body that is large or streamed goes out beside the reading of the answer (HTTP/1.1), so that early
  answers are seen.

Rules for whoever edits this file: private names of httpcore2 are touched in `_Link` alone, below the line
that says so. What goes wrong while connecting is the proxy's fault until the upstream's TLS begins.
"""

import asyncio
import re
import select
import socket
import ssl
from collections.abc import AsyncIterator, Coroutine, Iterable
from contextvars import Context, ContextVar
from typing import Any, Literal, cast
from urllib.parse import unquote_to_bytes

import anyio
import anyio.abc
import anyio.streams.tls
import h2.errors
import h2.events
import h2.exceptions
import h11
import httpcore2

from proxy.api.errors import ClientError, UpstreamError, WeirError
from proxy.core.config import UpstreamSettings
from proxy.core.headers import Pairs
from proxy.core.settings.values import read_authority
from proxy.core.upstream import Answer, Clock, Outgoing, Upload, errors

PROXY_FAILED = "upstream_proxy_failed"
"""The code of all that a configured proxy did wrong."""
MAX_HEADERS = 200
MAX_HEAD = 128 * 1024
"""Bytes of an answer's head, interim answers included. h11 stops at 100 KiB for each of them."""
MAX_INTERIM = 32
MAX_STREAMS = 100
"""Streams on one HTTP/2 connection, if the upstream does not ask for fewer."""
CLOSE_LIMIT = 5.0
"""Seconds that what goes on in the background may take before connections are cut."""
_JOIN = 64 * 1024
"""A body up to this size goes out in one write."""
_READ = 64 * 1024
_H11_LIMIT = httpcore2.AsyncHTTP11Connection.MAX_INCOMPLETE_EVENT_SIZE
_BLANK_LINE = re.compile(rb"\n\r?\n")
_CHUNK_HEADER = re.compile(rb"[0-9A-Fa-f]{1,20}(?:;[^\n]*)?[ \t]*\r\n")
_FIELD_NAME = re.compile(rb"[!#$%&'*+.^_`|~0-9a-z-]+")
_UNSAFE = re.compile(rb"[\r\n\0]")

# HTTP/2 frames, RFC 9113: type and error codes as numbers, since whole frames are looked at below.
_FRAME_HEADER = 9
_FRAME_LIMIT = 16384
_GOAWAY = 7
_REFUSED = h2.errors.ErrorCodes.REFUSED_STREAM
_CANCEL = h2.errors.ErrorCodes.CANCEL

_current: ContextVar["_Attempt"] = ContextVar("attempt")


def _proxy_failed(what: str) -> UpstreamError:
    return UpstreamError(502, PROXY_FAILED, what)


# -- the network ---------------------------------------------------------------------------------------


class _Wire(httpcore2.AsyncNetworkStream):
    """One connection's bytes, before or after TLS, and what is to be known of them."""

    def __init__(self, link: "_Link", sock: anyio.abc.SocketStream, stream: anyio.abc.ByteStream) -> None:
        self._link = link
        self._sock = sock
        self._stream = stream
        self._ssl = stream.extra(anyio.streams.tls.TLSAttribute.ssl_object, None)  # noqa: S610 # no Django
        self._shared = self._ssl is not None and self._ssl.selected_alpn_protocol() == "h2"
        self._turn = asyncio.Lock()
        self._held = b""  # the beginning of an HTTP/2 frame
        self._ahead: asyncio.Task[bytes] | None = None
        self.touched = False
        """Whether anything was read since this was last set to False."""
        self.ended = False
        self.broken = False
        self.leaving = False
        """Whether the upstream has said that it takes no more streams."""
        self.head: bytearray | None = None
        """All bytes while the head of an answer is awaited, in HTTP/1."""
        link.wire = self

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        if self.head is not None:
            self._check_head(self.head)
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
            self._ahead = asyncio.create_task(self._next(_READ), context=Context())
            self._ahead.add_done_callback(self._seen)

    @property
    def stirred(self) -> bool:
        """Whether something came while nobody asked."""
        return self._ahead is not None and self._ahead.done()

    def _seen(self, ahead: "asyncio.Task[bytes]") -> None:
        if not ahead.cancelled():
            ahead.exception()  # told to the next to read, if anybody does
            self._link.woken()

    async def _next(self, max_bytes: int) -> bytes:
        while True:
            data = await self._receive(max_bytes)
            if not data:
                self.ended = True
                return b""
            self.touched = True
            if self._shared:
                data = self._whole_frames(data)
            if data:
                return data

    @staticmethod
    def _check_head(head: bytearray) -> None:
        """Raise if this cannot become a proper head. h11 would wait for more."""
        start = bytes(head[:9])
        if not (b"HTTP/1.1 ".startswith(start) or b"HTTP/1.0 ".startswith(start)):
            raise errors.bad_response()
        if len(head) > MAX_HEAD:
            raise errors.headers_too_large()
        if len(_BLANK_LINE.findall(head)) > MAX_INTERIM:
            raise errors.bad_response()

    async def _receive(self, max_bytes: int) -> bytes:
        try:
            return await self._stream.receive(max_bytes)
        except anyio.EndOfStream:
            return b""
        except (anyio.BrokenResourceError, anyio.ClosedResourceError, OSError) as error:
            self.broken = True
            raise httpcore2.ReadError(error) from error

    def _whole_frames(self, data: bytes) -> bytes:
        """What is complete of HTTP/2's frames, without a graceful GOAWAY.

        httpcore2 takes GOAWAY for the end of all streams; those the upstream has begun it will still answer.
        """
        data = self._held + data
        out = []
        at = 0
        while len(data) - at >= _FRAME_HEADER:
            length = int.from_bytes(data[at : at + 3], "big")
            end = at + _FRAME_HEADER + length
            if length > _FRAME_LIMIT:
                raise h2.exceptions.FrameTooLargeError("h2 would wait for all of it")
            if end > len(data):
                break
            frame = data[at:end]
            at = end
            if frame[3] == _GOAWAY and length >= 8 and not any(frame[13:17]):
                self.leaving = True
                out.append(self._link.refused(int.from_bytes(frame[9:13], "big") & 0x7FFFFFFF))
            else:
                out.append(frame)
        self._held = data[at:]
        return b"".join(out)

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        if not buffer:
            return
        if self._shared:
            # A frame that is cut by one exchange's cancellation would end all the others.
            await asyncio.shield(self.write_soon(buffer))
        else:
            await self._send(buffer)

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
        return _Wire(self._link, self._sock, stream)

    def get_extra_info(self, info: str) -> Any:
        if info == "ssl_object":
            return self._ssl
        if info == "is_readable":
            return self.readable
        return None

    @property
    def readable(self) -> bool:
        """Whether bytes or an end wait to be read."""
        sock: socket.socket = self._sock.extra(anyio.abc.SocketAttribute.raw_socket)  # noqa: S610 # no Django
        if sock.fileno() < 0:
            return True
        poll = select.poll()
        poll.register(sock.fileno(), select.POLLIN)
        return bool(poll.poll(0))


class _Network(httpcore2.AsyncNetworkBackend):
    """Connects. Timeouts are the clock's, and httpcore2's are never set."""

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        return await self._connect(anyio.connect_tcp(host, port))

    async def connect_unix_socket(
        self,
        path: str,
        timeout: float | None = None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        return await self._connect(anyio.connect_unix(path))

    async def _connect(self, connecting: Coroutine[Any, Any, anyio.abc.SocketStream]) -> _Wire:
        attempt = _current.get()
        link = attempt.link
        if link.spoilt:  # by whoever began to connect it: httpcore2 would do so again, outside of its pool
            connecting.close()
            raise httpcore2.ConnectionNotAvailable
        link.maker = attempt
        try:
            sock = await connecting
        except OSError as error:
            raise httpcore2.ConnectError(error) from error
        return _Wire(link, sock, sock)


class _Link(httpcore2.AsyncConnectionInterface):
    """A connection of the pool, and the exchanges on it."""

    def __init__(self, inner: httpcore2.AsyncConnectionInterface, upstream: "Httpx2Upstream") -> None:
        self._inner = inner
        self._upstream = upstream
        self._idle_timer: asyncio.TimerHandle | None = None
        self.wire: _Wire | None = None
        self.attempts: set[_Attempt] = set()
        self.maker: _Attempt | None = None
        """Who connects it; nobody once a request has gone out."""
        self.made = False
        """Whether a request has gone out on it."""
        self.distrusted = False
        """Whether it must not serve again."""
        self.spoilt = False
        """Whether it is of no use to anybody any more."""

    async def handle_async_request(self, request: httpcore2.Request) -> httpcore2.Response:
        attempt: _Attempt = request.extensions["attempt"]
        if self.spoilt or self._stale() or (attempt.fresh and self.made and self.is_idle()):
            await self.cut()
            raise httpcore2.ConnectionNotAvailable
        if self._idle_timer is not None:
            self._idle_timer.cancel()
            self._idle_timer = None
        attempt.board(self)
        _current.set(attempt)
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

    def refused(self, last: int) -> bytes:
        """The upstream answers streams up to `last`: frames that tell the later ones."""
        return b"".join(
            b"\0\0\4\3\0" + attempt.stream_id.to_bytes(4, "big") + _REFUSED.to_bytes(4, "big")
            for attempt in self.attempts
            if attempt.stream_id > last
        )

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


class _Pool(httpcore2.AsyncConnectionPool):
    """httpcore2's pool, of `_Link`s."""

    def __init__(self, upstream: "Httpx2Upstream", **settings: Any) -> None:
        super().__init__(**settings)
        self._upstream = upstream

    def create_connection(self, origin: httpcore2.Origin) -> httpcore2.AsyncConnectionInterface:
        return _Link(super().create_connection(origin), self._upstream)


# -- one exchange --------------------------------------------------------------------------------------


class _Attempt:
    """One try at a request: follows it through httpcore2 and keeps the clock."""

    link: _Link
    """The connection it was assigned, from then on."""
    wire: _Wire
    """Where it went out, from then on: in phase `http`."""

    def __init__(self, upstream: "Httpx2Upstream", request: Outgoing, clock: Clock) -> None:
        self._upstream = upstream
        self._clock = clock
        self._timeouts = upstream.settings.timeouts
        self._upload_task: asyncio.Task[None] | None = None
        self._sends = 0
        self._answered = False
        self._may_be_stale = False
        self._upload_error: WeirError | None = None
        self.request = request
        self.fresh = request.resent
        """Whether it must not go out on a connection that rested."""
        self.phase: Literal["connect", "tls", "connected", "http"] = "connect"
        self.stream_id = 0

    # What httpcore2 reports, in order.

    def board(self, link: _Link) -> None:
        """A connection was assigned; it may still have to be made."""
        self._upstream.waiting.discard(self)
        self.link = link
        self.phase = "connect"
        self.stream_id = 0
        link.attempts.add(self)

    def leave(self) -> None:
        """The exchange on this connection is over."""
        self.link.attempts.discard(self)

    async def trace(self, event: str, info: dict[str, Any]) -> None:
        """Called by httpcore2 at each step."""
        where, _, step = event.partition(".")
        if step == "start_tls.started":
            if where != "connection" or not self._upstream.proxied:
                self.phase = "tls"
        elif step == "send_connection_init.started":
            self.phase = "connected"
            if self.link.is_closed():  # by whoever was to send this before, and was cancelled
                raise httpcore2.ConnectionNotAvailable
            self.link.maker = self
        elif step == "send_request_headers.started":
            if info["request"].method != b"CONNECT":
                self._sending(info.get("stream_id", 0))
        elif self.phase != "http":
            pass  # a proxy's answer to CONNECT
        elif step == "send_request_body.complete":
            self._clock.arm(self._timeouts.first_byte, errors.header_timeout)
        elif step == "receive_response_headers.complete":
            self._answered = True
            if where == "http11":
                self._check_head()
        elif event == "http2.response_closed.started":
            self.link.give_up(info["stream_id"])

    def _sending(self, stream_id: int) -> None:
        link = self.link
        self.wire = cast("_Wire", link.wire)
        if not link.alive:
            raise httpcore2.ConnectionNotAvailable
        self._sends += 1
        if self._sends > 1:
            # An HTTP/2 upstream has said that it did not process the request, and httpcore2 sends it again.
            if self.request.resent or not self._replayable:
                raise errors.closed()
            self.request.resent = True
        self._may_be_stale = link.made and len(link.attempts) == 1
        link.made = True
        link.maker = None
        self.phase = "http"
        self.stream_id = stream_id
        if len(link.attempts) == 1:
            self.wire.touched = False
        if not stream_id:
            self.wire.head = bytearray()
        if self._replayable:
            self._clock.arm(self._timeouts.first_byte, errors.header_timeout)

    def _check_head(self) -> None:
        """Raise for what h11 lets pass in a whole head, or would find with the next read only."""
        raw = bytes(self.wire.head or b"")
        self.wire.head = None
        at = 0
        interims = -1
        status = b"1"
        while status == b"1":
            interims += 1
            if not raw.startswith((b"HTTP/1.1 ", b"HTTP/1.0 "), at):
                raise errors.bad_response()
            status = raw[at + 9 : at + 10]
            end = _BLANK_LINE.search(raw, at)
            if end is None:
                return
            head, at = raw[at : end.end()], end.end()
        if interims > MAX_INTERIM:
            raise errors.bad_response()
        line_end = raw.find(b"\n", at)
        if b"\ntransfer-encoding:" in head.lower() and line_end >= 0 and not _CHUNK_HEADER.match(raw, at):
            raise errors.bad_framing()  # still time to say so properly

    # The body.

    @property
    def _replayable(self) -> bool:
        return self.request.body is None or isinstance(self.request.body, bytes)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        body = self.request.body
        if body is None:
            return
        if self.stream_id:
            async for piece in _pieces(body):
                if not self._replayable:
                    self._clock.arm(self._timeouts.idle, errors.write_timeout)
                yield piece
        elif isinstance(body, bytes) and len(body) <= _JOIN:
            yield body
        else:
            self._upload_task = asyncio.create_task(self._upload(body))
            # httpcore2 takes this for an upstream that reads no more, and goes on to read its answer.
            raise httpcore2.WriteError

    async def _upload(self, body: bytes | Upload) -> None:
        """Pass the client's body on as it comes, no faster than the upstream takes it."""
        wire = self.wire
        state = self.link.h11()
        try:
            async for piece in _pieces(body):
                if not self._answered and not self._replayable:
                    self._clock.arm(self._timeouts.idle, errors.write_timeout)
                await wire.write(state.send(h11.Data(data=piece)) or b"")
            await wire.write(state.send(h11.EndOfMessage()) or b"")
            if not self._answered:
                self._clock.arm(self._timeouts.first_byte, errors.header_timeout)
        except (httpcore2.WriteError, h11.LocalProtocolError):
            pass  # whoever reads the answer finds out what became of it
        except WeirError as error:
            # The client broke off. What went out must stay visibly incomplete.
            self._upload_error = error
            await self.link.cut()

    @property
    def uploading(self) -> bool:
        """Whether the body still goes out beside the answer."""
        return self._upload_task is not None and not self._upload_task.done()

    def stop(self) -> None:
        """Nothing of the body is wanted any more."""
        if self._upload_task is not None:
            self._upload_task.cancel()
            self._upload_task = None

    # What went wrong.

    def may_replay(self, error: Exception) -> bool:
        """Whether the upstream had closed before it read the request, or has said that it did not."""
        if self.request.resent or not self._replayable or self.phase != "http":
            return False
        said = error.args[0] if error.args else None
        if isinstance(said, h2.events.StreamReset) and said.error_code == _REFUSED:
            return True
        gone = isinstance(error, httpcore2.ReadError | httpcore2.WriteError | httpcore2.RemoteProtocolError)
        return gone and self._may_be_stale and not self.wire.touched

    def failure(self, error: Exception) -> WeirError:
        """What to tell of a request that got no answer."""
        if self._upload_error is not None:
            return self._upload_error
        if isinstance(error, httpcore2.ProxyError) or (self._upstream.proxied and self.phase == "connect"):
            return _of_proxy(error)
        said = error.args[0] if error.args else None
        if self.phase == "connect":
            return errors.connecting(said if isinstance(said, OSError) else OSError())
        if self.phase == "tls":
            return errors.connecting(ssl.SSLError())
        if self.phase == "connected":
            return errors.closed()
        if self.stream_id:
            return self._of_http2(error, said)
        return self._of_http1(error)

    def _of_http1(self, error: Exception) -> WeirError:
        wire = self.wire
        if isinstance(error, httpcore2.LocalProtocolError):
            return ClientError(400, "invalid_request", "The request has fields that HTTP does not allow.")
        if isinstance(error, httpcore2.NetworkError):
            return errors.reset()
        if wire.ended:
            return errors.closed()
        if wire.head is not None and len(wire.head) > _H11_LIMIT:
            return errors.headers_too_large()
        text = str(error)  # h11 tells them apart in its messages alone
        if "Content-Length" in text or "Transfer-Encoding" in text:
            return errors.bad_framing()
        if "status_code" in text:
            return errors.bad_status()
        return errors.bad_response()

    def _of_http2(self, error: Exception, said: object) -> WeirError:
        wire = self.wire
        if isinstance(said, h2.exceptions.DenialOfServiceError):
            return errors.headers_too_large()
        if isinstance(said, h2.exceptions.StreamClosedError | h2.events.StreamReset):
            return errors.reset()
        if wire.ended or isinstance(said, h2.events.ConnectionTerminated):
            return errors.closed()
        if isinstance(error, httpcore2.NetworkError):
            return errors.reset()
        return errors.bad_response()

    def breakage(self, error: Exception) -> WeirError:
        """What to tell of an answer that did not end."""
        if self._upload_error is not None:
            return self._upload_error
        wire = self.wire
        if isinstance(error, httpcore2.RemoteProtocolError) and not self.stream_id and not wire.ended:
            return errors.bad_framing()
        if isinstance(error, h2.exceptions.ProtocolError):
            return errors.bad_framing()
        return errors.truncated() if wire.ended else errors.reset()


async def _pieces(body: bytes | Upload) -> AsyncIterator[bytes]:
    if isinstance(body, bytes):
        yield body
    else:
        async for piece in body:
            yield piece


def _of_proxy(error: Exception) -> UpstreamError:
    """One line about a proxy; nothing of what it said but a status or httpcore2's own words for SOCKS."""
    if isinstance(error, httpcore2.ProxyError):
        said = str(error)
        status = said[:3]
        if status.isdigit():
            if status == "407":
                return _proxy_failed("The proxy wants other credentials than `proxy` has (it answered 407).")
            return _proxy_failed(f"The proxy did not connect to the upstream (it answered {status}).")
        return _proxy_failed(f"The SOCKS proxy did not connect to the upstream: {said.rstrip('.')}.")
    if isinstance(error, httpcore2.ConnectError):
        if error.args and isinstance(error.args[0], ssl.SSLError):
            return _proxy_failed("The proxy's TLS handshake or certificate was not accepted.")
        return _proxy_failed("The proxy could not be reached. Is it running, and is `proxy` right?")
    return _proxy_failed("The proxy broke off, or is not of the kind that `proxy` says.")


class _Answer:
    """See `Answer`."""

    def __init__(self, attempt: _Attempt, link: _Link, response: httpcore2.Response) -> None:
        self._attempt = attempt
        self._link = link
        self._response = response
        self._pieces = response.aiter_stream()
        self._error: WeirError | None = None
        self._end: asyncio.Task[None] | None = None
        self.status = response.status
        self.headers: Pairs = [(name.lower(), value) for name, value in response.headers]
        self.complete = False
        self.ready = False  # whether h11 or h2 holds something is known when it is asked for

    def check(self, forwarded: bool) -> None:
        """Raise unless this is an answer that can be passed on."""
        if self.status == 101:
            raise errors.bad_response()
        if not 200 <= self.status <= 599:
            raise errors.bad_status()
        if self.status == 407 and forwarded:
            raise _of_proxy(httpcore2.ProxyError("407"))
        headers = self.headers
        if len(headers) > MAX_HEADERS:
            raise errors.headers_too_large()
        if self._attempt.stream_id:
            if sum(len(name) + len(value) for name, value in headers) > MAX_HEAD:
                raise errors.headers_too_large()
            if any(not _FIELD_NAME.fullmatch(name) or _UNSAFE.search(value) for name, value in headers):
                raise errors.bad_response()
        names = {name for name, _ in headers}
        if b"transfer-encoding" in names and b"content-length" in names:
            # RFC 9112, 6.3: the transfer coding counts, and the sender is not to be trusted further.
            self.headers = [pair for pair in headers if pair[0] != b"content-length"]
            self._link.distrusted = True

    def whole(self) -> bytes | None:
        """See `Answer.whole`."""
        return None

    async def read(self) -> bytes:
        """See `Answer.read`."""
        if self._error is not None:
            raise self._error
        if self.complete:
            return b""
        self._error = errors.reset()  # for whoever reads on after a cancellation
        try:
            piece = b""
            while not piece:
                piece = await anext(self._pieces)
        except StopAsyncIteration:
            self.complete = self.ready = True
        except WeirError as error:
            self._error = error
            raise
        except Exception as error:
            self._error = self._attempt.breakage(error)
            raise self._error from error
        self._error = None
        if self.complete and not self._attempt.uploading:
            await asyncio.shield(self._finish_soon())
        return piece

    async def close(self) -> None:
        """See `Answer.close`."""
        self._attempt.stop()
        self._finish_soon()

    def _finish_soon(self) -> "asyncio.Task[None]":
        if self._end is None:
            self._end = self._link.background(self._finish())
        return self._end

    async def _finish(self) -> None:
        link = self._link
        try:
            await self._pieces.aclose()
        except Exception:  # noqa: BLE001 # it is being read: a connection in doubt is not kept
            link.distrusted = True
        if link.distrusted or link.surplus():
            await link.cut()
        self._attempt.leave()  # first: the pool looks for room as soon as the answer is closed
        await self._response.aclose()
        link.rest()


# -- the upstream --------------------------------------------------------------------------------------


def _tls(settings: UpstreamSettings) -> ssl.SSLContext:
    """Verified against the system's authorities or `tls.ca`, with a client certificate if one is set."""
    tls = settings.tls
    context = ssl.create_default_context(cafile=str(tls.ca) if tls.ca else None)
    if tls.cert is not None:
        context.load_cert_chain(str(tls.cert), str(tls.key) if tls.key else None)
    if not tls.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _proxy(url: str) -> httpcore2.Proxy:
    scheme, _, rest = url.partition("://")
    scheme = scheme.lower()
    user_info, at, authority = rest.rpartition("@")
    host, port = read_authority(authority)
    user, _, password = user_info.partition(":")
    return httpcore2.Proxy(
        httpcore2.URL(scheme=scheme, host=host, port=port, target="/"),
        auth=(unquote_to_bytes(user), unquote_to_bytes(password)) if at else None,
        ssl_context=ssl.create_default_context() if scheme == "https" else None,
    )


class Httpx2Upstream:
    """An upstream behind a proxy, or one that is spoken to in HTTP/2 if it wants to."""

    def __init__(self, settings: UpstreamSettings) -> None:
        self.name = settings.name
        self.settings = settings
        self.idle = settings.pool.idle
        self.proxied = settings.proxy is not None
        self.stream_limit = MAX_STREAMS
        self.waiting: set[_Attempt] = set()
        """The requests that have no connection yet."""
        self._background: set[asyncio.Task[None]] = set()
        proxy = None if settings.proxy is None else _proxy(settings.proxy)
        through_http = proxy is not None and proxy.url.scheme.startswith(b"http")
        self._authority = settings.base_url.partition("://")[2].partition("/")[0].encode()
        self._forwarded = through_http and settings.scheme == "http"
        # A proxy that forwards wants the whole URL; one that tunnels, a literal IPv6 address in brackets.
        self._before_target = b"http://" + self._authority if self._forwarded else b""
        host = settings.host
        self._host = f"[{host}]" if through_http and ":" in host else host
        self._server_name = settings.tls.server_name or host
        self._pool = _Pool(
            self,
            ssl_context=_tls(settings) if settings.scheme == "https" else None,
            proxy=proxy,
            max_connections=settings.pool.max,
            keepalive_expiry=settings.pool.idle,
            http2=settings.http2,
            uds=None if settings.unix_socket is None else str(settings.unix_socket),
            network_backend=_Network(),
        )

    async def open(self, request: Outgoing, clock: Clock) -> Answer:
        """See `Upstream.open`."""
        if len(self.waiting) >= self.settings.pool.waiting:
            raise errors.busy()
        while True:
            clock.arm(self.settings.timeouts.connect, errors.connect_timeout)
            attempt = _Attempt(self, request, clock)
            self.waiting.add(attempt)
            try:
                response = await self._pool.handle_async_request(self._message(request, attempt))
            except BaseException as error:
                self.waiting.discard(attempt)
                attempt.stop()
                if isinstance(error, WeirError) or not isinstance(error, Exception):
                    raise
                if not attempt.may_replay(error):
                    raise attempt.failure(error) from error
                request.resent = True
                continue
            answer = _Answer(attempt, attempt.link, response)
            try:
                answer.check(self._forwarded)
            except WeirError:
                await answer.close()
                raise
            return answer

    async def aclose(self) -> None:
        """See `Upstream.aclose`."""
        if self._background:
            await asyncio.wait(self._background, timeout=CLOSE_LIMIT)
        await self._pool.aclose()
        if self._background:
            await asyncio.wait(self._background, timeout=CLOSE_LIMIT)

    def background(self, work: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
        """Run something to its end that nobody waits for; `aclose` does."""
        task = asyncio.get_running_loop().create_task(work)
        self._background.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: "asyncio.Task[None]") -> None:
        self._background.discard(task)
        if not task.cancelled():
            task.exception()  # told to whoever waits for it, if anybody does

    def _message(self, request: Outgoing, attempt: _Attempt) -> httpcore2.Request:
        headers = [(b"host", self._authority), *request.headers]
        body = request.body
        length = len(body) if isinstance(body, bytes) else None if body is None else body.length
        if length is not None:
            headers.append((b"content-length", b"%d" % length))
        elif body is not None:
            headers.append((b"transfer-encoding", b"chunked"))
        url = httpcore2.URL(
            scheme=self.settings.scheme,
            host=self._host,
            port=self.settings.port,
            target=self._before_target + request.target,
        )
        return httpcore2.Request(
            request.method,
            url,
            headers=headers,
            content=attempt,
            extensions={"attempt": attempt, "trace": attempt.trace, "sni_hostname": self._server_name},
        )
