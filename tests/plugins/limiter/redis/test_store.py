import asyncio
import os
from collections.abc import Coroutine, Iterator, Sequence
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, settings

from plugins.limiter.limit import Limit
from plugins.limiter.meter import UNLIMITED
from plugins.limiter.redis import RedisStore
from plugins.limiter.redis.connection import SCRIPT, Connection
from plugins.limiter.redis.url import place
from plugins.limiter.store import Hold, Store
from tests.plugins.limiter.clock import Clock
from tests.plugins.limiter.conformance import LIMITS, Conformance, memory
from tests.plugins.limiter.redis.servers import cluster, server

pytestmark = pytest.mark.slow
EXAMPLES = 5000 if os.environ.get("WEIR_SOAK") else 500


class Ticking(Connection):
    """A Redis whose time is the test's: all else is the script as it is."""

    clock = Clock()

    def __init__(self, url: str) -> None:
        super().__init__(place(url), SCRIPT.replace("redis.call('TIME')", "{ARGV[2], ARGV[3]}"))

    async def run(self, keys: Sequence[str], *arguments: bytes | int) -> bytes:
        return await super().run(keys, *arguments, *divmod(self.clock.wall_us, 10**6))


class World:
    """The servers, and the loop on which they are asked."""

    def __init__(self, urls: Sequence[str], runner: asyncio.Runner) -> None:
        self.connections = {url: Ticking(url) for url in urls}
        self.runner = runner
        self.runs = 0

    def stores(self, clock: Clock) -> list[Store]:
        self.runs += 1
        made: list[Store] = []
        for url, connection in self.connections.items():
            connection.clock = clock
            namespace = f"run-{self.runs}"  # so that a Cluster's nodes take turns
            # On a busy machine an answer may take its time; what counts is what it says.
            store = RedisStore(
                url, LIMITS, namespace=namespace, connection=connection, timeout=20, wall=clock.wall
            )
            made.append(store)
        return made


class Everywhere(Conformance):
    """Memory, a Redis and a Cluster: three stores, one truth."""

    world: ClassVar[World]

    def make(self, clock: Clock) -> Sequence[Store]:
        return [memory(clock), *self.world.stores(clock)]

    def run(self, coroutine: Coroutine[Any, Any, Any]) -> None:
        self.world.runner.run(coroutine)


@pytest.fixture(scope="module", autouse=True)
def world() -> Iterator[None]:
    with server() as one, cluster() as nodes, asyncio.Runner() as runner:
        many = ",".join(f"127.0.0.1:{node.port}" for node in nodes)
        Everywhere.world = World([one.url, f"redis+cluster://{many}"], runner)
        yield
        for connection in Everywhere.world.connections.values():
            runner.run(connection.close())


Everywhere.TestCase.settings = settings(
    max_examples=EXAMPLES,
    stateful_step_count=12,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
TestEverywhere = pytest.mark.timeout(1800)(Everywhere.TestCase)


@pytest.mark.fault("E18")
def test_a_clock_that_jumps_back_gives_nothing_away() -> None:
    clock, limit = Clock(), LIMITS[1]  # 7 a minute, 3 at once
    for store in Everywhere.world.stores(clock):
        Everywhere.world.runner.run(_jumps_back(store, clock, limit))


async def _jumps_back(store: Store, clock: Clock, limit: Limit) -> None:
    async def asked(number: int) -> Hold:
        hold = Hold(str(number), [(limit, "k", 1)])
        await store.decide(hold)
        return hold

    assert [(await asked(number)).held for number in range(4)] == [True] * 3 + [False]
    clock.pass_by(-10_000_000)
    refused = await asked(5)
    assert not refused.held
    assert 0 < refused.taken[0][1] <= 60_000_000 // 7 + 1
    clock.pass_by(10_000_000)
    assert not (await asked(6)).held


MONEY = Limit("budget", "cost", 1000, "month", fuse="on", on_failure="closed")
LOCAL = Limit("local", "cost", 1000, "month", fuse="on", on_failure="local")


async def held(store: Store, limit: Limit, amount: int) -> Hold:
    hold = Hold(os.urandom(4).hex(), [(limit, "k", amount)])
    await store.decide(hold)
    assert hold.held
    return hold


async def left(store: Store, limit: Limit) -> int:
    now = Hold("", [(limit, "k", 0)])
    await store.peek(now)
    return now.taken[0][2]


async def becomes(store: Store, mode: str) -> None:
    async with asyncio.timeout(30):
        while store.mode != mode:
            await left(store, LOCAL)
            await asyncio.sleep(0.02)


async def test_what_streams_charge_is_soon_known_to_the_other_processes() -> None:
    with server() as redis:
        stores = [RedisStore(redis.url, [MONEY], timeout=20) for _ in range(2)]
        for store in stores:
            await store.start(2)
        one, two = [await held(store, MONEY, 100) for store in stores]
        assert stores[0].charge(one, 0, 300) is None  # what the others have used is not known yet
        async with asyncio.timeout(20):
            while await left(stores[1], MONEY) != 500:
                await asyncio.sleep(0.01)
            while stores[1].charge(two, 0, 0) != 500:
                await asyncio.sleep(0.01)
        assert stores[1].charge(two, 0, 600) == -100
        await stores[0].settle(one, {"cost": 150})
        await stores[1].settle(two, {"cost": 705})
        for store in stores:
            assert store.charge(one, 0, 50) == UNLIMITED
            assert len(store._mirrors) == 0
            await store.stop()
        last = RedisStore(redis.url, [MONEY], timeout=20)
        await last.start(1)
        assert await left(last, MONEY) == 1000 - 855
        await last.stop()


async def test_streams_run_on_their_process_s_share_while_redis_does_not_answer() -> None:
    with server() as redis:
        store = RedisStore(redis.url, [MONEY, LOCAL], timeout=0.5)
        await store.start(2)
        before = await held(store, MONEY, 100)
        async with asyncio.timeout(20):
            while store.charge(before, 0, 0) != 900:
                await asyncio.sleep(0.01)
        redis.stop()
        await becomes(store, "local")
        assert store.charge(before, 0, 0) == 450
        assert store.charge(before, 0, 440) == 10
        assert store.charge(before, 0, 20) == -10
        meanwhile = await held(store, LOCAL, 100)
        assert store.charge(meanwhile, 0, 150) == 500 - 250
        redis.start()
        await becomes(store, "shared")
        store.charge(meanwhile, 0, 50)
        assert meanwhile.local.asks == [(LOCAL, "k", 300)]
        await store.settle(meanwhile, {"cost": 280})
        await store.settle(before, {"cost": 555})
        await store.renew()
        # The Redis is a new one, and knows only what it is told of.
        assert await left(store, LOCAL) == 1000 - 280
        await store.stop()


@pytest.mark.fault("E2", "F7")
async def test_a_stop_waits_a_moment_for_redis_to_be_told() -> None:
    with server() as redis:
        store = RedisStore(redis.url, [LOCAL], timeout=0.5)
        await store.start(1)
        before = await held(store, LOCAL, 100)
        redis.stop()
        await becomes(store, "local")
        await store.settle(before, {"cost": 30})
        await held(store, LOCAL, 5)
        stopping = asyncio.create_task(store.stop())
        await asyncio.sleep(0.5)
        redis.start()
        await stopping
        last = RedisStore(redis.url, [LOCAL], timeout=20)
        await last.start(1)
        assert await left(last, LOCAL) == 1000 - 35
        await last.stop()


@pytest.mark.fault("E2")
async def test_what_redis_is_never_told_is_said(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("plugins.limiter.redis.store.PATIENCE", 0.5)
    with server() as redis:
        store = RedisStore(redis.url, [MONEY, LOCAL], timeout=0.5)
        await store.start(1)
        before = [await held(store, MONEY, 100) for _ in range(2)]
        redis.stop()
        await becomes(store, "local")
        for each in before:
            await store.settle(each, {"cost": 30})
        await store.stop()
        assert caplog.records[-1].message.endswith("does not answer and Weir stops: 2 settlements are lost")
        assert store.figures["lost"] == 2
