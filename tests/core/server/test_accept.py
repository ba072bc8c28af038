"""Several that listen on one socket: who takes whom, and that nobody waits for one that is stuck."""

import asyncio
import errno
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from proxy.core.server import accept as module
from proxy.core.server.accept import Accepting, Loads
from proxy.core.server.run import listen
from tests.core.server.test_run import FREE
from tests.faults.wire import until


class Taken(asyncio.Protocol):
    """A connection that a worker has."""

    def __init__(self, connections: set["Taken"]) -> None:
        self._connections = connections

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._connections.add(self)
        self.transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        self._connections.discard(self)


class Group:
    """Workers on one loop, each with its copy of the socket."""

    def __init__(self, sock: socket.socket, workers: int) -> None:
        self.loads = Loads(workers)
        self.connections: list[set[Taken]] = [set() for _ in range(workers)]
        self.accepting = [
            Accepting(sock.dup(), lambda mine=mine: Taken(mine), mine, self.loads, number)  # type: ignore[misc]
            for number, mine in enumerate(self.connections, 1)
        ]
        self._clients: list[socket.socket] = []
        self._address = sock.getsockname()

    @property
    def counts(self) -> list[int]:
        return [len(mine) for mine in self.connections]

    async def connect(self, n: int) -> None:
        for _ in range(n):
            self._clients.append(socket.create_connection(self._address))
        await until(lambda: sum(self.counts) == len(self._clients))

    def close(self) -> None:
        for one in self.accepting:
            one.stop()
            one.stop()
        for mine in self.connections:
            for taken in mine:
                assert isinstance(taken.transport, asyncio.Transport)
                taken.transport.abort()
        for client in self._clients:
            client.close()


@asynccontextmanager
async def group(workers: int) -> AsyncIterator[Group]:
    with listen(FREE) as sock:
        made = Group(sock, workers)
        try:
            yield made
        finally:
            made.close()
            await asyncio.sleep(0.01)


async def test_many_at_once_are_shared_evenly() -> None:
    async with group(4) as workers:
        await workers.connect(64)
        assert max(workers.counts) - min(workers.counts) <= 4
        await workers.connect(36)
        assert max(workers.counts) - min(workers.counts) <= 4


async def test_one_that_is_stuck_holds_nobody_up() -> None:
    """It has the least of all, and takes nobody."""
    async with group(2) as workers:
        workers.accepting[1]._loop.remove_reader(workers.accepting[1]._sock.fileno())
        workers.accepting[1]._pause = asyncio.get_running_loop().call_later(60, lambda: None)
        await workers.connect(20)
        assert workers.counts == [20, 0]


async def test_one_that_has_ended_is_not_waited_for() -> None:
    async with group(2) as workers:
        workers.accepting[1].stop()
        assert workers.loads.least == 0
        await workers.connect(10)
        assert workers.counts == [10, 0]
        assert workers.loads.least >= 9


async def test_when_all_have_stopped_nobody_can_connect() -> None:
    with listen(FREE) as sock:
        workers = Group(sock, 2)
        sock.close()
        for one in workers.accepting:
            one.stop()
        with pytest.raises(ConnectionRefusedError):
            await workers.connect(1)
        workers.close()


async def test_without_descriptors_it_waits_and_does_not_spin(monkeypatch: pytest.MonkeyPatch) -> None:
    tries = 0

    class Full(socket.socket):
        def accept(self) -> tuple[socket.socket, object]:
            nonlocal tries
            tries += 1
            if tries < 3:
                raise OSError(errno.EMFILE, "no more")
            return super().accept()

    monkeypatch.setattr(module, "SHORT", 0.05)
    with listen(FREE) as sock:
        full = Full(fileno=sock.dup().detach())
        mine: set[Taken] = set()
        accepting = Accepting(full, lambda: Taken(mine), mine, Loads(1), 1)
        with socket.create_connection(sock.getsockname()):
            await asyncio.sleep(0.02)
            assert tries == 1
            await until(lambda: len(mine) == 1)
        assert tries == 3
        accepting.stop()
        await until(lambda: not mine)


def test_what_each_has_is_seen_by_all() -> None:
    loads = Loads(3)
    loads.has(1, 5)
    loads.has(3, 2)
    assert loads.least == 2  # the second takes none
    loads.has(2, 0)
    assert loads.least == 0
    loads.gone(2)
    assert loads.least == 2
