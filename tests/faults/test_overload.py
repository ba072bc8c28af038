"""Memory runs short while 500 streams are under way: who comes then is turned away, and all of them go on."""

import os
import signal
import sys
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from .client import chat, get
from .crowd import FIRST, LAST, Crowd, crowd, ends
from .process import COMMAND, Process
from .stage import is_error
from .upstream import RawUpstream
from .wire import until

pytestmark = pytest.mark.slow
STREAMS = 500
MIB = 2**20
Bound = Callable[[Process, bool], Awaitable[None]]
V1 = Path("/sys/fs/cgroup/memory")


@contextmanager
def cgroup() -> Iterator[Path]:
    """One of our own, with 256 MiB. OSError where that is not for us to make."""
    path = V1 / f"weir-test-{os.getpid()}"
    path.mkdir()
    try:
        (path / "memory.limit_in_bytes").write_text(str(256 * MIB))
        yield path
    finally:
        for _ in range(100):
            with suppress(OSError):
                path.rmdir()
                break


def _can() -> bool:
    try:
        with cgroup():
            return True
    except OSError:
        return False


async def by_size(weir: Process, tight: bool) -> None:
    """The process has a size to keep to, which a reload changes."""
    weir.write_config(overload={"memory": f"{max(1, weir.rss() // MIB - 8)}MiB" if tight else "4GiB"})
    weir.signal(signal.SIGHUP)


async def by_cgroup(weir: Process, tight: bool) -> None:
    """Its cgroup has a limit, of which nine tenths are enough."""
    path = V1 / f"weir-test-{os.getpid()}"
    stat = dict(line.split() for line in (path / "memory.stat").read_text().splitlines())
    used = int((path / "memory.usage_in_bytes").read_text()) - int(stat["total_inactive_file"])
    (path / "memory.limit_in_bytes").write_text(str(int(used / 0.94) if tight else 256 * MIB))


BOUNDS: list[Bound] = [by_size, *([by_cgroup] if _can() else [])]


@pytest.mark.fault("F12")
@pytest.mark.parametrize("bound", BOUNDS)
async def test_who_comes_when_memory_is_short_is_refused_and_500_streams_end_well(
    bound: Bound,
) -> None:
    with cgroup() if bound is by_cgroup else nullcontext() as path:
        await _short_of_memory(bound, path)


async def _short_of_memory(bound: Bound, path: Path | None) -> None:
    command: Sequence[str] = COMMAND
    if path is not None:
        inside = f'echo $$ > {path}/cgroup.procs; exec "$0" "$@"'
        command = ("/bin/sh", "-c", inside, sys.executable, *COMMAND[1:])
    script = Crowd()
    async with RawUpstream(script) as up, Process(up.base_url, command=command) as weir:
        idle = weir.rss()
        async with crowd(up, weir.port, STREAMS) as clients:
            assert (weir.rss() - idle) / STREAMS < 256 * 1024
            await bound(weir, True)
            await weir.logged(10, event="overloaded: new requests are turned away", cause="memory")
            async with weir.client() as client:
                for _ in range(300):
                    is_error(await client.ask(chat()), 503, "server_overloaded")
                assert (await client.ask(get("/health"))).status == 200
            assert (await weir.get("/healthz", management=True)).status == 200
            assert script.begun == STREAMS  # who was refused did not reach the upstream
            # However many they are, a line a second tells of them, and no one is left out.
            await until(lambda: _told(weir) == 300, 5, lambda: f"300 in the log, not {_told(weir)}")
            assert len([line for line in weir.logs if line["event"] == "refused"]) < 30
            assert await _shed(weir) == 300
            script.go.set()
            for answered in await ends(clients):
                assert answered.ended == "chunked"
                assert answered.body.startswith(FIRST + LAST)
        await bound(weir, False)
        await weir.logged(10, event="no longer overloaded")
        async with weir.client() as client:
            assert (await client.ask(chat(), timeout=20)).status == 200
        assert await weir.stop() == 143


def _told(weir: Process) -> int:
    """Requests that the log says were refused."""
    lines = [line for line in weir.logs if line["event"] == "refused"]
    return sum(("id" in line) + line.get("more", 0) for line in lines)


async def _shed(weir: Process) -> float:
    text = (await weir.get("/metrics", management=True)).body.decode()
    (family,) = (each for each in text_string_to_metric_families(text) if each.name == "weir_shed_requests")
    return sum(sample.value for sample in family.samples if sample.name.endswith("_total"))
