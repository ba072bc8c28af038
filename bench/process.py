"""A program that the bench started: its processes' CPU and memory from /proc, its last words, and its end."""

import ctypes
import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

TICK = os.sysconf("SC_CLK_TCK")
_PSS = re.compile(r"^Pss:\s+(\d+) kB", re.MULTILINE)
_PR_SET_PDEATHSIG = 1


class BenchError(Exception):
    """Why the benchmark cannot go on, in one line for its user."""


class Cpu(NamedTuple):
    """Seconds of CPU, in the program and in the kernel for it."""

    user: float
    system: float

    @property
    def total(self) -> float:
        return self.user + self.system


def processes(root: int) -> dict[int, Cpu]:
    """A process and all below it; a process's CPU has that of its ended children."""
    found: dict[int, tuple[int, Cpu]] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with suppress(OSError):
                fields = Path("/proc", entry, "stat").read_text().rpartition(")")[2].split()
                user, system, waited_user, waited_system = map(int, fields[11:15])
                cpu = Cpu((user + waited_user) / TICK, (system + waited_system) / TICK)
                found[int(entry)] = (int(fields[1]), cpu)
    tree = {root} & found.keys()
    new = tree
    while new:
        new = {pid for pid, (parent, _) in found.items() if parent in new}
        tree = tree | new
    return {pid: found[pid][1] for pid in tree}


def busy() -> float:
    """Seconds of CPU that the whole machine has spent, or was robbed of by its host."""
    with open("/proc/stat") as file:
        user, nice, system, _, _, irq, softirq, steal = map(int, file.readline().split()[1:9])
    return (user + nice + system + irq + softirq + steal) / TICK


def cpu_model() -> str:
    """What the machine calls its processor."""
    found = re.search(r"^model name\s*: (.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return found[1] if found else os.uname().machine


class Process:
    """Started at once, in `folder`, where its output is kept; it ends with the bench, whatever ends that."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        folder: Path,
        *,
        env: Mapping[str, str] | None = None,
        cpus: set[int] | None = None,
    ) -> None:
        self.name = name
        self._log = folder / "output.log"
        with self._log.open("wb") as log:
            self._popen = subprocess.Popen(
                command,
                cwd=folder,
                env={**os.environ, **(env or {})},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=_of_the_bench(cpus),
            )
        self.pid = self._popen.pid

    @property
    def ended(self) -> int | None:
        """Its exit status, None while it runs."""
        return self._popen.poll()

    @property
    def last_line(self) -> str:
        """What it said last, but for valgrind."""
        lines = self._log.read_text(errors="replace").split("\n")
        said = (line.strip()[:300] for line in reversed(lines) if not line.startswith("=="))
        return next(filter(None, said), "it said nothing")

    def cpu(self) -> Cpu:
        """Of all its processes, since it began."""
        spent = processes(self.pid).values()
        return Cpu(sum(cpu.user for cpu in spent), sum(cpu.system for cpu in spent))

    def memory(self) -> int:
        """Bytes of all its processes, what they share with others in parts (PSS)."""
        total = 0
        for pid in processes(self.pid):
            with suppress(OSError):
                found = _PSS.search(Path("/proc", str(pid), "smaps_rollup").read_text())
                total += int(found[1]) * 1024 if found else 0
        return total

    def stop(self, within: float = 5.0) -> None:
        """With all its processes; killed where it does not end in time."""
        below = set(processes(self.pid)) - {self.pid}
        if self.ended is None:
            self._popen.terminate()
            with suppress(subprocess.TimeoutExpired):
                self._popen.wait(within)
        if self.ended is None:
            self._popen.kill()
            self._popen.wait()
        for pid in below:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def _of_the_bench(cpus: set[int] | None) -> Callable[[], None]:
    libc = ctypes.CDLL(None)

    def prepare() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if cpus:
            os.sched_setaffinity(0, cpus)

    return prepare


def until(done: Callable[[], bool], within: float) -> bool:
    """Look every 50 ms, for so many seconds; whether it came to be."""
    deadline = time.monotonic() + within
    while not done():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def claim(port: int, name: str) -> None:
    """A port must be free. Raises BenchError."""
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind(("127.0.0.1", port))
        except OSError:
            raise BenchError(
                f"port {port}, for {name}, is taken; choose where the ports begin with --port"
            ) from None


def listens(port: int) -> bool:
    """Whether somebody does, on loopback."""
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0
