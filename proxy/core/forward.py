"""The life of one exchange: start reading here.

    gate ─ chain.request ─ routing.attempt ─ chain.response ─ deliver ─ chain.end
             │ Reply                                             │
             └──────────── chain.response ─ chain.end ─ send ◄───┘ error before the first byte

Whatever happens, in this order and once: the upstream's answer is closed, every entered plugin's `on_end`
runs, one line is logged. Only then does the client get the last bytes.
"""

import asyncio
import os
from collections.abc import Awaitable, Callable, Generator, Iterator
from functools import partial
from itertools import count
from time import monotonic_ns
from typing import Any

from proxy.api.errors import (
    ClientError,
    ClientGone,
    InternalError,
    PluginError,
    ShuttingDown,
    UpstreamError,
    WeirError,
)
from proxy.api.exchange import End, Exchange, Reason
from proxy.api.headers import Headers
from proxy.api.request import Request
from proxy.api.response import Reply
from proxy.api.slots import DRY_RUN, IDENTITY
from proxy.core import gate, headers, server_timing
from proxy.core.asking import Asker
from proxy.core.body import Body, Receive, Stream
from proxy.core.chain import Chain, Run
from proxy.core.config import Settings
from proxy.core.deadlines import Deadlines
from proxy.core.deliver import Delivery, Held, Send
from proxy.core.flight import Flight
from proxy.core.log import log, raised
from proxy.core.routing import Route
from proxy.core.seal import sealed
from proxy.core.upstream import Answer, Outgoing
from proxy.core.watch import watch

_LOW = [f"{number:03x}" for number in range(0x1000)]
_WITHOUT_BODY_METHODS = frozenset(("GET", "HEAD", "DELETE", "OPTIONS"))


COMPLETED = End("complete", "completed")

DRAINS = 100
"""Answers of a process that are read to their end at a time though their clients have gone; more of them are
cancelled."""
DRAIN_LIMIT = 16 * 1024 * 1024
"""Bytes of one such answer; what is longer is cancelled there."""


class _Done:
    """Something to await that is done."""

    def __await__(self) -> Generator[None, None, None]:
        return
        yield


_DONE = _Done()


class ResponseAborted(Exception):
    """An answer was broken off on purpose: the server closes the connection, visibly unfinished."""


class Setup:
    """What one configuration makes of Weir. An exchange keeps the one it began with, come what may.

    `trips` are the exchanges that run on it.
    """

    def __init__(self, settings: Settings, chain: Chain, route: Route) -> None:
        self.settings = settings
        self.chain = chain
        self.route = route
        self.asker = Asker(route)
        self.total = route.settings.timeouts.total
        self.idle = route.settings.timeouts.idle
        self.drain = route.settings.timeouts.drain if route.settings.on_disconnect == "drain" else 0.0
        self.drains = 0
        limits = self.limits = settings.limits_http
        # What every exchange needs, off pydantic's models: reading an attribute of those costs more.
        self.json_body, self.body_idle = limits.json_body, limits.body_idle
        self.trusted = settings.trusted_proxies
        self.server_timing = settings.server_timing
        self.trips: set[Trip] = set()
        self.held = Held(settings.limits_http.hold_total)
        self.to_identity = chain.upto(IDENTITY)
        self.dry_runs = any(DRY_RUN in plugin.provides for plugin in chain.plugins)


def _ids() -> Iterator[str]:
    prefix = os.urandom(8).hex()
    for block in count():
        # Digits cost most of what an id does, so nearly all of them are written once.
        yield from map(f"{prefix}{block:07x}".__add__, _LOW)


class Forwarder:
    """Takes requests as ASGI gives them; one per process."""

    def __init__(self, setup: Setup, deadlines: Deadlines) -> None:
        self.setup = setup
        self.deadlines = deadlines
        self.endpoint = gate.Paths().endpoint
        self.next_id: Callable[[], str] = _ids().__next__
        """A request id: unique in this process by its count, across processes by its random beginning."""

    def forward(self, scope: Any, receive: Receive, send: Send) -> Awaitable[None]:
        """Serve one request by sending it upstream."""
        return Trip(self, scope, receive, send).go(None)

    def local(self, scope: Any, receive: Receive, send: Send, app: Any) -> Awaitable[None]:
        """Serve one request by an ASGI app of our own, after the chain up to whoever provides IDENTITY.

        The app finds the exchange in `scope["weir.exchange"]`.
        """
        return Trip(self, scope, receive, send).go(app)


class Trip:
    """One exchange from its first byte to its last."""

    __slots__ = (
        "_answer",
        "_body",
        "_client",
        "_delivery",
        "_drained",
        "_end",
        "_forwarder",
        "_hangs_up",
        "_left",
        "_named",
        "_raw_path",
        "_receive",
        "_responding",
        "_run",
        "_scope",
        "_send",
        "_setup",
        "_unwatch",
        "ex",
        "flight",
    )

    def __init__(self, forwarder: Forwarder, scope: Any, receive: Receive, send: Send) -> None:
        setup = self._setup = forwarder.setup
        client = scope.get("weir.client")
        # Our own server's short cuts, unless somebody stands between it and us.
        self._client = client if client is not None and client.send == send else None
        flight = self.flight = Flight(setup.total, None if client is None else client.task, setup.asker)
        self._forwarder = forwarder
        self._scope = scope
        self._receive = receive
        self._send = send
        self._raw_path = gate.raw_path(scope)
        teller = client if client is not None and client.receive == receive else None
        self._body = Body(receive, flight, setup.json_body, setup.body_idle, teller)
        self._answer: Answer | None = None
        self._delivery: Delivery | None = None
        self._end: End | None = None
        self._named: frozenset[bytes] = frozenset()
        self._hangs_up = False
        self._left: str | None = None
        self._responding = False
        self._unwatch: Callable[[], None] | None = None
        address = scope.get("client")
        peer = address[0] if address else ""
        own = Headers(headers.towards_upstream(scope["headers"]))
        trusted = setup.trusted
        request = Request(
            scope["method"],
            self._raw_path,
            scope["query_string"],
            own,
            self._body,
            peer,
            headers.client_address(peer, own, trusted) if trusted else peer,
        )
        self.ex = Exchange(forwarder.next_id(), request, flight)
        self._run = Run(setup.chain, self.ex, flight)

    async def go(self, app: Any) -> None:
        """Run the exchange to its end. Raises `ResponseAborted`, or the cancellation of a stranger."""
        stranger: asyncio.CancelledError | None = None
        trips, deadlines = self._setup.trips, self._forwarder.deadlines
        trips.add(self)
        deadlines.add(self.flight)
        try:
            error: WeirError
            try:
                await (self._forward() if app is None else self._local(app))
                return
            except WeirError as failure:
                error = failure
                self.flight.cancelled()  # a hook may have swallowed the cancellation itself
            except asyncio.CancelledError as cancelled:
                if self.flight.cancelled():
                    assert self.flight.cause is not None  # noqa: S101 # cancelled() says so
                    error = self.flight.cause
                else:
                    stranger = cancelled
                    error = ShuttingDown()
            except Exception as bug:  # noqa: BLE001 # ours, or a library's: told apart from a plugin's
                error = InternalError()
                self._log_bug(bug)
            await self._fail(error)
        finally:
            self._stop_watching()
            trips.discard(self)
            deadlines.discard(self.flight)
            if self._left is not None:
                self._setup.drains -= 1
            self._delivery = None  # it knows us: without a cycle there is nothing for the collector
        if stranger is not None:
            raise stranger

    # -- the ways through --------------------------------------------------------------------------

    async def _forward(self) -> None:
        ex = self.ex
        self._pass_gate()
        ex.upstream = self._setup.route.name
        run = self._run
        client = self._client
        if client is not None and client.arrived:
            # A hook may wait for long. Nothing has been asked for yet, so there is nothing to drain either.
            client.watch(self.flight.leave)
            self._unwatch = client.unwatch
        reply = await run.request()
        if reply is None and (dry_run := ex.get(DRY_RUN)) is not None:
            reply = Reply.json(dry_run.body)
        if reply is not None:
            await self._reply(reply)
            return
        if b"x-weir-dry-run" in self._named and not self._setup.dry_runs:
            # Sent all the same, it would cost what it was not meant to.
            raise ClientError(400, "dry_run_not_possible", "There are no dry runs here: precost is not on.")
        source = self._body
        body = source.whole() if source.at_hand() else await source.outgoing()
        if body is None and ex.request.method not in _WITHOUT_BODY_METHODS:
            body = b""  # RFC 9110, 8.6: a method that may have a body says that there is none
        if isinstance(body, Stream):
            body.on_end = self._start_watching
        else:
            self._start_watching()
        outgoing = self._outgoing(body)
        setup = self._setup
        answer = self._answer = await setup.route.attempt(ex, self.flight, outgoing)
        source.awaited = False
        ex.timeline.response = monotonic_ns()
        response = ex.response
        passed, declaring = headers.passed_on(answer.headers)
        response.begin(answer.status, Headers(passed), declaring)
        if answer.status == 204:
            response.headers.remove(b"content-length")  # RFC 9110, 8.6
        if b"te" in self._named:
            response.trailers = Headers()
        self._responding = True
        if run.responds:
            await run.response()
        if not response.is_stream and response.rewriting is None:
            seen = response.is_json and run.sees_events
            if (not seen and response.trailers is None) or (
                seen and response.held_limit and not response.encoding
            ):
                body = answer.whole()
                if body is not None:
                    self._answer = None
                    await self._pass_whole(answer, body, seen=seen)
                    return
        await self._delivery_of(answer).deliver()

    def _delivery_of(self, answer: Answer) -> Delivery:
        setup = self._setup
        self._delivery = Delivery(
            self.ex,
            self.flight,
            self._run,
            answer,
            self._send,
            self._start,
            self._send_whole,
            self._complete,
            setup,
        )
        return self._delivery

    async def _pass_whole(self, answer: Answer, body: bytes, *, seen: bool) -> None:
        """Give the client an answer that had come whole with its head, as most do.

        The same as by `Delivery`, in one step. `seen`: it is JSON, and plugins wait for it.
        """
        ex, run = self.ex, self._run
        size = 0
        if seen and body:
            held = self._setup.held
            if len(body) > ex.response.held_limit or not held.take(len(body)):
                await self._delivery_of(answer).release(body, "")
                return
            size = len(body)
        try:
            if size:
                out = run.body(body)
                if out != body:
                    body = out
                    ex.response.headers[b"content-length"] = b"%d" % len(body)
            timeline = ex.timeline
            timeline.last_byte = monotonic_ns()
            if body:
                timeline.first_byte = timeline.last_byte
            end = COMPLETED if self._left is None else End("client_gone", self._left)
            if run.ends:
                await self._finish(end)
                await self._send_whole(body)
            else:
                await self._send_whole(body)
                self._finish_at_once(end)
        finally:
            if size:
                held.free(size)

    async def _local(self, app: Any) -> None:
        """A route of our own: `app` is ASGI; headers, hooks and the end are those of every exchange."""
        self._pass_gate()
        reply = await self._run.request(self._setup.to_identity)
        if reply is not None:
            await self._reply(reply)
            return
        response = self.ex.response

        async def send(message: Any) -> None:
            if message["type"] == "http.response.start":
                response.begin(message["status"], Headers(sealed(message.get("headers", ()))))
                self._responding = True
                await self._run.response()
                await self._start()
                return
            if not message.get("more_body", False):
                await self._finish(End("complete", "own_endpoint"))
            await self._send(message)

        await app({**self._scope, "weir.exchange": self.ex}, self._receive, send)

    def _pass_gate(self) -> None:
        scope = self._scope
        request = self.ex.request
        gate.check_method(request.method)
        framing = None if self._client is None else scope.get("weir.framing")  # of a head that came before
        if framing is None:
            try:
                framing = gate.check_framing(scope["http_version"], scope["headers"])
            except ClientError:
                self._hangs_up = True  # where this request ends, and the next begins, is not for us to say
                raise
        self._body.framed, self._body.length, self._named = framing
        self.flight.named = self._named
        request.endpoint = self._forwarder.endpoint(self._raw_path)

    def _outgoing(self, body: bytes | Stream | None) -> Outgoing:
        ex = self.ex
        request = ex.request
        pairs = headers.without(request.headers.raw, self._named)
        if ex.response.rewriting is not None:
            pairs = [pair for pair in pairs if pair[0] != b"accept-encoding"]
            pairs.append((b"accept-encoding", b"identity"))
        # What came, `?` and all, below `/v1` or `/`.
        target = self._scope.get("weir.target")
        if target is None:
            query = self._scope["query_string"]
            target = self._raw_path + b"?" + query if query else self._raw_path
        if self._raw_path[:3] == b"/v1" and self._raw_path[3:4] in (b"/", b""):
            target = target[3:]
        return Outgoing(request.method.encode(), target, pairs, body)

    def _head(self) -> headers.Pairs:
        """The answer's head as it goes out; from here on it cannot be changed."""
        ex = self.ex
        response = ex.response
        pairs = response.headers.raw
        pairs.append((b"x-weir-request-id", ex.id.encode()))
        if self._setup.server_timing:
            value = server_timing.header(ex.timeline)
            if value:
                pairs.append((b"server-timing", value))
        if self._hangs_up:
            pairs.append((b"connection", b"close"))
        response.started = True
        if self._end is None:
            self.flight.rest()  # a client that is slow to read is no slow upstream
        return pairs

    def _start(self, *, body_follows: bool = False) -> Awaitable[None]:
        """Send the head; `body_follows` promises a piece of the body in this very turn of the loop."""
        message = {"type": "http.response.start", "status": self.ex.response.status, "headers": self._head()}
        if body_follows:
            message["weir.body_follows"] = True
        trailers = self.ex.response.trailers
        if trailers is not None:
            message["weir.trailers"] = [name for name, _ in trailers.raw]
        return self._send(message)

    def _send_whole(self, body: bytes) -> Awaitable[None]:
        """Send head and body; there is nothing to await when that was done at once, as our own server can."""
        client = self._client
        pairs = self._head()
        if client is not None and client.answer(self.ex.response.status, pairs, body):
            return _DONE
        return self._send_both(pairs, body)

    async def _send_both(self, pairs: headers.Pairs, body: bytes) -> None:
        status = self.ex.response.status
        start = {"type": "http.response.start", "status": status, "headers": pairs, "weir.body_follows": True}
        await self._send(start)
        await self._send({"type": "http.response.body", "body": body, "more_body": False})

    async def _reply(self, reply: Reply) -> None:
        """Give the client an answer of our own, whole."""
        ex = self.ex
        response = ex.response
        response.begin(reply.status, Headers(sealed(reply.headers.raw)))
        if b"x-request-id" not in response.headers:
            response.headers.add(b"x-request-id", ex.id)
        ex.timeline.response = ex.timeline.response or monotonic_ns()
        if not self._responding:
            self._responding = True
            await self._run.response()
        await self._give(reply, End("rejected", reply.code))

    async def _give(self, reply: Reply, end: End) -> None:
        if reply.events is None:
            if reply.status not in (204, 304):
                self.ex.response.headers[b"content-length"] = b"%d" % len(reply.body)
            await self._finish(end)
            await self._send_whole(reply.body)
            return
        await self._start(body_follows=True)
        for piece in reply.events:
            await self._send({"type": "http.response.body", "body": piece, "more_body": True})
        await self._finish(end)
        await self._send({"type": "http.response.body", "body": b"", "more_body": False})

    # -- endings -----------------------------------------------------------------------------------

    def _complete(self) -> Awaitable[None]:
        end = COMPLETED
        delivery = self._delivery
        if self._left is not None:
            end = End("client_gone", self._left)
        elif (
            delivery is not None
            and self.ex.response.is_stream
            and self.ex.request.endpoint.endswith("completions")
            and b"[DONE]" not in delivery.tail
        ):
            end = End("complete", "completed_no_done")
        return self._finish(end)

    async def _fail(self, error: WeirError) -> None:
        """End an exchange that could not be completed, and tell the client what it can still be told."""
        if self._end is not None:
            raise ResponseAborted  # the last bytes could not be sent
        response = self.ex.response
        end = End(_reason(error), error.code, error)
        if not response.started and not isinstance(error, ClientGone):
            await self._tell(error, end)
            return
        await self._finish(end)
        if isinstance(error, ClientGone):
            return
        encoding = response.headers.get(b"content-encoding")
        if (
            response.is_stream
            and encoding is None
            and b"content-length" not in response.headers
            and (self._delivery is None or self._delivery.between_events)
        ):
            await self._send({"type": "http.response.body", "body": error.event(), "more_body": True})
        raise ResponseAborted

    async def _tell(self, error: WeirError, end: End) -> None:
        """Answer with an error: nothing has been sent yet."""
        ex = self.ex
        self.flight.begin_telling()
        response = ex.response
        fields = sealed([*error.headers(), (b"x-request-id", ex.id.encode())])
        response.begin(error.status, Headers(fields))
        response.rewriting = None
        if isinstance(error, ClientError) and error.status == 405:
            response.headers.add(b"allow", gate.ALLOW)  # RFC 9110, 15.5.6
        ex.timeline.response = ex.timeline.response or monotonic_ns()
        stranger: asyncio.CancelledError | None = None
        if not (isinstance(error, PluginError) and error.hook == "on_response"):
            # The hooks may have run for an answer that then broke while it was held. They run for this one
            # too: it needs its headers as much.
            try:
                await self._run.response()
            except WeirError:
                pass  # logged where it was raised; the first error is the one to tell
            except asyncio.CancelledError as cancelled:
                if not self.flight.cancelled():
                    stranger = cancelled
        await self._give(Reply.of(error), end)
        if stranger is not None:
            raise stranger

    async def _finish(self, end: End) -> None:
        """Close the answer, run every `on_end`, log: once."""
        if self._end is not None:
            return
        self._end = end
        self.flight.begin_ending()
        self._stop_watching()
        if self._answer is not None:
            await self._answer.close()
        self.ex.timeline.finished = monotonic_ns()
        try:
            await self._run.end(end)
        finally:
            self._log(end)

    def _finish_at_once(self, end: End) -> None:
        """As `_finish`, where there is no answer to close and no `on_end` to run."""
        self._end = end
        self.flight.begin_ending()
        self._stop_watching()
        self.ex.timeline.finished = monotonic_ns()
        self._log(end)

    # -- the client leaving ------------------------------------------------------------------------

    def _start_watching(self) -> None:
        if self._unwatch is None or self._setup.drain:
            self._unwatch = watch(self._scope, self._receive, self._gone)

    def _stop_watching(self) -> None:
        if self._unwatch is not None:
            self._unwatch()
            self._unwatch = None

    def _gone(self, code: str) -> None:
        setup = self._setup
        if not setup.drain or setup.drains >= DRAINS:
            self.flight.leave(code)
            return
        # The answer is read on as if somebody still got it.
        self._left = code
        self._drained = 0
        setup.drains += 1
        self._client = None
        self._send = self._drop
        if self._delivery is not None:
            self._delivery.send_to(self._drop)
        self.flight.shorten(setup.drain, partial(ClientGone, code))

    async def _drop(self, message: Any) -> None:
        self._drained += len(message.get("body", b""))
        if self._drained > DRAIN_LIMIT:
            assert self._left is not None  # noqa: S101 # it is why we are here
            raise ClientGone(self._left)

    # -- logs --------------------------------------------------------------------------------------

    def _log(self, end: End) -> None:
        if not log.isEnabledFor(20):
            return
        ex = self.ex
        request = ex.request
        timeline = ex.timeline
        identity = ex.get(IDENTITY)
        last = ex.attempts[-1] if ex.attempts else None
        fields = {
            "id": ex.id,
            "client_request_id": request.headers.get(b"x-request-id"),
            "method": request.method,
            "path": request.path,
            "status": ex.response.status or None,
            "end_reason": end.reason,
            "end_code": end.code,
            "stream": ex.response.is_stream,
            "ttfb_ms": _milliseconds(timeline.first_byte - timeline.received)
            if timeline.first_byte
            else None,
            "duration_ms": _milliseconds(monotonic_ns() - timeline.received),
            "upstream": last.upstream if last else None,
            "attempts": len(ex.attempts),
            "resent": last.resent if last else False,
            "key_id": identity.key_id if identity else None,
            "user": identity.user if identity else None,
            "address": request.address,
        }
        log.info("request", extra={"fields": fields})

    def _log_bug(self, bug: Exception) -> None:
        log.error("internal error", extra={"fields": {"id": self.ex.id, **raised(bug)}})


def _milliseconds(nanoseconds: int) -> float:
    return round(nanoseconds / 1e6, 3)


def _reason(error: WeirError) -> Reason:
    if isinstance(error, ClientGone):
        return "client_gone"
    if isinstance(error, ClientError):
        return "rejected"
    if isinstance(error, UpstreamError):
        return "upstream_error"
    if isinstance(error, ShuttingDown):
        return "shutdown"
    return "internal_error" if isinstance(error, InternalError) else "rejected"
