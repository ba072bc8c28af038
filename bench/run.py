"""The benchmark: every target beside the others, in turn, round after round. `make bench` runs it.

    python -m bench.run --rounds 3 --seconds 2 --targets caddy,weir

All targets run all the time and are loaded one after the other, in an order that turns by one each round, so
that a drift of the machine's speed falls on all alike. With more than one core, a target has the last one to
itself, and the upstream and the load share the others. Everything is on 127.0.0.1.
"""

import argparse
import os
import platform
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import orjson

from . import report, targets
from .load import Spec
from .process import BenchError, Cpu, Process, busy, claim, cpu_model, listens, until
from .scenarios import SCENARIOS, SHORT, STREAM, Scenario

PORTS = 3
"""That a target may need, in a row: its own, its management's, and that of what runs beside it."""


@dataclass(frozen=True)
class Running:
    """A target that answers."""

    name: str
    target: targets.Target
    process: Process
    port: int


class Bench:
    """One run."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._options = options
        self._folder: Path = options.work / "run"
        self._port: int = options.port
        cores = sorted(os.sched_getaffinity(0))
        self._target_cpus = {cores[-1]} if len(cores) > 1 else None
        self._load_cpus = set(cores[:-1]) if len(cores) > 1 else None
        self._stack = ExitStack()
        self._left_out: dict[str, str] = {}
        self._running: list[Running] = []
        self._upstream: Process
        self._chats = 0

    def run(self) -> report.Results:
        """From the first process to the end of the last. Raises BenchError."""
        with self._stack:
            self._start()
            names = self._options.scenarios
            taken: dict[str, dict[str, list[dict[str, Any]]]] = {name: {} for name in names}
            for round_ in range(self._options.rounds):
                if round_ and self._options.restart:
                    self._stack.close()
                    self._running.clear()
                    self._start()
                for name in names:
                    self._round(SCENARIOS[name], round_, taken[name])
            memory = {running.name: running.process.memory() for running in self._running}
        return self._results(taken, memory)

    # -- starting

    def _start(self) -> None:
        claim(self._port, "the upstream")
        self._upstream = self._process(
            "upstream", [sys.executable, "-m", "bench.upstream", str(self._port)], self._load_cpus
        )
        if not until(lambda: listens(self._port), 10):
            raise BenchError(f"the upstream does not listen: {self._upstream.last_line}")
        for number, name in enumerate(self._options.targets, 1):
            try:
                self._start_target(name, self._port + 10 * number)
            except targets.Missing as missing:
                self._left_out[name] = str(missing)
                _say(f"left out: {name}: {missing}")
        if not self._running:
            raise BenchError("no target is left to be measured")
        for running in self._running:  # connections, caches, compiled code
            for scenario in (SHORT, STREAM):
                self._load(running.name, scenario, running.port, min(1.0, self._options.seconds))

    def _start_target(self, name: str, port: int) -> None:
        folder = self._folder / name
        folder.mkdir(parents=True, exist_ok=True)
        place = targets.Place(folder, port, self._port, self._options.peers)
        target = targets.TARGETS[name](place)
        for wanted in range(port, port + PORTS):
            claim(wanted, name)
        for file, text in target.files.items():
            (folder / file).write_text(text)
        if target.beside:
            beside = self._process(f"{name}-beside", target.beside, self._load_cpus)
            if not until(lambda: listens(port + PORTS - 1), 10):
                raise BenchError(f"what {name} needs does not listen: {beside.last_line}")
        process = self._process(name, target.command, self._target_cpus, target.env)
        targets.wait(target, process, port)
        targets.verify(name, target, port)
        self._running.append(Running(name, target, process, port))
        _say(f"{name} {target.version} answers")

    def _process(
        self, name: str, command: Sequence[str], cpus: set[int] | None, env: dict[str, str] | None = None
    ) -> Process:
        folder = self._folder / name
        folder.mkdir(parents=True, exist_ok=True)
        process = Process(
            name, command, folder, env={"PYTHONPATH": str(report.ROOT), **(env or {})}, cpus=cpus
        )
        self._stack.callback(process.stop)
        return process

    # -- measuring

    def _round(self, scenario: Scenario, round_: int, taken: dict[str, list[dict[str, Any]]]) -> None:
        self._told(f"events={scenario.events}&gap={scenario.gap}")
        seconds = self._options.seconds * scenario.length
        turn = round_ % len(self._running)
        direct = self._load("upstream", scenario, self._port, seconds) if scenario.paired else None
        for running in self._running[turn:] + self._running[:turn]:
            self._chats = self._told("")
            with _watched(running, self._upstream) as measured:
                measured |= self._load(running.name, scenario, running.port, seconds)
                time.sleep(running.target.settles)
            self._check(running, measured)
            if direct is not None:
                after = self._load("upstream", scenario, self._port, seconds)
                kind = "ttft_" if scenario.stream else ""
                for part in ("p50", "p99"):
                    without = min(direct[kind + part], after[kind + part])
                    measured[f"added_{part}"] = (
                        measured[kind + part] - without if measured["requests"] else None
                    )
                direct = after
            taken.setdefault(running.name, []).append(measured)
            per = 1000 * (measured["user"] + measured["system"]) / max(1, measured["requests"])
            _say(
                f"round {round_ + 1} {scenario.name:6} {running.name:10} {per:7.3f} ms a request, "
                f"{measured['requests']} requests, others used {measured['others']:.2f} cores"
            )

    def _load(self, name: str, scenario: Scenario, port: int, seconds: float) -> dict[str, Any]:
        spec = Spec(scenario.name, port, seconds)
        limit = scenario.ramp + seconds + spec.drain + 20
        cpus = self._load_cpus
        try:
            done = subprocess.run(
                [sys.executable, "-m", "bench.load", orjson.dumps(asdict(spec)).decode()],
                cwd=report.ROOT,
                capture_output=True,
                timeout=limit,
                check=False,
                preexec_fn=(lambda: os.sched_setaffinity(0, cpus)) if cpus else None,
            )
        except subprocess.TimeoutExpired:
            raise BenchError(f"the load on {name} did not end within {limit:g} s") from None
        if done.returncode:
            said = done.stderr.decode(errors="replace").strip().splitlines() or ["it said nothing"]
            raise BenchError(f"the load on {name} failed: {said[-1]}")
        result: dict[str, Any] = orjson.loads(done.stdout)
        if not result["requests"] and port == self._port:
            raise BenchError(f"the upstream does not answer: {result['first_error']}")
        return result

    def _check(self, running: Running, measured: dict[str, Any]) -> None:
        """A target that is gone, or answers by itself, measures nothing."""
        if running.process.ended is not None:
            said = running.process.last_line
            raise BenchError(f"{running.name} ended under load ({running.process.ended}): {said}")
        asked = self._told("") - self._chats
        if asked < measured["requests"]:
            answered = measured["requests"]
            raise BenchError(f"{running.name} answered {answered} chats and asked the upstream for {asked}")
        if measured["errors"]:
            _say(f"{running.name}: {measured['errors']} answers did not count: {measured['first_error']}")

    def _told(self, query: str) -> int:
        """Tell the upstream how to stream; how many chats it has answered."""
        connection = HTTPConnection("127.0.0.1", self._port, timeout=10)
        connection.request("GET", f"/bench?{query}")
        chats = int(orjson.loads(connection.getresponse().read())["chats"])
        connection.close()
        return chats

    # -- telling

    def _results(self, taken: dict[str, Any], memory: dict[str, int]) -> report.Results:
        there = [running.name for running in self._running]
        options = self._options
        return {
            "made": {
                "when": time.strftime("%Y-%m-%d"),
                "command": _command(options),
                "machine": cpu_model(),
                "cores": os.cpu_count(),
                "kernel": platform.release().partition("-")[0],
                "python": platform.python_version(),
                "rounds": options.rounds,
                "seconds": options.seconds,
            },
            "baseline": options.baseline or next(iter(n for n in targets.BASELINES if n in there), there[0]),
            "targets": {
                running.name: {"what": running.target.what, "version": running.target.version}
                for running in self._running
            },
            "left_out": self._left_out,
            "memory": memory,
            "scenarios": taken,
        }


@contextmanager
def _watched(running: Running, upstream: Process) -> Iterator[dict[str, Any]]:
    """Adds what the target spent meanwhile, and how many cores programs outside the bench did."""
    measured: dict[str, Any] = {}
    own = [running.process.cpu(), upstream.cpu(), _ours()]
    machine, start = busy(), time.monotonic()
    yield measured
    seconds = time.monotonic() - start
    machine = busy() - machine
    spent = [
        Cpu(now.user - then.user, now.system - then.system)
        for now, then in zip([running.process.cpu(), upstream.cpu(), _ours()], own, strict=True)
    ]
    measured["user"], measured["system"] = spent[0]
    measured["others"] = max(0.0, (machine - sum(cpu.total for cpu in spent)) / seconds)


def _ours() -> Cpu:
    """Of this process and the loads that ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return Cpu(sum(one.ru_utime for one in used), sum(one.ru_stime for one in used))


def _say(line: str) -> None:
    sys.stderr.write(f"{time.strftime('%H:%M:%S')} {line}\n")
    sys.stderr.flush()


def _names(known: Sequence[str]) -> Any:
    def names(said: str) -> list[str]:
        chosen = [name for name in said.split(",") if name]
        for name in chosen:
            if name not in known:
                raise argparse.ArgumentTypeError(f"there is no {name}; there are {', '.join(known)}")
        return chosen

    return names


def options(said: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.run", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--restart",
        action="store_true",
        help="start all anew for each round: one start of a program may cost a fifth more than the next",
    )
    parser.add_argument(
        "--seconds", type=float, default=2.0, help="of a load; some take half or half as much more"
    )
    usual = [name for name in targets.TARGETS if name not in targets.PEERS]
    parser.add_argument("--targets", type=_names(list(targets.TARGETS)), default=usual)
    parser.add_argument("--scenarios", type=_names(list(SCENARIOS)), default=list(SCENARIOS))
    parser.add_argument("--with-peers", action="store_true", help="LiteLLM too; make bench-peers installs it")
    parser.add_argument("--baseline", choices=list(targets.TARGETS), help="what ratios are against")
    parser.add_argument(
        "--port", type=int, default=9200, help="the first of the ports, of which ten for each target"
    )
    parser.add_argument(
        "--work", type=Path, default=report.ROOT / "build" / "bench", help="where targets run"
    )
    parser.add_argument("--peers", type=Path, default=report.ROOT / "build" / "peers", help="where peers are")
    parser.add_argument("--out", type=Path, default=report.OUT, help="where results go")
    parsed = parser.parse_args(said)
    if parsed.rounds < 1 or parsed.seconds <= 0:
        parser.error("a run has one round or more, of more than 0 seconds")
    if parsed.with_peers:
        parsed.targets += [name for name in targets.PEERS if name not in parsed.targets]
    if parsed.baseline and parsed.baseline not in parsed.targets:
        parser.error(f"--baseline: {parsed.baseline} is not among the targets")
    parsed.work, parsed.peers = parsed.work.absolute(), parsed.peers.absolute()
    return parsed


def _command(chosen: argparse.Namespace) -> str:
    """What measures the same elsewhere."""
    peers = any(name in chosen.targets for name in targets.PEERS)
    said = f"--rounds {chosen.rounds} --seconds {chosen.seconds:g}{' --restart' if chosen.restart else ''}"
    usual = options(["--with-peers"] if peers else [])
    for name in ("targets", "scenarios"):
        if getattr(chosen, name) != getattr(usual, name):
            said += f" --{name} {','.join(getattr(chosen, name))}"
    return f'make {"bench-peers" if peers else "bench"} ARGS="{said}"'


def main(said: Sequence[str]) -> int:
    """Measure and report; the exit status."""
    chosen = options(said)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    try:
        results = Bench(chosen).run()
    except BenchError as error:
        sys.stderr.write(f"bench: {error}\n")
        return 1
    chosen.out.mkdir(parents=True, exist_ok=True)
    (chosen.out / report.RESULTS).write_bytes(orjson.dumps(results, option=orjson.OPT_INDENT_2) + b"\n")
    for path in report.write(chosen.out, report.PAGE if chosen.out == report.OUT else None):
        _say(f"wrote {path}")
    sys.stdout.write(report.full(results))
    wrong = [
        name
        for taken in results["scenarios"].values()
        for name, measured in taken.items()
        if name.startswith("weir") and any(one["errors"] for one in measured)
    ]
    if wrong:
        sys.stderr.write(f"bench: not all answers of {', '.join(sorted(set(wrong)))} counted\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
