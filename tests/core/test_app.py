import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
import pytest
from prometheus_client import CollectorRegistry
from pydantic import SecretStr
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Match, Mount, Route

from proxy.api import IDENTITY, End, Exchange, Identity, Plugin, Reply, Server
from proxy.core.app import App, check_open, compile_chain, management_routes
from proxy.core.chain import Chain, ChainError
from proxy.core.config import Address, ConfigError, PluginSettings, Settings, TlsSettings, UpstreamSettings
from proxy.core.seal import FIELDS
from tests.faults.wire import until

OWN = {name for name, _ in FIELDS}
"""What no answer of an upstream gets."""


@dataclass
class Answered:
    status: int = 0
    headers: dict[bytes, bytes] = field(default_factory=dict)
    body: bytes = b""


async def ask(
    app: Any, method: str, path: str, *headers: tuple[bytes, bytes], body: bytes | None = None
) -> Answered:
    """One request to an ASGI app."""
    found = Answered()
    pairs = [*([] if any(name == b"host" for name, _ in headers) else [(b"host", b"localhost")]), *headers]
    if body is not None:
        pairs.append((b"content-length", b"%d" % len(body)))
    messages: list[dict[str, Any]] = [{"type": "http.request", "body": body or b"", "more_body": False}]

    async def receive() -> dict[str, Any]:
        if messages:
            return messages.pop()
        await asyncio.Event().wait()
        raise AssertionError

    async def send(message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            found.status = message["status"]
            found.headers = dict(message["headers"])
        else:
            found.body += message.get("body", b"")

    raw_path, _, query = path.encode().partition(b"?")
    scope = {
        "type": "http",
        "http_version": "1.1",
        "method": method,
        "path": raw_path.decode(),
        "raw_path": raw_path,
        "query_string": query,
        "root_path": "",
        "headers": pairs,
        "client": ("192.0.2.1", 5),
    }
    await asyncio.wait_for(app(scope, receive, send), 5)
    return found


class Up:
    """A real upstream on a real socket that answers every request with its request line."""

    def __init__(self) -> None:
        self.port = 0
        self.lines: list[str] = []
        self.bodies: list[bytes] = []
        self.go = asyncio.Event()
        """A path that ends in `/slow` is answered with its first byte, and with the rest after this."""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while line := await reader.readline():
                length = 0
                while (header := await reader.readline()).strip():
                    name, _, value = header.decode().partition(":")
                    length = int(value) if name.lower() == "content-length" else length
                self.bodies.append(await reader.readexactly(length))
                self.lines.append(line.decode().strip())
                body = orjson.dumps({"asked": line.decode().strip()})
                head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
                writer.write(head % len(body) + body[:1])
                if b"/slow" in line:
                    await self.go.wait()
                writer.write(body[1:])
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()


@pytest.fixture
async def up() -> AsyncIterator[Up]:
    made = Up()
    server = await asyncio.start_server(made.serve, "127.0.0.1", 0)
    made.port = server.sockets[0].getsockname()[1]
    yield made
    made.go.set()
    server.close()


def settings(port: int = 9, **more: Any) -> Settings:
    upstream = UpstreamSettings(name="up", base_url=f"http://127.0.0.1:{port}/v1")
    return Settings.model_validate({"upstreams": [upstream], **more})


def app(plugins: Sequence[Plugin] = (), port: int = 9, **more: Any) -> App:
    return App(settings(port, **more), Chain(plugins), Server(metrics=CollectorRegistry()))


class Diary(Plugin):
    def __init__(self, name: str, diary: list[str], fails: str = "") -> None:
        self.name = name
        self.diary = diary
        self.fails = fails

    async def start(self, server: Server) -> None:
        self.diary.append(f"{self.name} start")
        if self.fails == "start":
            raise OSError("no database")

    async def stop(self) -> None:
        self.diary.append(f"{self.name} stop")
        if self.fails == "stop":
            raise OSError("still no database")

    async def on_end(self, ex: Exchange, end: End) -> None:
        self.diary.append(f"{self.name} end {end.reason} {end.code}")


class Who(Plugin):
    """Knows everybody who says so; refuses the others."""

    name = "who"
    provides = (IDENTITY,)

    async def on_request(self, ex: Exchange) -> Reply | None:
        user = ex.request.headers.get("x-user")
        if user is None:
            return Reply.error(401, "who", "Say who you are.")
        ex[IDENTITY] = Identity(user, ex.request.address)
        return None


class Routes(Plugin):
    """Has routes on both ports."""

    name = "routes"
    requires = (IDENTITY,)

    def routes(self) -> Sequence[BaseRoute]:
        async def usage(request: Request) -> Response:
            ex: Exchange = request.scope["weir.exchange"]
            return JSONResponse({"user": ex[IDENTITY].user, "id": request.path_params.get("id")})

        async def fails(request: Request) -> Response:
            raise KeyError("a secret")

        return [Route("/usage", usage), Route("/usage/{id}", usage), Route("/fails", fails)]

    def management_routes(self) -> Sequence[BaseRoute]:
        async def keys(request: Request) -> Response:
            return JSONResponse([])

        return [Route("/keys", keys)]

    async def on_request(self, ex: Exchange) -> Reply | None:
        return Reply.error(429, "never_for_our_own", "m")


# -- its life ------------------------------------------------------------------------------------------


async def test_plugins_start_in_order_and_stop_in_reverse() -> None:
    diary: list[str] = []
    made = app([Diary("a", diary), Diary("b", diary)])
    assert made.setup is None
    await made.start()
    assert made.setup is not None
    await made.stop()
    assert diary == ["a start", "b start", "b stop", "a stop"]


async def test_one_that_cannot_start_stops_what_had_started() -> None:
    diary: list[str] = []
    made = app([Diary("a", diary), Diary("b", diary, "start"), Diary("c", diary)])
    with pytest.raises(OSError, match="no database"):
        await made.start()
    assert diary == ["a start", "b start", "a stop"]
    assert made.setup is None


async def test_one_that_cannot_stop_does_not_keep_the_others_from_it() -> None:
    diary: list[str] = []
    made = app([Diary("a", diary), Diary("b", diary, "stop")])
    await made.start()
    await made.stop()
    assert diary[2:] == ["b stop", "a stop"]


async def lifespan(made: App) -> list[str]:
    asked: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    for kind in ("startup", "shutdown"):
        asked.put_nowait({"type": f"lifespan.{kind}"})
    told: list[str] = []

    async def send(message: dict[str, Any]) -> None:
        told.append(message["type"])

    await asyncio.wait_for(made({"type": "lifespan"}, asked.get, send), 5)
    return told


async def test_asgis_lifespan_starts_and_stops_it() -> None:
    diary: list[str] = []
    assert await lifespan(app([Diary("a", diary)])) == [
        "lifespan.startup.complete",
        "lifespan.shutdown.complete",
    ]
    assert diary == ["a start", "a stop"]


async def test_a_failed_start_is_told_and_kept() -> None:
    made = app([Diary("a", [], "start")])
    assert await lifespan(made) == ["lifespan.startup.failed"]
    assert isinstance(made.failure, OSError)


async def test_a_way_upstream_that_cannot_be_made_stops_what_had_started(tmp_path: Path) -> None:
    diary: list[str] = []
    ca = tmp_path / "ca.pem"
    ca.write_text("no certificate")
    tls = TlsSettings.model_validate({"ca": ca})
    upstream = UpstreamSettings(name="up", base_url="https://up.test", tls=tls)
    made_of = Settings.model_validate({"upstreams": [upstream]})
    made = App(made_of, Chain([Diary("a", diary)]), Server(metrics=CollectorRegistry()))
    with pytest.raises(ConfigError) as found:
        await made.start()
    assert "upstreams[0]: cannot be set up" in found.value.problems[0]
    assert diary.count("a start") == diary.count("a stop")


# -- its configuration changing ------------------------------------------------------------------------


async def test_after_a_reload_the_next_request_is_the_new_ones_and_a_running_one_stays_with_the_old(
    up: Up,
) -> None:
    diary: list[str] = []
    made = app([Diary("old", diary)], up.port)
    await made.start()
    running = asyncio.ensure_future(ask(made, "GET", "/v1/slow"))
    await until(lambda: up.lines)
    await made.reload(settings(up.port), Chain([Diary("new", diary)]))
    assert len(made.trips) == 1
    assert (await ask(made, "GET", "/v1/models")).status == 200
    assert diary == ["old start", "new start", "new end complete completed"]
    up.go.set()
    assert orjson.loads((await running).body) == {"asked": "GET /v1/slow HTTP/1.1"}
    await until(lambda: "old stop" in diary)
    assert diary[3:] == ["old end complete completed", "old stop"]
    await made.stop()
    assert diary[5:] == ["new stop"]


async def test_a_plugin_may_take_over_from_the_one_of_the_same_name(up: Up) -> None:
    adopted: list[tuple[Plugin, Plugin]] = []

    class Adopts(Diary):
        def adopt(self, previous: Plugin) -> None:
            adopted.append((self, previous))

    old, other, new = Adopts("a", []), Adopts("b", []), Adopts("a", [])
    made = app([old, other], up.port)
    await made.start()
    await made.reload(settings(up.port), Chain([new]))
    assert adopted == [(new, old)]
    await made.stop()


async def test_a_reload_that_fails_changes_nothing(up: Up) -> None:
    diary: list[str] = []
    old = Diary("old", diary)
    made = app([old], up.port)
    await made.start()
    with pytest.raises(OSError, match="no database"):
        await made.reload(settings(up.port), Chain([Diary("new", diary), Diary("fails", diary, "start")]))
    assert made.chain.plugins == (old,)
    assert (await ask(made, "GET", "/v1/models")).status == 200
    assert diary == ["old start", "new start", "fails start", "new stop", "old end complete completed"]
    await made.stop()


async def test_new_prices_are_for_new_plugins(up: Up) -> None:
    class Priced(Plugin):
        def __init__(self) -> None:
            self.prices: object = None

        async def start(self, server: Server) -> None:
            self.prices = server.prices

    one: Any = object()
    two: Any = object()
    old, new, newer = Priced(), Priced(), Priced()
    made = App(settings(up.port), Chain([old]), Server(metrics=CollectorRegistry(), prices=one))
    await made.start()
    await made.reload(settings(up.port), Chain([new]), two)
    assert (old.prices, new.prices) == (one, two)
    with pytest.raises(OSError, match="no database"):
        await made.reload(settings(up.port), Chain([Diary("fails", [], "start")]), one)
    await made.reload(settings(up.port), Chain([newer]))
    assert newer.prices is two
    await made.stop()


async def test_its_routes_are_the_new_ones(up: Up) -> None:
    made = app([Who()], up.port)
    await made.start()
    assert b"asked" in (await ask(made, "GET", "/usage", (b"x-user", b"alice"))).body
    await made.reload(settings(up.port), Chain([Who(), Routes()]))
    answered = await ask(made, "GET", "/usage", (b"x-user", b"alice"))
    assert orjson.loads(answered.body) == {"user": "alice", "id": None}
    await made.stop()


async def test_who_was_replaced_a_moment_before_the_stop_is_stopped_too(up: Up) -> None:
    """Its `stop` is where it flushes what it has."""
    diary: list[str] = []
    made = app([Diary("old", diary)], up.port)
    await made.start()
    running = asyncio.ensure_future(ask(made, "GET", "/v1/slow"))
    await until(lambda: up.lines)
    await made.reload(settings(up.port), Chain([Diary("new", diary)]))
    up.go.set()
    await running
    await made.stop()
    assert sorted(diary[-2:]) == ["new stop", "old stop"]


async def test_an_upstream_that_is_still_used_is_not_closed_by_a_later_reload(up: Up) -> None:
    """The running exchange began two configurations ago, with the upstream that the second one kept."""
    diary: list[str] = []
    made = app([], up.port)
    await made.start()
    running = asyncio.ensure_future(ask(made, "GET", "/v1/slow"))
    await until(lambda: up.lines)
    await made.reload(settings(up.port), Chain([Diary("second", diary)]))
    await made.reload(settings(9), Chain([]))
    await until(lambda: "second stop" in diary)
    await asyncio.sleep(0)  # what is closed after it is closed
    up.go.set()
    assert orjson.loads((await running).body) == {"asked": "GET /v1/slow HTTP/1.1"}
    await made.stop()


# -- where a request goes ------------------------------------------------------------------------------


async def test_health_is_ours_and_says_how_the_upstream_was_last(up: Up) -> None:
    made = app(port=up.port)
    await made.start()
    answered = await ask(made, "GET", "/health")
    assert answered.status == 200
    assert answered.headers[b"content-type"] == b"application/json"
    assert set(answered.headers) > OWN
    assert orjson.loads(answered.body)["upstreams"] == {"up": {"last_outcome": None}}
    await ask(made, "GET", "/v1/models")
    assert orjson.loads((await ask(made, "GET", "/health")).body)["upstreams"] == {
        "up": {"last_outcome": "200"}
    }
    assert (await ask(made, "HEAD", "/health")).status == 200
    assert up.lines == ["GET /v1/models HTTP/1.1"]
    await made.stop()


@pytest.mark.parametrize(
    ("method", "path", "asked"),
    [
        ("GET", "/v1/models", "GET /v1/models HTTP/1.1"),
        ("HEAD", "/v1/models", None),
        ("POST", "/models", "POST /v1/models HTTP/1.1"),
        ("OPTIONS", "/models", "OPTIONS /v1/models HTTP/1.1"),
        ("GET", "/models/", "GET /v1/models/ HTTP/1.1"),
        ("GET", "/models/gpt-4o", "GET /v1/models/gpt-4o HTTP/1.1"),
        ("GET", "/modelsx", "GET /v1/modelsx HTTP/1.1"),
        ("OPTIONS", "/v1/chat/completions", "OPTIONS /v1/chat/completions HTTP/1.1"),
        ("POST", "/v1/chat/completions", "POST /v1/chat/completions HTTP/1.1"),
        ("POST", "/anything?a=1", "POST /v1/anything?a=1 HTTP/1.1"),
        ("GET", "/v1/health", "GET /v1/health HTTP/1.1"),
        ("POST", "/health", "POST /v1/health HTTP/1.1"),
        ("GET", "/health/x", "GET /v1/health/x HTTP/1.1"),
        ("DELETE", "/usage", "DELETE /v1/usage HTTP/1.1"),  # the route is a GET
        ("GET", "/v1/usage", "GET /v1/usage HTTP/1.1"),
    ],
)
async def test_everything_else_is_forwarded(up: Up, method: str, path: str, asked: str | None) -> None:
    class OnlyRoutes(Routes):
        requires = ()  # type: ignore[assignment] # fewer than its parent

        async def on_request(self, ex: Exchange) -> Reply | None:
            return None

    made = app([OnlyRoutes()], port=up.port)
    await made.start()
    answered = await ask(made, method, path, body=b"{}" if method == "POST" else None)
    if asked is not None:
        assert orjson.loads(answered.body) == {"asked": asked}
    assert len(up.lines) == 1
    assert not set(answered.headers) & OWN
    await made.stop()


async def test_a_plugins_route_comes_after_auth_with_the_exchange(up: Up) -> None:
    diary: list[str] = []
    made = app([Diary("diary", diary), Who(), Routes()], port=up.port)
    await made.start()
    answered = await ask(made, "GET", "/usage/7", (b"x-user", b"alice"))
    assert orjson.loads(answered.body) == {"user": "alice", "id": "7"}
    assert answered.headers[b"x-weir-request-id"]
    assert diary[-1] == "diary end complete own_endpoint"
    refused = await ask(made, "GET", "/usage")
    assert (refused.status, orjson.loads(refused.body)["error"]["code"]) == (401, "who")
    assert diary[-1] == "diary end rejected who"
    assert up.lines == []
    await made.stop()


async def test_a_route_that_fails_is_our_failure_and_ends(up: Up) -> None:
    diary: list[str] = []
    made = app([Diary("diary", diary), Who(), Routes()], port=up.port)
    await made.start()
    answered = await ask(made, "GET", "/fails", (b"x-user", b"alice"))
    assert answered.status == 500
    assert b"secret" not in answered.body
    assert orjson.loads(answered.body)["error"]["code"] == "internal_error"
    assert diary[-1].startswith("diary end internal_error")
    await made.stop()


@pytest.mark.parametrize("path", ["/usage/../x", "/usage/%00"])
async def test_the_gate_stands_before_our_own_routes_too(path: str, up: Up) -> None:
    made = app([Who(), Routes()], port=up.port)
    await made.start()
    answered = await ask(made, "GET", path, (b"x-user", b"alice"))
    assert answered.status == 400
    assert up.lines == []
    await made.stop()


async def test_no_flight_is_left_behind(up: Up) -> None:
    made = app(port=up.port)
    await made.start()
    for _ in range(3):
        await ask(made, "GET", "/v1/models")
    assert made.setup is not None
    assert len(made.setup.trips) == 0
    await made.stop()


def test_management_routes_are_those_of_all_plugins() -> None:
    chain = Chain([Who(), Routes()])
    assert [getattr(route, "path", None) for route in management_routes(chain)] == ["/keys"]


class Odd(BaseRoute):
    """A route that does not say where it begins."""

    def matches(self, scope: Any) -> tuple[Match, Any]:
        return (Match.FULL if scope["path"].endswith("/odd") else Match.NONE), {}

    async def handle(self, scope: Any, receive: Any, send: Any) -> None:
        await JSONResponse("odd")(scope, receive, send)


async def test_a_route_of_any_kind_is_found(up: Up) -> None:
    class Mounts(Plugin):
        def routes(self) -> Sequence[BaseRoute]:
            async def here(request: Request) -> Response:
                return JSONResponse("here")

            return [Mount("/at", routes=[Route("/{where}", here)]), Odd()]

    made = app([Mounts()], port=up.port)
    await made.start()
    assert (await ask(made, "GET", "/at/x")).body == b'"here"'
    assert (await ask(made, "GET", "/v1/x/odd")).body == b'"odd"'
    assert b"asked" in (await ask(made, "GET", "/v1/x")).body
    await made.stop()


# -- pages in browsers -----------------------------------------------------------------------------------

PAGE = (b"origin", b"https://app.example")
PREFLIGHT = (PAGE, (b"access-control-request-method", b"POST"))
LISTED: dict[str, Any] = {"cors": {"origins": ["https://app.example"]}}


async def test_without_origins_a_preflight_is_forwarded_like_everything_else(up: Up) -> None:
    made = app([Who()], port=up.port)
    await made.start()
    assert (await ask(made, "OPTIONS", "/v1/x", *PREFLIGHT)).status == 401
    answered = await ask(made, "OPTIONS", "/v1/x", *PREFLIGHT, (b"x-user", b"alice"))
    assert orjson.loads(answered.body) == {"asked": "OPTIONS /v1/x HTTP/1.1"}
    assert not [name for name in answered.headers if name.startswith(b"access-control-") or name == b"vary"]
    await made.stop()


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/models", "/health", "/usage"])
async def test_with_origins_it_is_answered_before_anybody_asks_for_a_key(up: Up, path: str) -> None:
    made = app([Who(), Routes()], port=up.port, **LISTED)
    await made.start()
    answered = await ask(made, "OPTIONS", path, *PREFLIGHT)
    assert (answered.status, answered.headers[b"access-control-allow-origin"]) == (204, PAGE[1])
    assert up.lines == []
    await made.stop()


async def test_every_answer_tells_the_page_that_it_may_read_it(up: Up) -> None:
    made = app([Who(), Routes()], port=up.port, **LISTED)
    await made.start()
    for path, headers, status in (
        ("/v1/x", [(b"x-user", b"alice")], 429),
        ("/usage", [(b"x-user", b"alice")], 200),
        ("/models", [(b"x-user", b"alice")], 200),
        ("/v1/x", [], 401),
        ("/v1/../x", [], 400),
        ("/health", [], 200),
    ):
        answered = await ask(made, "GET", path, PAGE, *headers)
        assert (answered.status, answered.headers[b"access-control-allow-origin"]) == (status, PAGE[1])
        if path != "/health":
            assert b"x-weir-request-id" in answered.headers[b"access-control-expose-headers"]
        answered = await ask(made, "GET", path, (b"origin", b"https://evil.example"), *headers)
        assert (answered.status, answered.headers[b"vary"]) == (status, b"origin")
        assert not [name for name in answered.headers if name.startswith(b"access-control-")]
    await made.stop()


async def test_a_reload_turns_it_on_and_off(up: Up) -> None:
    made = app(port=up.port)
    await made.start()
    await made.reload(settings(up.port, **LISTED), Chain([]))
    assert (await ask(made, "OPTIONS", "/v1/x", *PREFLIGHT)).status == 204
    assert (await ask(made, "GET", "/v1/x", PAGE)).headers[b"access-control-allow-origin"] == PAGE[1]
    await made.reload(settings(up.port), Chain([]))
    assert b"asked" in (await ask(made, "OPTIONS", "/v1/x", *PREFLIGHT)).body
    await made.stop()


# -- from a configuration ------------------------------------------------------------------------------


def test_the_built_in_chain_and_a_named_one() -> None:
    assert "auth" in [plugin.name for plugin in compile_chain(settings()).plugins]
    assert compile_chain(settings(plugins=[])).plugins == ()
    with pytest.raises(ConfigError):
        compile_chain(settings(plugins=[PluginSettings(use="nothing-like-it")]))


def test_the_built_in_chain_keeps_a_ledger_where_there_is_a_place_for_it(tmp_path: Path) -> None:
    def names(**settled: Any) -> list[str]:
        return [plugin.name for plugin in compile_chain(settings(**settled)).plugins]

    assert "ledger" not in names()
    for place in ({"state_dir": tmp_path}, {"database": "sqlite:///x.db"}):
        assert names(**place) == ["tracing", "auth", "precost", "ledger", "limiter", "annotate"]
        assert names(**place, plugins=[]) == []


def test_default_models_have_their_place_in_the_chain() -> None:
    with_models = settings(default_models={"images/generations": "dall-e-3"})
    assert [p.name for p in compile_chain(with_models).plugins[:3]] == ["tracing", "auth", "default_models"]
    assert "default_models" not in [plugin.name for plugin in compile_chain(settings()).plugins]


async def test_a_request_without_a_model_gets_one(up: Up) -> None:
    made_of = settings(up.port, default_models={"images/generations": "dall-e-3"})
    made = App(made_of, compile_chain(made_of), Server(metrics=CollectorRegistry()))
    await made.start()
    await ask(made, "POST", "/images/generations", body=b'{"prompt":"x"}')
    await ask(made, "POST", "/v1/images/edits", body=b'{"prompt":"x"}')
    assert up.bodies == [b'{"model":"dall-e-3","prompt":"x"}', b'{"prompt":"x"}']
    await made.stop()


def test_plugins_that_do_not_go_together() -> None:
    with pytest.raises(ChainError, match="identity"):
        compile_chain(settings(plugins=[PluginSettings(use=f"{Routes.__module__}:Routes")]))


KEYS: list[dict[str, Any]] = [{"user": "alice", "key": "weir-12345678"}]


@pytest.mark.parametrize(
    ("host", "with_key", "open_", "keys", "passes"),
    [
        ("127.0.0.1", True, False, [], True),
        ("localhost", True, False, [], True),
        ("::1", True, False, [], True),
        ("0.0.0.0", False, False, [], True),
        ("0.0.0.0", True, True, [], True),
        ("0.0.0.0", True, False, KEYS, True),
        ("0.0.0.0", True, False, [], False),
        ("::", True, False, [], False),
        ("10.0.0.1", True, False, [], False),
        ("weir.test", True, False, [], False),
    ],
)
def test_an_upstreams_key_is_not_for_everybody(
    host: str, with_key: bool, open_: bool, keys: list[dict[str, Any]], passes: bool
) -> None:
    made = settings(listen=Address(host, 3006), allow_open=open_)
    key = SecretStr("sk-upstream") if with_key else None
    made = made.model_copy(update={"upstreams": [made.upstreams[0].model_copy(update={"api_key": key})]})
    chain = compile_chain(
        made.model_copy(update={"plugins": [PluginSettings(use="auth", options={"keys": keys})]})
    )
    if passes:
        check_open(made, chain)
        return
    with pytest.raises(ConfigError) as caught:
        check_open(made, chain)
    [problem] = caught.value.problems
    assert "allow_open" in problem
    assert "sk-upstream" not in problem


def test_this_file_is_where_the_loader_finds_it() -> None:
    assert Path(__file__).stem == Routes.__module__.rpartition(".")[2]
