"""Turns new requests away while memory is short or the event loop is late, so that running ones can end.

Shedding early is cheap, and the client knows when to come again; an out-of-memory kill costs every stream
there is. A request looks at one attribute.
"""

import asyncio
import os
import time
from collections.abc import Awaitable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry, Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from proxy.api.errors import WeirError
from proxy.core.config import OverloadSettings
from proxy.core.log import log
from proxy.core.seal import sealed

TICK = 0.1
"""Seconds between two looks: a pause may be this much longer than it seems."""
ROW = 5
"""Looks in a row at which the loop has to be late, and then to be in time: one long pause is no overload."""
SELDOM = 3
"""Every so many looks one at the memory."""
RELIEF = 0.95
"""Below this part of its bound memory is enough again."""
SECOND = 1.0
"""Seconds between two lines of the log about those that are turned away, however many they are."""
CAUSES = ("memory", "loop_lag")
_NO_LIMIT = 2**60  # cgroup v1 writes a very large number
_CGROUP = Path("/sys/fs/cgroup")


class Overload:
    """Looks at the process ten times a second. `cause` is why new requests are turned away, or empty."""

    def __init__(self, settings: OverloadSettings) -> None:
        self.settings = settings
        self.cause = ""
        self.shed = dict.fromkeys(CAUSES, 0)
        self._timer: asyncio.TimerHandle | None = None
        self._due = 0.0
        self._looks = 0
        self._late = 0
        self._lagging = False
        self._short = False
        self._told_at = -SECOND
        self._untold = 0

    def start(self, metrics: CollectorRegistry) -> None:
        """Look from now on; on the running loop."""
        metrics.register(_Figures(self))
        self._wait()

    def stop(self) -> None:
        """Look no longer."""
        if self._untold:
            self._tell(time.monotonic(), {})
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def refuse(self, id: str, scope: Any, send: Any) -> Awaitable[None]:
        """Answer one request with a 503, without a look at it."""
        self.shed[self.cause] += 1
        now = time.monotonic()
        if now - self._told_at < SECOND:
            self._untold += 1
        else:
            fields = {"id": id, "address": scope["client"][0] if scope.get("client") else None}
            self._tell(now, fields)
        return _answer(id, send)

    def _tell(self, now: float, fields: dict[str, Any]) -> None:
        """One line, of one request or of none, with how many came since the last one."""
        fields = {"status": 503, "end_reason": "rejected", "end_code": "server_overloaded", **fields}
        if self._untold:
            fields["more"] = self._untold
        log.info("refused", extra={"fields": fields})
        self._told_at, self._untold = now, 0

    def _wait(self) -> None:
        self._due = time.monotonic() + TICK
        self._timer = asyncio.get_running_loop().call_later(TICK, self._look)

    def _look(self) -> None:
        settings = self.settings
        now = time.monotonic()
        if self._untold and now - self._told_at >= SECOND:
            self._tell(now, {})
        self._lagging = self._is_late(now - self._due, settings.loop_lag)
        if self._looks % SELDOM == 0:
            used = None if settings.memory is None else memory(settings.memory)
            self._short = used is not None and used > (RELIEF if self._short else 1.0)
        self._looks += 1
        cause = "memory" if self._short else "loop_lag" if self._lagging else ""
        if cause != self.cause:
            if cause:
                log.warning("overloaded: new requests are turned away", extra={"fields": {"cause": cause}})
            else:
                log.warning("no longer overloaded", extra={"fields": {"cause": self.cause}})
            self.cause = cause
        self._wait()

    def _is_late(self, lag: float, bound: float | None) -> bool:
        if bound is None:
            self._late = 0
            return False
        self._late = max(0, min(2 * ROW, self._late + (1 if lag > bound else -1)))
        return self._late >= ROW if not self._lagging else self._late > 0


async def _answer(id: str, send: Any) -> None:
    error = WeirError(503, "server_overloaded", "Weir is overloaded. Try again soon.", retry_after=1)
    body = error.body()
    headers = [*error.headers(), (b"x-request-id", id.encode()), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 503, "headers": sealed(headers)})
    await send({"type": "http.response.body", "body": body, "more_body": False})


class _Figures(Collector):
    def __init__(self, overload: Overload) -> None:
        self._overload = overload

    def collect(self) -> Iterator[Metric]:
        now = GaugeMetricFamily("weir_overloaded", "Whether new requests are turned away.", labels=["cause"])
        shed = CounterMetricFamily("weir_shed_requests", "Requests turned away.", labels=["cause"])
        for cause in CAUSES:
            now.add_metric([cause], self._overload.cause == cause)
            shed.add_metric([cause], self._overload.shed[cause])
        yield from (now, shed)


# -- memory ----------------------------------------------------------------------------------------------


def memory(bound: float, root: Path = _CGROUP, proc: Path = Path("/proc")) -> float | None:
    """What is used of a bound, 1.0 being all of it; None where the system does not say.

    A float is a part of the tightest limit of our cgroups or, without one, of the machine. An int is bytes
    for this process.
    """
    if isinstance(bound, int):
        used = resident(proc)
        return None if used is None else used / bound
    tightest = max(cgroups(root, proc), default=None)
    if tightest is None:
        used, whole = resident(proc), _field(proc / "meminfo", "MemTotal:")
        tightest = None if used is None or not whole else used / (whole * 1024)
    return None if tightest is None else tightest / bound


def resident(proc: Path = Path("/proc")) -> int | None:
    """Bytes of this process that are in memory."""
    with suppress(OSError, ValueError, IndexError):
        return int((proc / "self" / "statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return None


def cgroups(root: Path = _CGROUP, proc: Path = Path("/proc")) -> Iterator[float]:
    """How much is used of the limit of each of our cgroups that has one, of both versions."""
    with suppress(OSError):
        for line in (proc / "self" / "cgroup").read_text().splitlines():
            number, _, rest = line.partition(":")
            controllers, _, path = rest.partition(":")
            if number == "0" and not controllers:
                yield from _used(root, path, "memory.current", "memory.max", "inactive_file")
            elif "memory" in controllers.split(","):
                names = ("memory.usage_in_bytes", "memory.limit_in_bytes", "total_inactive_file")
                yield from _used(root / "memory", path, *names)


def _used(root: Path, path: str, usage: str, limit: str, cache: str) -> Iterator[float]:
    # A limit further up counts too. In a container the path may be the host's, and only its end is there.
    inner = [part for part in path.split("/") if part and part != ".."]
    for depth in range(len(inner), -1, -1):
        folder = root.joinpath(*inner[:depth])
        with suppress(OSError, ValueError):
            most = int((folder / limit).read_text())  # "max" is none
            if 0 < most < _NO_LIMIT:
                used = int((folder / usage).read_text()) - (_field(folder / "memory.stat", cache) or 0)
                yield max(0, used) / most


def _field(file: Path, name: str) -> int | None:
    with suppress(OSError, ValueError, IndexError):
        for line in file.read_text().splitlines():
            if line.startswith(name):
                return int(line.split()[1])
    return None
