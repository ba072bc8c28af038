"""The parent, with a fork server and workers that the test plays."""

import asyncio
import os
import signal
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from prometheus_client import generate_latest

from proxy.core.config import ConfigError, Settings, UpstreamSettings
from proxy.core.server import parent as module
from proxy.core.server.channel import Channel, Message
from proxy.core.server.parent import LONGEST, Parent, pause
from proxy.core.server.run import StartError, listen
from tests.core.server.test_run import FREE
from tests.faults.client import RawClient, get
from tests.faults.wire import until

GOOD: dict[str, Any] = {"plugins": [], "stays": [], "patience": 1.0, "files": []}


class Worker:
    """One that was forked: its end of the channel."""

    def __init__(self, pid: int, sock: socket.socket) -> None:
        self.pid = pid
        self.heard: list[Message] = []
        self.channel = Channel(sock)
        self.channel.listen(self._hear, lambda: None)

    def _hear(self, message: Message, along: socket.socket | None) -> None:
        self.heard.append(message)
        if along is not None:
            along.close()  # it answers nobody

    def reloaded(self, well: bool) -> None:
        """Answer that it has done what it was told last, or has not."""
        asked = [message["number"] for message in self.heard if message["do"] == "reload"]
        self.channel.send({"did": "reload", "number": asked[-1], "well": well})

    def said(self, what: str) -> bool:
        return any(message["do"] == what for message in self.heard)


class Forks:
    """The fork server: workers by their number, and what else it was told."""

    def __init__(self, sock: socket.socket) -> None:
        self.channel = Channel(sock)
        self.channel.listen(self._hear, lambda: None)
        self.workers: dict[int, Worker] = {}
        self.heard: list[Message] = []
        self.forked = 0
        self.on_fork: Callable[[int, Worker], None] = lambda number, worker: None

    def _hear(self, message: Message, along: socket.socket | None) -> None:
        self.heard.append(message)
        if message["do"] == "fork" and along is not None:
            self.forked += 1
            worker = self.workers[message["worker"]] = Worker(1_000_000_000 + self.forked, along)
            self.channel.send({"did": "fork", "worker": message["worker"], "pid": worker.pid})
            self.on_fork(message["worker"], worker)
        elif message["do"] == "kill":
            for worker in self.workers.values():
                if worker.pid == message["pid"]:
                    self.ends(worker, -9)

    def ends(self, worker: Worker, status: int) -> None:
        worker.channel.close()
        self.channel.send({"did": "end", "pid": worker.pid, "status": status})

    def checked(self, **found: Any) -> None:
        """Answer the last check."""
        asked = [message["number"] for message in self.heard if message["do"] == "check"]
        self.channel.send({"did": "check", "number": asked[-1], **found})

    def told(self, what: str) -> int:
        return sum(message["do"] == what for message in self.heard)


class Run:
    def __init__(self, parent: Parent, forks: Forks, task: "asyncio.Task[int]", port: int) -> None:
        self.parent = parent
        self.forks = forks
        self.task = task
        self.port = port
        self.started = asyncio.Event()

    async def start(self) -> None:
        await until(lambda: len(self.forks.workers) == 2)
        for worker in self.forks.workers.values():
            worker.channel.send({"did": "start"})
        await asyncio.wait_for(self.started.wait(), 5)

    async def get(self, path: str) -> tuple[int, Any]:
        async with RawClient(self.port) as client:
            answered = await client.ask(get(path))
            return answered.status, answered.json()

    async def end(self) -> int:
        """Play two workers that stop when they are told to."""
        await until(lambda: all(w.said("stop") or w.channel.closed for w in self.forks.workers.values()))
        for worker in self.forks.workers.values():
            if not worker.channel.closed:
                self.forks.ends(worker, 0)
        return await asyncio.wait_for(self.task, 5)


@asynccontextmanager
async def running() -> AsyncIterator[Run]:
    settings = Settings.model_validate(
        {"upstreams": [UpstreamSettings(base_url="http://127.0.0.1:9")], "workers": 2}
    )
    channel, theirs = Channel.pair()
    with listen(FREE) as admin:
        parent = Parent(settings, channel, admin)
        forks = Forks(theirs)
        started: list[asyncio.Event] = []
        task = asyncio.ensure_future(parent.run(lambda: started[0].set()))
        made = Run(parent, forks, task, admin.getsockname()[1])
        started.append(made.started)
        try:
            yield made
        finally:
            forks.channel.close()
            for worker in forks.workers.values():
                worker.channel.close()
            parent.stop()
            parent.stop()
            await asyncio.wait([task], timeout=10)
            assert task.done()
            channel.close()


def test_the_pause_doubles_and_has_a_bound() -> None:
    assert [pause(row) for row in range(5)] == [0.0, 0.1, 0.2, 0.4, 0.8]
    assert pause(50) == pause(10**9) == LONGEST


async def test_it_has_started_when_all_have() -> None:
    async with running() as run:
        await until(lambda: len(run.forks.workers) == 2)
        assert await run.get("/startupz") == (503, {"status": "starting"})
        run.forks.workers[2].channel.send({"did": "start"})
        await asyncio.sleep(0.05)
        assert not run.started.is_set()
        run.forks.workers[1].channel.send({"did": "start"})
        await asyncio.wait_for(run.started.wait(), 2)
        assert await run.get("/startupz") == (200, {"status": "ok"})
        run.parent.stop(15)
        assert await run.end() == 15
        assert run.forks.told("close") == 1


@pytest.mark.parametrize(("kind", "error"), [("config", ConfigError), ("start", StartError)])
async def test_one_that_cannot_start_ends_all_with_its_words(kind: str, error: type[Exception]) -> None:
    async with running() as run:
        await until(lambda: len(run.forks.workers) == 2)
        one, other = run.forks.workers[1], run.forks.workers[2]
        one.channel.send({"did": "fail", "kind": kind, "problems": ["weir.yaml: odd"]})
        run.forks.ends(one, 1)
        with pytest.raises(error, match=r"weir\.yaml: odd"):
            await asyncio.wait_for(run.task, 5)
        assert other.channel.closed  # it was killed: it serves nobody yet
        assert run.forks.told("fork") == 2


async def test_one_that_ends_before_it_has_started_ends_all() -> None:
    async with running() as run:
        await until(lambda: len(run.forks.workers) == 2)
        run.forks.ends(run.forks.workers[1], -11)
        with pytest.raises(StartError, match="worker 1 ended before it had started"):
            await asyncio.wait_for(run.task, 5)


async def test_one_that_ends_is_started_again_later_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    async with running() as run:
        await run.start()
        waits = []
        for _ in range(4):
            forked = run.forks.forked
            at = asyncio.get_running_loop().time()
            run.forks.ends(run.forks.workers[1], 1)
            await until(lambda forked=forked: run.forks.forked == forked + 1)  # type: ignore[misc]
            waits.append(asyncio.get_running_loop().time() - at)
        assert [wait >= least for wait, least in zip(waits, (0.1, 0.2, 0.4, 0.8), strict=True)] == [True] * 4
        status, told = await run.get("/readyz")
        assert status == 503
        assert "worker 1: starting" in told["reasons"]
        monkeypatch.setattr(module, "SOUND", 0.0)  # it has lived long enough
        run.forks.workers[1].channel.send({"did": "start"})
        await asyncio.sleep(0.02)
        forked = run.forks.forked
        at = asyncio.get_running_loop().time()
        run.forks.ends(run.forks.workers[1], 1)
        await until(lambda: run.forks.forked == forked + 1)
        assert asyncio.get_running_loop().time() - at < 0.8
        run.parent.stop()
        await run.end()


async def test_who_does_not_stop_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MARGIN", 0.1)
    async with running() as run:
        await run.start()
        run.parent._patience = 0.1
        run.parent.stop(15)
        await until(lambda: run.forks.workers[1].said("stop"))
        run.forks.ends(run.forks.workers[1], 0)
        assert await asyncio.wait_for(run.task, 5) == 15
        assert run.forks.told("kill") == 1
        assert run.forks.workers[2].channel.closed


async def test_the_second_signal_is_passed_on() -> None:
    async with running() as run:
        await run.start()
        os.kill(os.getpid(), signal.SIGTERM)
        await until(lambda: run.forks.workers[1].said("stop"))
        os.kill(os.getpid(), signal.SIGINT)
        await until(lambda: sum(m["do"] == "stop" for m in run.forks.workers[1].heard) == 2)
        assert await run.end() == 15


async def test_a_configuration_that_is_bad_goes_to_nobody(caplog: pytest.LogCaptureFixture) -> None:
    async with running() as run:
        await run.start()
        os.kill(os.getpid(), signal.SIGHUP)
        await until(lambda: run.forks.told("check"))
        run.forks.checked(problems=["weir.yaml:1: odd"])
        await until(lambda: "configuration not reloaded" in caplog.text)
        assert not any(worker.said("reload") for worker in run.forks.workers.values())
        assert not run.forks.told("keep")
        run.parent.stop()
        await run.end()


@pytest.mark.parametrize(("well", "kept"), [([True, True], 1), ([True, False], 1), ([False, False], 0)])
async def test_a_good_one_is_kept_if_somebody_runs_by_it(well: list[bool], kept: int) -> None:
    async with running() as run:
        await run.start()
        os.kill(os.getpid(), signal.SIGHUP)
        await until(lambda: run.forks.told("check"))
        run.forks.checked(**GOOD)
        for worker, goes in zip(run.forks.workers.values(), well, strict=True):
            await until(lambda worker=worker: worker.said("reload"))  # type: ignore[misc]
            worker.reloaded(goes)
        reloading = run.parent._reloading
        assert reloading is not None
        await asyncio.wait_for(reloading, 5)
        await asyncio.sleep(0.02)
        assert run.forks.told("keep") == kept
        # Who could not follow those that could makes room for one that begins with the new.
        replaced = [number for number, worker in run.forks.workers.items() if worker.said("stop")]
        assert replaced == ([2] if well == [True, False] else [])
        assert ('weir_config_reloads_total{outcome="done"} 1.0' in metrics(run)) is bool(kept)
        assert ("weir_config_reload_failed 1.0" in metrics(run)) is (not kept)
        run.parent.stop()
        await run.end()


def metrics(run: Run) -> str:
    return generate_latest(run.parent.metrics).decode()


def problems(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.fields["problem"] for record in caplog.records if hasattr(record, "fields")]


async def test_an_answer_that_comes_too_late_is_not_the_next_ones(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CHECK", 0.1)
    async with running() as run:
        await run.start()
        os.kill(os.getpid(), signal.SIGHUP)
        await until(lambda: problems(caplog) == ["it took more than 0 s to try it out"])
        monkeypatch.setattr(module, "CHECK", 20)
        os.kill(os.getpid(), signal.SIGHUP)
        await until(lambda: run.forks.told("check") == 2)
        first, second = (message["number"] for message in run.forks.heard if message["do"] == "check")
        run.forks.channel.send({"did": "check", "number": first, **GOOD})
        await asyncio.sleep(0.05)
        assert not any(worker.said("reload") for worker in run.forks.workers.values())
        run.forks.channel.send({"did": "check", "number": second, "problems": ["weir.yaml:1: odd"]})
        await until(lambda: problems(caplog)[1:] == ["weir.yaml:1: odd"])
        run.parent.stop()
        await run.end()


async def one_behind(run: Any) -> Any:
    """A worker that was forked again while the other one was told of a reload, which was kept."""
    first = run.forks.workers[1]
    run.forks.ends(first, 1)
    await until(lambda: run.forks.workers[1] is not first)
    os.kill(os.getpid(), signal.SIGHUP)
    await until(lambda: run.forks.told("check"))
    run.forks.checked(**GOOD)
    await until(lambda: run.forks.workers[2].said("reload"))
    run.forks.workers[2].reloaded(True)
    await until(lambda: run.forks.told("keep"))
    return run.forks.workers[1]


async def test_who_cannot_catch_up_is_replaced() -> None:
    async with running() as run:
        await run.start()
        again = await one_behind(run)
        again.channel.send({"did": "start"})
        await until(lambda: again.said("reload"))
        again.reloaded(False)
        await until(lambda: again.said("stop"))
        run.parent.stop()
        await run.end()


async def test_who_starts_while_others_reload_is_told_too() -> None:
    """It was forked with the configuration before: a key that was taken out would be good there still."""
    async with running() as run:
        await run.start()
        again = await one_behind(run)
        assert not again.said("reload")  # it could not yet
        again.channel.send({"did": "start"})
        await until(lambda: again.said("reload"))
        # From now on the new one is what a worker begins with.
        run.forks.ends(again, 1)
        await until(lambda: run.forks.workers[1] is not again)
        run.forks.workers[1].channel.send({"did": "start"})
        await asyncio.sleep(0.1)
        assert not run.forks.workers[1].said("reload")
        assert sum(message["do"] == "reload" for message in run.forks.workers[2].heard) == 1
        run.parent.stop()
        await run.end()


async def test_without_its_fork_server_it_drains_and_says_so() -> None:
    async with running() as run:
        await run.start()
        run.forks.channel.close()
        await until(lambda: all(worker.said("stop") for worker in run.forks.workers.values()))
        for worker in run.forks.workers.values():
            worker.channel.close()
        with pytest.raises(StartError, match="has ended"):
            await asyncio.wait_for(run.task, 5)


async def test_orphans_are_reaped() -> None:
    """As process 1 it gets everybody's."""
    async with running() as run:
        await run.start()
        pid = os.posix_spawn("/bin/true", ["true"], {})  # noqa: ASYNC221 # it does not wait
        await until(lambda: not os.path.exists(f"/proc/{pid}"))
        run.parent.stop()
        await run.end()
