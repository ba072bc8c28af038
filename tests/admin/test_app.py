from collections.abc import Sequence
from typing import Any

import orjson
import pytest
from prometheus_client import CollectorRegistry, Counter
from pydantic import SecretStr
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from proxy.admin.app import management
from proxy.api import Plugin, Server
from proxy.core.app import App
from proxy.core.chain import Chain
from proxy.core.config import Address, Settings, UpstreamSettings
from tests.core.test_app import Answered, ask

TOKEN = "management-token-1234"
OUTSIDE = Address("0.0.0.0", 3007)
INSIDE = Address("127.0.0.1", 3007)


class Keys(Plugin):
    """Has routes on the management port; ready or not."""

    name = "keys"

    def __init__(self, reason: str | None = None) -> None:
        self.reason = reason
        self.calls: list[str] = []

    def ready(self) -> str | None:
        return self.reason

    def management_routes(self) -> Sequence[BaseRoute]:
        async def answer(request: Request) -> Response:
            self.calls.append(f"{request.method} {request.url.path}")
            return JSONResponse({"id": request.path_params.get("id")})

        return [
            Route("/keys", answer, methods=["GET", "POST"]),
            Route("/keys/{id}", answer),
            Route("/metrics/keys", answer),
            Route("/healthz/{id}", answer),
        ]


def app(*plugins: Plugin, token: str | None = None, address: Address = INSIDE) -> App:
    upstream = UpstreamSettings(name="up", base_url="http://127.0.0.1:9/v1")
    settings = Settings.model_validate(
        {
            "upstreams": [upstream],
            "management": address,
            "management_token": None if token is None else SecretStr(token),
        }
    )
    return App(settings, Chain(plugins), Server(metrics=CollectorRegistry()))


def bearer(token: str) -> tuple[bytes, bytes]:
    return b"authorization", b"Bearer " + token.encode()


def is_refused(answered: Answered) -> None:
    assert answered.status == 401
    assert orjson.loads(answered.body)["error"]["code"] == "invalid_management_token"
    assert answered.headers[b"x-should-retry"] == b"false"
    assert TOKEN.encode() not in answered.body


# -- probes --------------------------------------------------------------------------------------------


async def test_it_lives_before_it_has_started() -> None:
    port = management(app())
    answered = await ask(port, "GET", "/healthz")
    assert (answered.status, orjson.loads(answered.body)) == (200, {"status": "ok"})
    assert (await ask(port, "GET", "/startupz")).status == 503
    unready = await ask(port, "GET", "/readyz")
    assert (unready.status, orjson.loads(unready.body)["reasons"]) == (503, ["starting"])


async def test_it_is_ready_while_everything_is_there() -> None:
    plugin = Keys()
    made = app(plugin)
    port = management(made)
    await made.start()
    for path in ("/healthz", "/startupz", "/readyz"):
        assert (await ask(port, "GET", path)).status == 200
        assert (await ask(port, "HEAD", path)).status == 200
    plugin.reason = "the database does not answer"
    unready = await ask(port, "GET", "/readyz")
    assert unready.status == 503
    assert orjson.loads(unready.body) == {
        "status": "not ready",
        "reasons": ["keys: the database does not answer"],
    }
    assert (await ask(port, "GET", "/healthz")).status == 200
    plugin.reason = None
    made.health.draining = True
    assert orjson.loads((await ask(port, "GET", "/readyz")).body)["reasons"] == ["shutting down"]
    assert (await ask(port, "GET", "/startupz")).status == 200
    await made.stop()


async def test_metrics_are_those_of_the_registry() -> None:
    made = app()
    Counter("weir_tests", "A count.", registry=made.server.metrics).inc(3)
    answered = await ask(management(made), "GET", "/metrics")
    assert answered.status == 200
    assert answered.headers[b"content-type"].startswith(b"text/plain")
    assert b"weir_tests_total 3.0" in answered.body


@pytest.mark.parametrize("path", ["/", "/nothing", "/v1/models"])
async def test_there_is_nothing_else(path: str) -> None:
    made = app()
    await made.start()
    assert (await ask(management(made), "GET", path)).status == 404
    await made.stop()


# -- what plugins add ----------------------------------------------------------------------------------


async def test_plugins_routes_are_served() -> None:
    plugin = Keys()
    made = app(plugin)
    await made.start()
    port = management(made)
    assert orjson.loads((await ask(port, "GET", "/keys/7")).body) == {"id": "7"}
    assert (await ask(port, "POST", "/keys", body=b"{}")).status == 200
    assert plugin.calls == ["GET /keys/7", "POST /keys"]
    assert (await ask(port, "DELETE", "/keys")).status == 405
    await made.stop()


# -- the guard -----------------------------------------------------------------------------------------

GUARDED = [
    "/keys",
    "/keys/7",
    "/nothing",
    "/metrics/keys",
    "/healthz/7",
    "/healthz/",
    "//healthz",
    "/HEALTHZ",
]
OPEN = ["/healthz", "/readyz", "/startupz", "/metrics"]


@pytest.mark.parametrize("address", [INSIDE, OUTSIDE])
async def test_with_a_token_all_but_health_and_metrics_need_it(address: Address) -> None:
    plugin = Keys()
    made = app(plugin, token=TOKEN, address=address)
    await made.start()
    port = management(made)
    for path in OPEN:
        assert (await ask(port, "GET", path)).status == 200
    for path in GUARDED:
        is_refused(await ask(port, "GET", path))
    assert plugin.calls == []
    assert (await ask(port, "GET", "/keys", bearer(TOKEN))).status == 200
    assert (await ask(port, "GET", "/nothing", bearer(TOKEN))).status == 404
    await made.stop()


@pytest.mark.parametrize(
    "headers",
    [
        [bearer("wrong")],
        [bearer("")],
        [bearer(TOKEN + "x")],
        [bearer(TOKEN[:-1])],
        [(b"authorization", b"")],
        [(b"authorization", b"Basic " + TOKEN.encode())],
        [bearer(TOKEN), bearer(TOKEN)],
        [bearer("wrong"), bearer(TOKEN)],
        [(b"x-authorization", b"Bearer " + TOKEN.encode())],
        [(b"authorization", b"Bearer Bearer " + TOKEN.encode())],
        [(b"authorization", b"Bearer \xff")],
    ],
)
async def test_a_token_that_is_not_the_one(headers: list[tuple[bytes, bytes]]) -> None:
    made = app(Keys(), token=TOKEN)
    await made.start()
    is_refused(await ask(management(made), "GET", "/keys", *headers))
    await made.stop()


async def test_the_scheme_is_written_in_any_case() -> None:
    """RFC 9110, 11.1: the name of a scheme is case-insensitive."""
    made = app(Keys(), token=TOKEN)
    await made.start()
    answered = await ask(management(made), "GET", "/keys", (b"authorization", b"bearer " + TOKEN.encode()))
    assert answered.status == 200
    await made.stop()


async def test_without_a_token_an_outside_port_has_health_and_metrics_alone() -> None:
    plugin = Keys()
    made = app(plugin, address=OUTSIDE)
    await made.start()
    port = management(made)
    for path in OPEN:
        assert (await ask(port, "GET", path)).status == 200
    for path in GUARDED:
        is_refused(await ask(port, "GET", path))
        is_refused(await ask(port, "GET", path, bearer("")))
        is_refused(await ask(port, "GET", path, bearer("anything")))
    assert plugin.calls == []
    await made.stop()


async def test_without_one_loopback_has_everything() -> None:
    made = app(Keys(), address=INSIDE)
    await made.start()
    assert (await ask(management(made), "GET", "/keys")).status == 200
    await made.stop()


@pytest.mark.parametrize(
    "host",
    [
        b"localhost",
        b"localhost:3007",
        b"LOCALHOST",
        b"weir.localhost:80",
        b"127.0.0.1:3007",
        b"127.9.9.9",
        b"[::1]:1",
    ],
)
async def test_without_one_it_answers_to_the_names_of_this_machine(host: bytes) -> None:
    made = app(Keys(), address=INSIDE)
    await made.start()
    assert (await ask(management(made), "GET", "/keys", (b"host", host))).status == 200
    await made.stop()


@pytest.mark.parametrize(
    "header",
    [
        (b"host", b"evil.example:3007"),
        (b"host", b"localhost.evil.example"),
        (b"host", b"127.0.0.1.evil.example"),
        (b"host", b"192.0.2.1"),
        (b"host", b""),
        (b"host", b"[::1"[:1]),
        (b"origin", b"https://evil.example"),
        (b"origin", b"null"),
    ],
)
async def test_without_one_it_is_for_no_page_in_a_browser(header: tuple[bytes, bytes]) -> None:
    """A page of a name that was made to lead here reads what it gets: only the name tells that it is one."""
    plugin = Keys()
    made = app(plugin, address=INSIDE)
    await made.start()
    port = management(made)
    for path in ("/keys", "/inflight", "/openapi.json", "/nothing"):
        answered = await ask(port, "GET", path, header)
        assert (answered.status, orjson.loads(answered.body)["error"]["code"]) == (403, "origin_not_allowed")
    assert (await ask(port, "GET", "/healthz", header)).status == 200
    assert plugin.calls == []
    await made.stop()
    made = app(plugin, address=INSIDE, token=TOKEN)
    await made.start()
    assert (await ask(management(made), "GET", "/keys", header, bearer(TOKEN))).status == 200
    await made.stop()


async def test_other_methods_are_guarded_too() -> None:
    plugin = Keys()
    made = app(plugin, token=TOKEN)
    await made.start()
    for method in ("POST", "DELETE", "PUT", "OPTIONS", "HEAD"):
        is_refused_head: Any = await ask(management(made), method, "/keys")
        assert is_refused_head.status == 401
    assert plugin.calls == []
    await made.stop()
