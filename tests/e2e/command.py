"""A command as somebody would start it: its own folder, a clean environment, stdout and stderr apart."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from tests.ports import free_ports

CLEAN = {
    name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR", "PYTHONPATH") if name in os.environ
}


@dataclass(frozen=True)
class Ended:
    """How a command ended by itself."""

    status: int
    stdout: str
    stderr: str


def run(
    *arguments: str, folder: Path, env: Mapping[str, str] | None = None, stdin: str = "", within: float = 15.0
) -> Ended:
    """A Python command to its end; subprocess.TimeoutExpired when it does not come."""
    return run_any(sys.executable, *arguments, folder=folder, env=env, stdin=stdin, within=within)


def run_any(
    *command: str, folder: Path, env: Mapping[str, str] | None = None, stdin: str = "", within: float = 15.0
) -> Ended:
    """Any command to its end."""
    done = subprocess.run(
        command,
        cwd=folder,
        env={**CLEAN, **(env or {})},
        input=stdin,
        capture_output=True,
        text=True,
        timeout=within,
        check=False,
    )
    return Ended(done.returncode, done.stdout, done.stderr)


class Command:
    """A Python command that runs until it is left; then it is gone, with its children."""

    def __init__(
        self, *arguments: str, folder: Path, env: Mapping[str, str] | None = None, stdout: int | None = None
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._out, self._err = folder / "stdout", folder / "stderr"
        with self._out.open("wb") as out, self._err.open("wb") as err:
            self._popen = subprocess.Popen(
                [sys.executable, *arguments],
                cwd=folder,
                env={**CLEAN, "PYTHONUNBUFFERED": "1", **(env or {})},
                stdin=subprocess.DEVNULL,
                stdout=out if stdout is None else stdout,
                stderr=err,
                start_new_session=True,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if error is not None:
            error.add_note(f"stdout:\n{self.stdout}\nstderr:\n{self.stderr[-8000:]}")
        with suppress(ProcessLookupError):
            os.killpg(self._popen.pid, signal.SIGKILL)
        self._popen.wait()

    @property
    def stdout(self) -> str:
        return self._out.read_text()

    @property
    def stderr(self) -> str:
        return self._err.read_text()

    def wait_listening(self, port: int, within: float = 15.0) -> None:
        """Until something accepts on this port of loopback."""
        deadline = time.monotonic() + within
        while True:
            with suppress(ConnectionError), socket.create_connection(("127.0.0.1", port), timeout=1):
                return
            assert self._popen.poll() is None, f"ended with {self._popen.returncode}: {self.stderr}"
            assert time.monotonic() < deadline, f"nothing listens on {port} after {within} s: {self.stderr}"
            time.sleep(0.01)

    def wait_for_stdout(self, text: str, within: float = 10.0) -> None:
        """Until this has been written to stdout."""
        deadline = time.monotonic() + within
        while text not in self.stdout:
            assert time.monotonic() < deadline, f"no {text!r} in {self.stdout!r}; stderr: {self.stderr}"
            time.sleep(0.01)

    def stop(self, number: int = signal.SIGTERM, within: float = 10.0) -> int:
        """Send a signal; the exit status, minus the signal's number where it killed the process."""
        self._popen.send_signal(number)
        return self._popen.wait(within)


def two_ports() -> int:
    """A free port of loopback with a free one after it: the data port and its management port."""
    for _ in range(100):
        (port,) = free_ports(1)
        with socket.socket() as sock, suppress(OSError):
            sock.bind(("127.0.0.1", port + 1))
            return port
    raise AssertionError("no two free ports in a row")
