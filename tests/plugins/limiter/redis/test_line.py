"""Calls that are not answered: whether they were done or not, in the end everything was done once."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence

import pytest
import pytest_asyncio
from redis.exceptions import ResponseError

from plugins.limiter.limit import Kind, Limit
from plugins.limiter.redis import RedisStore
from plugins.limiter.redis.breaker import FAILURES
from plugins.limiter.redis.connection import Connection
from plugins.limiter.redis.line import DECISIONS
from plugins.limiter.redis.url import place
from plugins.limiter.store import Hold
from tests.plugins.limiter.redis.servers import Server, server

pytestmark = pytest.mark.slow
REQUESTS = Limit("requests", "requests", 100, "month")
TOKENS = Limit("tokens", "tokens", 10_000, "month")
MONEY = Limit("money", "cost", 10_000, "month")
FLYING = Limit("flying", "in_flight", 20)
LIMITS = (REQUESTS, TOKENS, MONEY, FLYING)
SINGLE = Limit("single", "in_flight", 1)
ALL: dict[Kind, int] = {"requests": 0, "tokens": 0, "cost": 0, "in_flight": 0}


class Torn(Connection):
    """Loses what it is told to: the call itself ("before"), or only its answer ("after")."""

    def __init__(self, url: str) -> None:
        super().__init__(place(url))
        self.loses: list[str] = []
        self.lost: list[tuple[Sequence[str], tuple[bytes | int, ...]]] = []
        self.gate: asyncio.Event | None = None

    async def run(self, keys: Sequence[str], *arguments: bytes | int) -> bytes:
        if self.gate is not None:
            await self.gate.wait()
        where = self.loses.pop(0) if self.loses else ""
        if where:
            self.lost.append((keys, arguments))
        if where == "ours":
            raise ResponseError("ERR user_script:1: a mistake")
        if where == "before":
            raise TimeoutError
        answer = await super().run(keys, *arguments)
        if where == "after":
            raise TimeoutError
        return answer


@pytest.fixture(scope="module")
def redis() -> Iterator[Server]:
    with server() as made:
        yield made


@pytest_asyncio.fixture
async def torn(redis: Server) -> AsyncIterator[Torn]:
    with redis.client() as client:
        client.flushall()
    made = Torn(redis.url)
    yield made
    await made.close()


@pytest_asyncio.fixture
async def store(torn: Torn) -> AsyncIterator[RedisStore]:
    made = RedisStore("redis://here", (*LIMITS, SINGLE), connection=torn, timeout=5)
    await made.start(1)
    yield made
    torn.loses.clear()
    await made.stop()


def hold(id: str, amount: int = 100) -> Hold:
    one = {"requests": 1, "in_flight": 1}
    return Hold(id, [(limit, "k", one.get(limit.kind, amount)) for limit in LIMITS])


async def used(redis: Server) -> dict[str, int]:
    """What anybody else sees."""
    other = RedisStore(redis.url, LIMITS, timeout=5)
    now = Hold("", [(limit, "k", 0) for limit in LIMITS])
    await other.peek(now)
    await other.stop()
    return {ask[0].name: ask[0].burst - taken[2] for ask, taken in zip(now.asks, now.taken, strict=True)}


async def until(true: Callable[[], object]) -> None:
    async with asyncio.timeout(5):
        while not true():
            await asyncio.sleep(0.005)


NOTHING = {"requests": 0, "tokens": 0, "money": 0, "flying": 0}
ONE = {"requests": 1, "tokens": 100, "money": 100, "flying": 1}


@pytest.mark.parametrize("where", ["before", "after"])
async def test_an_unanswered_decision_counts_once(
    store: RedisStore, torn: Torn, redis: Server, where: str
) -> None:
    torn.loses = [where]
    asked = hold("one")
    await store.decide(asked)
    assert asked.held  # decided here
    assert asked.local is not None
    await store._line.flush()
    await store._line.flush()
    await store.renew()
    assert await used(redis) == ONE
    await store.settle(asked, {"tokens": 60, "cost": 10, "in_flight": 0})
    await store._line.flush()
    assert await used(redis) == {"requests": 1, "tokens": 60, "money": 10, "flying": 0}


@pytest.mark.fault("E15")
@pytest.mark.parametrize("where", ["before", "after"])
async def test_an_unanswered_settlement_is_done_once(
    store: RedisStore, torn: Torn, redis: Server, where: str
) -> None:
    asked = hold("one")
    await store.decide(asked)
    torn.loses = [where, where]
    await store.settle(asked, {"tokens": 60, "cost": 10, "in_flight": 0})
    await store.settle(asked, {"tokens": 0, "cost": 0, "in_flight": 0})
    await until(lambda: not torn.loses)
    await until(lambda: store._line._unsure is None and store._line._work is None)
    assert await used(redis) == {"requests": 1, "tokens": 60, "money": 10, "flying": 0}
    assert store.figures["lost"] == 0


@pytest.mark.fault("E3", "E15")
async def test_a_call_that_arrives_when_all_is_cleared_up_does_nothing(
    store: RedisStore, torn: Torn, redis: Server
) -> None:
    torn.loses = ["before"]
    asked = hold("one")
    await store.decide(asked)
    await store._line.flush()
    await store.renew()
    assert await used(redis) == ONE
    (late,) = torn.lost
    await torn.run(late[0], *late[1])
    assert await used(redis) == ONE


async def test_an_unanswered_decision_that_was_refused_here_is_undone(
    store: RedisStore, torn: Torn, redis: Server
) -> None:
    store._fallback.shares = 1000  # the share of one of many processes
    for number in range(2):
        torn.loses = ["after"]
        asked = hold(str(number), amount=1)
        await store.decide(asked)
        assert asked.held is (number == 0)
    await store._line.flush()
    await store.renew()
    assert (await used(redis))["requests"] == 1
    assert (await used(redis))["flying"] == 1


async def test_who_leaves_while_it_is_decided_holds_nothing(
    store: RedisStore, torn: Torn, redis: Server
) -> None:
    torn.gate = asyncio.Event()
    asked = hold("one")
    task = asyncio.create_task(store.decide(asked))
    await asyncio.sleep(0.01)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await store.settle(asked, ALL)
    torn.gate.set()
    await until(lambda: store._line._work is None)
    assert await used(redis) == NOTHING


async def test_many_at_once_are_decided_in_few_calls(store: RedisStore, redis: Server) -> None:
    before = store.figures["calls"]
    holds = [hold(str(number), amount=1) for number in range(2 * DECISIONS)]
    await asyncio.gather(*(store.decide(each) for each in holds))
    assert sum(each.held for each in holds) == 20
    assert store.figures["calls"] - before <= 3
    assert store.figures["decisions"] == 2 * DECISIONS
    assert await used(redis) == {"requests": 20, "tokens": 20, "money": 20, "flying": 20}


async def test_one_call_is_under_way_whoever_makes_it(
    store: RedisStore, torn: Torn, redis: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A flush, a probe and a settlement that is due: a call that overtook another would be done, and the
    other, whose number is lower by then, would not."""
    run = Torn.run
    under_way = most = 0

    async def counted(self: Torn, keys: Sequence[str], *arguments: bytes | int) -> bytes:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        await asyncio.sleep(0.005)
        try:
            return await run(self, keys, *arguments)
        finally:
            under_way -= 1

    monkeypatch.setattr(Torn, "run", counted)
    for number in range(10):
        asked = hold(str(number))
        await store.decide(asked)
        await store.settle(asked, {"tokens": 10, "cost": 10, "in_flight": 0})
        await asyncio.gather(store.renew(), store._line.probe(), store._line.flush(), asyncio.sleep(0.003))
    await store._line.flush()
    assert most == 1
    assert await used(redis) == {"requests": 10, "tokens": 100, "money": 100, "flying": 0}


async def test_what_is_given_back_is_there_for_the_next_decision(store: RedisStore) -> None:
    for number in range(50):
        asked = Hold(str(number), [(SINGLE, "k", 1)])
        await store.decide(asked)
        assert asked.held, number
        await store.settle(asked, ALL)


async def test_a_call_that_redis_will_never_do_is_not_tried_for_ever(store: RedisStore, torn: Torn) -> None:
    asked = hold("one")
    await store.decide(asked)
    torn.loses = ["ours"]
    await store.settle(asked, {"tokens": 1, "in_flight": 0})
    await until(lambda: not torn.loses)
    await store._line.flush()
    assert store.figures["lost"] == 3
    another = hold("two")
    await store.decide(another)
    assert another.local is None


async def test_after_some_failures_nobody_asks_until_a_probe_is_answered(
    store: RedisStore, torn: Torn, redis: Server
) -> None:
    torn.loses = ["before"] * (FAILURES + 2)
    for number in range(FAILURES):
        await store.decide(hold(str(number)))
    assert store.mode == "local"
    assert len(torn.loses) <= 2
    await store.decide(hold("more"))
    await until(lambda: store.mode == "shared")
    assert not torn.loses
    await until(lambda: store._line._work is None and not store._settlements)
    assert (await used(redis))["requests"] == FAILURES + 1
    assert (await used(redis))["flying"] == FAILURES + 1


async def test_a_lowered_limit_applies_to_the_next_request_without_a_reset(
    store: RedisStore, redis: Server
) -> None:
    for number in range(7):
        await store.decide(hold(str(number), amount=1))
    lower = Limit("requests", "requests", 5, "month")
    other = RedisStore(redis.url, (lower,), timeout=5)
    asked = Hold("x", [(lower, "k", 1)])
    await other.decide(asked)
    assert (asked.held, asked.taken[0][2]) == (False, -2)
    await other.stop()


@pytest.mark.fault("E11")
async def test_everything_has_an_expiry(store: RedisStore, redis: Server) -> None:
    await store.decide(hold("one"))
    with redis.client() as client:
        left = {key: client.pttl(key) for key in client.scan_iter()}
    assert len(left) == 5
    assert all(0 < ms <= 31 * 86_400_000 + 60_000 for ms in left.values()), left


@pytest.mark.fault("E5")
async def test_flushed_keys_are_made_again(store: RedisStore, redis: Server) -> None:
    asked = hold("one")
    await store.decide(asked)
    with redis.client() as client:
        client.flushall()
    await store.decide(hold("two"))
    await store.renew()
    assert (await used(redis))["flying"] == 2  # a lease is renewed, whatever became of it
    await store.settle(asked, {"tokens": 60, "cost": 10, "in_flight": 0})
    await store._line.flush()
    assert (await used(redis))["flying"] == 1


async def test_a_lease_that_was_granted_unheard_ends_with_its_request(
    store: RedisStore, torn: Torn, redis: Server
) -> None:
    # Granted, not heard of, kept when that is cleared up, since the request was admitted here and runs; and
    # then Redis does not answer until the request has ended.
    torn.loses = ["after", "", "before", "before", "before"]
    asked = hold("one")
    await store.decide(asked)
    assert asked.local is not None
    await until(lambda: len(torn.loses) < 3)
    await store.settle(asked, {"tokens": 60, "cost": 10, "in_flight": 0})
    await until(lambda: not torn.loses)
    await store._line.probe()
    await store._line.flush()
    assert await used(redis) == {"requests": 1, "tokens": 60, "money": 10, "flying": 0}


async def test_a_stop_undoes_what_was_granted_unheard(store: RedisStore, torn: Torn, redis: Server) -> None:
    torn.loses = ["after", "before", "before", "before"]
    asked = hold("one")
    await store.decide(asked)
    assert asked.local is not None
    await until(lambda: store._breaker.open)
    await store.settle(asked, {"tokens": 60, "cost": 10, "in_flight": 0})
    assert store._line.owed
    torn.loses.clear()
    await store.stop()
    assert (await used(redis))["flying"] == 0
