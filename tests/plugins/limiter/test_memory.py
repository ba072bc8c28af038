import pytest

from plugins.limiter.grammar import read
from plugins.limiter.limit import OF_KEYS, Limit
from plugins.limiter.memory import MemoryStore
from plugins.limiter.meter import UNLIMITED
from plugins.limiter.store import Hold
from tests.plugins.limiter.clock import Clock, at_once

HOUR = 3_600_000_000


def store(clock: Clock, *limits: Limit, buckets: int = 100) -> MemoryStore:
    return MemoryStore(limits, buckets, monotonic=clock.monotonic, wall=clock.wall)


def ask(store: MemoryStore, limit: Limit, amount: int = 1, key: str = "k") -> Hold:
    hold = Hold("id", [(limit, key, amount)])
    at_once(store.decide(hold))
    return hold


def left(store: MemoryStore, limit: Limit, key: str = "k") -> int:
    hold = Hold("id", [(limit, key, 0)])
    at_once(store.peek(hold))
    return hold.taken[0][2]


def test_what_is_refused_leaves_every_bucket_and_figure_as_it_was() -> None:
    limits = [Limit(name, "requests", 10, "hour") for name in ("used", "unused")]
    shadow = Limit("shadow", "requests", 1, "hour", shadow=True)
    budget, full = Limit("budget", "cost", 100, "day"), Limit("full", "in_flight", 1)
    memory = store(Clock(), *limits, shadow, budget, full)
    for limit in (limits[0], shadow, budget, full):
        assert ask(memory, limit).held
    older = memory.tables[budget.id]
    older.fresh, older.older = older.older, older.fresh  # as sweeping does
    before = {id: (dict(table.fresh), dict(table.older)) for id, table in memory.tables.items()}
    counts = {id: table.admitted for id, table in memory.tables.items()}
    hold = Hold("id", [(limit, "k", 1) for limit in (*limits, shadow, budget, full)])
    at_once(memory.decide(hold))
    assert (hold.held, hold.refused_by) == (False, 4)
    assert [taken[0] is None for taken in hold.taken] == [False, False, True, False, True]
    assert before == {id: (table.fresh, table.older) for id, table in memory.tables.items()}
    assert counts == {id: table.admitted for id, table in memory.tables.items()}
    refused = {limit.name for limit in (*limits, shadow, budget, full) if memory.tables[limit.id].refused}
    assert refused == {"shadow", "full"}


def test_what_is_refused_makes_nobody_elses_bucket_go() -> None:
    rate, full = Limit("rate", "requests", 10, "hour"), Limit("full", "in_flight", 1)
    memory = store(Clock(), rate, full, buckets=3)
    for key in "abc":
        assert ask(memory, rate, key=key).held
    assert ask(memory, full, key="d").held
    hold = Hold("id", [(rate, "d", 1), (full, "d", 1)])
    at_once(memory.decide(hold))
    assert not hold.held
    assert [left(memory, rate, key) for key in "abcd"] == [9, 9, 9, 10]
    assert memory.tables[rate.id].forgotten == 0


def test_a_bucket_that_was_not_used_for_long_is_used_and_settled_on() -> None:
    limit = Limit("a", "cost", 100, "day")
    memory = store(Clock(), limit)
    table = memory.tables[limit.id]
    hold = ask(memory, limit, 10)
    table.fresh, table.older = table.older, table.fresh
    at_once(memory.settle(hold, {"cost": 4}))
    assert (left(memory, limit), len(table)) == (96, 1)
    table.fresh, table.older = table.older, table.fresh
    assert ask(memory, limit, 90).held
    assert (left(memory, limit), len(table)) == (6, 1)
    table.fresh, table.older = table.older, table.fresh
    at_once(memory.settle(hold, {"cost": 0}))  # once only
    assert left(memory, limit) == 6


@pytest.mark.fault("E17")
def test_rates_do_not_mind_the_wall_clock() -> None:
    clock = Clock()
    limit = Limit("a", "requests", 10, "minute")
    memory = store(clock, limit)
    for _ in range(10):
        assert ask(memory, limit).held
    for jump in (HOUR, -2 * HOUR):
        clock.wall_us += jump
        assert left(memory, limit) == 0
    clock.us += 6_000_000
    assert left(memory, limit) == 1


def test_budgets_go_by_the_wall_clock_and_not_back_with_it() -> None:
    clock = Clock()
    limit = Limit("a", "cost", 100, "hour")
    memory = store(clock, limit)
    assert ask(memory, limit, 100).held
    clock.us += 5 * HOUR
    assert left(memory, limit) == 0
    clock.wall_us += HOUR
    assert left(memory, limit) == 100
    assert ask(memory, limit, 70).held
    clock.wall_us -= HOUR  # back in the window before: it is over
    assert left(memory, limit) == 30
    clock.wall_us += HOUR
    assert left(memory, limit) == 30


def test_a_charge_is_reserved_and_settled_with_the_rest() -> None:
    limit = Limit("a", "cost", 100, "hour", fuse="on")
    memory = store(Clock(), limit)
    hold = ask(memory, limit, 10)
    assert memory.charge(hold, 0, 30) == 60
    assert memory.charge(hold, 0, -5) == 65
    assert memory.charge(hold, 0, 90) == -25
    assert hold.asks[0][2] == 125
    at_once(memory.settle(hold, {"cost": 98}))
    assert left(memory, limit) == 2
    assert memory.charge(hold, 0, 50) == UNLIMITED
    assert left(memory, limit) == 2


def test_what_a_plan_asks_for_others_too_is_not_changed_by_a_charge() -> None:
    limit = Limit("a", "cost", 100, "hour", fuse="on")
    memory = store(Clock(), limit)
    asks = [(limit, "k", 10)]
    hold = Hold("id", asks)
    at_once(memory.decide(hold))
    memory.charge(hold, 0, 30)
    assert asks == [(limit, "k", 10)]


def test_a_charge_of_a_bucket_that_was_forgotten_begins_it_again() -> None:
    limit = Limit("a", "cost", 100, "hour", fuse="on")
    memory = store(Clock(), limit)
    hold = ask(memory, limit, 0)
    memory.tables[limit.id].drop("k")
    assert memory.charge(hold, 0, 30) == 70
    assert memory.charge(hold, 0, -30) == 100
    assert len(memory.tables[limit.id]) == 0


def test_a_new_store_does_not_go_back_in_time_either() -> None:
    clock = Clock()
    limit = Limit("a", "cost", 100, "hour")
    old, new = store(clock, limit), store(clock, limit)
    assert ask(old, limit, 70).held
    clock.wall_us -= HOUR
    new.adopt(old)
    assert left(new, limit) == 30


def test_a_new_store_goes_on_from_an_old_ones_counts() -> None:
    clock = Clock()
    before, gone = Limit("a", "requests", 10, "hour"), Limit("b", "requests", 10, "hour")
    old = store(clock, before, gone)
    for _ in range(4):
        assert ask(old, before).held
    after, added = Limit("a", "requests", 5, "hour"), Limit("c", "requests", 10, "hour")
    new = store(clock, after, added, buckets=7)
    new.adopt(old)
    assert (left(new, after), left(new, added)) == (1, 10)
    assert ask(new, after).held
    refused = ask(new, after)
    assert (refused.held, refused.refused_by) == (False, 0)
    assert new.tables[after.id].bound == 7
    assert left(old, before) == 5  # what still runs there counts in the same place
    assert set(new.tables) == {limit.id for limit in (after, added, *OF_KEYS)}


def test_a_request_that_began_before_a_reload_is_settled_in_the_new_counts() -> None:
    clock = Clock()
    before, after = Limit("a", "in_flight", 2), Limit("a", "in_flight", 1)
    old = store(clock, before)
    running = [ask(old, before), ask(old, before)]
    new = store(clock, after)
    new.adopt(old)
    assert not ask(new, after).held
    at_once(old.settle(running[0], {"in_flight": 0}))
    assert not ask(new, after).held
    at_once(old.settle(running[1], {"in_flight": 0}))
    assert ask(new, after).held


def test_buckets_are_bounded_for_each_limit_but_requests_in_flight_are_all_known() -> None:
    clock = Clock()
    rate, flying = Limit("a", "requests", 10, "hour"), Limit("b", "in_flight", 1)
    memory = store(clock, rate, flying, buckets=50)
    for number in range(200):
        ask(memory, rate, key=str(number))
        assert ask(memory, flying, key=str(number)).held
    assert len(memory.tables[rate.id]) == 50
    assert memory.tables[rate.id].forgotten == 150
    assert len(memory.tables[flying.id]) == 200
    assert not any(ask(memory, flying, key=str(number)).held for number in range(200))


def test_a_lease_that_ended_leaves_nothing_behind() -> None:
    clock = Clock()
    limit = Limit("a", "in_flight", 5)
    memory = store(clock, limit)
    holds = [ask(memory, limit, key=key) for key in "abcab"]
    for hold in holds:
        at_once(memory.settle(hold, {"in_flight": 0}))
    assert len(memory.tables[limit.id]) == 0


def test_a_request_that_takes_long_counts_once() -> None:
    """A count is final when it is made; only use is known later than it is reserved."""
    clock = Clock()
    requests, tokens = Limit("a", "requests", 10, "minute"), Limit("b", "tokens", 10, "minute")
    memory = store(clock, requests, tokens)
    hold = Hold("id", [(requests, "k", 1), (tokens, "k", 10)])
    at_once(memory.decide(hold))
    clock.pass_by(HOUR)
    at_once(memory.settle(hold, {"requests": 1, "tokens": 4}))
    assert (left(memory, requests), left(memory, tokens)) == (10, 6)


def test_decisions_are_counted() -> None:
    clock = Clock()
    one, two, shadow = read(
        [
            {"name": "one", "requests": "3/hour"},
            {"name": "two", "requests": "2/hour"},
            {"name": "shadow", "requests": "1/hour", "shadow": True},
        ]
    )
    memory = store(clock, one, two, shadow)
    for _ in range(4):
        at_once(memory.decide(Hold("id", [(one, "k", 1), (two, "k", 1), (shadow, "k", 1)])))
    counted = {limit.name: memory.tables[limit.id] for limit in (one, two, shadow)}
    assert {name: (table.admitted, table.refused) for name, table in counted.items()} == {
        "one": (2, 0),
        "two": (2, 2),
        "shadow": (1, 3),
    }
