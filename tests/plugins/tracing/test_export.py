"""A collector that is down, slow or says no: nobody waits for it, and somebody hears of it once."""

import asyncio
import logging
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from opentelemetry.trace import SpanContext, TraceFlags
from prometheus_client import CollectorRegistry

from plugins.tracing import export
from plugins.tracing.environment import read
from plugins.tracing.export import Pipeline
from tests.ports import free_ports

from .collector import Collector

OUTCOMES = ("exported", "failed", "dropped")


class Opened:
    """A pipeline in use, and what it says of itself."""

    def __init__(self, endpoint: str, **variables: str) -> None:
        environment = read({"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint, **variables})
        assert environment is not None
        self.metrics = CollectorRegistry()
        self.pipeline = Pipeline(environment, self.metrics)
        self.pipeline.open()

    def send(self, count: int, *, sampled: bool = True) -> None:
        for number in range(1, count + 1):
            context = SpanContext(1, number, False, TraceFlags(int(sampled)))
            self.pipeline.processor.on_end(ReadableSpan(f"span {number}", context, start_time=1, end_time=2))

    @property
    def outcomes(self) -> tuple[float, ...]:
        found = (self.metrics.get_sample_value("weir_tracing_spans_total", {"outcome": o}) for o in OUTCOMES)
        return tuple(value or 0 for value in found)


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Iterator[list[dict[str, Any]]]:
    """What is logged: by us the fields, by anybody else the message."""
    told: list[dict[str, Any]] = []
    handler = logging.Handler()
    handler.emit = lambda record: told.append(  # type: ignore[method-assign]
        getattr(record, "fields", {"other": record.getMessage()})
    )
    root = logging.getLogger()
    root.addHandler(handler)
    yield told
    root.removeHandler(handler)


@pytest.fixture
def down() -> str:
    return f"127.0.0.1:{free_ports(1)[0]}"


async def until(true: Any) -> None:
    async with asyncio.timeout(10):
        while not true():
            await asyncio.sleep(0.005)


def running() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if thread.name.startswith(("Otel", "weir-tracing"))}


async def test_what_waits_is_sent_at_the_end(collector: Collector, lines: list[dict[str, Any]]) -> None:
    before = running()
    opened = Opened(collector.endpoint)
    assert len(running() - before) == 1
    opened.send(3)
    opened.send(2, sampled=False)
    await opened.pipeline.close()
    assert sorted(span.name for span in collector.spans) == ["span 1", "span 2", "span 3"]
    assert collector.paths == ["/v1/traces"]
    assert lines == []
    await until(lambda: running() <= before)


async def test_spans_go_out_by_themselves(collector: Collector) -> None:
    opened = Opened(collector.endpoint, OTEL_BSP_SCHEDULE_DELAY="20")
    opened.send(3)
    await until(lambda: opened.outcomes == (3, 0, 0))
    assert len(collector.spans) == 3
    await opened.pipeline.close()


async def test_a_collector_that_refuses_is_told_of_once(
    collector: Collector, lines: list[dict[str, Any]]
) -> None:
    collector.status = 404
    opened = Opened(collector.endpoint, OTEL_BSP_SCHEDULE_DELAY="5", OTEL_BSP_MAX_EXPORT_BATCH_SIZE="1")
    opened.send(4)
    await until(lambda: opened.outcomes == (0, 4, 0))
    assert lines == [{"collector": collector.address, "spans": 1, "reason": "HTTP 404"}]
    await opened.pipeline.close()


@pytest.mark.fault("F16")
async def test_a_collector_that_is_slow_is_told_of(
    collector: Collector, monkeypatch: pytest.MonkeyPatch, lines: list[dict[str, Any]]
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "0.05")
    collector.slow.set()
    opened = Opened(collector.endpoint)
    opened.send(1)
    await opened.pipeline.close()
    assert lines == [{"collector": collector.address, "spans": 1, "reason": "timeout"}]


async def test_the_next_line_says_what_was_lost_since(
    monkeypatch: pytest.MonkeyPatch, collector: Collector, lines: list[dict[str, Any]]
) -> None:
    monkeypatch.setattr(export, "_TOLD_AGAIN", 0.0)
    collector.status = 401
    opened = Opened(collector.endpoint, OTEL_BSP_SCHEDULE_DELAY="5")
    opened.send(2)
    await until(lambda: opened.outcomes == (0, 2, 0))
    opened.send(3)
    await until(lambda: opened.outcomes == (0, 5, 0))
    await until(lambda: sum(line["spans"] for line in lines) == 5)
    assert len(lines) >= 2
    assert {(line["collector"], line["reason"]) for line in lines} == {(collector.address, "HTTP 401")}
    told = len(lines)
    collector.status = 200
    opened.send(1)
    await opened.pipeline.close()
    assert len(lines) == told
    assert len(collector.spans) == 1


@pytest.mark.fault("F16")
async def test_a_queue_that_is_full_drops_and_nobody_waits(
    collector: Collector, lines: list[dict[str, Any]]
) -> None:
    collector.slow.set()
    opened = Opened(
        collector.endpoint,
        OTEL_BSP_MAX_QUEUE_SIZE="4",
        OTEL_BSP_SCHEDULE_DELAY="5",
        OTEL_BSP_MAX_EXPORT_BATCH_SIZE="2",
    )
    opened.send(10, sampled=False)  # takes no place
    opened.send(1)
    await until(lambda: collector.paths)  # it hangs with that one
    opened.send(10)
    assert opened.outcomes == (0, 0, 6)
    assert lines == []
    collector.slow.clear()
    collector._go.set()
    await until(lambda: opened.outcomes == (5, 0, 6))
    assert lines == [{"collector": collector.address, "spans": 6, "reason": "queue full"}]
    opened.send(1)
    await opened.pipeline.close()
    assert len(collector.spans) == 6


async def test_a_stop_does_not_wait_for_a_collector_that_hangs(collector: Collector) -> None:
    collector.slow.set()
    before = running()
    opened = Opened(collector.endpoint)
    opened.send(1)
    start = time.monotonic()
    await opened.pipeline.close(within=0.2)
    assert time.monotonic() - start < 5  # the collector hangs for 30 s, a request for 10
    collector._go.set()
    await until(lambda: running() <= before)


async def test_a_stop_does_not_wait_for_retries(
    monkeypatch: pytest.MonkeyPatch, down: str, lines: list[dict[str, Any]]
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://user:secret@{down}/token")
    before = running()
    opened = Opened(f"http://user:secret@{down}/token")
    opened.send(1)
    await opened.pipeline.close(within=0.1)
    assert lines == [{"collector": down, "spans": 1, "reason": "ConnectionError"}]  # before it is over
    await until(lambda: running() <= before)


async def test_the_last_one_closes(collector: Collector) -> None:
    opened = Opened(collector.endpoint)
    opened.pipeline.open()
    await opened.pipeline.close()
    opened.send(1)
    assert collector.spans == []
    assert opened.outcomes == (0, 0, 0)
    await opened.pipeline.close()
    assert len(collector.spans) == 1
    assert opened.metrics.get_sample_value("weir_tracing_spans_total", {"outcome": "exported"}) is None


async def test_who_it_says_it_is(collector: Collector, monkeypatch: pytest.MonkeyPatch) -> None:
    async def resource() -> dict[str, Any]:
        opened = Opened(collector.endpoint)
        await opened.pipeline.close()
        return dict(opened.pipeline.resource.attributes or {})

    assert (await resource())["service.name"] == "weir"
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "service.name=edge,service.version=7,team=red")
    found = await resource()
    assert (found["service.name"], found["service.version"], found["team"]) == ("edge", "7", "red")
    monkeypatch.setenv("OTEL_SERVICE_NAME", "gate")
    assert (await resource())["service.name"] == "gate"


@pytest.mark.parametrize(
    ("sampler", "arg", "parent_based", "ratio"),
    [("parentbased_traceidratio", "0.25", True, 0.25), ("always_off", "", False, 0.0)],
)
async def test_other_plugins_spans_are_sampled_alike(
    collector: Collector, sampler: str, arg: str, parent_based: bool, ratio: float
) -> None:
    opened = Opened(collector.endpoint, OTEL_TRACES_SAMPLER=sampler, OTEL_TRACES_SAMPLER_ARG=arg)
    found = opened.pipeline.provider.sampler
    assert isinstance(found, ParentBased if parent_based else TraceIdRatioBased)
    assert TraceIdRatioBased(ratio).get_description() in found.get_description()
    await opened.pipeline.close()


async def test_the_first_one_is_the_global_provider(collector: Collector) -> None:
    first, second = Opened(collector.endpoint), Opened(collector.endpoint)
    assert not isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider)
    assert trace.get_tracer_provider() is not second.pipeline.provider
    await first.pipeline.close()
    await second.pipeline.close()
