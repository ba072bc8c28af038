"""`weir demo` in somebody's first minute: on a terminal, into a file, at a Weir of their own."""

import os
import pty
import re
import select
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from tests.faults.process import Process
from tests.ports import free_ports

from .command import CLEAN, Command, run
from .twins import demo_upstream

pytestmark = pytest.mark.slow

DEMO = ("-m", "proxy", "demo")
KEY = "a-long-client-key"


def test_into_a_file_it_is_plain_lines(tmp_path: Path) -> None:
    ended = run(*DEMO, folder=tmp_path, env={"OPENAI_API_KEY": "sk-not-used-0123"}, within=60)
    assert (ended.status, ended.stderr) == (0, "")
    told = ended.stdout
    assert told.isascii()
    assert not re.search(r"[\x00-\x09\x0b-\x1f]", told)
    order = (
        "you    What does a weir do?\n",
        "Hello from Weir's demo upstream!",
        "  tokens    ",
        "  estimate  ",
        "  cost      $",
        "  time      auth",
        "            upstream",
        "            first text after ",
        "requests left",
        "  200  ",
        "  429  rate_limit_exceeded: ",
        "  it says to wait for ",
        "  200  ",
        "weir init",
    )
    assert re.search("(?s)" + ".*".join(map(re.escape, order)), told), told
    assert list(tmp_path.iterdir()) == []


def test_the_figures_are_those_of_the_price_table(tmp_path: Path) -> None:
    told = run(*DEMO, "Hello!", folder=tmp_path, within=60).stdout
    tokens = re.search(r"tokens +(\d+) in, (\d+) out", told)
    assert tokens is not None
    micro = int(tokens[1]) * 0.15 + int(tokens[2]) * 0.6
    cost = re.search(r"cost +\$([0-9.]+)", told)
    assert cost is not None, told
    assert float(cost[1]) == pytest.approx(micro / 1e6)
    assert re.search(r"estimate +\d+ in \(counted\), at most \$0\.\d+", told)


class Terminal:
    """A command on a terminal of 80 columns."""

    def __init__(self, *arguments: str, folder: Path, **env: str) -> None:
        self._ours, theirs = pty.openpty()
        self.process = subprocess.Popen(
            [sys.executable, *arguments],
            cwd=folder,
            env={**CLEAN, "TERM": "xterm", "COLUMNS": "80", "PYTHONIOENCODING": "utf-8", **env},
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
        )
        os.close(theirs)
        self.seen = b""

    def read_until(self, text: str, within: float = 60.0) -> float:
        """Until it has shown this, or it ends; when that was."""
        deadline = time.monotonic() + within
        while text.encode() not in self.seen:
            assert time.monotonic() < deadline, self.seen
            if select.select([self._ours], [], [], 0.1)[0]:
                try:
                    piece = os.read(self._ours, 65536)
                except OSError:  # Linux's way to say that the other end is closed
                    break
                self.seen += piece
        return time.monotonic()

    def close(self) -> None:
        os.close(self._ours)
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


def test_on_a_terminal_it_is_drawn_and_comes_word_by_word(tmp_path: Path) -> None:
    terminal = Terminal(*DEMO, folder=tmp_path)
    try:
        first = terminal.read_until("Hello")
        assert b"(429" not in terminal.seen
        whole = terminal.read_until("a real one.")
        assert whole - first > 0.3, "the answer came at once"
        terminal.read_until("weir init, then weir serve")
        terminal.read_until("\0", within=20)  # to its end
        assert terminal.process.wait(20) == 0
        told = terminal.seen.decode()
    finally:
        terminal.close()
    for drawn in ("╭─ ", "╮", "│", "╰", "█", "\x1b[31m\x1b[1m429", "\r  \x1b[33m"):
        assert drawn in told, told
    frame = [
        line for line in re.sub(r"\x1b\[[0-9;]*[mK]", "", told).splitlines() if line[:1] in "╭│╰" and line
    ]
    assert len({len(line) for line in frame}) == 1


def test_ctrl_c_ends_all_of_it(tmp_path: Path) -> None:
    terminal = Terminal(*DEMO, folder=tmp_path, TMPDIR=str(tmp_path))
    try:
        terminal.read_until("Hello")
        (folder,) = tmp_path.glob("weir-demo-*")
        port = re.search(rb"http://127.0.0.1:(\d+)/v1", terminal.seen)
        assert port is not None
        os.killpg(terminal.process.pid, signal.SIGINT)
        assert terminal.process.wait(20) == 130
        terminal.read_until("\0")
    finally:
        terminal.close()
    assert b"Traceback" not in terminal.seen
    assert not folder.exists()
    assert free(int(port[1]))


def free(port: int) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) != 0


def test_it_needs_the_sdk_and_says_so(tmp_path: Path) -> None:
    (tmp_path / "openai.py").write_text("raise ImportError('not installed')\n")
    ended = run(*DEMO, folder=tmp_path, env={"PYTHONPATH": str(tmp_path)})
    assert (ended.status, ended.stdout) == (1, "")
    assert ended.stderr.endswith("which is not installed: pip install openai\n")
    assert ended.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--url", "127.0.0.1:3006"), "is not a URL like http://127.0.0.1:3006/v1"),
        (("--url", "http://"), "is not a URL like"),
        (("--limit",), "go with --url"),
        (("--model", "gpt-4o"), "go with --url"),
    ],
)
def test_wrong_use(tmp_path: Path, arguments: tuple[str, ...], says: str) -> None:
    ended = run(*DEMO, *arguments, folder=tmp_path)
    assert (ended.status, ended.stdout) == (2, "")
    assert says in ended.stderr
    assert "Traceback" not in ended.stderr


def test_nobody_there(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    ended = run(*DEMO, "--url", f"http://127.0.0.1:{port}/v1", folder=tmp_path)
    assert ended.status == 1
    assert ended.stderr == (
        f"weir: http://127.0.0.1:{port}/v1 cannot be reached: [Errno 111] Connection refused\n"
    )


async def test_at_a_weir_of_yours(tmp_path: Path) -> None:
    """With your key there, without using up what others need."""
    (port,) = free_ports(1)
    limits = [{"name": "chat", "requests": "5/hour", "per": "user"}]
    config = {
        "plugins": [
            {"use": "auth", "keys": [{"user": "alice", "key": KEY}]},
            "precost",
            {"use": "limiter", "limits": limits},
            "annotate",
        ]
    }
    with demo_upstream(tmp_path / "up", port) as up:
        async with Process(up, config=config) as weir:
            url = f"http://127.0.0.1:{weir.port}/v1"
            ended = run(*DEMO, "Hi!", "--url", url, folder=tmp_path, env={"OPENAI_API_KEY": KEY}, within=30)
            assert (ended.status, ended.stderr) == (0, "")
            assert 'You said "Hi!"' in ended.stdout
            assert "4 of 5 requests left" in ended.stdout
            assert "429" not in ended.stdout
            limited = run(*DEMO, "--url", url, "--key", KEY, "--limit", folder=tmp_path, within=30)
            assert limited.status == 0
            assert "429  rate_limit_exceeded" in limited.stdout
            assert "too long for a demo" in limited.stdout
            again = run(*DEMO, "--url", url, "--key", KEY, folder=tmp_path, within=30)
            assert again.status == 1
            assert again.stderr.startswith(f"weir: {url} answered 429 rate_limit_exceeded: ")
            stranger = run(*DEMO, "--url", url, "--key", "wrong", folder=tmp_path)
            assert stranger.status == 1
            assert stranger.stderr == (
                f"weir: {url} answered 401 invalid_api_key: Incorrect API key provided.\n"
            )


def test_a_command_that_is_killed_in_its_middle_takes_its_weir_along(tmp_path: Path) -> None:
    with Command(*DEMO, folder=tmp_path / "out", env={"TMPDIR": str(tmp_path)}) as demo:
        demo.wait_for_stdout("Hello", within=60)
        port = re.search(r"http://127.0.0.1:(\d+)/v1", demo.stdout)
        assert port is not None
        assert demo.stop(signal.SIGTERM, within=20) == 143
        assert free(int(port[1]))
    assert list(tmp_path.glob("weir-demo-*")) == []
