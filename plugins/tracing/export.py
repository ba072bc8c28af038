"""From spans to the collector: a bounded queue, a thread that sends, and one line where spans are lost.

Sending, retries and every variable about them (`OTEL_EXPORTER_OTLP_*`) are the SDK's. What is added: what is
lost is counted in `weir_tracing_spans_total` and told once a minute, and stopping takes a bounded time.
"""

import asyncio
import logging
import threading
from collections.abc import Sequence
from time import monotonic

from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanLimits, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import ParentBased, Sampler, TraceIdRatioBased
from prometheus_client import CollectorRegistry, Counter

from proxy import __version__

from .environment import Environment
from .sampling import Sampling

log = logging.getLogger("weir.tracing")

FLUSH = 3.0
"""Seconds that a stop waits for the last spans to be sent."""
_LAST_WORD = 0.5
"""Seconds more for the thread to tell what it could not send."""
_TOLD_AGAIN = 60.0
_FULL = "queue full"


class Pipeline:
    """One per process: what spans need to be made, and their way to the collector.

    Shared by the plugins that a reload puts one in the place of the other: `open` and `close` count, and the
    last one to close sends what is left. The global tracer provider of OpenTelemetry is set to `provider`,
    so that other plugins' `trace.get_tracer(...)` works.
    """

    def __init__(self, environment: Environment, metrics: CollectorRegistry) -> None:
        self.resource = _resource()
        self.limits = SpanLimits()
        self._metrics = metrics
        self._counter = Counter(
            "weir_tracing_spans", "Spans by what became of them.", ["outcome"], registry=metrics
        )
        self._exporter = _Exporter(environment.collector, self._counter)
        self.processor = _Queue(self._exporter, environment)
        self.provider = TracerProvider(
            sampler=_sdk_sampler(environment.sampling),
            resource=self.resource,
            span_limits=self.limits,
            shutdown_on_exit=False,
        )
        self.provider.add_span_processor(self.processor)
        if isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):
            trace.set_tracer_provider(self.provider)
        self._users = 0

    def open(self) -> None:
        """One more plugin uses this."""
        self._users += 1

    async def close(self, within: float = FLUSH) -> None:
        """One plugin fewer; the last sends what waits, and gives up after `within` seconds."""
        self._users -= 1
        if self._users:
            return
        done = asyncio.Event()
        loop = asyncio.get_running_loop()

        def flush() -> None:
            self.provider.shutdown()
            try:
                loop.call_soon_threadsafe(done.set)
            except RuntimeError:
                pass  # nobody waits any more, the loop is closed

        # Not the loop's executor: the interpreter would wait for its threads.
        threading.Thread(target=flush, name="weir-tracing-flush", daemon=True).start()
        try:
            await asyncio.wait_for(done.wait(), within)
        except TimeoutError:
            self._exporter.give_up()
            try:
                await asyncio.wait_for(done.wait(), _LAST_WORD)
            except TimeoutError:
                pass  # it hangs in a request, and ends with the process
        self._metrics.unregister(self._counter)


def _resource() -> Resource:
    """What OTEL_RESOURCE_ATTRIBUTES and OTEL_SERVICE_NAME say, and `weir` where they do not."""
    resource = Resource.create()
    if str(resource.attributes["service.name"]).startswith("unknown_service"):
        resource = resource.merge(Resource({"service.name": "weir"}))
    return Resource({"service.version": __version__}).merge(resource)


def _sdk_sampler(sampling: Sampling) -> Sampler:
    """The same decision for spans that other plugins begin outside of an exchange."""
    ratio = TraceIdRatioBased(sampling.ratio)
    return ParentBased(ratio) if sampling.parent_based else ratio


class _Exporter(SpanExporter):
    """The SDK's exporter, with what it fails at counted and told."""

    def __init__(self, collector: str, counter: Counter) -> None:
        self._otlp = OTLPSpanExporter()
        self._collector = collector
        self._exported = counter.labels("exported")
        self._failed = counter.labels("failed")
        self._dropped = counter.labels("dropped")
        self._lost = 0
        self._reason = _FULL
        self._lock = threading.Lock()
        self._quiet_until = 0.0
        self._waiting = 0
        self._given_up = False

    def enters(self, room: int) -> bool:
        """Whether one more span may wait; if not, it is counted as dropped."""
        with self._lock:
            if self._waiting < room:
                self._waiting += 1
                return True
            self._lost += 1
        self._dropped.inc()
        return False

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Send a batch; on the queue's own thread."""
        count = len(spans)
        with self._lock:
            self._waiting -= count
        _said.reason = "timeout"  # the one that the SDK has no word for
        try:
            result = self._otlp.export(spans)
        except Exception as error:  # noqa: BLE001 # the queue would log a traceback a batch
            _said.reason = type(error).__name__
            result = SpanExportResult.FAILURE
        if result is SpanExportResult.SUCCESS:
            self._exported.inc(count)
        else:
            self._failed.inc(count)
            with self._lock:
                self._lost += count
                self._reason = _said.reason
        self._tell()
        return result

    def shutdown(self) -> None:
        """Called by the queue when it is done, and by `give_up` when it is not."""
        with self._lock:
            first, self._given_up = not self._given_up, True
        if first:
            self._otlp.shutdown()  # type: ignore[no-untyped-call]

    give_up = shutdown

    def _tell(self) -> None:
        now = monotonic()
        with self._lock:
            lost = self._lost
            if not lost or now < self._quiet_until:
                return
            reason, self._reason = self._reason, _FULL
            self._lost = 0
            self._quiet_until = now + _TOLD_AGAIN
        fields = {"collector": self._collector, "spans": lost, "reason": reason}
        log.warning(
            "spans are lost: is the collector there, and is OTEL_EXPORTER_OTLP_ENDPOINT right?",
            extra={"fields": fields},
        )


class _Queue(BatchSpanProcessor):
    """The SDK's queue and its thread, bounded here: the SDK's own bound logs a line a span."""

    def __init__(self, exporter: _Exporter, environment: Environment) -> None:
        super().__init__(
            exporter,
            max_queue_size=environment.queue,
            schedule_delay_millis=environment.delay,
            max_export_batch_size=environment.batch,
        )
        self._exporter = exporter
        self._room = environment.queue

    def on_end(self, span: ReadableSpan) -> None:
        """Take a span that has ended, from any thread, without waiting."""
        context = span.context
        if context is not None and context.trace_flags.sampled and self._exporter.enters(self._room):
            super().on_end(span)


class _SdkLog(logging.Filter):
    """Keeps what the SDK's exporter says of a failure for our own line; nothing of it is logged.

    It would be several lines a batch, with the URL, which may hold a credential.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        for value in record.args or ():
            if isinstance(value, Exception):
                _said.reason = type(value).__name__
                break
            if isinstance(value, int):
                _said.reason = f"HTTP {value}"
                break
        return False


_said = threading.local()
"""`reason`: why the export that this thread is at has failed, should it have."""
logging.getLogger(OTLPSpanExporter.__module__).addFilter(_SdkLog())
