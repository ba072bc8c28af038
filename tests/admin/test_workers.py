"""The management port of several workers: real ones behind it, or ones that misbehave on purpose."""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, suppress
from typing import Any

import orjson
import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge
from pydantic import SecretStr
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from proxy.admin import workers as module
from proxy.admin.workers import PEER, Front
from proxy.api import Plugin, Server
from proxy.core.app import App
from proxy.core.chain import Chain
from proxy.core.config import Settings, UpstreamSettings
from proxy.core.server.worker import Door
from tests.core.test_app import ask

TOKEN = "management-token-1234"
BEARER = (b"authorization", b"Bearer " + TOKEN.encode())
Serve = Callable[[socket.socket], Awaitable[None]]


class Routes(Plugin):
    name = "routes"

    def __init__(self) -> None:
        self.reason: str | None = None

    def ready(self) -> str | None:
        return self.reason

    def management_routes(self) -> list[Route]:
        async def echo(request: Request) -> Response:
            body = await request.body()
            return Response(body, 201, {"x-query": request.url.query, "x-size": str(len(body))})

        async def forbidden(_: Request) -> Response:
            return JSONResponse({"no": 1}, 403)

        async def who(request: Request) -> Response:
            seen = [value for name, value in request.headers.items() if name == PEER.decode()]
            return JSONResponse([request.client and request.client.host, *seen])

        return [
            Route("/echo", echo, methods=["PUT", "POST"]),
            Route("/no", forbidden),
            Route("/who", who),
        ]


class Real:
    """A worker's app in this process."""

    def __init__(self, *, token: bool = False) -> None:
        self.plugin = Routes()
        named = {
            "upstreams": [UpstreamSettings(name="up", base_url="http://127.0.0.1:9/v1")],
            "management_token": SecretStr(TOKEN) if token else None,
        }
        self.app = App(
            Settings.model_validate(named), Chain([self.plugin]), Server(metrics=CollectorRegistry())
        )
        self.counter = Counter("weir_tests", "A count.", registry=self.app.server.metrics)
        self.gauge = Gauge("weir_level", "A level.", registry=self.app.server.metrics)
        self.door = Door(self.app)

    async def serve(self, sock: socket.socket) -> None:
        self.door.serve(sock)


class Fakes:
    """What the front asks for; workers that have no `serve` are absent."""

    def __init__(self) -> None:
        self.serves: dict[int, Serve] = {}
        self.absent: Mapping[int, str] = {}
        self.started = True
        self.stopping = False
        self.metrics = CollectorRegistry()
        self._tasks: set[asyncio.Future[None]] = set()

    @property
    def serving(self) -> list[int]:
        return list(self.serves)

    async def connect(self, number: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        ours, theirs = socket.socketpair()
        theirs.setblocking(False)
        self._tasks.add(asyncio.ensure_future(self.serves[number](theirs)))
        return await asyncio.open_unix_connection(sock=ours)

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


@pytest.fixture
async def fakes() -> AsyncIterator[Fakes]:
    made = Fakes()
    yield made
    await made.close()


async def silent(sock: socket.socket) -> None:
    with sock, suppress(asyncio.CancelledError):
        await asyncio.Event().wait()


def says(data: bytes) -> Serve:
    async def serve(sock: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        with sock:
            await loop.sock_recv(sock, 65536)
            await loop.sock_sendall(sock, data)

    return serve


async def two(fakes: Fakes, stack: AsyncExitStack, **options: Any) -> tuple[Real, Real]:
    pair = Real(**options), Real(**options)
    for number, real in enumerate(pair, 1):
        await real.app.start()
        stack.push_async_callback(real.app.stop)
        fakes.serves[number] = real.serve
    return pair


async def loaded(front: Front, path: str, *headers: tuple[bytes, bytes]) -> tuple[int, Any]:
    found = await ask(front, "GET", path, *headers)
    return found.status, orjson.loads(found.body)


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PATIENCE", 0.3)
    monkeypatch.setattr(module, "IDLE", 0.3)


async def test_all_are_well(fakes: Fakes) -> None:
    async with AsyncExitStack() as stack:
        await two(fakes, stack)
        front = Front(fakes)
        for path in ("/healthz", "/readyz", "/startupz"):
            assert await loaded(front, path) == (200, {"status": "ok"})
        head = await ask(front, "HEAD", "/readyz")
        assert head.status == 200
        assert head.headers[b"x-content-type-options"] == b"nosniff"
        assert (await ask(front, "POST", "/readyz", body=b"")).status == 405


async def test_it_is_ready_when_every_one_is(fakes: Fakes) -> None:
    async with AsyncExitStack() as stack:
        _, other = await two(fakes, stack)
        front = Front(fakes)
        other.plugin.reason = "the database does not answer"
        fakes.absent = {3: "starting"}
        fakes.serves[4] = silent
        status, told = await loaded(front, "/readyz")
        assert (status, told["status"]) == (503, "not ready")
        assert told["reasons"] == [
            "worker 3: starting",
            "worker 2: routes: the database does not answer",
            "worker 4: does not answer",
        ]
        fakes.started = False
        assert await loaded(front, "/startupz") == (503, {"status": "starting"})


async def test_while_it_stops_that_is_all_there_is_to_say(fakes: Fakes) -> None:
    async with AsyncExitStack() as stack:
        for real in await two(fakes, stack):
            real.app.health.draining = True
        fakes.stopping = True
        assert await loaded(Front(fakes), "/readyz") == (
            503,
            {"status": "not ready", "reasons": ["shutting down"]},
        )
        assert (await loaded(Front(fakes), "/healthz"))[0] == 200


async def test_one_that_does_not_answer_is_not_alive_and_one_that_is_not_there_is_looked_after(
    fakes: Fakes,
) -> None:
    async with AsyncExitStack() as stack:
        await two(fakes, stack)
        front = Front(fakes)
        fakes.absent = {3: "ended"}
        assert (await loaded(front, "/healthz"))[0] == 200
        fakes.serves[4] = silent
        assert await loaded(front, "/healthz") == (
            503,
            {"status": "not alive", "reasons": ["worker 4: does not answer"]},
        )


async def test_metrics_are_added_up_and_wait_for_nobody(fakes: Fakes) -> None:
    async with AsyncExitStack() as stack:
        one, other = await two(fakes, stack)
        one.counter.inc(2)
        other.counter.inc(3)
        other.gauge.set(7)
        Counter("weir_own", "Of the parent.", registry=fakes.metrics).inc()
        front = Front(fakes)
        text = (await ask(front, "GET", "/metrics")).body.decode()
        assert "weir_tests_total 5.0\n" in text
        assert 'weir_level{worker="2"} 7.0\n' in text
        assert "weir_own_total 1.0\n" in text
        fakes.serves[2] = silent
        one.counter.inc()
        text = (await asyncio.wait_for(ask(front, "GET", "/metrics"), 2)).body.decode()
        assert "weir_tests_total 6.0\n" in text
        assert 'weir_level{worker="2"}' not in text
        front.ended(2)
        del fakes.serves[2]
        assert "weir_tests_total 6.0\n" in (await ask(front, "GET", "/metrics")).body.decode()


async def test_metrics_that_cannot_be_read_are_left_out(
    fakes: Fakes, caplog: pytest.LogCaptureFixture
) -> None:
    fakes.serves[1] = says(b"HTTP/1.1 200 OK\r\n\r\nnot metrics")
    assert (await ask(Front(fakes), "GET", "/metrics")).status == 200
    assert "metrics not read" in caplog.text


async def test_routes_of_plugins_are_those_of_the_first(fakes: Fakes) -> None:
    async with AsyncExitStack() as stack:
        await two(fakes, stack)
        front = Front(fakes)
        found = await ask(front, "PUT", "/echo?a=%20b", (b"x-own", b"1"), body=b"y" * 300_000)
        assert found.status == 201
        assert found.body == b"y" * 300_000
        assert (found.headers[b"x-query"], found.headers[b"x-size"]) == (b"a=%20b", b"300000")
        assert (await ask(front, "GET", "/no")).status == 403
        assert (await ask(front, "GET", "/nothing")).status == 404
        assert b"connection" not in found.headers
        fakes.serves = {2: fakes.serves[2]}
        assert (await ask(front, "GET", "/no")).status == 403


async def test_the_token_is_asked_for(fakes: Fakes) -> None:
    async with AsyncExitStack() as stack:
        await two(fakes, stack, token=True)
        front = Front(fakes)
        for path in ("/inflight", "/no", "/openapi.json"):
            status, told = await loaded(front, path)
            assert (status, told["error"]["code"]) == (401, "invalid_management_token")
        assert (await loaded(front, "/inflight", BEARER))[1]["total"] == 0
        assert (await ask(front, "GET", "/no", BEARER)).status == 403
        assert (await ask(front, "GET", "/metrics")).status == 200


@pytest.mark.parametrize("header", [(b"host", b"evil.example"), (b"origin", b"https://evil.example")])
async def test_without_a_token_it_is_for_no_page_in_a_browser(
    fakes: Fakes, header: tuple[bytes, bytes]
) -> None:
    async with AsyncExitStack() as stack:
        await two(fakes, stack)
        front = Front(fakes)
        for path in ("/inflight", "/echo", "/openapi.json"):
            status, told = await loaded(front, path, header)
            assert (status, told["error"]["code"]) == (403, "origin_not_allowed")
        assert (await ask(front, "GET", "/metrics", header)).status == 200


async def test_a_worker_sees_who_asks(fakes: Fakes) -> None:
    """The audit log names them; nobody can say to be somebody else."""
    async with AsyncExitStack() as stack:
        await two(fakes, stack)
        for made_up in ([], [(PEER, b"203.0.113.9")]):
            assert await loaded(Front(fakes), "/who", *made_up) == (200, ["192.0.2.1"])


async def test_what_is_in_flight_is_put_together_oldest_first(
    fakes: Fakes, monkeypatch: pytest.MonkeyPatch
) -> None:
    def page(*ages: float) -> Serve:
        requests = [{"id": str(age), "age": age} for age in ages]
        body = orjson.dumps({"object": "weir.in_flight", "total": 10, "requests": requests})
        return says(b"HTTP/1.1 200 OK\r\n\r\n" + body)

    monkeypatch.setattr(module, "LIMIT", 3)
    fakes.serves = {1: page(5, 1), 2: page(7, 2), 3: silent}
    status, told = await loaded(Front(fakes), "/inflight")
    assert status == 200
    assert told == {
        "object": "weir.in_flight",
        "total": 20,
        "requests": [
            {"id": "7", "age": 7, "worker": 2},
            {"id": "5", "age": 5, "worker": 1},
            {"id": "2", "age": 2, "worker": 2},
        ],
        "silent": [3],
    }


@pytest.mark.parametrize(
    "serve",
    [silent, says(b""), says(b"HTTP/1.1 200 OK\r\ncontent-"), says(b"what\r\n\r\n"), says(b"x" * 200_000)],
    ids=["silent", "gone", "cut", "odd", "endless"],
)
async def test_a_worker_that_answers_wrongly_is_a_503(fakes: Fakes, serve: Serve) -> None:
    fakes.serves[1] = serve
    status, told = await loaded(Front(fakes), "/echo")
    assert (status, told["error"]["code"]) == (503, "no_worker")
    assert (await loaded(Front(fakes), "/healthz"))[0] == 503


async def test_without_any_worker_it_says_so(fakes: Fakes) -> None:
    status, told = await loaded(Front(fakes), "/echo")
    assert (status, told["error"]["code"]) == (503, "no_worker")
    assert (await loaded(Front(fakes), "/inflight"))[1]["requests"] == []


async def test_a_body_without_end_is_refused(fakes: Fakes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BODY", 1000)
    async with AsyncExitStack() as stack:
        await two(fakes, stack)
        found = await ask(Front(fakes), "PUT", "/echo", body=b"x" * 1001)
        assert (found.status, orjson.loads(found.body)["error"]["code"]) == (413, "request_too_large")
        assert (await ask(Front(fakes), "PUT", "/echo", body=b"x" * 1000)).status == 201


async def test_an_answer_that_stops_in_the_middle_does_not_end_as_if_it_were_whole(fakes: Fakes) -> None:
    async def half(sock: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        with sock, suppress(asyncio.CancelledError):
            await loop.sock_recv(sock, 65536)
            await loop.sock_sendall(sock, b"HTTP/1.1 200 OK\r\n\r\nhalf")
            await asyncio.Event().wait()

    fakes.serves[1] = half
    with pytest.raises(TimeoutError):
        await ask(Front(fakes), "GET", "/echo")


async def test_who_leaves_during_a_long_answer_ends_it_in_the_worker(fakes: Fakes) -> None:
    left = asyncio.Event()

    async def endless(sock: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        with sock, suppress(asyncio.CancelledError):
            await loop.sock_recv(sock, 65536)
            await loop.sock_sendall(sock, b"HTTP/1.1 200 OK\r\n\r\n")
            with suppress(ConnectionError):
                while True:
                    await loop.sock_sendall(sock, b"row\n")
                    await asyncio.sleep(0.01)
            left.set()

    fakes.serves[1] = endless
    rows = 0
    gone = asyncio.Event()
    messages: list[dict[str, Any]] = [{"type": "http.request", "body": b"", "more_body": False}]

    async def receive() -> dict[str, Any]:
        if messages:
            return messages.pop()
        await gone.wait()
        return {"type": "http.disconnect"}

    async def send(message: dict[str, Any]) -> None:
        nonlocal rows
        rows += message.get("body", b"").count(b"\n")
        if rows >= 3:
            gone.set()

    path = {"path": "/rows", "raw_path": b"/rows", "query_string": b""}
    scope = {"type": "http", "method": "GET", **path, "headers": [(b"host", b"localhost")], "client": None}
    async with asyncio.timeout(10):
        await Front(fakes)(scope, receive, send)
        await left.wait()
