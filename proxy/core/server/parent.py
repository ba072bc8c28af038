"""The parent of several workers: one process to start, to signal, to ask and to stop.

It forwards no request itself. Workers share one data socket; one that ends by itself is started again, the
sooner the longer it had lived. SIGTERM and SIGINT end all, a second one at once, SIGHUP reloads all. Its own
ways to end are those of one process, exit status included.
"""

import asyncio
import os
import signal
import socket
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry, Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from proxy.admin.workers import Front
from proxy.core.config import ConfigError, Settings
from proxy.core.log import log
from proxy.core.server.changes import Changes
from proxy.core.server.channel import Channel, Message
from proxy.core.server.forkserver import MARGIN
from proxy.core.server.origin import tell
from proxy.core.server.reloads import Reloads
from proxy.core.server.run import SETTLE, StartError, listener

SOUND = 60.0
"""Seconds that a worker has to live for its end not to count as one of a row."""
LONGEST = 30.0
"""Seconds of the longest wait before a worker is started again."""
CHECK = 60.0
"""Seconds that a reload may take to be tried out, and then to be done by all."""


class Slot:
    """One worker's place: whoever has its number."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.channel: Channel | None = None
        self.pid = 0
        self.started = False
        self.since = 0.0
        self.again_at: float | None = None
        """When it is started again, if it is to be."""
        self.row = 0
        """How often in a row it has ended soon after its start."""
        self.restarts = 0
        self.failure: list[str] = []
        self.reloaded: asyncio.Future[bool] | None = None
        self.reloads = 0
        """How many reloads there had been when it was forked, or when it was last told to reload."""
        self.asked = 0
        """The number of what it was told last, which its answer has too."""


def pause(row: int) -> float:
    """Seconds before a worker is started again that has ended this often in a row."""
    return min(LONGEST, 0.1 * 2 ** min(row - 1, 20)) if row > 0 else 0.0


class Parent:
    """Runs the workers. `fork_server` is the channel to what forks them."""

    def __init__(
        self,
        settings: Settings,
        fork_server: Channel,
        admin: socket.socket | None,
        files: Iterable[Path] = (),
    ) -> None:
        self._fork_server = fork_server
        self._admin = admin
        self._slots = {number: Slot(number) for number in range(1, settings.workers + 1)}
        self._files = [*files]
        self._changes = Changes(lambda: self._files, settings.watch, self.reload)
        drain = settings.drain
        self._patience = drain.delay + drain.grace + SETTLE
        self._loop: asyncio.AbstractEventLoop
        self._stop = asyncio.Event()
        self._force = asyncio.Event()
        self._signal = 0
        self._changed = asyncio.Event()  # what became of a worker
        self._checked: asyncio.Future[Message] | None = None
        self._reloading: asyncio.Task[None] | None = None
        self._reloads = 0
        self._asked = self._checks = 0  # an answer that comes too late is to none but its own question
        self.reloads = Reloads()
        self._forks = True  # whether there still is somebody who can
        self._all_started = False
        self._front = Front(self)
        self.metrics = CollectorRegistry()
        self.metrics.register(_Figures(self._slots))
        self.metrics.register(self.reloads)

    # -- what the management port asks ---------------------------------------------------------------

    @property
    def serving(self) -> Iterator[int]:
        """See `Workers.serving`."""
        return (slot.number for slot in self._slots.values() if slot.started)

    @property
    def absent(self) -> Mapping[int, str]:
        """See `Workers.absent`."""
        return {slot.number: self._why(slot) for slot in self._slots.values() if not slot.started}

    @property
    def started(self) -> bool:
        """See `Workers.started`."""
        return self._all_started

    @property
    def stopping(self) -> bool:
        """See `Workers.stopping`."""
        return self._stop.is_set()

    async def connect(self, number: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """See `Workers.connect`."""
        channel = self._slots[number].channel
        ours, theirs = socket.socketpair()
        with theirs:
            if channel is None or not channel.send({"do": "serve"}, theirs):
                ours.close()
                raise ConnectionError("this worker does not listen")
        return await asyncio.open_unix_connection(sock=ours)

    def _why(self, slot: Slot) -> str:
        if slot.again_at is None:
            return "starting" if slot.channel is not None else "ended"
        wait = max(0.0, slot.again_at - self._loop.time())
        return f"ended {slot.row} times in a row, starts again in {wait:.1f} s"

    # -- its life ------------------------------------------------------------------------------------

    def stop(self, number: int = 0) -> None:
        """Begin to shut down; called again, at once."""
        if self._stop.is_set():
            self._force.set()
        self._signal = self._signal or number
        self._stop.set()
        self._changed.set()

    async def run(self, started: Callable[[], None]) -> int:
        """Serve until a signal, and return its number. `started` is called when all workers have started.

        Raises `ConfigError` or `StartError` if one of them cannot start at first.
        """
        loop = self._loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stop, int(number))
        loop.add_signal_handler(signal.SIGHUP, self.reload)
        loop.add_signal_handler(signal.SIGCHLD, _reap)
        self._fork_server.listen(self._forked, self._cannot_fork)
        server = None if self._admin is None else listener(self._front)
        serving = None if server is None else loop.create_task(server.serve(sockets=[self._admin]))  # type: ignore[list-item]
        try:
            async with self._changes:
                for slot in self._slots.values():
                    self._fork(slot)
                await self._first_start()
                if not self._stop.is_set():
                    self._all_started = True
                    started()
                    await self._stop.wait()
        finally:
            if self._reloading is not None:
                self._reloading.cancel()
            await self._end_all()
            if server is not None and serving is not None:
                server.should_exit = server.force_exit = True
                await serving
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD):
                loop.remove_signal_handler(number)
        if not self._forks:
            raise StartError("the process that starts workers has ended; start Weir again")
        return self._signal

    async def _first_start(self) -> None:
        """Until all have started, or one could not, or a signal came."""
        slots = self._slots.values()
        while not self._stop.is_set() and not all(slot.started for slot in slots):
            if (failed := next((slot for slot in slots if slot.failure), None)) is not None:
                self._stop.set()
                raise self._not_started(failed)
            await self._changed.wait()
            self._changed.clear()

    def _not_started(self, slot: Slot) -> Exception:
        kind, *problems = slot.failure
        return ConfigError(problems) if kind == "config" else StartError(" ".join(problems))

    async def _end_all(self) -> None:
        """Let all drain; who takes longer than it should is killed. Returns when all are gone."""
        self._stop.set()
        self._fork_server.send({"do": "close"})
        for slot in self._slots.values():
            slot.again_at = None
            if not slot.started:
                self._kill(slot)  # it serves nobody yet
            elif slot.channel is not None:
                slot.channel.send({"do": "stop"})
        if not await self._all_gone(self._patience + MARGIN, self._force):
            for slot in self._slots.values():
                if slot.channel is not None:
                    slot.channel.send({"do": "stop"})
            if not self._force.is_set() or not await self._all_gone(SETTLE):
                for slot in self._slots.values():
                    if slot.channel is not None:
                        log.error("worker killed", extra={"fields": {"of_worker": slot.number}})
                        self._kill(slot)
                await self._all_gone(MARGIN)

    async def _all_gone(self, seconds: float, cut: asyncio.Event | None = None) -> bool:
        """Whether all workers have ended, within these seconds and before `cut`."""
        deadline = self._loop.time() + seconds
        while any(slot.channel is not None for slot in self._slots.values()):
            if self._loop.time() > deadline or (cut is not None and cut.is_set()):
                return False
            await asyncio.sleep(0.01)
        return True

    # -- workers -------------------------------------------------------------------------------------

    def _fork(self, slot: Slot) -> None:
        slot.again_at = None
        if self._stop.is_set() or not self._forks:
            return
        channel, theirs = Channel.pair()
        with theirs:
            self._fork_server.send({"do": "fork", "worker": slot.number}, theirs)
        slot.channel, slot.pid, slot.started, slot.failure = channel, 0, False, []
        slot.reloads = self._reloads
        slot.since = self._loop.time()
        channel.listen(lambda message, _: self._said(slot, message), lambda: self._gone(slot, channel))

    def _kill(self, slot: Slot) -> None:
        if slot.pid:
            self._fork_server.send({"do": "kill", "pid": slot.pid})

    def _said(self, slot: Slot, message: Message) -> None:
        match message["did"]:
            case "start":
                slot.started = True
                self._catch_up(slot)
                if self._all_started:
                    log.info("worker started", extra={"fields": {"of_worker": slot.number}})
            case "fail":
                slot.failure = [message["kind"], *message["problems"]]
            case "reload" if message["number"] == slot.asked:
                if slot.reloaded is not None and not slot.reloaded.done():
                    slot.reloaded.set_result(message["well"])
                elif not message["well"]:
                    self._replace(slot)
        self._changed.set()

    def _gone(self, slot: Slot, channel: Channel) -> None:
        """A worker has ended, or is about to. What became of it comes from who forked it."""
        if slot.channel is not channel:
            return
        slot.channel, slot.started = None, False
        if slot.reloaded is not None and not slot.reloaded.done():
            slot.reloaded.set_result(False)
        self._front.ended(slot.number)
        if not self._all_started and not slot.failure:
            slot.failure = ["start", f"worker {slot.number} ended before it had started"]
        self._changed.set()
        if self._stop.is_set() or not self._all_started:
            return
        slot.row = slot.row + 1 if self._loop.time() - slot.since < SOUND else 1
        slot.restarts += 1
        wait = pause(slot.row)
        slot.again_at = self._loop.time() + wait
        self._loop.call_later(wait, self._again, slot)

    def _again(self, slot: Slot) -> None:
        if slot.again_at is not None:
            self._fork(slot)

    def _forked(self, message: Message, _: socket.socket | None) -> None:
        """What the fork server has done, or seen."""
        match message["did"]:
            case "fork":
                slot = self._slots[message["worker"]]
                slot.pid = message["pid"]
                if self._stop.is_set() and not slot.started:
                    self._kill(slot)
            case "end":
                self._ended(message["pid"], message["status"])
            case "check" if message["number"] == self._checks and self._checked is not None:
                if not self._checked.done():
                    self._checked.set_result(message)

    def _ended(self, pid: int, status: int) -> None:
        slot = next((slot for slot in self._slots.values() if slot.pid == pid), None)
        if slot is None:
            return
        slot.pid = 0
        if self._stop.is_set() or not self._all_started:
            return
        fields: dict[str, Any] = {"of_worker": slot.number, "pid": pid}
        fields |= {"signal": -status} if status < 0 else {"status": status}
        fields |= {"problem": " ".join(slot.failure[1:])} if slot.failure else {}
        fields["again_in"] = pause(slot.row)
        (log.error if status else log.warning)("worker ended", extra={"fields": fields})

    def _cannot_fork(self) -> None:
        self._forks = False
        if not self._stop.is_set():
            log.error("the process that starts workers has ended: draining")
            self._stop.set()
        self._changed.set()

    # -- reload --------------------------------------------------------------------------------------

    def reload(self) -> bool:
        """Load the configuration anew, everywhere. False while it starts or stops."""
        if not self._all_started or self._stop.is_set():
            return False
        self._reloading = self._loop.create_task(self._reload_all(self._reloading))
        return True

    async def _reload_all(self, before: "asyncio.Task[None] | None") -> None:
        if before is not None:
            await asyncio.wait([before])  # one at a time
        if await self._reload_good():
            self.reloads.done()
        else:
            self.reloads.failed()

    async def _reload_good(self) -> bool:
        """Try the configuration out once, where nobody is served; only a good one goes to the workers.

        Whether it is now the one in use.
        """
        await self._changes.seen()
        self._checked = self._loop.create_future()
        self._checks += 1
        self._fork_server.send({"do": "check", "number": self._checks})
        try:
            checked = await asyncio.wait_for(self._checked, CHECK)
        except TimeoutError:
            tell([f"it took more than {CHECK:.0f} s to try it out"])
            return False
        if "raised" in checked:
            log.error("configuration not reloaded", extra={"fields": checked["raised"]})
            return False
        if "problems" in checked:
            tell(checked["problems"])
            return False
        slots = [slot for slot in self._slots.values() if slot.started and slot.channel is not None]
        told = [slot.channel for slot in slots]
        for slot in slots:
            slot.reloaded = self._loop.create_future()
            self._tell_to_reload(slot)
        waits = [slot.reloaded for slot in slots if slot.reloaded is not None]
        if waits:
            await asyncio.wait(waits, timeout=CHECK)
        failed = [slot.number for slot in slots if slot.reloaded is None or not _well(slot.reloaded)]
        kept = len(failed) < len(slots) or not slots
        if kept:
            self._fork_server.send({"do": "keep"})  # for those that are started from now on
            self._reloads += 1
            for slot in self._slots.values():
                if slot in slots and slot.channel in told:
                    slot.reloads = self._reloads
                elif slot.started:
                    self._catch_up(slot)
            self._patience = checked["patience"]
            self._files = [Path(file) for file in checked["files"]]
            log.info("configuration reloaded", extra={"fields": {"plugins": ",".join(checked["plugins"])}})
            for name in checked["stays"]:
                log.warning("needs a restart", extra={"fields": {"setting": name}})
        if failed:
            # What went wrong the worker has said itself.
            log.error("configuration not reloaded", extra={"fields": {"of_workers": failed}})
        for slot in slots:
            if kept and slot.number in failed and slot.channel in told:
                self._replace(slot)
        return kept

    def _replace(self, slot: Slot) -> None:
        """Let one that could not follow the others drain; who takes its place begins with what they have."""
        if slot.channel is not None and not self._stop.is_set():
            log.warning("worker replaced", extra={"fields": {"of_worker": slot.number}})
            slot.channel.send({"do": "stop"})

    def _tell_to_reload(self, slot: Slot) -> None:
        self._asked += 1
        slot.asked = self._asked
        if slot.channel is not None:
            slot.channel.send({"do": "reload", "number": slot.asked})

    def _catch_up(self, slot: Slot) -> None:
        """One that was forked before a reload and started after it has the old configuration."""
        if slot.reloads < self._reloads and slot.channel is not None:
            slot.reloads = self._reloads
            self._tell_to_reload(slot)


def _well(reloaded: "asyncio.Future[bool]") -> bool:
    return reloaded.done() and reloaded.result()


def _reap() -> None:
    """As process 1 of a container we inherit whoever loses its parent."""
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


class _Figures(Collector):
    """What `/metrics` says of the workers themselves."""

    def __init__(self, slots: Mapping[int, Slot]) -> None:
        self._slots = slots

    def collect(self) -> Iterator[Metric]:
        up = GaugeMetricFamily("weir_worker_up", "Whether this worker serves.", labels=["worker"])
        restarts = CounterMetricFamily(
            "weir_worker_restarts", "How often this worker has ended by itself.", labels=["worker"]
        )
        for slot in self._slots.values():
            up.add_metric([str(slot.number)], slot.started)
            restarts.add_metric([str(slot.number)], slot.restarts)
        yield from (up, restarts)
