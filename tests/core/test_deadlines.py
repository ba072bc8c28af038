import asyncio
from collections.abc import AsyncIterator

import pytest

from proxy.core.deadlines import NEVER, TICK, Deadlines


class Timed:
    """Tells when it expired, and how often."""

    def __init__(self, deadline: float, moves_to: float | None = None) -> None:
        self.deadline = deadline
        self.moves_to = moves_to
        self.expired: list[float] = []
        self.event = asyncio.Event()

    def expire(self, now: float) -> None:
        self.expired.append(now)
        self.event.set()
        if self.moves_to is not None:
            self.deadline = self.moves_to


@pytest.fixture
async def deadlines() -> AsyncIterator[Deadlines]:
    made = Deadlines()
    yield made
    made.close()


def now() -> float:
    return asyncio.get_running_loop().time()


async def settled(ticks: int = 3) -> None:
    """Let some ticks go by: one that is watched expires at each of them."""
    clock = Deadlines()
    witness = Timed(0.0)
    clock.add(witness)
    while len(witness.expired) < ticks:
        witness.event.clear()
        await asyncio.wait_for(witness.event.wait(), 2)
    clock.close()


async def test_it_fires_after_the_deadline_and_at_most_a_tick_late(deadlines: Deadlines) -> None:
    timed = Timed(now() + 0.05, NEVER)
    deadline = timed.deadline
    deadlines.add(timed)
    await asyncio.wait_for(timed.event.wait(), 2)
    assert deadline <= timed.expired[0] <= deadline + TICK + 0.5  # a busy machine is late by itself


async def test_what_has_moved_its_deadline_does_not_fire(deadlines: Deadlines) -> None:
    moved, discarded, never = Timed(now()), Timed(now()), Timed(NEVER)
    for timed in (moved, discarded, never):
        deadlines.add(timed)
    moved.deadline = NEVER
    deadlines.discard(discarded)
    await settled()
    assert moved.expired == discarded.expired == never.expired == []


async def test_it_fires_again_at_each_tick_until_it_is_moved(deadlines: Deadlines) -> None:
    stubborn, once = Timed(now()), Timed(now(), NEVER)
    deadlines.add(stubborn)
    deadlines.add(once)
    await settled(4)
    assert len(stubborn.expired) >= 3
    assert len(once.expired) == 1


async def test_one_that_is_discarded_while_others_expire_is_left_alone(deadlines: Deadlines) -> None:
    class Discards(Timed):
        def expire(self, now: float) -> None:
            super().expire(now)
            deadlines.discard(self)
            deadlines.add(Timed(NEVER))

    one = Discards(now())
    deadlines.add(one)
    await settled()
    assert len(one.expired) == 1
    assert len(deadlines) == 1


async def test_discarding_what_is_not_watched_is_no_error(deadlines: Deadlines) -> None:
    deadlines.discard(Timed(0.0))
    assert len(deadlines) == 0


async def test_it_starts_again_after_it_had_nothing_to_do(deadlines: Deadlines) -> None:
    first = Timed(now(), NEVER)
    deadlines.add(first)
    await asyncio.wait_for(first.event.wait(), 2)
    deadlines.discard(first)
    await settled()
    second = Timed(now(), NEVER)
    deadlines.add(second)
    await asyncio.wait_for(second.event.wait(), 2)


async def test_closed_it_fires_no_more(deadlines: Deadlines) -> None:
    timed = Timed(now())
    deadlines.add(timed)
    deadlines.close()
    assert len(deadlines) == 0
    await settled()
    assert timed.expired == []
    deadlines.close()
