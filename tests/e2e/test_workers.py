"""Several workers on one port: what they share, what becomes of one that dies, and how all come to an end."""

import asyncio
import os
import re
import signal
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Self

import orjson
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.faults.client import RawClient, chat, get, post
from tests.faults.framing import RawResponse
from tests.faults.process import Process
from tests.faults.upstream import Conn, RawUpstream, answer, chunk, event, last_chunk, ok_json, sse_head
from tests.faults.wire import until
from tests.ports import free_ports

from .command import Command, run

pytestmark = pytest.mark.slow

OK = ok_json(b'{"ok":true}')
ONE, TWO, DONE = event({"n": 1}), event({"n": 2}), event("[DONE]")
MINE = '''
import os, time
from pathlib import Path

from prometheus_client import Counter, Gauge
from starlette.responses import JSONResponse
from starlette.routing import Route

from proxy.api import Plugin


class Mine(Plugin):
    """Says which process it is in, counts, and does on request what no plugin should."""

    def __init__(self, word="old", broken=None):
        self.word = word
        self.broken = broken

    async def start(self, server):
        if self.broken is not None and Path(self.broken).exists():
            raise OSError(f"{self.broken} is in the way")
        self.server = server
        self.counter = Counter("mine_requests", "Requests.", registry=server.metrics)
        self.gauge = Gauge("mine_pid", "The process.", registry=server.metrics)
        self.gauge.set(os.getpid())

    def adopt(self, previous):
        previous.server.metrics.unregister(previous.counter)
        previous.server.metrics.unregister(previous.gauge)

    async def on_request(self, ex):
        self.counter.inc()
        if "x-hang" in ex.request.headers:
            time.sleep(float(ex.request.headers["x-hang"]))

    async def on_response(self, ex):
        ex.response.headers["x-pid"] = str(os.getpid())
        ex.response.headers["x-word"] = self.word

    def management_routes(self):
        async def mine(request):
            body = (await request.body()).decode()
            return JSONResponse(
                {"workers": self.server.workers, "method": request.method, "body": body,
                 "query": str(request.url.query)},
                201,
            )

        return [Route("/mine/{rest:path}", mine, methods=["GET", "POST"])]
'''


class Weir(Process):
    """Entered once all of its workers serve."""

    async def __aenter__(self) -> Self:
        await super().__aenter__()
        try:
            await self.logged(10, event="listening")
        except BaseException as error:
            await super().__aexit__(type(error), error, None)
            raise
        return self


@pytest.fixture
def made(tmp_path: Path) -> Callable[..., Process]:
    """Makes a Weir with two workers and the plugin above."""
    folder = tmp_path / "plugins"
    folder.mkdir()
    (folder / "mine.py").write_text(MINE)

    def make(base_url: str | None = "http://127.0.0.1:9/v1", **config: Any) -> Process:
        arguments = config.pop("arguments", ())
        env = {"PYTHONPATH": str(folder), **config.pop("env", {})}
        own: dict[str, Any] = {"workers": 2, "plugins": ["mine:Mine", "auth"]}
        return Weir(base_url, config=own | config, env=env, arguments=arguments)

    return make


def parent_of(pid: int) -> int:
    """Of a running process; 0 when it is gone or waits to be reaped."""
    with suppress(OSError):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return 0 if fields[0] == "Z" else int(fields[1])
    return 0


def children(pid: int) -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit() and parent_of(int(name)) == pid]


def family(weir: Process) -> tuple[int, list[int]]:
    """The fork server, and the workers."""
    (fork_server,) = children(weir.pid)
    return fork_server, children(fork_server)


async def ready(weir: Process, within: float = 10.0) -> None:
    async with asyncio.timeout(within):
        while (await weir.get("/readyz", management=True)).status != 200:
            await asyncio.sleep(0.02)


async def reasons(weir: Process) -> list[str]:
    answered = await weir.get("/readyz", management=True)
    return list(orjson.loads(answered.body).get("reasons", []))


async def metric(weir: Process, name: str, **labels: str) -> float | None:
    text = (await weir.get("/metrics", management=True)).body.decode()
    for found in text_string_to_metric_families(text):
        for sample in found.samples:
            if sample.name == name and sample.labels == labels:
                return sample.value
    return None


def header(answered: RawResponse, name: bytes) -> str:
    return dict(answered.headers)[name].decode()


async def both(weir: Process, stack: AsyncExitStack) -> dict[int, RawClient]:
    """A connection to each worker, by its process id."""
    found: dict[int, RawClient] = {}
    wanted = set(family(weir)[1])
    async with asyncio.timeout(20):
        while set(found) != wanted:
            # All at once, or whoever is awake takes one after the other.
            clients = [await stack.enter_async_context(weir.client()) for _ in range(8)]
            answers = await asyncio.gather(*(client.ask(chat()) for client in clients))
            for client, answered in zip(clients, answers, strict=True):
                found.setdefault(int(header(answered, b"x-pid")), client)
    return found


@asynccontextmanager
async def streams(
    weir: Process, up: RawUpstream, clients: dict[int, RawClient]
) -> AsyncIterator[dict[int, tuple[RawClient, Conn]]]:
    """A stream that has begun in each worker."""
    found = {}
    for pid, client in clients.items():
        await client.send(chat(stream=True))
        conn = await up.accept()
        await conn.request()
        await conn.send(sse_head() + chunk(ONE))
        assert await client.read_events(1) == [ONE]
        found[pid] = (client, conn)
    yield found


async def to_each(weir: Process, up: RawUpstream, stack: AsyncExitStack) -> dict[int, RawClient]:
    """As `both`, with an upstream that is played by hand."""
    player = asyncio.create_task(_answers(up))
    try:
        return await both(weir, stack)
    finally:
        player.cancel()
        with suppress(asyncio.CancelledError):
            await player


async def _answers(up: RawUpstream) -> None:
    """Answer everybody once, and end the connection, so that what comes next comes on a new one."""
    while True:
        conn = await up.accept(60)
        await conn.request()
        await conn.send(OK.replace(b"content-type", b"connection: close\r\ncontent-type"))
        conn.close()


async def finish(client: RawClient, conn: Conn) -> None:
    """The rest of a stream, which comes through whole."""
    await conn.send(chunk(TWO) + chunk(DONE) + last_chunk)
    assert await client.read_events(2) == [TWO, DONE]
    assert (await client.response()).ended == "chunked"
    conn.close()


# -- what they share -----------------------------------------------------------------------------------


async def test_both_serve_and_their_figures_add_up(made: Callable[..., Process]) -> None:
    async with RawUpstream(answer(OK)) as up, made(up.base_url) as weir, AsyncExitStack() as stack:
        clients = await both(weir, stack)
        assert len(clients) == 2
        before = await metric(weir, "mine_requests_total")
        ids = set()
        for client in clients.values():
            for _ in range(3):
                ids.add(header(await client.ask(chat()), b"x-weir-request-id"))
        assert before is not None
        assert await metric(weir, "mine_requests_total") == before + 6
        assert len(ids) == 6  # what makes them differ must not have been made before the fork
        assert len({id_[:16] for id_ in ids}) == 2
        assert {await metric(weir, "mine_pid", worker=number) for number in "12"} == set(clients)
        assert await metric(weir, "weir_worker_up", worker="2") == 1
        for path in ("/healthz", "/readyz", "/startupz"):
            answered = await weir.get(path, management=True)
            assert (answered.status, answered.json()) == (200, {"status": "ok"})
        ended = [line for line in weir.logs if line["event"] == "request"]
        assert {line["worker"] for line in ended} == {1, 2}
        listening = [line for line in weir.logs if line["event"] == "listening"]
        assert [line["workers"] for line in listening] == [2]


@pytest.mark.parametrize("where", ["command line", "environment"])
async def test_how_many_can_be_said_elsewhere(made: Callable[..., Process], where: str) -> None:
    ways: dict[str, dict[str, Any]] = {
        "command line": {"arguments": ("--workers", "3"), "env": {"WEIR_WORKERS": "2"}},
        "environment": {"env": {"WEIR_WORKERS": "3"}},
    }
    how = ways[where]
    async with made(**how) as weir:
        assert len(family(weir)[1]) == 3


async def test_one_worker_is_one_process(made: Callable[..., Process]) -> None:
    async with made(workers=1) as weir:
        assert children(weir.pid) == []
        assert "worker" not in weir.logs[0]


async def test_routes_of_plugins_on_the_management_port_are_one_workers(made: Callable[..., Process]) -> None:
    async with made(management_token="t0ken-of-management") as weir, RawClient(weir.management) as client:
        assert (await client.ask(get("/mine/a"))).status == 401
        assert (await client.ask(get("/inflight"))).status == 401
        assert (await client.ask(get("/openapi.json"))).status == 401
        bearer = [("authorization", "Bearer t0ken-of-management")]
        answered = await client.ask(post("/mine/a?b=%20c", b"x" * 100_000, bearer))
        assert answered.status == 201
        assert answered.json() == {
            "workers": 2,
            "method": "POST",
            "body": "x" * 100_000,
            "query": "b=%20c",
        }
        document = (await client.ask(get("/openapi.json", bearer))).json()
        assert "/mine/{rest}" in document["paths"]
        assert (await client.ask(get("/nothing", bearer))).status == 404
        assert (await client.ask(get("/inflight", bearer))).json()["total"] == 0
        await client.send(
            b"HEAD /mine/a HTTP/1.1\r\nhost: x\r\nauthorization: Bearer t0ken-of-management\r\n\r\n"
        )
        head = await client.response(bodyless=True)
        assert head.status == 201


async def test_what_is_in_flight_is_that_of_all(made: Callable[..., Process]) -> None:
    async with RawUpstream() as up, made(up.base_url) as weir, AsyncExitStack() as stack:
        clients = await to_each(weir, up, stack)
        async with streams(weir, up, clients) as running:
            page = (await weir.get("/inflight", management=True)).json()
            assert page["total"] == 2
            assert {one["worker"] for one in page["requests"]} == {1, 2}
            assert [one["age"] for one in page["requests"]] == sorted(
                (one["age"] for one in page["requests"]), reverse=True
            )
            for client, conn in running.values():
                await finish(client, conn)
        assert (await weir.get("/inflight", management=True)).json()["total"] == 0


# -- one that dies -------------------------------------------------------------------------------------


@pytest.mark.fault("F9")
async def test_one_that_is_killed_is_replaced_and_the_others_streams_go_on(
    made: Callable[..., Process],
) -> None:
    async with RawUpstream() as up, made(up.base_url) as weir, AsyncExitStack() as stack:
        clients = await to_each(weir, up, stack)
        counted = await metric(weir, "mine_requests_total")
        async with streams(weir, up, clients) as running:
            (victim, (broken, _)), (other, (client, conn)) = running.items()
            os.kill(victim, signal.SIGKILL)
            assert (await broken.response()).ended in ("truncated", "reset")
            line = await weir.logged(event="worker ended", pid=victim, signal=9)
            assert line["again_in"] == 0.1
            await ready(weir)
            assert other in family(weir)[1]
            assert len(family(weir)[1]) == 2
            assert len([one for one in weir.logs if one["event"] == "worker ended"]) == 1
            number = str(line["of_worker"])
            assert await metric(weir, "weir_worker_restarts_total", worker=number) == 1
            assert counted is not None
            now = await metric(weir, "mine_requests_total")
            assert now is not None
            assert now >= counted
            await finish(client, conn)
        # The new one serves too.
        assert set(await to_each(weir, up, stack)) == set(family(weir)[1])


async def test_one_that_cannot_start_again_is_tried_less_and_less_often(
    made: Callable[..., Process], tmp_path: Path
) -> None:
    broken = tmp_path / "broken"
    plugins = [{"use": "mine:Mine", "broken": str(broken)}, "auth"]
    async with made(plugins=plugins) as weir:
        _, (victim, other) = family(weir)
        broken.touch()
        os.kill(victim, signal.SIGKILL)
        await until(lambda: len(_ends(weir)) >= 4)
        assert [line["again_in"] for line in _ends(weir)][:4] == [0.1, 0.2, 0.4, 0.8]
        assert f"a plugin could not start: OSError: {broken} is in the way" in _ends(weir)[1]["problem"]
        (reason,) = await reasons(weir)
        assert re.fullmatch(r"worker \d: (ended \d times in a row, starts again in .* s|starting)", reason)
        assert (await weir.get("/healthz", management=True)).status == 200
        assert (await weir.get("/startupz", management=True)).status == 200
        assert (await weir.get("/health")).status == 200
        assert family(weir)[1] == [other]
        broken.unlink()
        await ready(weir)
        assert other in family(weir)[1]


def _ends(weir: Process) -> list[dict[str, Any]]:
    return [line for line in weir.logs if line["event"] == "worker ended"]


@pytest.mark.fault("F10")
async def test_one_that_hangs_is_told_of_and_holds_nobody_up(made: Callable[..., Process]) -> None:
    async with RawUpstream(answer(OK)) as up, made(up.base_url) as weir, AsyncExitStack() as stack:
        clients = await both(weir, stack)
        before = await metric(weir, "mine_requests_total")
        stuck, _ = clients
        await clients[stuck].send(chat([("x-hang", "4")]))
        await asyncio.sleep(0.2)
        start = time.monotonic()
        metrics, alive, why = await asyncio.gather(
            metric(weir, "mine_requests_total"), weir.get("/healthz", management=True), reasons(weir)
        )
        assert time.monotonic() - start < 5
        assert metrics == before
        assert alive.status == 503
        assert [one.partition(": ")[2] for one in why] == ["does not answer"]
        answered = await clients[stuck].response(timeout=15)
        assert answered.status == 200
        await ready(weir)


async def test_sigterm_to_one_drains_it_and_another_takes_its_place(made: Callable[..., Process]) -> None:
    async with RawUpstream() as up, made(up.base_url) as weir, AsyncExitStack() as stack:
        clients = await to_each(weir, up, stack)
        async with streams(weir, up, clients) as running:
            old, (client, conn) = next(iter(running.items()))
            os.kill(old, signal.SIGTERM)
            await weir.logged(event="shutting down")
            await finish(client, conn)
            line = await weir.logged(event="worker ended", pid=old)
            assert (line["level"], line["status"]) == ("warning", 0)
            await ready(weir)
            assert len(family(weir)[1]) == 2
            for pid, (other, its) in running.items():
                if pid != old:
                    await finish(other, its)


# -- the end -------------------------------------------------------------------------------------------


async def test_sigterm_drains_all(made: Callable[..., Process]) -> None:
    async with RawUpstream() as up, made(up.base_url) as weir, AsyncExitStack() as stack:
        clients = await to_each(weir, up, stack)
        everybody = [*family(weir)[1], family(weir)[0], weir.pid]
        async with streams(weir, up, clients) as running:
            weir.signal(signal.SIGTERM)
            await until(lambda: not accepts(weir.port))
            assert await reasons(weir) == ["shutting down"]
            assert (await weir.get("/healthz", management=True)).status == 200
            for client, conn in running.values():
                await finish(client, conn)
        assert await weir.wait() == 143
        assert not any(map(parent_of, everybody))
        assert len([line for line in weir.logs if line["event"] == "shutting down"]) == 2
        assert {line["end_code"] for line in weir.logs if line.get("stream")} == {"completed"}
        assert not _ends(weir)


async def test_what_runs_longer_than_its_time_ends_with_an_error_event(made: Callable[..., Process]) -> None:
    drain = {"grace": "300ms"}
    async with RawUpstream() as up, made(up.base_url, drain=drain) as weir, AsyncExitStack() as stack:
        clients = await to_each(weir, up, stack)
        async with streams(weir, up, clients) as running:
            weir.signal(signal.SIGTERM)
            for client, _ in running.values():
                answered = await client.response()
                assert answered.ended in ("truncated", "reset")
                assert b'"code":"server_shutdown"' in answered.body
            assert await weir.wait() == 143


@pytest.mark.fault("F8")
async def test_a_second_signal_does_not_wait(made: Callable[..., Process]) -> None:
    drain = {"delay": "60s", "grace": "60s"}
    async with RawUpstream() as up, made(up.base_url, drain=drain) as weir, AsyncExitStack() as stack:
        clients = await to_each(weir, up, stack)
        async with streams(weir, up, clients):
            weir.signal(signal.SIGINT)
            await until(lambda: len([one for one in weir.logs if one["event"] == "shutting down"]) == 2)
            assert weir.alive
            weir.signal(signal.SIGTERM)
            assert await weir.wait() == 130
        assert {line["end_code"] for line in weir.logs if line.get("stream")} == {"server_shutdown"}


async def test_ctrl_c_reaches_every_process_and_counts_once(made: Callable[..., Process]) -> None:
    async with RawUpstream() as up, made(up.base_url) as weir, AsyncExitStack() as stack:
        clients = await to_each(weir, up, stack)
        async with streams(weir, up, clients) as running:
            os.killpg(weir.pid, signal.SIGINT)
            await until(lambda: not accepts(weir.port))
            for client, conn in running.values():
                await finish(client, conn)
        assert await weir.wait() == 130


async def test_when_the_parent_is_killed_streams_end_and_nobody_stays(made: Callable[..., Process]) -> None:
    drain = {"delay": "60s", "grace": "20s"}
    async with RawUpstream() as up, made(up.base_url, drain=drain) as weir, AsyncExitStack() as stack:
        clients = await to_each(weir, up, stack)
        fork_server, workers = family(weir)
        async with streams(weir, up, clients) as running:
            weir.signal(signal.SIGKILL)
            await until(lambda: not accepts(weir.port) and not accepts(weir.management))
            for client, conn in running.values():
                await finish(client, conn)
        await until(lambda: not any(map(parent_of, [fork_server, *workers])))
        await weir.wait()


async def test_without_what_forks_all_drain_and_it_ends(made: Callable[..., Process]) -> None:
    async with RawUpstream() as up, made(up.base_url) as weir, AsyncExitStack() as stack:
        clients = await to_each(weir, up, stack)
        fork_server, workers = family(weir)
        async with streams(weir, up, clients) as running:
            os.kill(fork_server, signal.SIGKILL)
            await until(lambda: not accepts(weir.port))
            for client, conn in running.values():
                await finish(client, conn)
        assert await weir.wait() == 1
        assert "weir: the process that starts workers has ended" in weir.stderr
        await until(lambda: not any(map(parent_of, workers)))


# -- reload --------------------------------------------------------------------------------------------


@pytest.mark.fault("F14")
async def test_sighup_reloads_all_and_streams_finish_on_the_old(made: Callable[..., Process]) -> None:
    async with RawUpstream() as up, made(up.base_url) as weir, AsyncExitStack() as stack:
        clients = await to_each(weir, up, stack)
        async with streams(weir, up, clients) as running:
            weir.write_config(plugins=[{"use": "mine:Mine", "word": "new"}, "auth"], workers=4)
            weir.signal(signal.SIGHUP)
            await weir.logged(event="configuration reloaded")
            await weir.logged(event="needs a restart", setting="workers")
            for client, conn in running.values():
                await finish(client, conn)
        player = asyncio.create_task(_answers(up))
        for client in clients.values():
            assert header(await client.ask(chat()), b"x-word") == "new"
        player.cancel()
        assert len([line for line in weir.logs if line["event"] == "configuration reloaded"]) == 1
        assert len(family(weir)[1]) == 2


@pytest.mark.fault("F13")
async def test_a_bad_file_changes_nothing_and_is_told_once(made: Callable[..., Process]) -> None:
    async with RawUpstream(answer(OK)) as up, made(up.base_url) as weir, AsyncExitStack() as stack:
        clients = await both(weir, stack)
        weir.write_config(plugins=[{"use": "mine:Mine", "word": "new", "wrod": "typo"}, "auth"])
        weir.signal(signal.SIGHUP)
        line = await weir.logged(event="configuration not reloaded")
        assert 'unknown key; did you mean "word"?' in line["problem"]
        for client in clients.values():
            assert header(await client.ask(chat()), b"x-word") == "old"
        assert len([one for one in weir.logs if one["event"] == "configuration not reloaded"]) == 1
        # Who is started again begins with what was good.
        victim = next(iter(clients))
        os.kill(victim, signal.SIGKILL)
        await weir.logged(event="worker started")
        await ready(weir)
        (new,) = set(await both(weir, stack)) - set(clients)
        client = (await both(weir, stack))[new]
        assert header(await client.ask(chat()), b"x-word") == "old"


async def test_who_is_started_after_a_reload_begins_with_the_new(made: Callable[..., Process]) -> None:
    async with RawUpstream(answer(OK)) as up, made(up.base_url) as weir, AsyncExitStack() as stack:
        good = [{"use": "mine:Mine", "word": "new"}, "auth"]
        weir.write_config(plugins=good)
        weir.signal(signal.SIGHUP)
        await weir.logged(event="configuration reloaded")
        weir.write_config(plugins=["no such plugin"])
        for pid in family(weir)[1]:
            os.kill(pid, signal.SIGKILL)
        await until(lambda: len([one for one in weir.logs if one["event"] == "worker started"]) == 2, 10)
        for client in (await both(weir, stack)).values():
            assert header(await client.ask(chat()), b"x-word") == "new"


# -- the start -----------------------------------------------------------------------------------------


def test_a_port_that_is_taken_is_told_before_anything_starts(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        (management,) = free_ports(1)
        env = {"PORT": str(port), "WEIR_MANAGEMENT": f"127.0.0.1:{management}"}
        ended = run("-m", "proxy", "serve", "--workers", "2", folder=tmp_path, env=env)
    assert ended.status == 1
    assert ended.stderr.startswith(f"weir: cannot listen on 127.0.0.1:{port}: ")
    assert len(ended.stderr.splitlines()) == 1


def test_limits_in_memory_are_refused_in_one_line(tmp_path: Path) -> None:
    (port, management) = free_ports(2)
    env = {"PORT": str(port), "WEIR_MANAGEMENT": f"127.0.0.1:{management}"}
    (tmp_path / "weir.yaml").write_text(
        "workers: 3\nplugins: [auth, {use: limiter, limits: [{name: many, requests: 5/minute, per: user}]}]\n"
    )
    with Command("-m", "proxy", "serve", folder=tmp_path, env=env) as weir:
        status = weir._popen.wait(15)
        with pytest.raises(ProcessLookupError):
            os.killpg(weir._popen.pid, 0)  # nobody is left of its group
        said = weir.stderr
    assert status == 2
    assert len(said.splitlines()) == 1
    assert said.startswith("weir: weir.yaml: plugins: limiter: 3 workers ")
    assert "redis" in said
    assert not accepts(port)


def test_a_plugin_that_cannot_start_ends_all_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(MINE)
    (tmp_path / "broken").touch()
    (port, management) = free_ports(2)
    env = {"PORT": str(port), "WEIR_MANAGEMENT": f"127.0.0.1:{management}"}
    (tmp_path / "weir.yaml").write_text("workers: 2\nplugins: [{use: 'mine:Mine', broken: broken}]\n")
    ended = run("-m", "proxy", "serve", folder=tmp_path, env=env)
    assert ended.status == 1
    assert ended.stderr == "weir: a plugin could not start: OSError: broken is in the way\n"


async def test_the_demo_is_one_for_all(tmp_path: Path) -> None:
    (port, management) = free_ports(2)
    env = {"PORT": str(port), "WEIR_MANAGEMENT": f"127.0.0.1:{management}"}
    (tmp_path / "weir.yaml").write_text("workers: 2\nplugins: []\n")
    with Command("-m", "proxy", "serve", folder=tmp_path, env=env) as weir:
        weir.wait_for_stdout("Ctrl-C")
        for _ in range(6):
            async with RawClient(port) as client:
                assert (await client.ask(chat())).status == 200
        assert weir.stop() == 143


def accepts(port: int) -> bool:
    with suppress(ConnectionError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


# -- a configuration that is watched -------------------------------------------------------------------


@pytest.mark.fault("F13", "F14")
@pytest.mark.parametrize("workers", [1, 2])
async def test_a_mounted_configuration_that_kubernetes_swaps_is_reloaded(
    made: Callable[..., Process], workers: int
) -> None:
    async with RawUpstream(answer(OK)) as up, made(up.base_url, workers=workers, watch="200ms") as weir:
        path = weir.folder / "weir.yaml"

        def swap(version: int, **changes: Any) -> None:
            """As a ConfigMap changes: the link `..data` is replaced by one to a new folder."""
            if not path.is_symlink():
                path.unlink()
                path.symlink_to("..data/weir.yaml")
            folder = weir.folder / f"..{version}"
            folder.mkdir()
            (folder / "weir.yaml").write_bytes(orjson.dumps(weir.config | changes))  # JSON is YAML
            (weir.folder / "..new").symlink_to(folder.name)
            (weir.folder / "..new").replace(weir.folder / "..data")

        async def words() -> set[str]:
            found = set()
            for _ in range(6):
                async with weir.client() as client:
                    found.add(header(await client.ask(chat()), b"x-word"))
            return found

        def told(event: str) -> int:
            return sum(line["event"] == event for line in weir.logs)

        swap(1, plugins=[{"use": "mine:Mine", "word": "new"}, "auth"])
        await until(lambda: told("configuration reloaded") == 1)
        assert await words() == {"new"}
        swap(2, plugins=[{"use": "mine:Mine", "wrod": "typo"}, "auth"])
        await until(lambda: told("configuration not reloaded") == 1)
        await asyncio.sleep(1)
        assert told("configuration not reloaded") == 1
        assert await words() == {"new"}
        swap(3, plugins=[{"use": "mine:Mine", "word": "mended"}, "auth"])
        await until(lambda: told("configuration reloaded") == 2)
        assert await words() == {"mended"}


def memory_of(pid: int) -> tuple[int, int]:
    """KiB that a process has for itself, and in all."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    sizes = {name: int(value.split()[0]) for name, value in (line.split(":") for line in lines)}
    return sizes["Private_Clean"] + sizes["Private_Dirty"], sizes["Rss"]


async def test_vocabularies_are_loaded_once_and_shared(made: Callable[..., Process]) -> None:
    plugins = ["mine:Mine", "auth", {"use": "precost", "preload": True}]
    async with made(plugins=plugins) as weir:
        for pid in family(weir)[1]:
            own, resident = memory_of(pid)
            assert own < resident / 2
