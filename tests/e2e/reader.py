"""Somebody who goes through a page: files saved, commands and snippets run, what it shows compared."""

import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx2

from tests.pages import ROOT, Fence, commands, fences

from .command import CLEAN, two_ports

# What the tests run in is installed already; nothing is to be installed anew.
_MAKE = "make -o .venv/.run -o .venv/.dev"
_EXCEPTED = re.compile(r"make test|docker |helm ")
_INSTALL = re.compile(r"(\S*pip|npm) install (.*)")
_SERVE = re.compile(r"(make run|(\S*/)?weir serve)\b")
_INSTALLED = "import sys, importlib.metadata as m; [m.version(name) for name in sys.argv[1:]]"


class Reader:
    """Does what a page says, on free ports, in a folder of their own."""

    def __init__(self, folder: Path, upstream: str | None = None) -> None:
        """`upstream`, like http://127.0.0.1:1234, takes the place of each provider's host; None of none."""
        self.folder = folder
        self.port = two_ports()
        self.env = {**CLEAN, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
        self.python = sys.executable
        """What snippets are run by; it has what the page tells to install by pip."""
        self.node_modules: Path | None = None
        """What the page tells to install by npm is in here."""
        self.did: list[str] = []
        """The commands, by their first two words, and the languages of the snippets."""
        self.told = ""
        """What the last command or snippet has written."""
        self._upstream = upstream
        self._server: subprocess.Popen[bytes] | None = None
        (folder / "Makefile").write_bytes((ROOT / "Makefile").read_bytes())
        (folder / ".venv").symlink_to(sys.prefix)

    def read(self, page: Path, *, outputs: bool = False) -> None:
        """Every block in order; with `outputs`, those of text are what the command before has written."""
        for fence in fences(page):
            if fence.language == "text" and outputs:
                for line in fence.text.splitlines():
                    assert line in self.told, f"{page.name}:{fence.line}: {line!r} is not in {self.told}"
            else:
                self.block(fence)

    def block(self, fence: Fence) -> None:
        if name := _file(fence):
            (self.folder / name).write_text(self.moved(fence.text))
        elif fence.language == "sh":
            for command in commands(fence.text):
                self.do(command)
        elif fence.language == "python":
            self._snippet("python", [self.python, "-W", "error", "-c", self.moved(fence.text)])
        elif fence.language == "js":
            assert self.node_modules is not None
            with suppress(FileExistsError):
                (self.folder / "node_modules").symlink_to(self.node_modules)
            (self.folder / "hello.mjs").write_text(self.moved(fence.text))
            self._snippet("js", ["node", "hello.mjs"])

    def do(self, command: str) -> None:
        name = " ".join(command.split()[:2])
        if command.startswith("export "):
            for pair in command.split()[1:]:
                variable, _, value = pair.partition("=")
                self.env[variable] = value if variable != "PATH" else self.env["PATH"]
        elif _SERVE.match(command):
            self._serve(re.sub("^make", _MAKE, command))
        elif install := _INSTALL.match(command):
            self._has(install[1], shlex.split(install[2]))
        elif not _EXCEPTED.match(command):
            command = self.moved(re.sub("^make", _MAKE, command))
            self.run(["bash", "-euo", "pipefail", "-c", command])
            if name.endswith("weir check"):
                assert self.told.splitlines()[-1] == "ok"
            elif name.startswith("kill"):
                self.wait_for("configuration reloaded")
        self.did.append(name)

    def run(self, command: list[str]) -> None:
        """A command to its end; it must succeed."""
        done = subprocess.run(
            command, cwd=self.folder, env=self.env, capture_output=True, text=True, timeout=90, check=False
        )
        self.told = done.stdout
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}{self.out}"

    def get(
        self, path: str, headers: Mapping[str, str] | None = None, *, management: bool = False
    ) -> httpx2.Response:
        return httpx2.get(f"http://127.0.0.1:{self.port + management}{path}", headers=headers, timeout=10)

    def wait_for(self, text: str) -> None:
        """Until the server has written this."""
        deadline = time.monotonic() + 10
        while text not in self.out:
            assert time.monotonic() < deadline, self.out
            time.sleep(0.02)

    @property
    def out(self) -> str:
        """What the server has written."""
        path = self.folder / "out"
        return path.read_text() if path.exists() else ""

    def moved(self, text: str) -> str:
        """The same with the ports, and the providers, that are there."""
        text = text.replace(":3006", f":{self.port}").replace(":3007", f":{self.port + 1}")
        if self._upstream is None:
            return text
        return re.sub(r"(base_url: )https?://[^/\s]+", rf"\g<1>{self._upstream}", text)

    def stop(self) -> None:
        if self._server is not None:
            with suppress(ProcessLookupError):
                os.killpg(self._server.pid, signal.SIGKILL)
            self._server.wait()
            self._server = None
            deadline = time.monotonic() + 10
            while self._listens():
                assert time.monotonic() < deadline
                time.sleep(0.02)

    def _snippet(self, language: str, command: list[str]) -> None:
        self.run(command)
        self.did.append(language)
        assert len(self.told) > 20, f"the snippet wrote next to nothing: {self.told!r}"

    def _has(self, installer: str, packages: list[str]) -> None:
        """A page says to install these: they are there already, where its snippets run."""
        if installer == "npm":
            assert self.node_modules is not None
            assert [name for name in packages if not (self.node_modules / name).is_dir()] == []
        elif packages[0] != "-e":
            self.run([self.python, "-c", _INSTALLED, *packages])

    def _serve(self, command: str) -> None:
        self.stop()
        with (self.folder / "out").open("wb") as out:
            self._server = subprocess.Popen(
                ["bash", "-c", f"{command}\nwait"],
                cwd=self.folder,
                env={**self.env, "PORT": str(self.port)},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )
        deadline = time.monotonic() + 20
        while not self._listens():
            assert self._server.poll() is None, self.out
            assert time.monotonic() < deadline, self.out
            time.sleep(0.05)

    def _listens(self) -> bool:
        with suppress(ConnectionError), socket.create_connection(("127.0.0.1", self.port), timeout=1):
            return True
        return False


def _file(fence: Fence) -> str | None:
    """The file that a block is to be saved as: it says so itself, or is the configuration."""
    named = re.match(r"# (\w+\.\w+)\n", fence.text)
    return named[1] if named else "weir.yaml" if fence.language == "yaml" else None


@contextmanager
def reader(folder: Path, upstream: str | None = None) -> Iterator[Reader]:
    somebody = Reader(folder, upstream)
    try:
        yield somebody
    finally:
        somebody.stop()
