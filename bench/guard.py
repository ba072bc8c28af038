"""The guard against getting slower: instructions, which are the same whatever else the machine does.

    python -m bench.guard            # compare with bench/guard.json; status 1 for a rise above 5 %
    python -m bench.guard --update   # write bench/guard.json
    python -m bench.guard --hops     # what each plugin adds; writes docs/benchmarks/hops.json
    python -m bench.guard --gate     # what the guards add to a request; writes docs/benchmarks/gate.json

Counted by valgrind's callgrind, outside the kernel: one forwarded chat and one event of a stream, each as the
difference of a longer and a shorter load, so that what is not of them drops out.
"""

import argparse
import platform
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import orjson

from . import report, ungated, weir
from .lockstep import Lockstep
from .process import BenchError, Process, claim, listens, until

KEPT = Path(__file__).with_name("guard.json")
RISE = 0.05
"""Of a figure, that is reported."""
CHATS = (50, 200)
"""Of the shorter load and the longer."""
EVENTS = (20, 120)
"""Of the streams of the shorter load and the longer, `STREAMS` each."""
STREAMS = 2
WARM = 300
"""Chats before anything is counted: caches, compiled code, connections."""
AT_REST = 10.0
"""Seconds in which timers are counted."""
_START = 120.0
_TIMES = 3
FEW = (20, 60)
"""As `CHATS`, where a difference is sought that is a hundredth of them."""
_FINE_TIMES = 9
_PROGRAMS = 3
"""Programs of which the median counts: each lays out its memory in another way, which is worth half a
percent."""
_TOTAL = re.compile(rb"^totals: (\d+)", re.MULTILINE)
SETTINGS = {"auth alone": ["auth"], "all five plugins": list(weir.PLUGINS)}
GATE = "gate.json"


class Counted:
    """A Python module under callgrind, which counts only while it is told to."""

    def __init__(
        self,
        command: Sequence[str],
        folder: Path,
        env: dict[str, str],
        *,
        by: Sequence[str] = ("-m", "bench.unhurried"),
    ) -> None:
        valgrind = shutil.which("valgrind")
        if valgrind is None:
            raise BenchError("there is no valgrind; on Debian: apt-get install valgrind")
        self._dumps = folder / "callgrind"
        for old in folder.glob("callgrind*"):
            old.unlink()
        options = ["--tool=callgrind", "--instr-atstart=no", f"--callgrind-out-file={self._dumps}"]
        environment = {"PYTHONHASHSEED": "0", "PYTHONPATH": str(report.ROOT), **env}
        self.process = Process(
            "weir",
            [valgrind, *options, sys.executable, *by, *command],
            folder,
            env=environment,
        )
        self._taken = 0

    def count(self, work: Callable[[], None]) -> int:
        """The instructions of the program while it does this."""
        self._control("--instr=on")
        work()
        self._control("--instr=off")
        self._control("--dump")
        self._taken += 1
        found = _TOTAL.search(self._dumps.with_name(f"{self._dumps.name}.{self._taken}").read_bytes())
        if found is None:
            raise BenchError("callgrind wrote no total")
        return int(found[1])

    def _control(self, option: str) -> None:
        command = ["callgrind_control", option, str(self.process.pid)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        if done.returncode or "OK" not in done.stdout:
            said = (done.stdout + done.stderr).strip().splitlines() or ["it said nothing"]
            raise BenchError(f"callgrind_control failed: {said[-1]}")


def _started(program: Counted, port: int, listening: socket.socket) -> Lockstep:
    process = program.process
    if not until(lambda: process.ended is not None or listens(port), _START) or process.ended is not None:
        raise BenchError(f"what is measured did not start: {process.last_line}")
    return Lockstep(port, listening)


def measure(program: Counted, port: int, listening: socket.socket, *, fine: bool = False) -> dict[str, int]:
    """Instructions a request and an event of what listens there. With `fine` a request alone, but closer: by
    many short loads, of which few are disturbed."""
    both = _started(program, port, listening)

    def chats(count: int) -> Callable[[], None]:
        return partial(both.chats, count)

    def streams(events: int) -> Callable[[], None]:
        return partial(both.streams, STREAMS, events)

    def more(few: Callable[[], None], many: Callable[[], None], times: int = _TIMES) -> float:
        """What a longer load takes more than a shorter: the median, since other things may fall into one."""
        return median(program.count(many) - program.count(few) for _ in range(times))

    try:
        chats(WARM)()
        if fine:
            few, many = FEW
            return {"request": round(more(chats(few), chats(many), _FINE_TIMES) / (many - few))}
        streams(EVENTS[0])()
        few, many = CHATS
        request = more(chats(few), chats(many)) / (many - few)
        few, many = EVENTS
        event = more(streams(few), streams(many)) / (many - few) / STREAMS
    finally:
        both.close()
    return {"request": round(request), "event": round(event)}


@contextmanager
def _place(work: Path, port: int) -> Iterator[tuple[Path, socket.socket]]:
    work.mkdir(parents=True, exist_ok=True)
    for wanted in range(port, port + 3):
        claim(wanted, "the guard")
    with socket.create_server(("127.0.0.1", port + 2)) as listening:
        yield work, listening


@contextmanager
def _serving(
    plugins: Sequence[str], work: Path, port: int, module: Sequence[str] = ("proxy",), **options: Any
) -> Iterator[tuple[Counted, socket.socket]]:
    """Weir with these of the built-in plugins, counted, and where its upstream listens."""
    with _place(work, port) as (folder, listening):
        chain = [text for name, text in weir.PLUGINS.items() if name in plugins]
        (folder / "weir.yaml").write_text(weir.config(chain, port=port, upstream=port + 2, late=True))
        program = Counted([*module, "serve", "--config", "weir.yaml"], folder, {}, **options)
        try:
            yield program, listening
        finally:
            program.process.stop(0.5)


def of_weir(
    plugins: Sequence[str], work: Path, port: int, without: Sequence[str] | None = None
) -> dict[str, int]:
    """Weir with these of the built-in plugins. With `without`, a request alone, those guards taken out."""
    module = ["proxy"] if without is None else ["bench.ungated", ",".join(without)]
    with _serving(plugins, work, port, module) as (program, listening):
        return measure(program, port, listening, fine=without is not None)


def of_baseline(work: Path, port: int) -> dict[str, int]:
    """See `bench.baseline`."""
    flags = "--host 127.0.0.1 --loop uvloop --http httptools --no-access-log --log-level warning"
    flags += " --no-server-header --no-date-header --no-proxy-headers"
    with _place(work, port) as (folder, listening):
        command = ["uvicorn", "bench.baseline:app", "--port", str(port), *flags.split()]
        program = Counted(command, folder, {"UPSTREAM": f"127.0.0.1:{port + 2}"})
        try:
            return measure(program, port, listening)
        finally:
            program.process.stop(0.5)


def _this() -> dict[str, str]:
    return {"python": platform.python_version(), "machine": platform.machine()}


def _keep(path: Path, counted: dict[str, Any]) -> None:
    path.write_bytes(orjson.dumps(counted, option=orjson.OPT_INDENT_2) + b"\n")


def rises(kept: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """What has become slower, by more than `RISE`."""
    found = []
    for setting, figures in kept["instructions"].items():
        for kind, before in figures.items():
            value = now["instructions"][setting][kind]
            if value > before * (1 + RISE):
                found.append(f"{setting}: an {kind}" if kind == "event" else f"{setting}: a {kind}")
                found[-1] += f" takes {100 * value / before - 100:.1f} % more instructions than {before:,}"
    return found


def guard(work: Path, port: int, *, update: bool) -> int:
    """Count, compare or keep; the exit status: 1 for a rise, 2 where there is nothing to compare with."""
    now: dict[str, Any] = {**_this(), "instructions": {}}
    kept = orjson.loads(KEPT.read_bytes()) if KEPT.exists() else None
    if kept is not None and not update:
        then, here = (
            figures["python"].rpartition(".")[0] + " on " + figures["machine"] for figures in (kept, now)
        )
        if then != here:
            raise BenchError(
                f"{KEPT.name} is of Python {then}, this is {here}: not to be compared; see --update"
            )
    for setting, plugins in SETTINGS.items():
        figures = now["instructions"][setting] = of_weir(plugins, work, port)
        for kind, value in figures.items():
            before = kept["instructions"][setting][kind] if kept else value
            sys.stdout.write(f"{setting:17} {kind:8} {value:9,} {100 * value / before - 100:+6.1f} %\n")
            sys.stdout.flush()
    if update:
        _keep(KEPT, now)
        sys.stdout.write(f"wrote {KEPT.name}\n")
        return 0
    if kept is None:
        raise BenchError(f"there is no {KEPT.name} to compare with; --update writes it")
    slower = rises(kept, now)
    for line in slower:
        sys.stderr.write(f"guard: {line}\n")
    return 1 if slower else 0


def hops(work: Path, port: int) -> dict[str, Any]:
    """The chain grown plugin by plugin: what a request and an event take with each."""
    steps = [{"hop": "sockets and HTTP, as in `bench/baseline.py`", **of_baseline(work, port)}]
    chain: list[str] = []
    steps.append({"hop": "Weir's engine, no plugin", **of_weir(chain, work, port)})
    for name in weir.PLUGINS:
        chain.append(name)
        steps.append({"hop": f"`{name}`", **of_weir(chain, work, port)})
    return {**_this(), "steps": steps}


def gate(work: Path, port: int) -> dict[str, Any]:
    """What a chat through all five plugins takes, without any guard, and what each of them adds by itself."""

    def request(*without: str) -> int:
        """Without timers: under valgrind they would fall into few requests, and into each more often."""
        return of_weir(list(weir.PLUGINS), work, port, (*without, ungated.TIMERS))["request"]

    names = [name for name in ungated.GUARDS if name != ungated.TIMERS]
    found: dict[str, Any] = {
        "request": median(request() for _ in range(_PROGRAMS)),
        "unguarded": median(request(*names) for _ in range(_PROGRAMS)),
    }
    found["timers_a_second"] = timers(work, port)
    found["guards"] = [{"guard": name, "instructions": found["request"] - request(name)} for name in names]
    return {**_this(), **found}


def timers(work: Path, port: int) -> int:
    """What all that runs by the clock takes in a second, with a connection on either side at rest."""
    with _serving(list(weir.PLUGINS), work, port, by=["-m"]) as (program, listening):
        both = _started(program, port, listening)
        both.chats(CHATS[0])
        counted = program.count(partial(time.sleep, AT_REST))
        both.close()
        return round(counted / AT_REST)


def shares(counted: dict[str, Any]) -> Iterator[str]:
    """The lines of what was counted: instructions, and per cent of a request without guards."""
    without = counted["unguarded"]
    added = [(each["guard"], each["instructions"]) for each in counted["guards"]]
    for name, value in [*added, ("all guards together", counted["request"] - without)]:
        yield f"{name:22} {value:9,} {100 * value / without:6.1f} %\n"
    yield f"{'timers, a second':22} {counted['timers_a_second']:9,}\n"


def main(said: Sequence[str]) -> int:
    """The exit status; see the module."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.guard", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--update", action="store_true", help="write the figures to be compared with")
    parser.add_argument(
        "--hops", action="store_true", help="count what each plugin adds, for docs/performance.md"
    )
    parser.add_argument("--gate", action="store_true", help="count what the guards add to a request")
    parser.add_argument("--port", type=int, default=9180, help="the first of three ports")
    parser.add_argument("--work", type=Path, default=report.ROOT / "build" / "guard", help="where Weir runs")
    options = parser.parse_args(said)
    work = options.work.absolute()
    try:
        if options.gate:
            counted = gate(work, options.port)
            _keep(report.OUT / GATE, counted)
            sys.stdout.writelines(shares(counted))
            return 0
        if not options.hops:
            return guard(work, options.port, update=options.update)
        counted = hops(work, options.port)
        _keep(report.OUT / report.HOPS, counted)
        report.write()
        sys.stdout.write(report.hops(counted, None))
    except BenchError as error:
        sys.stderr.write(f"guard: {error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
