import asyncio
from typing import Any

import pytest

from plugins.limiter import Limiter
from proxy.api import ESTIMATE, IDENTITY, Estimate, Identity
from proxy.api.testing import Played, json, play, post
from tests.plugins.limiter.test_plugin import Says

ASK = post("/v1/chat/completions", {"model": "gpt-4o"})
ALICE, BOB = Identity("alice", "192.0.2.1"), Identity("bob", "192.0.2.2")


class Holds(Says):
    """A later plugin that keeps requests until they are let go."""

    def __init__(self) -> None:
        super().__init__()
        self.running: list[str] = []
        self.go: dict[str, asyncio.Event] = {}

    async def on_request(self, ex: Any) -> None:
        name = ex.request.headers.get("x-name") or ""
        self.running.append(name)
        await self.go.setdefault(name, asyncio.Event()).wait()

    def end(self, name: str) -> None:
        self.go.setdefault(name, asyncio.Event()).set()


class Room:
    """A limiter, and requests by name that run beside each other."""

    def __init__(self, *limits: dict[str, Any]) -> None:
        self.plugin = Limiter(limits=limits)
        self.holds = Holds()
        self.tasks: dict[str, asyncio.Task[Played]] = {}

    async def come(self, name: str, who: Identity = ALICE, tokens: int = 10) -> None:
        given: dict[Any, Any] = {IDENTITY: who, ESTIMATE: Estimate(tokens, "tiktoken", tokens, 0)}
        request = post("/v1/chat/completions", {"model": "gpt-4o"}, [("x-name", name)])
        chain = [self.plugin, self.holds]
        self.tasks[name] = asyncio.create_task(play(chain, request, json({}), given=given))
        for _ in range(10):
            await asyncio.sleep(0)

    async def end(self, name: str) -> None:
        self.holds.end(name)
        await self.tasks[name]
        for _ in range(20):
            await asyncio.sleep(0)

    async def status(self, name: str) -> int:
        return (await self.tasks[name]).status

    async def close(self) -> None:
        for name in self.tasks:
            self.holds.end(name)
        await asyncio.gather(*self.tasks.values(), return_exceptions=True)


def flying(amount: int, **queue: Any) -> dict[str, Any]:
    return {"name": "flying", "in_flight": amount, "per": "all", "queue": {"wait": "30s", **queue}}


async def test_who_would_be_refused_waits_for_a_place() -> None:
    room = Room(flying(1))
    await room.come("one")
    await room.come("two")
    assert room.holds.running == ["one"]
    await room.end("one")
    assert room.holds.running == ["one", "two"]
    await room.close()
    assert (await room.status("two")) == 200


async def test_the_next_is_whose_user_has_the_fewest_tokens_in_flight() -> None:
    room = Room(flying(2))
    await room.come("a1", ALICE, tokens=500)
    await room.come("b1", BOB, tokens=5)
    for name in ("a2", "a3"):
        await room.come(name, ALICE)
    await room.come("b2", BOB)
    assert room.holds.running == ["a1", "b1"]
    await room.end("b1")
    assert room.holds.running[2:] == ["b2"]  # came last, but Alice has 500 tokens in flight
    await room.end("b2")
    assert room.holds.running[3:] == ["a2"]  # nobody else is there
    await room.close()


async def test_who_comes_while_others_wait_stands_in_line() -> None:
    room = Room(flying(1))
    await room.come("one")
    await room.come("two")
    room.holds.end("one")
    await room.tasks["one"]
    await room.come("three", BOB)
    await room.end("two")
    assert room.holds.running == ["one", "two", "three"]
    await room.close()


async def test_more_than_may_wait_are_refused() -> None:
    room = Room(flying(1, max=1))
    for name in ("one", "two", "three"):
        await room.come(name)
    played = await room.tasks["three"]
    assert (played.status, played.headers["retry-after"]) == (429, "1")
    assert '"flying"' in played.json()["message"]
    await room.close()
    assert await room.status("two") == 200


async def test_nobody_waits_longer_than_they_may() -> None:
    room = Room(flying(1, wait="20ms"))
    await room.come("one")
    await room.come("two")
    assert await room.status("two") == 429
    assert room.plugin._queues.waiting == 0
    await room.end("one")
    await room.come("three")
    assert room.holds.running == ["one", "three"]
    await room.close()


async def test_a_rate_admits_when_its_time_has_come() -> None:
    plugin = Limiter(limits=[{"requests": "20/second", "burst": 1, "queue": {"max": 5, "wait": "5s"}}])
    given = {IDENTITY: ALICE}
    played = await asyncio.gather(
        *(play([plugin, Says()], ASK, json({}), given=given) for _ in range(4)), return_exceptions=True
    )
    assert [each.status for each in played if isinstance(each, Played)] == [200] * 4


async def test_nobody_waits_for_what_takes_longer_than_they_may_wait() -> None:
    plugin = Limiter(limits=[{"requests": "1/hour", "queue": {"wait": "30s"}}])
    for status in (200, 429):
        assert (await play([plugin, Says()], ASK, json({}), given={IDENTITY: ALICE})).status == status


async def test_nobody_waits_where_a_limit_without_a_queue_refuses_too() -> None:
    room = Room(flying(1), {"name": "hourly", "requests": "1/hour"})
    await room.come("one")
    await room.come("two")
    assert await room.status("two") == 429
    await room.close()


async def test_a_client_that_leaves_the_line_holds_nothing() -> None:
    room = Room(flying(1))
    for name in ("one", "two", "three"):
        await room.come(name)
    room.tasks["two"].cancel()
    with pytest.raises(asyncio.CancelledError):
        await room.tasks["two"]
    assert room.plugin._queues.waiting == 1
    await room.end("one")
    assert room.holds.running == ["one", "three"]
    await room.close()
    assert room.plugin._queues._queues == {}
    assert not room.plugin._queues._tokens


async def test_without_a_queue_nobody_waits() -> None:
    room = Room({"name": "flying", "in_flight": 1})
    await room.come("one")
    await room.come("two")
    assert await room.status("two") == 429
    await room.close()
