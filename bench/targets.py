"""What is measured: each program, how it is started, and whether it answers as it must before it is."""

import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException
from pathlib import Path

import orjson

from . import weir
from .process import BenchError, Process, until
from .scenarios import CLIENT_KEY, MODEL, PATH, SHORT, STREAM, UPSTREAM_KEY
from .upstream import TEXT, WHOLE, streamed

CONF = Path(__file__).with_name("conf")
_SBIN = ":/usr/sbin:/usr/local/sbin"  # where Debian has nginx, and a user's PATH does not lead
_COMMENT = re.compile(rb"^:[^\n]*\n\n?", re.MULTILINE)


class Missing(Exception):
    """A target that cannot be here, and why."""


@dataclass(frozen=True)
class Place:
    """Where a target is to be: its folder, its first port of three, and the upstream's."""

    folder: Path
    port: int
    upstream: int
    peers: Path


@dataclass(frozen=True)
class Target:
    """A program to be started. `beside` is one that it needs, started before; its CPU is not counted.

    What it does within `settles` seconds after its last answer counts for the load. One that `remakes` its
    answers is held to their meaning, any other to their bytes.
    """

    what: str
    command: list[str]
    version: str
    files: dict[str, str] = field(default_factory=dict)
    env: dict[str, str] = field(default_factory=dict)
    beside: list[str] = field(default_factory=list)
    remakes: bool = False
    within: float = 30.0
    settles: float = 0.0


def _conf(name: str, place: Place) -> str:
    text = (CONF / name).read_text()
    values = {
        "run": place.folder,
        "port": place.port,
        "upstream_port": place.upstream,
        "client_key": CLIENT_KEY,
        "upstream_key": UPSTREAM_KEY,
        "model": MODEL,
    }
    for key, value in values.items():
        text = text.replace("{%s}" % key, str(value))  # noqa: UP031 # braces of the files' own stay
    return text


def _program(name: str, how: str) -> str:
    found = shutil.which(name) or shutil.which(name, path=_SBIN)
    if found is None:
        raise Missing(f"there is no {name}; {how}")
    return found


def _version(*command: str) -> str:
    said = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    found = re.search(r"\d+\.\d+[\w.]*", said.stdout + said.stderr)
    return found[0] if found else "?"


def nginx(place: Place) -> Target:
    """What the machine can do: C, one worker."""
    program = _program("nginx", "on Debian: apt-get install nginx-light")
    return Target(
        "nginx, one worker, nothing buffered, one key",
        [program, "-p", str(place.folder), "-c", "nginx.conf", "-e", "error.log"],
        _version(program, "-v"),
        {"nginx.conf": _conf("nginx.conf", place)},
    )


def caddy(place: Place) -> Target:
    """A proxy in Go as people run it."""
    program = _program("caddy", "on Debian: apt-get install caddy")
    return Target(
        "Caddy, on one core, each event flushed, one key",
        [program, "run", "--adapter", "caddyfile", "--config", "Caddyfile"],
        _version(program, "version"),
        {"Caddyfile": _conf("Caddyfile", place)},
        {"GOMAXPROCS": "1", "HOME": str(place.folder)},
    )


def lean(place: Place) -> Target:
    """See `bench.baseline`."""
    import uvicorn

    flags = "--host 127.0.0.1 --loop uvloop --http httptools --no-access-log --log-level warning"
    flags += " --no-server-header --no-date-header --no-proxy-headers --backlog 1024"
    return Target(
        "the least that a Python proxy does: one key, no plugins (`bench/baseline.py`)",
        [sys.executable, "-m", "uvicorn", "bench.baseline:app", "--port", str(place.port), *flags.split()],
        f"uvicorn {uvicorn.__version__}",
        env={"UPSTREAM": f"127.0.0.1:{place.upstream}", "PYTHONPATH": str(CONF.parents[1])},
    )


def _weir(
    what: str,
    plugins: Mapping[str, str],
    place: Place,
    beside: list[str] | None = None,
    state: Path | None = None,
) -> Target:
    """With `state` it has rows to write when the answers are out."""
    import proxy

    return Target(
        what,
        [sys.executable, "-m", "proxy", "serve", "--config", "weir.yaml"],
        proxy.__version__,
        {"weir.yaml": weir.config(plugins.values(), port=place.port, upstream=place.upstream, state=state)},
        beside=beside or [],
        settles=1.0 if state is not None else 0.0,
    )


def weir_bare(place: Place) -> Target:
    """One plugin: the key."""
    return _weir("Weir with `auth` alone, one key", {"auth": weir.PLUGINS["auth"]}, place)


def weir_all(place: Place) -> Target:
    """All five."""
    return _weir("Weir with all five plugins: keys, limits on requests, in memory", weir.PLUGINS, place)


def weir_use(place: Place) -> Target:
    """All five, and tokens and money are limited."""
    return _weir("the same with limits on tokens and money too", weir.MEASURED_USE, place)


def weir_ledger(place: Place) -> Target:
    """All five, and a row of each request in SQLite."""
    state = place.folder / "state"
    shutil.rmtree(state, ignore_errors=True)  # of an earlier run
    return _weir("Weir with all five plugins and the ledger, in SQLite", weir.LEDGER, place, state=state)


def weir_redis(place: Place) -> Target:
    """All five, and the limits are in Redis."""
    program = _program("redis-server", "on Debian: apt-get install redis-server")
    port = place.port + 2
    beside = [program, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
    return _weir("Weir with all five plugins, limits in Redis", weir.in_redis(port), place, beside)


def litellm(place: Place) -> Target:
    """A gateway in Python as people run it."""
    program = place.peers / "litellm" / "bin" / "litellm"
    if not program.exists():
        raise Missing("LiteLLM is not installed; `make bench-peers` installs it")
    packages = program.parents[1].glob("lib/python3*/site-packages/litellm-*.dist-info")
    quiet = {"LITELLM_MODE": "PRODUCTION", "LITELLM_LOG": "ERROR", "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
    return Target(
        "LiteLLM's proxy, one worker, one key",
        [str(program), "--host", "127.0.0.1", "--port", str(place.port), "--config", "litellm.yaml"],
        next((path.name.removesuffix(".dist-info").partition("-")[2] for path in packages), "?"),
        {"litellm.yaml": _conf("litellm.yaml", place)},
        {**quiet, "LITELLM_TELEMETRY": "False", "PYTHONWARNINGS": "ignore"},
        remakes=True,
        within=120.0,
    )


TARGETS: dict[str, Callable[[Place], Target]] = {
    "nginx": nginx,
    "caddy": caddy,
    "lean": lean,
    "weir-bare": weir_bare,
    "weir": weir_all,
    "weir-ledger": weir_ledger,
    "weir-use": weir_use,
    "weir-redis": weir_redis,
    "litellm": litellm,
}
PEERS = ("litellm",)
"""Measured only when asked for."""
BASELINES = ("caddy", "nginx", "lean")
"""What ratios are against: the first that is there."""


def ask(port: int, body: bytes, key: str = CLIENT_KEY, within: float = 15.0) -> tuple[int, bytes]:
    """One chat; status and body of the answer. Raises OSError and HTTPException."""
    connection = HTTPConnection("127.0.0.1", port, timeout=within)
    try:
        headers = {"authorization": f"Bearer {key}", "content-type": "application/json"}
        connection.request("POST", PATH, body, headers)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def wait(target: Target, process: Process, port: int) -> None:
    """Until it answers a chat with 200. Raises BenchError with what it said last."""
    answered = "nothing"

    def ready() -> bool:
        nonlocal answered
        if process.ended is not None:
            raise BenchError(f"{process.name} ended as it started ({process.ended}): {process.last_line}")
        try:
            status, body = ask(port, SHORT.body())
        except (OSError, HTTPException) as error:
            answered = type(error).__name__
            return False
        answered = f"{status} {body[:200].decode(errors='replace')}"
        return status == 200

    if not until(ready, target.within):
        raise BenchError(f"{process.name} was not ready in {target.within:g} s; it answered {answered}")


def verify(name: str, target: Target, port: int) -> None:
    """What is measured must be a right answer. Raises BenchError."""
    try:
        _, body = ask(port, SHORT.body())
        if not (_same_text(body) if target.remakes else body == WHOLE):
            raise BenchError(f"{name} answers with another body than the upstream's: {body[:200]!r}")
        status, body = ask(port, STREAM.body())
        if status != 200 or not (
            _same_events(body) if target.remakes else _COMMENT.sub(b"", body) == streamed(STREAM.events)
        ):
            raise BenchError(f"{name} streams other events than the upstream's: {status} {body[-300:]!r}")
        status, _ = ask(port, SHORT.body(), key="wrong")
    except (OSError, HTTPException) as error:
        raise BenchError(f"{name} broke off an answer: {type(error).__name__}") from error
    if not 400 <= status < 500:
        raise BenchError(f"{name} answers {status} to a wrong key: it checks none, so it is not comparable")


def _same_text(body: bytes) -> bool:
    return bool(orjson.loads(body)["choices"][0]["message"]["content"] == TEXT)


def _same_events(body: bytes) -> bool:
    return body.count(b'"content":" water"') == STREAM.events and b"data: [DONE]" in body
