"""A Weir of the demo's own: the real command in a process of its own, before the built-in demo upstream."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any, Final, NoReturn

import orjson

MODEL: Final = "slow"
"""The demo upstream's model that takes its time, as real ones do; the price table makes it one of theirs."""
PRICED_AS: Final = "gpt-4o-mini"

_COMMAND: Final = (sys.executable, "-m", "proxy", "serve")
_CONFIG: Final = """\
listen: 127.0.0.1:0
management: off
log: {level: info, format: json}
pricing: prices.yaml
plugins:
  - auth
  - precost
  - use: limiter
    limits:
      - {name: demo, requests: 20/minute, burst: 3, per: user, on: chat}
  - annotate
"""
_PRICES: Final = f"""\
version: 1
updated: 2026-01-01
extends: default
aliases: {{{MODEL}: {PRICED_AS}}}
"""
_START: Final = 30.0
_STOP: Final = 10.0
"""Seconds, after which it is given up, or killed."""


class StartFailed(Exception):
    """It did not start. One line that says why."""


@contextmanager
def own_weir() -> Iterator[str]:
    """Serves at the URL that this gives, and is gone afterwards, however the block ends.

    A signal that ends this process ends the block by `SystemExit`. Raises `StartFailed`.
    """
    with _ending_in_order(), tempfile.TemporaryDirectory(prefix="weir-demo-") as name:
        folder = Path(name)
        (folder / "weir.yaml").write_text(_CONFIG)
        (folder / "prices.yaml").write_text(_PRICES)
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(  # noqa: S603 # our own command
                [*_COMMAND, "--config", "weir.yaml"],
                cwd=folder,
                env=_surroundings(os.environ),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=log,
            )
        try:
            yield f"http://{_listening(process, folder / 'log')}/v1"
        finally:
            process.terminate()
            try:
                process.wait(_STOP)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _surroundings(environ: Mapping[str, str]) -> dict[str, str]:
    """Without what would configure it: an OPENAI_API_KEY here must not make the demo cost money."""
    return {
        name: value
        for name, value in environ.items()
        if not name.startswith(("WEIR_", "OPENAI_", "OTEL_")) and name not in ("HOST", "PORT")
    }


def _listening(process: "subprocess.Popen[bytes]", log: Path) -> str:
    """Where it listens, once it does."""
    deadline = time.monotonic() + _START
    while time.monotonic() < deadline:
        ended = process.poll() is not None  # before the look: after its end nothing more is written
        lines = log.read_text("utf-8", "replace").splitlines()
        for line in lines:
            if (said := _event(line)).get("event") == "listening":
                return str(said["listen"])
        if ended:
            raise StartFailed(lines[-1].removeprefix("weir: ") if lines else "Weir ended without a word")
        time.sleep(0.02)
    raise StartFailed(f"Weir did not start within {_START:.0f} s")


def _event(line: str) -> dict[str, Any]:
    with suppress(orjson.JSONDecodeError):
        if isinstance(said := orjson.loads(line), dict):
            return said
    return {}


@contextmanager
def _ending_in_order() -> Iterator[None]:
    # A closed terminal too: for Weir a SIGHUP is only a reload, and it would stay.
    numbers = (signal.SIGTERM, signal.SIGHUP)
    before = [signal.signal(number, _end) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


def _end(number: int, frame: FrameType | None) -> NoReturn:
    sys.exit(128 + number)
