"""A worker in this process, with the test as its parent."""

import asyncio
import os
import signal
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from proxy.api import Plugin, Server
from proxy.core.config import PluginSettings, Settings, UpstreamSettings
from proxy.core.server.channel import Channel, Message
from proxy.core.server.forkserver import Template
from proxy.core.server.origin import Origin
from proxy.core.server.run import listen
from proxy.core.server.worker import Worker
from proxy.pricing.table import default
from tests.core.server.test_run import FREE, Up
from tests.core.server.test_run import up as up  # a fixture
from tests.faults.client import RawClient, chat, get
from tests.faults.wire import Link, until

HERE = "tests.core.server.test_worker"


class Fails(Plugin):
    async def start(self, server: Server) -> None:
        raise ValueError("limits: too odd")


class Breaks(Plugin):
    async def start(self, server: Server) -> None:
        raise OSError("no database")


def settings(up: Up, *plugins: str, **more: Any) -> Settings:
    return Settings.model_validate(
        {
            "upstreams": [UpstreamSettings(name="up", base_url=f"http://127.0.0.1:{up.port}/v1")],
            "plugins": [PluginSettings(use=use) for use in plugins],
            "workers": 2,
            **more,
        }
    )


class Parent:
    """The other end of the channel: what it has heard, and the worker's task."""

    def __init__(self, channel: Channel, task: "asyncio.Task[int]", port: int) -> None:
        self.channel = channel
        self.task = task
        self.port = port
        self.heard: list[Message] = []
        channel.listen(lambda message, _: self.heard.append(message), lambda: None)

    async def hears(self, message: Message) -> None:
        await until(lambda: message in self.heard, what=lambda: f"{message} in {self.heard}")

    async def ask(self, path: str) -> int:
        """The status of an answer of its management port, on a connection that is handed over."""
        ours, theirs = socket.socketpair()
        with theirs:
            assert self.channel.send({"do": "serve"}, theirs)
        link = Link(ours)
        await link.send(b"GET %b HTTP/1.0\r\n\r\n" % path.encode())
        head = await asyncio.wait_for(link.read_head(), 5)
        link.close()
        assert head is not None
        return int(head.split()[1])


@asynccontextmanager
async def worker(found: Settings, loads: Settings | None = None) -> AsyncIterator[Parent]:
    channel, theirs = Channel.pair()
    with listen(FREE) as data:
        template = Template(Origin(lambda: loads or found, "weir.yaml"), found, default())
        task = asyncio.ensure_future(Worker(1, data, Channel(theirs), template).run())
        parent = Parent(channel, task, data.getsockname()[1])
        try:
            yield parent
        finally:
            channel.close()
            await asyncio.wait([task], timeout=10)
            assert task.done()


async def test_it_serves_until_it_is_told_to_stop(up: Up) -> None:
    async with worker(settings(up)) as parent:
        await parent.hears({"did": "start"})
        async with RawClient(parent.port) as client:
            assert (await client.ask(get("/health"))).status == 200
        parent.channel.send({"do": "stop"})
        assert await asyncio.wait_for(parent.task, 5) == 0


async def test_its_management_port_is_on_connections_that_are_handed_over(up: Up) -> None:
    async with worker(settings(up)) as parent:
        await parent.hears({"did": "start"})
        assert await parent.ask("/readyz") == 200
        assert await parent.ask("/metrics") == 200
        assert await parent.ask("/nothing") == 404


async def test_while_it_drains_it_still_says_how_it_is(up: Up) -> None:
    async with worker(settings(up)) as parent, RawClient(parent.port) as client:
        await parent.hears({"did": "start"})
        await client.send(chat(stream=True))
        await client.read_events(1)
        parent.channel.send({"do": "stop"})
        await asyncio.sleep(0.1)
        assert await parent.ask("/readyz") == 503
        up.go.set()
        await client.response()
        assert await asyncio.wait_for(parent.task, 5) == 0


@pytest.mark.parametrize("first", ["signal", "parent"])
async def test_a_signal_to_all_processes_does_not_cut_the_drain_short(up: Up, first: str) -> None:
    """A service manager stops a whole group: SIGTERM comes to the parent, which tells it, and to it."""
    async with worker(settings(up)) as parent, RawClient(parent.port) as client:
        await parent.hears({"did": "start"})
        await client.send(chat(stream=True))
        await client.read_events(1)
        for source in ("signal", "parent") if first == "signal" else ("parent", "signal"):
            if source == "signal":
                os.kill(os.getpid(), signal.SIGTERM)
            else:
                parent.channel.send({"do": "stop"})
            await asyncio.sleep(0.1)
        up.go.set()
        assert (await client.response()).ended == "chunked"
        assert await asyncio.wait_for(parent.task, 5) == 0


async def test_told_twice_it_ends_at_once(up: Up) -> None:
    async with worker(settings(up)) as parent, RawClient(parent.port) as client:
        await parent.hears({"did": "start"})
        await client.send(chat(stream=True))
        await client.read_events(1)
        parent.channel.send({"do": "stop"})
        parent.channel.send({"do": "stop"})
        assert await asyncio.wait_for(parent.task, 5) == 0


@pytest.mark.parametrize(
    ("plugin", "heard"),
    [
        (Fails, {"did": "fail", "kind": "config", "problems": ["weir.yaml: plugins: limits: too odd"]}),
        (
            Breaks,
            {"did": "fail", "kind": "start", "problems": ["a plugin could not start: OSError: no database"]},
        ),
    ],
)
async def test_why_it_cannot_start_it_tells_its_parent(up: Up, plugin: type, heard: Message) -> None:
    async with worker(settings(up, f"{HERE}:{plugin.__name__}")) as parent:
        assert await asyncio.wait_for(parent.task, 5) == 1
        await parent.hears(heard)


async def test_a_reload_says_whether_it_went_well(up: Up) -> None:
    async with worker(settings(up), settings(up, "auth")) as parent:
        await parent.hears({"did": "start"})
        parent.channel.send({"do": "reload", "number": 7})
        await parent.hears({"did": "reload", "number": 7, "well": True})
    async with worker(settings(up), settings(up, f"{HERE}:Breaks")) as parent:
        await parent.hears({"did": "start"})
        parent.channel.send({"do": "reload", "number": 8})
        await parent.hears({"did": "reload", "number": 8, "well": False})
        assert await parent.ask("/readyz") == 200


async def test_without_its_parent_it_drains_and_does_not_wait_for_anybody_to_see(up: Up) -> None:
    found = settings(up, drain={"delay": 60.0, "grace": 20.0})
    async with worker(found) as parent, RawClient(parent.port) as client:
        await parent.hears({"did": "start"})
        await client.send(chat(stream=True))
        await client.read_events(1)
        parent.channel.close()
        await asyncio.sleep(0.1)
        assert not parent.task.done()
        up.go.set()
        assert (await client.response()).ended == "chunked"
        assert await asyncio.wait_for(parent.task, 5) == 0


@pytest.fixture(autouse=True)
def signals() -> Iterator[None]:
    """It takes SIGTERM for itself: give it back."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)
