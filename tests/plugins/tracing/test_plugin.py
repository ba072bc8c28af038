"""On and off, in the real command: what a collector sees, and that off is as if it were not there."""

import asyncio
import textwrap
from pathlib import Path

import pytest

from plugins.tracing import Tracing
from plugins.tracing.recorder import Recorder
from proxy import __version__
from proxy.api import Plugin
from proxy.api.testing import json, play, post
from proxy.core.chain import Chain
from tests.e2e.command import run
from tests.faults.client import chat
from tests.faults.process import Process
from tests.faults.upstream import RawUpstream, answer, json_answer, sse
from tests.faults.wire import until
from tests.ports import free_ports

from .collector import Collector

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
PARENT = ("traceparent", f"00-{TRACE}-{SPAN}-01")
HOOKS = ("on_request", "on_response", "on_event", "on_end")
CHUNK = {"id": "x", "object": "chat.completion.chunk", "choices": []}

SPY = """
    import sys
    from starlette.responses import JSONResponse
    from starlette.routing import Route
    from proxy.api import Plugin


    class Modules(Plugin):
        def routes(self):
            return [Route("/modules", self.modules)]

        async def modules(self, request):
            return JSONResponse(sorted(sys.modules))


    class Inner(Plugin):
        async def on_request(self, ex):
            from opentelemetry import trace
            trace.get_tracer("inner").start_span("look up").end()
"""


@pytest.fixture
def spy(tmp_path: Path) -> dict[str, str]:
    (tmp_path / "spy.py").write_text(textwrap.dedent(SPY))
    return {"PYTHONPATH": str(tmp_path)}


def on(collector: Collector, **more: str) -> dict[str, str]:
    return {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.endpoint, "OTEL_BSP_SCHEDULE_DELAY": "20", **more}


# -- off -------------------------------------------------------------------------------------------


def test_off_it_has_no_hooks() -> None:
    off = Tracing()
    assert type(off) is Tracing
    assert [hook for hook in HOOKS if getattr(type(off), hook) is not getattr(Plugin, hook)] == []
    assert not Chain([off]).ends


def test_on_it_has_two(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "otlp")
    plugin = Tracing(propagate_upstream=True)
    assert isinstance(plugin, Recorder)
    assert plugin.propagate_upstream
    overridden = [hook for hook in HOOKS if getattr(type(plugin), hook) is not getattr(Plugin, hook)]
    assert overridden == ["on_request", "on_end"]
    assert plugin.on_error == "skip"


async def test_off_no_header_changes() -> None:
    headers = [PARENT, ("tracestate", "x=1"), ("baggage", "b=1"), ("b3", "0")]
    played = await play([Tracing(propagate_upstream=True)], post("/v1/x", {}, headers), json({}))
    plain = await play([], post("/v1/x", {}, headers), json({}))
    assert played.forwarded is not None
    assert plain.forwarded is not None
    assert played.forwarded.headers == plain.forwarded.headers


async def test_off_opentelemetry_is_never_imported(spy: dict[str, str]) -> None:
    config = {"plugins": ["tracing", "auth", "spy:Modules"]}
    async with RawUpstream(answer(sse(CHUNK))) as up, Process(up.base_url, config=config, env=spy) as weir:
        async with weir.client() as client:
            await client.ask(chat([PARENT], stream=True))
        modules = (await weir.get("/modules")).json()
        assert "plugins.tracing.plugin" in modules
        assert [name for name in modules if name.startswith(("opentelemetry", "requests", "google"))] == []
        assert up.requests[0].all("traceparent") == [PARENT[1].encode()]


async def test_on_it_is(spy: dict[str, str], collector: Collector) -> None:
    # Or the test before proves nothing.
    config = {"plugins": ["tracing", "spy:Modules"]}
    async with RawUpstream() as up, Process(up.base_url, config=config, env=spy | on(collector)) as weir:
        modules = (await weir.get("/modules")).json()
        assert "opentelemetry.sdk.trace" in modules


# -- on --------------------------------------------------------------------------------------------


async def test_a_collector_sees_a_streamed_request(collector: Collector) -> None:
    config = {
        "plugins": ["tracing", {"use": "auth", "keys": [{"user": "a", "id": "k1", "key": "weir-0123456789"}]}]
    }
    async with (
        RawUpstream(answer(sse(CHUNK))) as up,
        Process(up.base_url, config=config, env=on(collector)) as weir,
    ):
        async with weir.client() as client:
            headers = [PARENT, ("authorization", "Bearer weir-0123456789"), ("user-agent", "test/1")]
            response = await client.ask(chat(headers, stream=True))
        assert response.ended == "chunked"
        await until(lambda: collector.spans)
        server, client_span = collector.server(), collector.client()
        line = await weir.logged(event="request")
        started = await weir.logged(event="tracing")
        sent = up.requests[0]

    assert started["collector"] == collector.address
    assert (server.trace_id, server.parent_id, server.name) == (TRACE, SPAN, "POST /v1/chat/completions")
    ttfb = server.attributes.pop("weir.time_to_first_byte")
    assert ttfb == pytest.approx(line["ttfb_ms"] / 1e3, abs=1e-5)
    assert server.attributes == {
        "http.request.method": "POST",
        "http.route": "/v1/chat/completions",
        "http.response.status_code": 200,
        "url.path": "/v1/chat/completions",
        "url.scheme": "http",
        "client.address": "127.0.0.1",
        "user_agent.original": "test/1",
        "weir.request_id": line["id"],
        "weir.end_reason": "complete",
        "weir.end_code": "completed",
        "weir.key_id": "k1",
    }
    assert 0 < client_span.attributes.pop("gen_ai.response.time_to_first_chunk") < ttfb
    assert client_span.attributes == {
        "http.request.method": "POST",
        "http.response.status_code": 200,
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.stream": True,
        "openai.api.type": "chat_completions",
        "weir.upstream": "up",
        "weir.attempts": 1,
    }
    assert collector.children(server) == ["auth request", "chat"]
    assert collector.children(client_span) == ["upstream"]
    assert server.start <= client_span.start <= client_span.end <= server.end
    assert (server.resource["service.name"], server.resource["service.version"]) == ("weir", __version__)
    assert sent.all("traceparent") == [f"00-{TRACE}-{client_span.span_id}-01".encode()]
    assert b"weir-0123456789" not in b"".join(collector.raw)


async def test_a_stop_sends_what_waits(collector: Collector) -> None:
    env = on(collector, OTEL_BSP_SCHEDULE_DELAY="600000")
    config = {"plugins": ["tracing"]}
    async with (
        RawUpstream(answer(json_answer({}))) as up,
        Process(up.base_url, config=config, env=env) as weir,
    ):
        async with weir.client() as client:
            await client.ask(chat())
        assert collector.spans == []
        await weir.stop()
    assert collector.server().attributes["weir.end_code"] == "completed"


async def test_a_client_that_leaves_is_seen(collector: Collector) -> None:
    config = {"plugins": ["tracing"]}
    async with RawUpstream() as up, Process(up.base_url, config=config, env=on(collector)) as weir:
        async with weir.client() as client:
            await client.send(chat(stream=True))
            conn = await up.accept()
            await conn.request()
        await until(lambda: collector.spans)
    server = collector.server()
    assert server.attributes["weir.end_reason"] == "client_gone"
    assert not server.failed
    assert collector.one("upstream").attributes["weir.outcome"] == server.attributes["error.type"]


async def test_spans_of_other_plugins_go_to_the_same_collector(
    collector: Collector, spy: dict[str, str]
) -> None:
    config = {"plugins": ["tracing", "spy:Inner"]}
    env = spy | on(collector)
    async with (
        RawUpstream(answer(json_answer({}))) as up,
        Process(up.base_url, config=config, env=env) as weir,
    ):
        async with weir.client() as client:
            await client.ask(chat())
        await until(lambda: any(span.kind == "SERVER" for span in collector.spans))
    assert "look up" in collector.children(collector.server())
    assert collector.one("look up").scope[0] == "inner"


@pytest.mark.fault("F16")
async def test_a_collector_that_is_down_holds_nobody_up(collector: Collector) -> None:
    down = f"http://127.0.0.1:{free_ports(1)[0]}"
    env = on(collector, OTEL_EXPORTER_OTLP_ENDPOINT=down, OTEL_EXPORTER_OTLP_TIMEOUT="1.5")
    config = {"plugins": ["tracing"]}
    async with (
        RawUpstream(answer(json_answer({}))) as up,
        Process(up.base_url, config=config, env=env) as weir,
    ):
        async with weir.client() as client:
            for _ in range(5):
                assert (await client.ask(chat())).status == 200
        await weir.stop(timeout=20)
        lost = [line for line in weir.logs if line["event"].startswith("spans are lost")]
        assert len(lost) == 1
        assert lost[0]["level"] == "warning"
        assert lost[0]["reason"] == "ConnectionError"
        assert {line["event"] for line in weir.logs if line["level"] != "info"} == {lost[0]["event"]}


async def test_a_reload_keeps_the_spans_and_takes_the_option(collector: Collector) -> None:
    env = on(collector)
    async with (
        RawUpstream(answer(json_answer({}))) as up,
        Process(up.base_url, config={"plugins": ["tracing"]}, env=env) as weir,
        weir.client() as client,
    ):
        await client.ask(chat())
        weir.write_config(plugins=[{"use": "tracing", "propagate_upstream": True}])
        weir.signal(1)
        await weir.logged(event="configuration reloaded")
        await client.ask(chat())
        await until(lambda: len([span for span in collector.spans if span.kind == "SERVER"]) == 2)
        assert [bool(request.get("traceparent")) for request in up.requests] == [False, True]
        await asyncio.sleep(0.3)  # the old one has stopped by now
        await client.ask(chat())
        await until(lambda: len([span for span in collector.spans if span.kind == "SERVER"]) == 3)
        metrics = (await weir.get("/metrics", management=True)).body.decode()
        assert 'weir_tracing_spans_total{outcome="dropped"} 0.0' in metrics


# -- what it says ----------------------------------------------------------------------------------


@pytest.mark.parametrize("value", ["yes", 1, None])
def test_the_option_is_true_or_false(value: object) -> None:
    with pytest.raises(ValueError, match="propagate_upstream is true or false"):
        Tracing(propagate_upstream=value)  # type: ignore[arg-type]


def check(folder: Path, plugin: str, **env: str) -> str:
    (folder / "weir.yaml").write_text(f"upstreams: [{{base_url: http://127.0.0.1:1}}]\nplugins:\n{plugin}")
    ended = run("-m", "proxy", "check", folder=folder, env=env)
    assert ended.status == (0 if not ended.stderr else 2), ended
    return ended.stderr


def test_weir_check_says_what_cannot_be_done(tmp_path: Path) -> None:
    wrong = check(tmp_path, "  - use: tracing\n    sample: 0.1\n")
    assert "weir.yaml:4: plugins[0].sample: unknown key; it knows propagate_upstream" in wrong
    grpc = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4317", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}
    line = check(tmp_path, "  - tracing\n", **grpc)
    assert "weir.yaml:3: plugins[0]: tracing: OTEL_EXPORTER_OTLP_PROTOCOL=grpc: only http/protobuf" in line
    assert len(line.splitlines()) == 1
    assert check(tmp_path, "  - tracing\n", **grpc, OTEL_SDK_DISABLED="true") == ""
    limit = check(tmp_path, "  - tracing\n", OTEL_TRACES_EXPORTER="otlp", OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT="x")
    assert "tracing: OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT must be a non-negative integer" in limit
