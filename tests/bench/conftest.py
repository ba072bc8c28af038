"""The mock upstream and the lean baseline as processes, for tests of what talks to them."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.process import Process, until
from tests.ports import free_ports, listens

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def upstream_port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    (port,) = free_ports(1)
    command = [sys.executable, "-m", "bench.upstream", str(port)]
    yield from _running(command, port, tmp_path_factory.mktemp("upstream"), {})


@pytest.fixture(scope="session")
def baseline_port(upstream_port: int, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """In front of the mock upstream."""
    yield from baseline(upstream_port, tmp_path_factory.mktemp("baseline"))


def baseline(upstream: int, folder: Path) -> Iterator[int]:
    """In front of whatever is on this port."""
    (port,) = free_ports(1)
    command = [sys.executable, "-m", "uvicorn", "bench.baseline:app", "--port", str(port)]
    yield from _running(command, port, folder, {"UPSTREAM": f"127.0.0.1:{upstream}"})


def _running(command: list[str], port: int, folder: Path, env: dict[str, str]) -> Iterator[int]:
    process = Process(command[2], command, folder, env={"PYTHONPATH": str(ROOT), **env})
    try:
        assert until(lambda: process.ended is not None or listens(port), 15)
        assert process.ended is None, process.last_line
        yield port
    finally:
        process.stop()
