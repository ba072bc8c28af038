"""The hooks of a tracer that is on, and the spans it makes.

    SERVER  POST /v1/chat/completions     the whole exchange; current while hooks run
    ├─ auth request                       one per hook that ran
    ├─ limiter request
    ├─ CLIENT  chat                       all attempts at the upstream, to the end of the answer
    │  └─ upstream                        one per attempt, to the head of its answer
    └─ limiter end

The SERVER span lives as long as its exchange, since other plugins may add to it. All others are written at
the end, from the timeline: what did not happen has no span.
"""

import os
import random
from time import monotonic_ns
from typing import NamedTuple

from opentelemetry.context import attach
from opentelemetry.sdk.trace import ReadableSpan, Span
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import (
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    TraceState,
    set_span_in_context,
)

from proxy import __version__
from proxy.api import End, Exchange, Plugin, Server, Slot

from . import attributes, names, traceparent
from .environment import read
from .export import Pipeline, log
from .plugin import Tracing
from .routes import route

# Current while the hooks of an exchange run that is not traced: what other plugins begin there is not traced
# either, under any of the standard samplers; these ones are above every ratio's bound.
_UNTRACED = set_span_in_context(
    NonRecordingSpan(SpanContext((1 << 128) - 1, (1 << 64) - 1, False, TraceFlags(TraceFlags.DEFAULT)))
)
_ERROR = Status(StatusCode.ERROR)


class _Span(Span):
    """The SDK's span, made with the ids that were chosen at the head."""


class _Trace(NamedTuple):
    """What is known of a traced exchange while it runs."""

    span: _Span
    client_id: int
    """Of the CLIENT span: the upstream has heard of it before it begins."""
    route: str | None


TRACE: Slot[_Trace] = Slot("tracing.trace")


class Recorder(Tracing):
    """A `Tracing` that is on. Made by `Tracing`, when the variables say so."""

    def __init__(self, propagate_upstream: bool = False) -> None:
        super().__init__(propagate_upstream)
        environment = read(os.environ)
        if environment is None:
            raise ValueError("the OTEL_* variables ask for no tracing")
        self._environment = environment
        self._sampling = environment.sampling
        self._introduces = propagate_upstream and environment.propagates
        self._genai = names.LATEST if environment.latest else names.V1_41
        self._scope = InstrumentationScope("weir", __version__, self._genai.schema_url)
        self._pipeline: Pipeline | None = None

    def adopt(self, previous: Plugin) -> None:
        """Go on with the queue and the thread of the one before."""
        if isinstance(previous, Recorder):
            self._pipeline = previous._pipeline

    async def start(self, server: Server) -> None:
        """Start the thread that sends."""
        if self._pipeline is None:
            self._pipeline = Pipeline(self._environment, server.metrics)
            log.info("tracing", extra={"fields": {"collector": self._environment.collector}})
        self._pipeline.open()

    async def stop(self) -> None:
        """Send what waits, for a few seconds at most."""
        await self._opened().close()

    async def on_request(self, ex: Exchange) -> None:
        """Decide, and if so begin the SERVER span. It stays current for all hooks of this exchange.

        It is never detached: each exchange has a context of its own, which ends with it.
        """
        headers = ex.request.headers
        parent = traceparent.read(headers.raw) if self._environment.propagates else None
        if parent is None:
            trace_id, theirs, flags = _new_id(128), None, traceparent.RANDOM
        else:
            trace_id, theirs = parent.trace_id, bool(parent.flags & traceparent.SAMPLED)
            flags = parent.flags & traceparent.RANDOM
        if self._sampling.samples(trace_id, theirs):
            flags |= traceparent.SAMPLED
            span_id = self._begin(ex, parent, trace_id, flags)
        else:
            attach(_UNTRACED)
            if not (self._introduces if parent is None else theirs):
                return  # there is nothing to tell the upstream that its headers do not say
            span_id = _new_id(64)
        value = traceparent.render(trace_id, span_id, flags)
        if parent is not None:
            headers.raw = traceparent.continued(headers.raw, value)
        elif self._introduces:
            headers.raw = traceparent.restarted(headers.raw, value)

    def _begin(self, ex: Exchange, parent: traceparent.Parent | None, trace_id: int, flags: int) -> int:
        pipeline = self._opened()
        request = ex.request
        state = None if parent is None else TraceState(traceparent.read_state(request.headers.raw))
        client_id = _new_id(64)
        path = route(request.path, request.endpoint)
        span = _Span(
            request.method if path is None else f"{request.method} {path}",
            SpanContext(trace_id, _new_id(64), False, TraceFlags(flags), state),
            None
            if parent is None
            else SpanContext(trace_id, parent.span_id, True, TraceFlags(parent.flags), state),
            resource=pipeline.resource,
            span_processor=pipeline.processor,
            kind=SpanKind.SERVER,
            limits=pipeline.limits,
            instrumentation_scope=self._scope,
        )
        ex[TRACE] = _Trace(span, client_id, path)
        span.start(ex.timeline.started_at)
        attach(set_span_in_context(span))
        return client_id

    async def on_end(self, ex: Exchange, end: End) -> None:
        """Write the spans of a traced exchange."""
        trace = ex.get(TRACE)
        if trace is None:
            return
        self._write_hops(ex, trace)
        if ex.attempts:
            self._write_client(ex, end, trace)
        span = trace.span
        span.set_attributes(attributes.server(ex, end, trace.route))
        if attributes.server_failed(ex, end):
            span.set_status(_ERROR)
        span.end(ex.timeline.wall(monotonic_ns()))

    def _write_hops(self, ex: Exchange, trace: _Trace) -> None:
        timeline = ex.timeline
        server = trace.span.get_span_context()
        for hop in timeline.hops:
            if hop.phase != "upstream" and hop.name != self.name:
                self._write(
                    f"{hop.name} {hop.phase}",
                    server,
                    timeline.wall(hop.start),
                    timeline.wall(hop.end),
                    attributes.hop(hop),
                )

    def _write_client(self, ex: Exchange, end: End, trace: _Trace) -> None:
        pipeline = self._opened()
        timeline = ex.timeline
        server = trace.span.get_span_context()
        operation = names.OPERATIONS.get(ex.request.endpoint) if ex.request.method == "POST" else None
        client = SpanContext(server.trace_id, trace.client_id, False, server.trace_flags, server.trace_state)
        span = _Span(
            attributes.client_name(ex, operation),
            client,
            server,
            resource=pipeline.resource,
            attributes=attributes.client(ex, end, self._genai, operation),
            span_processor=pipeline.processor,
            kind=SpanKind.CLIENT,
            limits=pipeline.limits,
            instrumentation_scope=self._scope,
        )
        span.start(timeline.wall(ex.attempts[0].start))
        for one in ex.attempts:
            self._write(
                "upstream",
                client,
                timeline.wall(one.start),
                timeline.wall(one.end),
                attributes.attempt(one),
            )
        if attributes.client_failed(ex.attempts[-1], end):
            span.set_status(_ERROR)
        span.end(timeline.wall(timeline.finished))

    def _write(
        self, name: str, parent: SpanContext, start: int, end: int, found: attributes.Attributes
    ) -> None:
        """A span of something that is over: a tenth of the work of the SDK's living span."""
        pipeline = self._opened()
        context = SpanContext(parent.trace_id, _new_id(64), False, parent.trace_flags, parent.trace_state)
        pipeline.processor.on_end(
            ReadableSpan(
                name,
                context,
                parent,
                pipeline.resource,
                found,
                start_time=start,
                end_time=end,
                instrumentation_scope=self._scope,
            )
        )

    def _opened(self) -> Pipeline:
        assert self._pipeline is not None  # noqa: S101 # start() has made it
        return self._pipeline


def _new_id(bits: int) -> int:
    return random.getrandbits(bits) or 1  # an id, no secret; zero is none
