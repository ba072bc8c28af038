"""What is remembered of budgets, and a real Redis that has lost them: what was spent is not spent again."""

import asyncio
import random
from collections.abc import Sequence

import pytest

from plugins.limiter.limit import Limit
from plugins.limiter.meter import Taken
from plugins.limiter.redis import RedisStore
from plugins.limiter.redis.call import Asked, Call, Give
from plugins.limiter.redis.known import BATCH, Known, Spent
from plugins.limiter.store import Hold
from tests.plugins.limiter.clock import NOON, Clock
from tests.plugins.limiter.redis.servers import Server, server

MONEY = Limit("money", "cost", 1000, "day")
HOURLY = Limit("hourly", "cost", 1000, "hour", shadow=True)
CHAT = Limit("chat", "requests", 10, "minute")
ENDS = NOON + 12 * 3600 * 10**6
NAME = f"{MONEY.meter.sort}\n{MONEY.id}\nk"


def spent(known: Known) -> list[Spent]:
    return [each for batch in known.batches() for each in batch]


def asked(amount: int, decide: bool = True) -> Asked:
    return Asked("id", [(MONEY, "k", amount), (CHAT, "k", 1)], decide)


def says(left: int, wait: int = 0) -> Sequence[Taken]:
    return [((ENDS,), 0, left, 0), ((1,) if not wait else None, wait, 9, 0)]


def test_an_admitted_request_a_refused_one_and_a_look_tell_the_same() -> None:
    for decide, wait, left in ((True, 0, 600), (True, 5, 600), (False, 0, 600)):
        known = Known(Clock().wall)
        known.note(Call(1, (), [asked(100, decide)]), [says(left, wait)])
        used = 400 if decide and not wait else 300
        assert spent(known) == [Spent(NAME, ENDS, used)]


def test_a_settlement_changes_it_in_its_own_window_alone() -> None:
    known = Known(Clock().wall)
    known.note(Call(1, (), [asked(100)]), [says(600)])
    known.note(Call(2, [Give(MONEY, "k", 100, 30, ENDS), Give(CHAT, "k", 1, 0, 0)], ()), ())
    assert spent(known) == [Spent(NAME, ENDS, 330)]
    known.note(Call(3, [Give(MONEY, "k", 100, 0, ENDS - 1), Give(MONEY, "other", 0, 7, ENDS)], ()), ())
    assert spent(known) == [Spent(NAME, ENDS, 330)]


def test_a_window_that_is_over_is_not_told() -> None:
    clock = Clock()
    known = Known(clock.wall)
    known.note(Call(1, (), [asked(100)]), [says(600)])
    clock.pass_by(12 * 3600 * 10**6)
    assert spent(known) == []


def test_it_is_bounded_and_the_least_is_forgotten() -> None:
    known = Known(Clock().wall, bound=20)
    for number in range(100):
        call = Call(1, (), [Asked("id", [(MONEY, str(number), 1)], True)])
        known.note(call, [[((ENDS,), 0, 0 if number == 3 else 900, 0)]])
    assert len(known) == 20
    assert f"{MONEY.meter.sort}\n{MONEY.id}\n3" in [each.name for each in spent(known)]


def test_many_are_told_in_batches() -> None:
    known = Known(Clock().wall)
    for number in range(BATCH + 1):
        known.note(Call(1, (), [Asked("id", [(MONEY, str(number), 1)], True)]), [[((ENDS,), 0, 900, 0)]])
    assert [len(batch) for batch in known.batches()] == [BATCH, 1]


# -- with a Redis ----------------------------------------------------------------------------------------


async def take(store: RedisStore, amount: int, key: str = "k") -> Hold:
    hold = Hold(f"{key} {amount}", [(MONEY, key, amount), (HOURLY, key, amount), (CHAT, key, 1)])
    await store.decide(hold)
    return hold


async def left(store: RedisStore, key: str = "k") -> int:
    now = Hold("", [(MONEY, key, 0)])
    await store.peek(now)
    return now.taken[0][2]


def store(redis: Server) -> RedisStore:
    return RedisStore(redis.url, [MONEY, HOURLY, CHAT], timeout=20)


def flush(redis: Server) -> None:
    with redis.client() as client:
        client.flushall()


@pytest.mark.slow
@pytest.mark.fault("E5")
async def test_who_asks_next_finds_what_was_spent(caplog: pytest.LogCaptureFixture) -> None:
    with server() as redis:
        one, two = store(redis), store(redis)
        for each in (one, two):
            await each.start(2)
        first = await take(one, 300)
        await take(two, 200)
        await take(two, 50, "other")
        flush(redis)
        assert await left(one) == 700  # a look is told the truth too
        refused = await take(one, 701)
        assert not refused.held
        assert await left(two) == 500  # of both, the higher is what was known last
        assert not (await take(two, 951, "other")).held
        assert (await take(two, 950, "other")).held
        # What was reserved before the loss is settled as if nothing had happened.
        await one.settle(first, {"cost": 100})
        await one._line.flush()
        assert await left(two) == 700
        assert [record.message.partition(" had lost")[2] for record in caplog.records] == [
            " its data: it was told of 2 budgets again; all other limits begin anew",
            " its data: it was told of 4 budgets again; all other limits begin anew",
        ]
        for each in (one, two):
            await each.stop()


@pytest.mark.slow
async def test_what_is_lost_again_and_again_is_put_back_each_time() -> None:
    with server() as redis:
        one = store(redis)
        await one.start(1)
        await take(one, 300)
        for _ in range(3):
            flush(redis)
            assert await left(one) == 700  # a look, which has no number of its own
        for number in range(3):
            flush(redis)
            assert (await take(one, 100)).held
            assert await left(one) == 600 - number * 100
        await one.stop()


@pytest.mark.slow
async def test_whatever_one_process_did_is_all_put_back() -> None:
    chance = random.Random(7)
    with server() as redis:
        one = store(redis)
        await one.start(1)
        running: list[Hold] = []
        for number in range(300):
            key, amount = chance.choice("abc"), chance.randrange(0, 60)
            if running and chance.random() < 0.5:
                hold = running.pop(chance.randrange(len(running)))
                if chance.random() < 0.3:
                    one.charge(hold, 0, chance.randrange(0, 20))
                await one.settle(hold, {"cost": chance.randrange(0, 80)} if chance.random() < 0.8 else {})
            else:
                hold = Hold(str(number), [(MONEY, key, amount), (HOURLY, key, amount)])
                await one.decide(hold)
                running += [hold] if hold.held else []
            if number % 10 == 0:
                await one.renew()
                before = {key: await left(one, key) for key in "abc"}
                flush(redis)
                assert {key: await left(one, key) for key in "abc"} == before
        assert min(before.values()) < 100
        await one.stop()


@pytest.mark.slow
@pytest.mark.fault("E5", "E9")
async def test_a_replica_that_lags_is_told_what_it_has_not_heard() -> None:
    with server() as redis:
        one = store(redis)
        await one.start(1)
        await take(one, 300)
        with redis.client() as client:
            old = {key: client.get(key) for key in client.scan_iter()}
            await take(one, 200)
            for key, value in old.items():
                client.set(key, value or b"", keepttl=True)
        assert await left(one) == 500
        await one.stop()


@pytest.mark.slow
async def test_a_reload_knows_what_was_known_and_another_redis_is_not_told() -> None:
    with server() as redis, server() as elsewhere:
        one = store(redis)
        await one.start(1)
        await take(one, 300)
        successor, moved = store(redis), store(elsewhere)
        for each in (successor, moved):
            each.adopt(one)
            await each.start(1)
            await take(each, 1, "other")
        await one.stop()
        for each, where, found in ((successor, redis, 700), (moved, elsewhere, 1000)):
            flush(where)
            assert await left(each) == found
            await each.stop()


@pytest.mark.slow
async def test_a_loss_in_the_middle_of_what_was_not_answered_counts_everything_once() -> None:
    """Redis is gone while a settlement is under way, and comes back empty."""
    with server() as redis:
        one = RedisStore(redis.url, [MONEY, HOURLY, CHAT], timeout=0.3)
        await one.start(1)
        hold = await take(one, 300)
        redis.stop()
        await one.settle(hold, {"cost": 120})
        async with asyncio.timeout(20):
            while one.mode != "local":
                await asyncio.sleep(0.01)
        redis.start()
        async with asyncio.timeout(20):
            while one.mode != "shared" or one._line.owed:
                await asyncio.sleep(0.01)
        assert await left(one) == 880
        await one.stop()
