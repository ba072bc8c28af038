"""What streams use up, charged here at once and told to Redis now and then."""

import asyncio

import pytest

from plugins.limiter.limit import Limit
from plugins.limiter.meter import UNLIMITED
from plugins.limiter.redis.call import Give
from plugins.limiter.redis.mirrors import LAG, Mirrors
from plugins.limiter.redis.settlements import Settlements
from plugins.limiter.store import Hold
from tests.plugins.limiter.clock import NOON

ENDS = NOON + 3_600_000_000
SPENT = Limit("spent", "cost", 1000, "hour", fuse="on")
ROLLING = Limit("rolling", "cost", 1000, "hour", rolling=True, fuse="on")
OPEN = Limit("open", "cost", 1000, "hour", fuse="on", on_failure="open")


class Redis:
    """A line to a Redis that does what it is told, and where others spend too."""

    def __init__(self) -> None:
        self.settlements = Settlements()
        self.told: list[Give] = []
        self.spent = 0
        self.answers = True
        self.away = False
        self.now = NOON
        self.mirrors = Mirrors(self, self.settlements, lambda: self.away, lambda: self.now * 1000)
        self.mirrors.shares = 4

    async def ask(self, hold: Hold, decide: bool) -> bool:
        assert not decide
        if not self.answers:
            return False
        gives = self.settlements.take(512)
        self.told += gives
        self.spent += sum(give.used - give.reserved for give in gives)
        await asyncio.sleep(0)
        hold.taken = [(None, 0, 1000 - self.spent, 0) for _ in hold.asks]
        return True

    def charge(self, hold: Hold, amount: int, limit: Limit = SPENT) -> int | None:
        return self.mirrors.charge(hold, 0, limit, "k", (ENDS,), 900, amount)


async def test_what_redis_said_before_the_stream_began_is_not_believed() -> None:
    redis = Redis()
    hold = Hold("id", ())
    assert redis.charge(hold, 10) is None
    await redis.mirrors.tell()
    assert redis.charge(hold, 0) == 990
    redis.mirrors.close()


async def test_all_charges_are_told_together_and_what_is_pending_is_used_already() -> None:
    redis = Redis()
    one, two = Hold("1", ()), Hold("2", ())
    redis.charge(one, 10)
    redis.charge(two, 20)
    await redis.mirrors.tell()
    assert redis.told == [Give(SPENT, "k", 0, 30, ENDS)]
    assert redis.charge(one, -5) == 975
    redis.spent += 500  # by another process
    assert redis.charge(two, 1) == 974
    await redis.mirrors.tell()
    assert redis.told[1:] == [Give(SPENT, "k", 4, 0, ENDS)]
    assert redis.charge(one, 0) == 1000 - 526
    redis.mirrors.close()


async def test_it_is_told_by_itself_within_the_lag() -> None:
    redis = Redis()
    hold = Hold("id", ())
    redis.charge(hold, 10)
    async with asyncio.timeout(20):
        while redis.spent < 10:
            await asyncio.sleep(0.01)
        redis.charge(hold, 5)
        while redis.spent < 15:
            await asyncio.sleep(0.01)
    assert len(redis.told) == 2
    redis.mirrors.close()


async def test_what_was_heard_is_believed_no_longer_than_the_lag() -> None:
    redis = Redis()
    hold = Hold("id", ())
    redis.charge(hold, 10)
    await redis.mirrors.tell()
    redis.answers = False
    await asyncio.sleep(LAG + 0.02)
    assert redis.charge(hold, 0) is None
    redis.mirrors.close()


async def test_a_rate_does_not_know_charges_as_used() -> None:
    redis = Redis()
    redis.charge(Hold("id", ()), 10, ROLLING)
    await redis.mirrors.tell()
    assert redis.told == [Give(ROLLING, "k", -10, 0, 0)]
    redis.mirrors.close()


async def test_charges_are_told_before_what_settles_them() -> None:
    redis = Redis()
    hold = Hold("id", ())
    redis.charge(hold, 10)
    redis.settlements.put([Give(SPENT, "k", 7, 0, ENDS)])
    redis.mirrors.release(hold)
    assert len(redis.mirrors) == 0
    assert redis.settlements.take(9) == [Give(SPENT, "k", 0, 10, ENDS), Give(SPENT, "k", 7, 0, ENDS)]
    redis.mirrors.release(hold)
    assert not redis.settlements
    redis.mirrors.close()


async def test_a_bucket_is_known_as_long_as_a_stream_uses_it_up() -> None:
    redis = Redis()
    one, two = Hold("1", ()), Hold("2", ())
    redis.charge(one, 1)
    redis.charge(two, 1)
    redis.mirrors.release(one)
    assert len(redis.mirrors) == 1
    redis.mirrors.release(two)
    assert len(redis.mirrors) == 0
    redis.mirrors.close()


@pytest.mark.parametrize(("limit", "left"), [(SPENT, 980 // 4), (OPEN, UNLIMITED)])
async def test_without_redis_a_process_uses_its_share_of_what_was_left(limit: Limit, left: int) -> None:
    redis = Redis()
    hold = Hold("id", ())
    redis.charge(hold, 10, limit)
    await redis.mirrors.tell()
    redis.away = True
    assert redis.charge(hold, 10, limit) == left
    assert redis.charge(hold, 5, limit) == (left if limit is OPEN else left - 5)
    redis.away = False
    await redis.mirrors.tell()
    assert redis.charge(hold, 0, limit) == 975
    redis.mirrors.close()


async def test_a_window_that_has_ended_is_charged_no_more() -> None:
    redis = Redis()
    assert not redis.mirrors.is_over(SPENT, (ENDS,))
    redis.now = ENDS
    assert redis.mirrors.is_over(SPENT, (ENDS,))
    assert not redis.mirrors.is_over(ROLLING, (1,))


async def test_more_than_one_call_takes_are_told_in_several() -> None:
    redis = Redis()
    for number in range(300):
        redis.mirrors.charge(Hold("id", ()), 0, SPENT, str(number), (ENDS,), 900, 1)
    await redis.mirrors.tell()
    assert len(redis.told) == 300
    redis.mirrors.close()
