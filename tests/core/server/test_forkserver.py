"""What forks, in a process of its own that the test talks to; and what workers begin with."""

import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import orjson
import pytest

from proxy.core.config import ConfigError, PluginSettings, Settings, UpstreamSettings
from proxy.core.server.forkserver import Template
from proxy.core.server.origin import Origin
from proxy.core.server.run import SETTLE
from proxy.pricing.table import default

UP = UpstreamSettings(base_url="http://127.0.0.1:9")
# A parent that forks three workers: one ends with a status, one is killed, one fails. It says what it heard.
SCRIPT = """
import os, select, signal, socket, sys, time
import orjson
from proxy.core.server import forkserver
from proxy.core.server.accept import Loads
from proxy.core.server.channel import Channel

class Nothing:
    loads = Loads(3)

    class settings:
        class drain:
            grace = 0.0

def work(number, data, channel, template):
    template.loads.has(number, 5)
    if number == 1:
        assert signal.getsignal(signal.SIGCHLD) == signal.SIG_DFL
        data.getsockname()
        Channel(channel).send({"pid": os.getpid(), "of": os.getppid()})
        return 3
    if number == 2:
        time.sleep(60)
    raise RuntimeError("sk-secret in a message")

data = socket.create_server(("127.0.0.1", 0))
alone = socket.create_server(("127.0.0.1", 0))
fork_server, pid = forkserver.fork(work, Nothing(), data, [alone])
heard = []

def listen(until):
    while not until():
        select.select([fork_server], [], [], 10)
        heard.extend(message for message, _ in fork_server.receive())

said = {}
for number in (1, 2, 3):
    ours, theirs = Channel.pair()
    fork_server.send({"do": "fork", "worker": number}, theirs)
    theirs.close()
    said[number] = ours
listen(lambda: sum(m["did"] == "fork" for m in heard) == 3)
pids = {m["worker"]: m["pid"] for m in heard if m["did"] == "fork"}
fork_server.send({"do": "kill", "pid": pids[2]})
fork_server.send({"do": "kill", "pid": os.getpid()})  # none of its own
listen(lambda: sum(m["did"] == "end" for m in heard) == 3)
(first, _), = said[1].receive()
ends = {m["pid"]: m["status"] for m in heard if m["did"] == "end"}
fork_server.close()
forkserver.joined(pid)
print(orjson.dumps({
    "statuses": [ends[pids[number]] for number in (1, 2, 3)],
    "its own": first["pid"] == pids[1] and first["of"] == pid,
    "gone": said[2].receive() is None,
    "least": Nothing.loads.least,
}).decode())
"""


def test_it_forks_says_who_and_says_how_they_end() -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert orjson.loads(done.stdout) == {
        "statuses": [3, -9, 1],
        "its own": True,
        "gone": True,
        "least": 2**31 - 1,
    }
    assert "RuntimeError" in done.stderr
    assert "sk-secret" not in done.stderr


ORPHAN = """
import os, socket, time
from proxy.core.server import forkserver
from proxy.core.server.accept import Loads
from proxy.core.server.channel import Channel

class Nothing:
    loads = Loads(3)

    class settings:
        class drain:
            grace = 0.0

forkserver.SETTLE = forkserver.MARGIN = 0.1

def work(number, data, channel, template):
    time.sleep(60)  # it does not look whether its parent is there

fork_server, pid = forkserver.fork(work, Nothing(), socket.create_server(("127.0.0.1", 0)), [])
ours, theirs = Channel.pair()
fork_server.send({"do": "fork", "worker": 1}, theirs)
while not (heard := fork_server.receive()):
    time.sleep(0.01)
print(heard[0][0]["pid"], flush=True)
fork_server.close()
forkserver.joined(pid)
"""


def test_nobody_outlives_the_parent() -> None:
    done = subprocess.run(
        [sys.executable, "-c", ORPHAN], capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 0, done.stderr
    with pytest.raises(ProcessLookupError):
        os.kill(int(done.stdout), 0)


# -- what workers begin with ---------------------------------------------------------------------------


def settings(*plugins: str, **more: Any) -> Settings:
    named = [PluginSettings(use=use) for use in plugins]
    return Settings.model_validate({"upstreams": [UP], "plugins": named, "workers": 2, **more})


def template(load: Callable[[], Settings]) -> Template:
    return Template(Origin(load, "weir.yaml"), settings(), default())


def test_what_was_tried_counts_when_it_is_kept() -> None:
    new = settings("auth", drain={"delay": 1.0, "grace": 2.0}, workers=3)
    made = template(lambda: new)
    assert made.check() == {
        "plugins": ["auth"],
        "stays": ["workers"],
        "patience": 3.0 + SETTLE,
        "files": [],
    }
    assert made.settings == settings()
    made.keep()
    assert [one.use for one in made.settings.plugins or ()] == ["auth"]
    assert made.settings.workers == 2


def test_what_is_wrong_with_it_is_told_and_never_kept() -> None:
    def broken() -> Settings:
        raise ConfigError(["weir.yaml:1: odd"])

    loads: list[Callable[[], Settings]] = [lambda: settings("auth"), broken]
    made = template(lambda: loads.pop(0)())
    made.check()
    assert made.check() == {"problems": ["weir.yaml:1: odd"]}
    made.keep()
    assert made.settings == settings()


def test_what_raises_is_told_without_its_message() -> None:
    def bug() -> Settings:
        raise RuntimeError("sk-secret")

    said = template(bug).check()
    assert said["raised"]["raised"] == "RuntimeError"
    assert "sk-secret" not in str(said)
