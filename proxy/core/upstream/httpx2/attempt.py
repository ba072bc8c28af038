"""One try at a request: where it went out, how far it came, and whether it may go out again.

A request goes out a second time only if its connection had served before and not a byte of an answer came, or
if the upstream has said that it did not begin it, and only if its body can be played again; never a third
time. A body that is large or streamed goes out beside the reading of the answer (HTTP/1.1), no faster than it
is taken; one that breaks off is never made whole.
"""

import asyncio
import ssl
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any, Literal, cast

import h2.errors
import h2.events
import h11
import httpcore2

from proxy.api.errors import WeirError
from proxy.core.upstream import Clock, Outgoing, Upload, errors
from proxy.core.upstream.breaker import Trial
from proxy.core.upstream.httpx2 import failures, head
from proxy.core.upstream.httpx2.link import Link
from proxy.core.upstream.httpx2.wire import Wire

if TYPE_CHECKING:
    from proxy.core.upstream.httpx2.client import Httpx2Upstream

_JOIN = 64 * 1024
"""A body up to this size goes out in one write."""


class Attempt:
    """One try at a request: follows it through httpcore2 and keeps the clock."""

    link: Link
    """The connection it was assigned, from then on."""
    wire: Wire
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
        self._trial: Trial | None = None
        self.request = request
        self.fresh = request.resent
        """Whether it must not go out on a connection that rested."""
        self.phase: Literal["connect", "tls", "connected", "http"] = "connect"
        self.stream_id = 0

    # What httpcore2 reports, in order.

    def board(self, link: Link) -> None:
        """A connection was assigned; it may still have to be made."""
        self._upstream.waiting.discard(self)
        self.link = link
        self.phase = "connect"
        self.stream_id = 0
        link.attempts.add(self)

    def leave(self) -> None:
        """The exchange on this connection is over."""
        self.link.attempts.discard(self)

    def try_to_connect(self) -> None:
        """A connection is to be made for it. Raises `UpstreamError` while that is of no use."""
        if self._trial is None:
            self._trial = self._upstream.breaker.trial()

    def connected(self, error: BaseException | None) -> None:
        """It got the connection that was made for it, or did not."""
        trial, self._trial = self._trial, None
        if trial is None:
            return
        if error is None:
            trial.reached()
        elif isinstance(error, Exception):
            trial.failed()
        else:
            trial.given_up()

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
            self.link.narrow()
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
                raw = bytes(self.wire.head or b"")
                self.wire.head = None
                head.check_whole(raw)
        elif event == "http2.response_closed.started":
            self.link.give_up(info["stream_id"])

    def _sending(self, stream_id: int) -> None:
        link = self.link
        self.wire = cast("Wire", link.wire)
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
        if self._trial is not None:
            self.connected(None)
        self.phase = "http"
        self.stream_id = stream_id
        if len(link.attempts) == 1:
            self.wire.touched = False
        if not stream_id:
            self.wire.head = bytearray()
        if self._replayable:
            self._clock.arm(self._timeouts.first_byte, errors.header_timeout)

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
        if isinstance(said, h2.events.StreamReset) and said.error_code == h2.errors.ErrorCodes.REFUSED_STREAM:
            return True
        gone = isinstance(error, httpcore2.ReadError | httpcore2.WriteError | httpcore2.RemoteProtocolError)
        return gone and self._may_be_stale and not self.wire.touched

    def failure(self, error: Exception) -> WeirError:
        """What to tell of a request that got no answer."""
        if self._upload_error is not None:
            return self._upload_error
        if isinstance(error, httpcore2.ProxyError) or (self._upstream.proxied and self.phase == "connect"):
            return failures.of_proxy(error)
        if self.phase == "connect":
            return failures.of_connecting(error)
        if self.phase == "tls":
            return errors.connecting(ssl.SSLError())
        if self.phase == "connected":
            return errors.closed()
        if self.stream_id:
            return failures.of_http2(error, self.wire)
        return failures.of_http1(error, self.wire)

    def breakage(self, error: Exception) -> WeirError:
        """What to tell of an answer that did not end."""
        return self._upload_error or failures.of_break(error, self.wire, http2=self.stream_id > 0)


async def _pieces(body: bytes | Upload) -> AsyncIterator[bytes]:
    if isinstance(body, bytes):
        yield body
    else:
        async for piece in body:
            yield piece
