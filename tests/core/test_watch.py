import asyncio
from collections.abc import Callable
from typing import Any

from proxy.core.watch import watch


class Client:
    """Our own server's side: calls back."""

    def __init__(self) -> None:
        self.gone: Callable[[str], None] | None = None

    def watch(self, gone: Callable[[str], None]) -> None:
        self.gone = gone

    def unwatch(self) -> None:
        self.gone = None


class Asgi:
    """Any ASGI server: says `http.disconnect` when asked."""

    def __init__(self) -> None:
        self.messages: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.asked = asyncio.Event()

    async def receive(self) -> dict[str, Any]:
        self.asked.set()
        return await self.messages.get()


async def unused() -> Any:
    raise AssertionError("nobody has to ask")


async def test_our_own_server_calls_back_without_being_asked() -> None:
    client = Client()
    heard: list[str] = []
    tasks = asyncio.all_tasks()
    stop = watch({"weir.client": client}, unused, heard.append)
    assert asyncio.all_tasks() == tasks
    assert client.gone is not None
    client.gone("client_stalled")
    assert heard == ["client_stalled"]
    stop()
    assert client.gone is None


async def test_another_server_is_asked_until_it_says_that_the_client_left() -> None:
    server = Asgi()
    heard: asyncio.Queue[str] = asyncio.Queue()
    stop = watch({}, server.receive, heard.put_nowait)
    await asyncio.wait_for(server.asked.wait(), 2)
    assert heard.empty()
    await server.messages.put({"type": "http.request", "body": b"", "more_body": False})
    await server.messages.put({"type": "http.disconnect"})
    assert await asyncio.wait_for(heard.get(), 2) == "client_closed"
    stop()
    assert heard.empty()


async def test_a_watch_that_is_stopped_tells_nothing_and_asks_no_more() -> None:
    server = Asgi()
    heard: list[str] = []
    before = asyncio.all_tasks()
    stop = watch({}, server.receive, heard.append)
    [task] = asyncio.all_tasks() - before
    await asyncio.wait_for(server.asked.wait(), 2)
    stop()
    await asyncio.wait([task], timeout=2)
    assert task.cancelled()
    await server.messages.put({"type": "http.disconnect"})
    assert heard == []
