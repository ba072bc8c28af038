"""Budgets that streams use up while they run: they end together, when nothing is left, and not much later."""

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack
from decimal import Decimal
from typing import Any

import orjson
import pytest

from tests.plugins.limiter.redis.servers import server

from .client import post
from .process import Process
from .upstream import Conn, RawUpstream, chunk, event, sse_head

pytestmark = pytest.mark.slow

STREAMS = 100
TOKEN = Decimal("0.00001")
"""Dollars that a token of gpt-4o's output costs."""
WORDS = 20
EVENT = WORDS * TOKEN
"""Dollars that an event of a stream costs."""
BUDGET = Decimal("1")
PACE = 0.05
"""Seconds between two events of one stream."""
LAG = Decimal("0.3")
"""Seconds: the 100 ms that are stated, and what it takes to ask Redis and to be heard on a busy machine."""
ASK = post(
    "/v1/chat/completions",
    orjson.dumps(
        {"model": "gpt-4o", "stream": True, "messages": [{"role": "user", "content": "Hello there"}]}
    ),
)


async def endless(conn: Conn) -> None:
    """Some words of output now and then, for ever."""
    await conn.request()
    await conn.send(sse_head())
    said = event({"model": "gpt-4o", "choices": [{"index": 0, "delta": {"content": " fish" * WORDS}}]})
    while True:
        await conn.send(chunk(said))
        await asyncio.sleep(PACE)


def proxy(up: RawUpstream, budget: Decimal, **more: Any) -> Process:
    money = {"name": "budget", "cost": f"{budget}/month", "per": "all", "fuse": "on"}
    limiter = {"use": "limiter", "limits": [money], **more}
    replicas = 2 if more else 1
    plugins = ["auth", "precost", limiter, "annotate"]
    return Process(up.base_url, config={"plugins": plugins, "replicas": replicas})


async def streamed(weir: Process) -> bytes:
    """The whole body of one stream, which is broken off."""
    async with weir.client() as client:
        answer = await client.ask(ASK, timeout=60)
        assert answer.status == 200, answer.body
        return answer.body


async def used(weir: Process) -> Decimal:
    (limit,) = (await weir.get("/rate-limit/status")).json()["limits"]
    return Decimal(str(limit["used"]))


async def warmed(weir: Process) -> None:
    """The vocabulary is loaded, which on a busy machine may take longer than a stream lasts."""
    warm = {"model": "gpt-4o", "messages": [{"role": "user", "content": "Hi"}]}
    headers = [("x-weir-dry-run", "true")]
    async with weir.client() as client:
        await client.ask(post("/v1/chat/completions", orjson.dumps(warm), headers))


async def all_ended(weirs: Sequence[Process]) -> list[bytes]:
    asked = [streamed(weirs[number % len(weirs)]) for number in range(STREAMS)]
    return await asyncio.gather(*asked)


def were_stopped(bodies: Sequence[bytes]) -> None:
    for body in bodies:
        *events, last, rest = body.split(b"\n\n")
        assert not rest
        error = orjson.loads(last.removeprefix(b"data: "))["error"]
        assert (error["code"], error["type"]) == ("insufficient_quota", "insufficient_quota")
        assert '"budget"' in error["message"]
        assert events


async def test_a_hundred_streams_of_one_proxy_end_within_an_event_of_the_budget() -> None:
    async with RawUpstream(endless) as up, proxy(up, BUDGET) as weir:
        await warmed(weir)
        bodies = await all_ended([weir])
        were_stopped(bodies)
        spent = await used(weir)
        assert BUDGET <= spent <= BUDGET + STREAMS * EVENT
        async with weir.client() as client:
            assert (await client.ask(ASK)).status == 429


async def test_a_hundred_streams_of_two_proxies_end_within_an_event_and_the_lag_of_the_budget() -> None:
    with server() as redis:
        async with AsyncExitStack() as stack:
            up = await stack.enter_async_context(RawUpstream(endless))
            weirs = [
                await stack.enter_async_context(proxy(up, BUDGET, store=redis.url, timeout="5s"))
                for _ in range(2)
            ]
            for weir in weirs:
                await warmed(weir)
            bodies = await all_ended(weirs)
            were_stopped(bodies)
            for _ in range(100):  # until both have told Redis what was used
                spent = await used(weirs[0])
                await asyncio.sleep(0.3)
                if spent == await used(weirs[0]) == await used(weirs[1]):
                    break
            late = LAG / Decimal(str(PACE)) * STREAMS * EVENT
            assert spent == await used(weirs[1])
            assert BUDGET - late <= spent <= BUDGET + STREAMS * EVENT + late
            async with weirs[1].client() as client:
                assert (await client.ask(ASK)).status == 429


async def test_when_redis_dies_what_was_left_is_shared_and_the_streams_end_with_it() -> None:
    with server() as redis:
        async with AsyncExitStack() as stack:
            up = await stack.enter_async_context(RawUpstream(endless))
            weirs = [
                await stack.enter_async_context(proxy(up, BUDGET, store=redis.url, timeout="500ms"))
                for _ in range(2)
            ]
            for weir in weirs:
                await warmed(weir)
            running = asyncio.create_task(all_ended(weirs))
            async with asyncio.timeout(20):
                while await used(weirs[0]) < BUDGET / 3:
                    await asyncio.sleep(0.02)
            redis.stop()
            bodies = await running
            were_stopped(bodies)
            asked = STREAMS * 9 * TOKEN / 4
            spent = asked + sum(body.count(b" fish") for body in bodies) * TOKEN
            assert BUDGET / 3 < spent <= BUDGET + STREAMS * EVENT + LAG / Decimal(str(PACE)) * STREAMS * EVENT
