"""The spans that a collector gets, of exchanges played through the real engine."""

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client import CollectorRegistry

from plugins.auth import Auth
from plugins.tracing import Tracing
from plugins.tracing.recorder import Recorder
from proxy import __version__
from proxy.api import (
    COST,
    ESTIMATE,
    IDENTITY,
    USAGE,
    ClientError,
    Cost,
    End,
    Estimate,
    Event,
    Exchange,
    Identity,
    Plugin,
    Reply,
    Server,
    UpstreamError,
    Usage,
)
from proxy.api.testing import Script, Sent, get, json, play, post, sse

from .collector import Collector

CHUNK = b'data: {"choices":[{"delta":{"content":"Hi"}}]}\n\n'
DONE = b"data: [DONE]\n\n"
STREAM = sse(CHUNK, CHUNK, DONE)
CHAT = {"model": "gpt-4o", "stream": True}
TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
PARENT = ("traceparent", f"00-{TRACE}-{SPAN}-01")
LOST = UpstreamError(502, "upstream_reset", "The upstream broke the connection.")


def ask(*headers: tuple[str, str], path: str = "/v1/chat/completions") -> Sent:
    return post(path, CHAT, headers)


class Priced(Plugin):
    """Knows before and after, as the plugins for it do."""

    provides = (ESTIMATE, USAGE, COST)
    name = "priced"

    async def on_request(self, ex: Exchange) -> None:
        ex[ESTIMATE] = Estimate(30, "tiktoken", 21, 64, Decimal("0.00123"), model="gpt-4o")

    def on_event(self, ex: Exchange, event: Event) -> None:
        if event.kind == "end":
            ex[USAGE] = [
                Usage(
                    19,
                    4,
                    cached_tokens=8,
                    cache_write_tokens=2,
                    reasoning_tokens=3,
                    audio_input_tokens=1,
                    model="gpt-4o-2024-08-06",
                    service_tier="default",
                )
            ]
            price = Decimal("0.0001234565")
            ex[COST] = Cost(price, price, price, "measured", "2026-11-01")

    async def on_end(self, ex: Exchange, end: End) -> None:
        """Takes its time, like a settlement."""


class Inner(Plugin):
    """A plugin that traces its own work."""

    name = "inner"

    def __init__(self, tracer: trace.Tracer) -> None:
        self.tracer = tracer

    async def on_request(self, ex: Exchange) -> None:
        with self.tracer.start_as_current_span("look up"):
            trace.get_current_span().set_attribute("found", True)
        trace.get_current_span().set_attribute("tenant", "red")

    async def on_end(self, ex: Exchange, end: End) -> None:
        self.tracer.start_span("settle").end()


@pytest.fixture
def inner() -> Iterator[tuple[Inner, InMemorySpanExporter]]:
    kept = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(kept))
    yield Inner(provider.get_tracer("inner")), kept
    provider.shutdown()


# -- golden --------------------------------------------------------------------------------------------


async def test_a_streamed_request_has_the_golden_spans(collector: Collector) -> None:
    played = await play(
        [Tracing(), Auth([{"user": "alice", "team": "red", "id": "k1", "key": "weir-0123456789"}]), Priced()],
        ask(("authorization", "Bearer weir-0123456789"), ("user-agent", "OpenAI/Python 3.54.0")),
        STREAM,
    )
    assert played.body == CHUNK + CHUNK + DONE
    server, client = collector.server(), collector.client()
    timeline = played.ex.timeline

    assert (server.name, server.parent_id, server.failed) == ("POST /v1/chat/completions", "", False)
    assert server.attributes == {
        "http.request.method": "POST",
        "http.route": "/v1/chat/completions",
        "http.response.status_code": 200,
        "url.path": "/v1/chat/completions",
        "url.scheme": "http",
        "client.address": "192.0.2.1",
        "user_agent.original": "OpenAI/Python 3.54.0",
        "weir.request_id": played.ex.id,
        "weir.end_reason": "complete",
        "weir.end_code": "completed",
        "weir.key_id": "k1",
        "weir.team": "red",
        "weir.time_to_first_byte": timeline.ttfb,
    }
    assert server.resource["service.name"] == "weir"
    assert server.resource["service.version"] == __version__
    assert server.scope == ("weir", __version__, "https://opentelemetry.io/schemas/1.41.0")

    assert (client.name, client.parent_id, client.failed) == ("chat gpt-4o", server.span_id, False)
    assert client.attributes == {
        "http.request.method": "POST",
        "http.response.status_code": 200,
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "gpt-4o",
        "gen_ai.request.stream": True,
        "gen_ai.response.model": "gpt-4o-2024-08-06",
        "gen_ai.response.time_to_first_chunk": (timeline.first_byte - played.ex.attempts[0].start) / 1e9,
        "gen_ai.usage.input_tokens": 19,
        "gen_ai.usage.output_tokens": 4,
        "gen_ai.usage.cache_read.input_tokens": 8,
        "gen_ai.usage.cache_creation.input_tokens": 2,
        "gen_ai.usage.reasoning.output_tokens": 3,
        "openai.api.type": "chat_completions",
        "openai.response.service_tier": "default",
        "weir.upstream": "scripted",
        "weir.attempts": 1,
        "weir.usage.provenance": "measured",
        "weir.estimate.input_tokens": 21,
        "weir.estimate.max_output_tokens": 64,
        "weir.estimate.max_cost_nano_usd": 1_230_000,
        "weir.cost.nano_usd": 123_456,
        "weir.cost.estimated": False,
        "weir.cost.price_version": "2026-11-01",
    }

    # `recorder` is the kit's. `auth` ends nothing; `tracing` is not its own child.
    hops = ["recorder request", "auth request", "priced request", "chat gpt-4o", "priced end"]
    assert collector.children(server) == hops
    assert collector.children(client) == ["upstream"]
    assert collector.one("auth request").attributes == {"weir.plugin": "auth", "weir.phase": "request"}
    assert collector.one("upstream").attributes == {"weir.upstream": "scripted", "weir.outcome": "200"}
    assert {span.trace_id for span in collector.spans} == {server.trace_id}
    assert len({span.span_id for span in collector.spans}) == len(collector.spans) == 7


async def test_spans_are_where_the_timeline_says(collector: Collector) -> None:
    played = await play([Tracing(), Priced()], ask(), STREAM)
    timeline, attempt = played.ex.timeline, played.ex.attempts[0]
    server, client, upstream = collector.server(), collector.client(), collector.one("upstream")
    assert server.start == timeline.started_at
    assert server.end >= collector.one("priced end").end >= collector.one("priced end").start >= client.end
    assert (client.start, client.end) == (timeline.wall(attempt.start), timeline.wall(timeline.finished))
    assert (upstream.start, upstream.end) == (timeline.wall(attempt.start), timeline.wall(attempt.end))
    hop = next(hop for hop in timeline.hops if hop.name == "priced")
    span = collector.one("priced request")
    assert (span.start, span.end) == (timeline.wall(hop.start), timeline.wall(hop.end))


async def test_the_newest_conventions_are_a_switch(
    collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_SEMCONV_STABILITY_OPT_IN", "http,gen_ai_latest_experimental")
    await play([Tracing(), Priced()], ask(), STREAM)
    client = collector.client()
    assert client.attributes["gen_ai.usage.cache_write.input_tokens"] == 2
    assert client.attributes["gen_ai.usage.audio.input_tokens"] == 1
    assert "gen_ai.usage.cache_creation.input_tokens" not in client.attributes
    assert client.scope == ("weir", __version__, "")


async def test_it_works_alone(collector: Collector) -> None:
    await play([Tracing()], ask(), json({"choices": []}))
    assert collector.children(collector.server()) == ["recorder request", "chat"]
    attributes = collector.client().attributes
    assert attributes["gen_ai.operation.name"] == "chat"
    assert not [name for name in attributes if "usage" in name or "cost" in name or ".stream" in name]


# -- endings -------------------------------------------------------------------------------------------


async def test_an_upstream_that_cannot_be_reached_is_an_error_on_both(collector: Collector) -> None:
    refused = UpstreamError(502, "upstream_connect_failed", "It could not be reached.")
    await play([Tracing()], ask(), Script(refuses=refused))
    server, client = collector.server(), collector.client()
    assert server.failed
    assert client.failed
    assert server.attributes["http.response.status_code"] == 502
    assert server.attributes["error.type"] == client.attributes["error.type"] == "upstream_connect_failed"
    assert server.attributes["weir.end_reason"] == "upstream_error"
    assert "http.response.status_code" not in client.attributes
    assert collector.one("upstream").attributes["weir.outcome"] == "upstream_connect_failed"


async def test_an_upstream_that_breaks_its_stream_is_an_error_on_both(collector: Collector) -> None:
    broken = Script(200, [("content-type", "text/event-stream")], [CHUNK], breaks=LOST)
    await play([Tracing()], ask(), broken)
    server, client = collector.server(), collector.client()
    assert server.failed
    assert client.failed
    assert server.attributes["http.response.status_code"] == client.attributes["http.response.status_code"]
    assert server.attributes["error.type"] == client.attributes["error.type"] == "upstream_reset"


@pytest.mark.parametrize(("status", "server_fails"), [(404, False), (429, False), (500, True)])
async def test_an_error_of_the_upstream_passes_and_is_named(
    collector: Collector, status: int, server_fails: bool
) -> None:
    await play([Tracing()], ask(), json({"error": {}}, status))
    server, client = collector.server(), collector.client()
    assert client.failed
    assert client.attributes["error.type"] == str(status)
    assert server.failed is server_fails
    assert server.attributes.get("error.type") == (str(status) if server_fails else None)
    assert server.attributes["weir.end_reason"] == "complete"


async def test_a_refusal_of_a_plugin_has_no_client_span(collector: Collector) -> None:
    class Full(Plugin):
        name = "full"

        async def on_request(self, ex: Exchange) -> Reply:
            return Reply.error(429, "rate_limit_exceeded", "Later.", retry_after=3)

    await play([Tracing(), Full()], ask())
    server = collector.server()
    assert not server.failed
    assert server.attributes["http.response.status_code"] == 429
    assert "error.type" not in server.attributes
    assert (server.attributes["weir.end_reason"], server.attributes["weir.end_code"]) == (
        "rejected",
        "rate_limit_exceeded",
    )
    assert collector.children(server) == ["recorder request", "full request"]
    assert len(collector.spans) == 3


async def test_a_client_that_leaves_is_nobodys_failure(collector: Collector) -> None:
    await play([Tracing()], ask(), STREAM, leaves_after=1)
    server, client = collector.server(), collector.client()
    assert not server.failed
    assert not client.failed
    assert server.attributes["error.type"] == client.attributes["error.type"] == "client_closed"
    assert server.attributes["weir.end_reason"] == "client_gone"


async def test_a_stream_that_a_plugin_cuts_off_says_so(collector: Collector) -> None:
    class Enough(Plugin):
        def on_event(self, ex: Exchange, event: Event) -> None:
            ex.abort(ClientError(429, "enough", "That was enough."))

    await play([Tracing(), Enough()], ask(), STREAM)
    assert collector.client().attributes["error.type"] == "enough"
    assert not collector.client().failed
    assert collector.server().attributes["weir.end_code"] == "enough"


async def test_a_plugin_that_fails_is_an_error_of_the_server_alone(collector: Collector) -> None:
    class Broken(Plugin):
        name = "broken"

        async def on_request(self, ex: Exchange) -> None:
            raise RuntimeError("canary")

    await play([Tracing(), Broken()], ask())
    assert collector.server().failed
    assert collector.server().attributes["error.type"] == "plugin_error"
    assert collector.children(collector.server()) == ["recorder request", "broken request"]
    assert b"canary" not in b"".join(collector.raw)


async def test_other_requests_are_plain_http(collector: Collector) -> None:
    await play([Tracing()], get("/v1/files/file-abc/content?x=1"), json({}))
    await play([Tracing()], get("/something/else"), json({}))
    await play([Tracing()], get("/v1/chat/completions"), json({"object": "list"}))
    first, second, third = [span for span in collector.spans if span.kind == "SERVER"]
    assert (first.name, first.attributes["http.route"]) == ("GET /v1/files/*", "/v1/files/*")
    assert second.name == "GET"
    assert "http.route" not in second.attributes
    assert third.name == "GET /v1/chat/completions"
    for client in [span for span in collector.spans if span.kind == "CLIENT"]:
        assert client.name == "GET"
        assert not [name for name in client.attributes if name.startswith(("gen_ai", "openai"))]


# -- whose trace -----------------------------------------------------------------------------------


def upstream_headers(played: Any) -> dict[str, str]:
    assert played.forwarded is not None
    return {
        name: value
        for name, value in played.forwarded.headers
        if name in ("traceparent", "tracestate", "baggage")
    }


async def test_the_trace_of_the_client_is_continued(collector: Collector) -> None:
    headers = [("a", "1"), PARENT, ("tracestate", "x=1,y=2"), ("baggage", "user=me"), ("b", "2")]
    played = await play([Tracing()], ask(*headers), STREAM)
    server, client = collector.server(), collector.client()
    assert (server.trace_id, server.parent_id, server.state) == (TRACE, SPAN, "x=1,y=2")
    assert client.state == collector.one("upstream").state == "x=1,y=2"
    assert played.forwarded is not None
    ours = f"00-{TRACE}-{client.span_id}-01"
    sent = [("content-type", "application/json"), *headers, ("content-length", "32")]
    expected = [(name, ours if name == "traceparent" else value) for name, value in sent]
    found = [pair for pair in played.forwarded.headers if pair[0] in dict(expected)]
    assert [pair for pair in found if pair[0] != "content-length"] == expected[:-1]


async def test_a_trace_of_our_own_stays_with_us(collector: Collector) -> None:
    played = await play([Tracing()], ask(("tracestate", "x=1"), ("baggage", "b=1")), STREAM)
    assert upstream_headers(played) == {"tracestate": "x=1", "baggage": "b=1"}
    assert collector.server().parent_id == ""


async def test_a_trace_of_our_own_goes_upstream_if_told_to(collector: Collector) -> None:
    played = await play([Tracing(propagate_upstream=True)], ask(("tracestate", "x=1")), STREAM)
    client = collector.client()
    assert upstream_headers(played) == {"traceparent": f"00-{client.trace_id}-{client.span_id}-03"}


@pytest.mark.parametrize("value", [f"00-{TRACE}-{SPAN}-01-more", f"00-{TRACE.upper()}-{SPAN}-01", "x"])
async def test_what_is_no_trace_passes_and_is_not_continued(collector: Collector, value: str) -> None:
    played = await play([Tracing()], ask(("traceparent", value)), STREAM)
    assert upstream_headers(played) == {"traceparent": value}
    assert collector.server().trace_id != TRACE


async def test_what_is_no_trace_is_replaced_if_ours_is_to_go_upstream(collector: Collector) -> None:
    played = await play([Tracing(True)], ask(PARENT, PARENT, ("tracestate", "x=1")), STREAM)
    client = collector.client()
    assert client.trace_id != TRACE
    assert upstream_headers(played) == {"traceparent": f"00-{client.trace_id}-{client.span_id}-03"}


async def test_no_propagators_means_headers_untouched(
    collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_PROPAGATORS", "none")
    played = await play([Tracing(True)], ask(PARENT), STREAM)
    assert upstream_headers(played) == {"traceparent": PARENT[1]}
    assert collector.server().parent_id == ""


async def test_a_client_that_does_not_trace_is_believed(collector: Collector) -> None:
    unsampled = ("traceparent", f"00-{TRACE}-{SPAN}-00")
    for tracing in (Tracing(), Tracing(True)):
        played = await play([tracing], ask(unsampled, ("tracestate", "x=1")), STREAM)
        assert upstream_headers(played) == {"traceparent": unsampled[1], "tracestate": "x=1"}
    assert collector.spans == []


async def test_a_trace_that_ends_here_is_marked_as_not_sampled(
    collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "always_off")
    played = await play([Tracing()], ask(("traceparent", f"00-{TRACE}-{SPAN}-03")), STREAM)
    version, trace_id, span_id, flags = upstream_headers(played)["traceparent"].split("-")
    assert (version, trace_id, flags) == ("00", TRACE, "02")
    assert span_id != SPAN
    played = await play([Tracing(True)], ask(), STREAM)
    assert upstream_headers(played)["traceparent"].endswith("-02")
    played = await play([Tracing()], ask(), STREAM)
    assert upstream_headers(played) == {}
    assert collector.spans == []


# -- spans of other plugins ------------------------------------------------------------------------


async def test_spans_of_other_plugins_are_children(
    collector: Collector, inner: tuple[Inner, InMemorySpanExporter]
) -> None:
    plugin, kept = inner
    await play([Tracing(), plugin], ask(), STREAM)
    server = collector.server()
    spans = kept.get_finished_spans()
    assert [span.name for span in spans] == ["look up", "settle"]
    for span in spans:
        assert span.parent is not None
        assert f"{span.parent.trace_id:032x}" == server.trace_id
        assert f"{span.parent.span_id:016x}" == server.span_id
    assert server.attributes["tenant"] == "red"
    assert not trace.get_current_span().get_span_context().is_valid


async def test_what_is_not_traced_has_no_orphans(
    collector: Collector, monkeypatch: pytest.MonkeyPatch, inner: tuple[Inner, InMemorySpanExporter]
) -> None:
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "parentbased_always_off")
    plugin, kept = inner
    await play([Tracing(), plugin], ask(), STREAM)
    assert kept.get_finished_spans() == ()
    assert not trace.get_current_span().get_span_context().is_valid


async def test_nothing_complains_about_the_context(
    collector: Collector, caplog: pytest.LogCaptureFixture
) -> None:
    await play([Tracing(), Priced()], ask(), STREAM)
    await play([Tracing(), Priced()], ask(), STREAM, leaves_after=1)
    assert [record for record in caplog.records if record.name.startswith("opentelemetry")] == []


# -- what must not get out -------------------------------------------------------------------------


async def test_no_prompt_completion_query_or_key_is_in_a_span(collector: Collector) -> None:
    key = "sk-canarykey0123456789"

    class Failing(Plugin):
        async def on_end(self, ex: Exchange, end: End) -> None:
            raise RuntimeError("canary-exception")

    sent = Sent(
        path=f"/v1/chat/{key}",
        query="q=canary-query",
        headers=[
            ("authorization", f"Bearer {key}"),
            ("user-agent", f"me ({key})"),
            ("x-user-id", "canary-user"),
            ("cookie", "canary-cookie"),
            ("baggage", "b=canary-baggage"),
        ],
        pieces=[b'{"model": "m", "messages": [{"content": "canary-prompt"}]}'],
    )
    answer = sse(b'data: {"choices":[{"delta":{"content":"canary-completion"}}]}\n\n', DONE)
    await play([Tracing(), Auth(), Failing()], sent, answer)
    assert collector.spans
    assert b"canary" not in b"".join(collector.raw)
    assert collector.server().attributes["url.path"] == "/v1/chat/***"


async def test_a_text_that_cannot_be_encoded_costs_no_other_span(collector: Collector) -> None:
    class Odd(Plugin):
        provides = (USAGE,)

        async def on_request(self, ex: Exchange) -> None:
            ex[USAGE] = [Usage(model="\ud800" + "x" * 5000)]

    await play([Tracing(), Odd()], ask(("user-agent", "\xff" * 3000)), STREAM)
    assert len(collector.client().attributes["gen_ai.response.model"]) == 256
    assert collector.server().attributes["user_agent.original"] == "\xff" * 256


# -- its life --------------------------------------------------------------------------------------


def server() -> Server:
    return Server(metrics=CollectorRegistry())


async def test_a_reload_goes_on_with_the_same_queue(collector: Collector) -> None:
    surroundings = server()
    old, new = Tracing(), Tracing(propagate_upstream=True)
    await old.start(surroundings)
    new.adopt(old)
    await new.start(surroundings)
    assert isinstance(old, Recorder)
    assert isinstance(new, Recorder)
    assert new._pipeline is old._pipeline
    await old.stop()
    await play([Kept(new)], ask(), STREAM, server=surroundings)
    assert collector.spans == []
    await new.stop()
    assert collector.server().attributes["weir.end_code"] == "completed"


class Kept(Plugin):
    """Passes hooks on to a plugin that was started already."""

    def __init__(self, recorder: Recorder) -> None:
        self.recorder = recorder

    async def on_request(self, ex: Exchange) -> None:
        await self.recorder.on_request(ex)

    async def on_end(self, ex: Exchange, end: End) -> None:
        await self.recorder.on_end(ex, end)


async def test_tracing_can_come_back(collector: Collector) -> None:
    surroundings = server()
    for _ in range(2):
        await play([Tracing()], ask(), STREAM, server=surroundings)
    assert len([span for span in collector.spans if span.kind == "SERVER"]) == 2


async def test_one_that_never_started_takes_nothing_with_it(collector: Collector) -> None:
    old, never = Tracing(), Tracing()
    await old.start(server())
    never.adopt(old)
    never.adopt(Auth())
    await old.stop()


def test_a_recorder_needs_the_variables() -> None:
    with pytest.raises(ValueError, match="ask for no tracing"):
        Recorder()


async def test_the_limits_of_the_sdk_hold(collector: Collector, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT", "9")
    await play([Tracing(), Priced()], ask(), STREAM)
    assert collector.server().attributes["url.path"] == "/v1/chat/"
    assert collector.client().attributes["gen_ai.response.model"] == "gpt-4o-20"


async def test_an_identity_without_a_key_leaves_no_trace(collector: Collector) -> None:
    who = Identity("canary", "192.0.2.1", end_user="canary")
    await play([Tracing()], ask(), STREAM, given={IDENTITY: who})
    assert not [name for name in collector.server().attributes if "user" in name and "agent" not in name]
    assert b"canary" not in b"".join(collector.raw)
