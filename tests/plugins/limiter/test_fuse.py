"""Fuses: what streams may spend, and that no money is lost or made."""

import logging
import random
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plugins.limiter.fuse import PARTS, Fuses, Share
from plugins.limiter.limit import Limit
from plugins.limiter.memory import MemoryStore
from plugins.limiter.money import nanodollars
from plugins.limiter.store import Hold
from tests.plugins.limiter.clock import Clock, at_once

NANO = Decimal("0.000000001")
DAILY = Limit("daily", "cost", 1000, "day", fuse="on")
MONTHLY = Limit("monthly", "cost", 5000, "month", fuse="on")
ROLLING = Limit("rolling", "cost", 1000, "day", rolling=True, fuse="on")
WARNING = Limit("warning", "cost", 1000, "day", fuse="warn")
PLAIN = Limit("plain", "cost", 10**6, "day")
LIMITS = (DAILY, MONTHLY, ROLLING, WARNING, PLAIN)


class Budget:
    """Streams that use up the same limits."""

    def __init__(self, *limits: Limit, clock: Clock | None = None) -> None:
        clock = clock or Clock()
        self.limits = limits
        self.store = MemoryStore(LIMITS, monotonic=clock.monotonic, wall=clock.wall)
        self.fuses = Fuses()

    def admit(self, amount: int = 0) -> tuple[Hold, Share | None]:
        hold = Hold("id", [(limit, "k", amount) for limit in self.limits])
        at_once(self.store.decide(hold))
        return hold, self.fuses.light(hold, self.store) if hold.held else None

    def begin(self, amount: int = 0) -> tuple[Hold, Share]:
        hold, share = self.admit(amount)
        assert share is not None
        return hold, share

    def end(self, hold: Hold, share: Share, cost: int) -> None:
        share.end()
        at_once(self.store.settle(hold, {"cost": cost}))

    def left(self) -> list[int]:
        now = Hold("", [(limit, "k", 0) for limit in self.limits])
        at_once(self.store.peek(now))
        return [taken[2] for taken in now.taken]


def dollars(nano: int) -> Decimal:
    return nano * NANO


def test_a_stream_is_given_a_part_of_what_is_left_and_nobody_else_is_given_that_too() -> None:
    budget = Budget(DAILY)
    _, one = budget.begin(200)
    assert one.charge(Decimal(0)) == dollars(800 // PARTS)
    _, two = budget.begin()
    assert two.charge(Decimal(0)) == dollars(700 // (2 * PARTS))
    assert budget.left() == [700 - 43]
    assert one.charge(dollars(100)) == dollars((700 - 43) // (2 * PARTS))


def test_nothing_is_left_when_all_is_used_and_not_before() -> None:
    budget = Budget(DAILY)
    _, share = budget.begin(10)
    assert share.charge(dollars(989)) == 0  # one is left: it is charged with each event
    assert share.charge(dollars(1)) < 0
    error = share.blown()
    assert (error.status, error.code, error.type) == (429, "insufficient_quota", "insufficient_quota")
    assert '"daily"' in error.message
    assert error.retry_after is None


def test_of_several_budgets_the_one_that_has_least_left_decides_and_is_named() -> None:
    budget = Budget(MONTHLY, DAILY)
    _, share = budget.begin()
    assert share.charge(Decimal(0)) == dollars(1000 // PARTS)
    assert share.charge(dollars(1000)) < 0
    assert '"daily"' in share.blown().message


def test_parts_of_a_nanodollar_add_up() -> None:
    budget = Budget(DAILY)
    hold, share = budget.begin()
    for _ in range(100):
        share.charge(NANO / 10)
    share.charge(dollars(980))
    assert hold.asks[0][2] == 990 + (1000 - 990) // PARTS
    assert share.charge(dollars(10)) < 0


def test_a_limit_that_only_warns_says_so_once_and_stops_nobody(caplog: pytest.LogCaptureFixture) -> None:
    budget = Budget(WARNING)
    hold, share = budget.begin()
    with caplog.at_level(logging.WARNING, "weir.limiter"):
        for _ in range(3):
            assert share.charge(dollars(900)) >= 0
    assert len(caplog.records) == 1
    assert '"warning" is used up' in caplog.text
    budget.end(hold, share, 2700)
    assert budget.left() == [-1700]


def test_limits_without_a_fuse_have_none() -> None:
    budget = Budget(PLAIN)
    assert budget.admit()[1] is None
    assert budget.fuses.running == {}
    both = Budget(PLAIN, DAILY)
    hold, share = both.begin(10)
    share.charge(dollars(20))
    assert [amount for _, _, amount in hold.asks] == [10, 30 + 970 // PARTS]


def test_a_shadow_that_would_have_refused_burns_nothing() -> None:
    shadow = Limit("daily", "cost", 1000, "day", fuse="warn", shadow=True)
    budget = Budget(shadow)
    assert budget.admit(2000)[1] is None


def test_who_has_ended_charges_nothing_and_leaves_the_others_more() -> None:
    budget = Budget(DAILY)
    (hold, one), (_, two) = budget.begin(), budget.begin()
    budget.end(hold, one, 0)
    one.end()
    assert budget.fuses.running == {(DAILY.id, "k"): 1}
    assert one.charge(dollars(500)) > 0
    assert budget.left() == [1000]
    assert two.charge(Decimal(0)) == dollars(1000 // PARTS)
    two.end()
    assert budget.fuses.running == {}


def test_a_window_that_has_ended_holds_nobody_any_more() -> None:
    clock = Clock()
    budget = Budget(DAILY, clock=clock)
    hold, share = budget.begin(100)
    assert share.charge(dollars(850)) > 0
    reserved = hold.asks[0][2]
    clock.pass_by(86_400_000_000)
    assert share.charge(dollars(2000)) == dollars(1000 // PARTS)  # to be asked again
    assert hold.asks[0][2] == reserved
    budget.end(hold, share, 2950)
    assert budget.left() == [1000]


class Stream:
    """One that runs, and is charged when it has used more than it was allowed."""

    def __init__(self, hold: Hold, share: Share) -> None:
        self.hold = hold
        self.share = share
        self.spent = hold.asks[0][2]
        self.uncharged = 0
        self.allowed = nanodollars(share.charge(Decimal(0)))

    def writes(self, cost: int) -> bool:
        """Whether it has to end with this."""
        self.spent += cost
        self.uncharged += cost
        if self.uncharged <= self.allowed:
            return False
        more = self.share.charge(dollars(self.uncharged))
        self.uncharged, self.allowed = 0, nanodollars(more)
        return more < 0


@settings(deadline=None, max_examples=150)
@given(st.sampled_from([DAILY, ROLLING]), st.integers(1, 12), st.integers(1, 60), st.integers())
def test_streams_use_no_more_than_the_budget_and_one_event_each(
    limit: Limit, streams: int, event: int, seed: int
) -> None:
    """In any order, and however fast one of them is: it is charged once it has used what it was given."""
    chance = random.Random(seed)
    budget = Budget(limit)
    running: list[Stream] = []
    settled = 0
    for _ in range(streams):
        hold, share = budget.admit(chance.randint(0, 30))
        if share is not None:
            running.append(Stream(hold, share))
    favourite = chance.choice(running) if chance.random() < 0.5 else None
    while running:
        stream = favourite if favourite in running and chance.random() < 0.9 else chance.choice(running)
        if stream.writes(chance.randint(0, event)) or chance.random() < 0.01:
            budget.end(stream.hold, stream.share, stream.spent)
            running.remove(stream)
            settled += stream.spent
    assert settled <= 1000 + streams * event
    assert budget.left() == [1000 - settled]
    assert budget.fuses.running == {}


@settings(deadline=None, max_examples=100)
@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 300), st.booleans()), max_size=40))
def test_no_money_is_lost_or_made(steps: list[tuple[int, int, bool]]) -> None:
    """Whatever was charged: when all is settled, what is used is what was settled, however often."""
    budget = Budget(DAILY, ROLLING)
    running: dict[int, tuple[Hold, Share]] = {}
    done: list[Hold] = []
    settled = 0
    for number, amount, ends in steps:
        if number not in running:
            hold, share = budget.admit(amount)
            if share is not None:
                running[number] = hold, share
        elif ends:
            hold, share = running.pop(number)
            budget.end(hold, share, amount)
            done.append(hold)
            settled += amount
        else:
            running[number][1].charge(dollars(amount))
        for hold in done:
            at_once(budget.store.settle(hold, {"cost": 7}))
    for hold, share in running.values():
        budget.end(hold, share, 1)
        settled += 1
    assert budget.left() == [1000 - settled, 1000 - settled]
