"""The real command as a subprocess, from its configuration to its exit code."""

import asyncio
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

import orjson
from ruamel.yaml import YAML

from tests.ports import free_ports

from .client import RawClient, get
from .framing import RawResponse
from .wire import until

COMMAND = (sys.executable, "-m", "proxy", "serve")


class Process:
    """`python -m proxy serve` on free ports, ready when entered, gone with its children when left.

    The configuration is `listen`, `management` and, with a `base_url`, one upstream named "up" (`upstream`
    adds to that entry); `config` adds to the top level or replaces what is there. It runs in a folder of its
    own with JSON logs and none of the caller's WEIR_*, OPENAI_*, OTEL_* and proxy variables. A server that
    ended by itself fails the test on exit; when the test failed anyway, the end of its stderr is its note.
    """

    def __init__(
        self,
        base_url: str | None = None,
        *,
        upstream: Mapping[str, object] | None = None,
        config: Mapping[str, object] | None = None,
        env: Mapping[str, str] | None = None,
        arguments: Sequence[str] = (),
        command: Sequence[str] = COMMAND,
        start_within: float = 15.0,
    ) -> None:
        self.port, self.management = free_ports(2)
        self.config: dict[str, object] = {
            "listen": f"127.0.0.1:{self.port}",
            "management": f"127.0.0.1:{self.management}",
        }
        if base_url is not None:
            self.config["upstreams"] = [{"name": "up", "base_url": base_url, **(upstream or {})}]
        # Unless a test asks for more, what is looked at is Weir itself.
        self.config |= {"plugins": ["auth"], **(config or {})}
        self._env = {k: v for k, v in os.environ.items() if not _is_ours(k)}
        self._env |= {"WEIR_LOG_FORMAT": "json", "PYTHONUNBUFFERED": "1", **(env or {})}
        self._command = command
        self._arguments = arguments
        self._start_within = start_within
        self._may_end = False

    async def __aenter__(self) -> Self:
        self._folder = tempfile.TemporaryDirectory(prefix="weir-faults-")
        self.folder = Path(self._folder.name)
        try:
            self.write_config()
            self._start()
            await self._ready()
        except BaseException:
            self._end()
            raise
        return self

    async def __aexit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        code = self._popen.poll()
        tail = self._tail()
        self._end()
        if error is not None:
            error.add_note(tail)
        elif code is not None and not self._may_end:
            raise AssertionError(f"the server ended by itself with {code}\n{tail}")

    # -- talking to it

    def client(self, **options: Any) -> RawClient:
        """A client of the data port; options as RawClient's."""
        return RawClient(self.port, **options)

    async def get(self, path: str, *, management: bool = False) -> RawResponse:
        """One GET on a connection of its own."""
        async with RawClient(self.management if management else self.port) as c:
            return await c.ask(get(path))

    # -- what it says

    @property
    def stderr(self) -> str:
        """All it has written to stderr (and stdout) so far."""
        return (self.folder / "stderr").read_text(errors="replace")

    @property
    def logs(self) -> list[dict[str, Any]]:
        """Its JSON log lines so far; what is not JSON is left out."""
        found = []
        for line in self.stderr.splitlines():
            with suppress(orjson.JSONDecodeError):
                entry = orjson.loads(line)
                if isinstance(entry, dict):
                    found.append(entry)
        return found

    async def logged(self, timeout: float = 2.0, **fields: object) -> dict[str, Any]:
        """Wait for a log line that has these fields; the first such line."""
        found: list[dict[str, Any]] = []

        def look() -> bool:
            found[:] = [e for e in self.logs if fields.items() <= e.items()]
            return bool(found)

        await until(look, timeout, lambda: f"a log line with {fields}\n{self._tail()}")
        return found[0]

    # -- what it holds

    @property
    def pid(self) -> int:
        return self._popen.pid

    @property
    def alive(self) -> bool:
        """Whether the parent process has not ended."""
        return self._popen.poll() is None

    def rss(self) -> int:
        """Resident memory of the parent process now, in bytes."""
        return self._status("VmRSS") * 1024

    def peak_rss(self) -> int:
        """The highest resident memory of the parent process so far, in bytes."""
        return self._status("VmHWM") * 1024

    def fds(self) -> int:
        """Open file descriptors of the parent process. A database's files do not count: a pool keeps as many
        of them open as were once needed at a time."""
        open_files = 0
        for fd in Path(f"/proc/{self.pid}/fd").iterdir():
            with suppress(FileNotFoundError):
                open_files += ".db" not in fd.readlink().name
        return open_files

    # -- its life

    def write_config(self, **changes: object) -> Path:
        """Write the configuration anew, with changes to its top level: for reloads."""
        self.config |= changes
        path = self.folder / "weir.yaml"
        with path.open("wb") as file:
            YAML(typ="safe", pure=True).dump(self.config, file)
        return path

    def signal(self, sig: int) -> None:
        """Send a signal to the parent process; one that ends processes lets it end."""
        self._may_end |= sig in (
            signal.SIGTERM,
            signal.SIGINT,
            signal.SIGQUIT,
            signal.SIGKILL,
            signal.SIGABRT,
        )
        self._popen.send_signal(sig)

    async def wait(self, timeout: float = 10.0) -> int:
        """Wait until it has ended; its exit code, minus the signal's number where one killed it."""
        self._may_end = True
        await until(lambda: not self.alive, timeout, lambda: f"the exit\n{self._tail()}")
        return int(self._popen.returncode)

    async def stop(self, timeout: float = 10.0) -> int:
        """SIGTERM, then wait(); AssertionError when it does not end in time."""
        self.signal(signal.SIGTERM)
        return await self.wait(timeout)

    def _start(self) -> None:
        with (self.folder / "stderr").open("wb") as stderr:
            self._popen = subprocess.Popen(
                [*self._command, "--config", str(self.folder / "weir.yaml"), *self._arguments],
                cwd=self.folder,
                env=self._env,
                stdin=subprocess.DEVNULL,
                stdout=stderr,
                stderr=stderr,
                start_new_session=True,
            )

    async def _ready(self) -> None:
        async def healthy() -> None:
            while self.alive:
                with suppress(ConnectionError, AssertionError):
                    if (await self.get("/health")).status == 200:
                        return
                await asyncio.sleep(0.02)

        try:
            await asyncio.wait_for(healthy(), self._start_within)
        except TimeoutError:
            raise AssertionError(
                f"GET /health was not 200 within {self._start_within} s\n{self._tail()}"
            ) from None
        if (code := self._popen.poll()) is not None:
            raise AssertionError(f"the server ended with {code} while starting\n{self._tail()}")

    def _tail(self) -> str:
        return "stderr of the server:\n" + self.stderr[-8000:]

    def _status(self, name: str) -> int:
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith(name + ":"):
                return int(line.split()[1])
        raise AssertionError(f"no {name}: the process has ended")

    def _end(self) -> None:
        """Kill whatever is left of it and of its children."""
        if hasattr(self, "_popen"):
            with suppress(ProcessLookupError):
                os.killpg(self._popen.pid, signal.SIGKILL)
            self._popen.wait()
        self._folder.cleanup()


def _is_ours(name: str) -> bool:
    own = ("WEIR_", "OPENAI_", "OTEL_")
    return name.startswith(own) or name in ("PORT", "HOST") or name.lower().endswith("_proxy")
