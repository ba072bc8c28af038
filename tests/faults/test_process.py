"""The process ends, is killed, hangs or has a plugin that fails: what its clients see, and what is kept."""

import asyncio
import os
import shutil
import signal
import socket
import struct
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from plugins.ledger.money import pico
from tests.e2e.test_workers import children, family
from tests.plugins.limiter.redis.servers import Server, server

from .client import NoAnswer, RawClient, chat, get
from .crowd import COST, FIRST, LAST, Crowd, crowd, ends, ledger
from .process import COMMAND, Process
from .stage import broke_off, is_error
from .upstream import RawUpstream, answer, json_answer
from .wire import until

pytestmark = pytest.mark.slow
LIMITS = [
    {"name": "flying", "in_flight": 5000, "per": "all"},
    {"name": "money", "cost": "1000/month", "per": "all"},
]
OK = json_answer({"ok": True})


@pytest.fixture
def redis() -> Iterator[Server]:
    with server() as made:
        yield made


def books(up: RawUpstream, redis: Server, state: Path, workers: int, **config: Any) -> Process:
    """A Weir with all that keeps account of a request."""
    limiter = {"use": "limiter", "store": redis.url, "timeout": "5s", "limits": LIMITS}
    plugins = ["auth", "precost", "ledger", limiter, "annotate"]
    own = {"plugins": plugins, "state_dir": str(state), "workers": workers}
    return Process(up.base_url, config=own | config, start_within=60)


def arenas(pid: int) -> int:
    """How many heaps of threads there are: glibc gives each 64 MiB of addresses, and some of that to use."""
    maps = [line.split() for line in Path(f"/proc/{pid}/maps").read_text().splitlines()]
    starts = [
        int(fields[0].partition("-")[0], 16) for fields in maps if fields[1] == "rw-p" and len(fields) == 5
    ]
    reserved = {int(fields[0].partition("-")[2], 16) for fields in maps if fields[1] == "---p"}
    return sum(start % (64 << 20) == 0 and start + (64 << 20) in reserved for start in starts)


@pytest.mark.fault("F17")
@pytest.mark.parametrize("workers", [1, 2])
async def test_what_one_thread_has_freed_another_can_use(
    redis: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    """Each thread has not a heap of its own: the ledger, the counters and the watchdog share one."""
    monkeypatch.delenv("MALLOC_ARENA_MAX", raising=False)
    async with RawUpstream(answer(OK)) as up, books(up, redis, tmp_path, workers) as weir:
        await serves(weir)
        async with weir.client() as c:
            for _ in range(5):
                assert (await c.ask(chat(), timeout=20)).status == 200
        pids = [weir.pid] if workers == 1 else family(weir)[1]
        threads = [len(os.listdir(f"/proc/{pid}/task")) for pid in pids]
        assert max(threads) > 4
        assert [arenas(pid) for pid in pids if arenas(pid) > 1] == []


async def serves(weir: Process) -> None:
    await weir.logged(30, event="listening")


def accepts(port: int) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0


def left_in(redis: Server) -> tuple[int, int]:
    """Leases that are held, and nanodollars that are spent."""
    leases = spent = 0
    with redis.client() as client:
        for key in client.scan_iter():
            if b"\nflying" in key or b"flying\n" in key:
                leases += client.zcard(key)
            elif b"money\n" in key:
                spent += int(struct.unpack("<dd", client.get(key))[1])
    return leases, spent


async def readiness(weir: Process) -> int:
    return (await weir.get("/readyz", management=True)).status


@pytest.mark.fault("F6")
@pytest.mark.parametrize(("workers", "streams"), [(1, 500), (2, 100)])
async def test_a_stop_lets_every_stream_end(
    redis: Server, tmp_path: Path, workers: int, streams: int
) -> None:
    script = Crowd()
    drain = {"delay": "1500ms", "grace": "60s"}
    async with (
        RawUpstream(script) as up,
        books(up, redis, tmp_path, workers, drain=drain) as weir,
    ):
        await serves(weir)
        async with crowd(up, weir.port, streams) as clients:
            assert left_in(redis)[0] == streams
            weir.signal(signal.SIGTERM)
            async with asyncio.timeout(1.4):  # readiness fails first, and the port is open still
                while await readiness(weir) != 503:
                    await asyncio.sleep(0.01)
            assert accepts(weir.port)
            assert (await weir.get("/healthz", management=True)).status == 200
            await until(lambda: not accepts(weir.port), 10)
            assert weir.alive
            script.go.set()
            for answered in await ends(clients):
                assert answered.ended == "chunked"
                assert answered.body.startswith(FIRST + LAST)
                assert answered.body.endswith(b"data: [DONE]\n\n")
        assert await weir.wait(30) == 143
        found = ledger(tmp_path)
        assert len(found) == streams
        assert {(row["end_reason"], row["cost_pico"]) for row in found} == {("complete", pico(COST))}
        assert left_in(redis) == (0, streams * int(COST * 10**9))


@pytest.mark.fault("F7", "F8")
@pytest.mark.parametrize(
    ("workers", "streams", "second"),
    [(1, 500, None), (1, 50, signal.SIGTERM), (2, 50, signal.SIGINT)],
)
async def test_streams_that_are_cut_by_a_stop_are_settled_and_kept(
    redis: Server, tmp_path: Path, workers: int, streams: int, second: signal.Signals | None
) -> None:
    drain = {"grace": "1s" if second is None else "100s"}
    async with RawUpstream(Crowd()) as up, books(up, redis, tmp_path, workers, drain=drain) as weir:
        await serves(weir)
        async with crowd(up, weir.port, streams) as clients:
            weir.signal(signal.SIGTERM)
            if second is not None:
                await weir.logged(10, event="shutting down")
                await asyncio.sleep(0.2)
                weir.signal(second)
            for answered in await ends(clients):
                broke_off(answered, FIRST, "server_shutdown")
        assert await weir.wait(30) == 143
        found = ledger(tmp_path)
        assert len(found) == streams
        assert {(row["end_reason"], row["end_code"]) for row in found} == {("shutdown", "server_shutdown")}
        assert {row["usage_provenance"] for row in found} == {"estimated"}
        costs = {row["cost_pico"] for row in found}
        assert None not in costs
        assert all(row["cost_pico"] > 0 for row in found)
        assert left_in(redis) == (0, sum(row["cost_pico"] for row in found) // 1000)


@pytest.mark.fault("F9", "E14")
async def test_a_killed_worker_is_replaced_and_nobody_fails_to_connect(redis: Server, tmp_path: Path) -> None:
    limit = {"name": "flying", "in_flight": 20, "per": "all"}
    limiter = {"use": "limiter", "store": redis.url, "timeout": "5s", "lease": "3s", "limits": [limit]}
    script = Crowd()
    config = {"plugins": ["auth", limiter], "workers": 2}
    async with RawUpstream(script) as up, Process(up.base_url, config=config) as weir:
        await serves(weir)
        _, workers = family(weir)
        statuses: list[int] = []

        async def connects() -> None:
            for _ in range(20):
                async with weir.client() as client:  # raises where nobody takes it
                    # Whoever was taken by the one that is killed loses their connection, and says so.
                    with suppress(NoAnswer, ConnectionError):
                        statuses.append((await client.ask(get("/health"))).status)
                await asyncio.sleep(0.02)

        async with crowd(up, weir.port, 20) as clients:
            assert (await _one(weir)).status == 429
            trying = [asyncio.create_task(connects()) for _ in range(4)]
            await asyncio.sleep(0.1)
            os.kill(workers[0], signal.SIGKILL)
            await asyncio.gather(*trying)
            assert set(statuses) == {200}
            assert len(statuses) >= 70
            line = await weir.logged(10, event="worker ended", signal=9)
            await weir.logged(10, event="worker started", of_worker=line["of_worker"])
            # Its leases are free when they have run out; those of the other one are held.
            broken = [client for client in clients if client.left or await _is_broken(client)]
            assert 0 < len(broken) < 20
            await asyncio.sleep(3.5)
            script.go.set()
            freed = [await _one(weir) for _ in range(1)]
            assert [each.status for each in freed] == [200]
            assert left_in(redis)[0] <= 20


# -- plugins that do what none should -----------------------------------------------------------------------

BAD = """
import time

from proxy.api import Plugin


class Bad(Plugin):
    def __init__(self, where=()):
        self.where = where

    def _raise(self, where):
        if where in self.where:
            raise RuntimeError("a secret: hush-hush")

    async def on_request(self, ex):
        if hang := ex.request.headers.get("x-hang"):
            self.hang(float(hang))
        self._raise("on_request")

    def hang(self, seconds):
        time.sleep(seconds)

    async def on_response(self, ex):
        self._raise("on_response")

    def on_event(self, ex, event):
        self._raise("on_event")

    async def on_end(self, ex, end):
        self._raise("on_end")


class First(Plugin):
    async def on_end(self, ex, end):
        print(f"ended {self.name} {end.reason} {end.code}", flush=True)


class Second(First):
    pass
"""


def bad(tmp_path: Path, base_url: str, **config: Any) -> Process:
    (tmp_path / "bad.py").write_text(BAD)
    return Process(base_url, config=config, env={"PYTHONPATH": str(tmp_path)})


@pytest.mark.fault("F10")
async def test_a_stalled_loop_is_told_of_with_the_place_and_fails_liveness(tmp_path: Path) -> None:
    config: dict[str, Any] = {"plugins": ["bad:Bad"], "overload": {"loop_stall": "1s"}}
    async with RawUpstream(answer(OK)) as up, bad(tmp_path, up.base_url, **config) as weir:
        async with weir.client() as client:
            await client.send(chat([("x-hang", "4.5")]))
            await asyncio.sleep(0.5)
            with pytest.raises(AssertionError, match="waited"):
                await _asked(weir.management, get("/healthz"), 2.0)
            line = await weir.logged(event="the event loop is stalled")
            assert line["level"] == "error"
            assert any(place.startswith("bad.py:") and place.endswith(" hang") for place in line["at"])
            assert (await client.response(timeout=20)).status == 200
        await weir.logged(10, event="the event loop goes on")
        assert (await weir.get("/healthz", management=True)).status == 200
        assert len([line for line in weir.logs if line["event"] == "the event loop is stalled"]) == 1


async def _asked(port: int, data: bytes, timeout: float) -> None:
    async with RawClient(port) as client:
        await client.ask(data, timeout=timeout)


WHERE: list[tuple[str, Callable[[Any], None]]] = [
    ("on_request", lambda answered: is_error(answered, 500, "plugin_error")),
    ("on_response", lambda answered: is_error(answered, 500, "plugin_error")),
    ("on_event", lambda answered: broke_off(answered, FIRST, "plugin_error")),
]


@pytest.mark.fault("F11")
@pytest.mark.parametrize(("where", "check"), WHERE)
async def test_a_plugin_that_raises_ends_its_request_alone(
    tmp_path: Path, where: str, check: Callable[[Any], None]
) -> None:
    plugins = ["bad:First", {"use": "bad:Bad", "where": [where]}, "bad:Second"]
    async with RawUpstream(Crowd()) as up, bad(tmp_path, up.base_url, plugins=plugins) as weir:
        async with weir.client() as client:
            check(await client.ask(chat(stream=True)))
        line = await weir.logged(event="request")
        assert (line["end_reason"], line["end_code"]) == ("internal_error", "plugin_error")
        assert "hush" not in weir.stderr
        # Whose turn had come is told of the end, the last one first.
        told = [line.split()[1] for line in weir.stderr.splitlines() if line.startswith("ended")]
        assert told == (["First"] if where == "on_request" else ["Second", "First"])
        assert (await weir.get("/healthz", management=True)).status == 200
        assert (await weir.get("/inflight", management=True)).json()["total"] == 0


@pytest.mark.fault("F11")
async def test_a_plugin_that_raises_at_the_end_takes_nothing_from_the_others(tmp_path: Path) -> None:
    plugins = ["bad:First", {"use": "bad:Bad", "where": ["on_end"]}, "bad:Second"]
    async with RawUpstream(answer(OK)) as up, bad(tmp_path, up.base_url, plugins=plugins) as weir:
        async with weir.client() as client:
            assert (await client.ask(chat())).json() == {"ok": True}
        await until(lambda: weir.stderr.count("\nended ") + weir.stderr.startswith("ended ") == 2)
        told = [line for line in weir.stderr.splitlines() if line.startswith("ended")]
        assert [line.split()[1] for line in told] == ["Second", "First"]
        assert "hush" not in weir.stderr


# -- where it runs -------------------------------------------------------------------------------------------

LOCKED_UP = (
    'exec bwrap --ro-bind / / --proc /proc --dev /dev --tmpfs /tmp --ro-bind "$PWD" "$PWD" '
    '--ro-bind "$WEIR" "$WEIR" --remount-ro /tmp '
    '--tmpfs "$STATE" --unshare-user --uid 65532 --gid 65532 --cap-drop ALL --die-with-parent '
    '--chdir "$PWD" -- "$0" "$@"'
)


@pytest.mark.fault("F15")
async def test_locked_up_it_serves_and_stops() -> None:
    """A read-only root, no /tmp to write to, somebody's user, no capability; one folder for its state."""
    if not _can_lock_up():
        if os.environ.get("CI"):
            pytest.fail("bwrap does not work, and CI has to run this test")
        pytest.skip("bwrap does not work; `make image` tries this too")
    state = Path("/mnt")  # some folder that there is, and nothing else is in the way of
    command = ("/bin/sh", "-c", LOCKED_UP, *COMMAND)
    config = {"plugins": ["auth", "precost", "ledger", "limiter", "annotate"], "state_dir": f"{state}"}
    folders = {"STATE": f"{state}", "WEIR": f"{Path(__file__).parents[2]}"}
    async with (
        RawUpstream(answer(OK)) as up,
        Process(up.base_url, config=config, command=command, env=folders) as weir,
    ):
        (pid,) = children(weir.pid)
        assert_locked_up(pid)
        async with weir.client() as client:
            assert (await client.ask(chat(), timeout=20)).status == 200
        assert await readiness(weir) == 200
        os.kill(pid, signal.SIGTERM)
        assert await weir.wait(20) == 143
        assert not [line for line in weir.logs if line["level"] in ("warning", "error")]


def assert_locked_up(pid: int) -> None:
    """Of a process: it has no capability, and nowhere to write."""
    status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    assert (int(status["CapEff"], 16), int(status["CapPrm"], 16)) == (0, 0)
    for path in (f"/proc/{pid}/root/x", f"/proc/{pid}/root/tmp/x", f"/proc/{pid}/cwd/x"):
        with pytest.raises(OSError, match=r"Read-only|Permission"):
            Path(path).touch()


def _can_lock_up() -> bool:
    if (bwrap := shutil.which("bwrap")) is None:
        return False
    tried = [bwrap, *("--ro-bind", "/", "/", "--unshare-user", "--uid", "65532", "true")]
    return subprocess.run(tried, check=False, capture_output=True).returncode == 0


async def _one(weir: Process) -> Any:
    async with weir.client() as client:
        return await client.ask(chat(stream=True), timeout=20)


async def _is_broken(client: RawClient) -> bool:
    try:
        return (await client.response(timeout=0.3)).ended in ("truncated", "reset")
    except AssertionError:
        return False
