"""The memory store against the model. With Redis beside it: tests/plugins/limiter/redis/test_store.py."""

from collections import defaultdict

from hypothesis import settings

from plugins.limiter.limit import Limit
from plugins.limiter.memory import MemoryStore
from plugins.limiter.store import Hold
from tests.plugins.limiter.clock import Clock, at_once
from tests.plugins.limiter.conformance import Conformance


class InMemory(Conformance):
    pass


InMemory.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestInMemory = InMemory.TestCase


def test_any_interleaving_admits_exactly_as_many_as_there_are() -> None:
    """Requests that are decided and settled in every order, within one window: the count is the limit."""
    limits = (Limit("a", "requests", 100, "month"), Limit("b", "requests", 40, "month"))
    clock = Clock()
    store = MemoryStore(limits, monotonic=clock.monotonic, wall=clock.wall)
    admitted: dict[str, int] = defaultdict(int)
    running: list[Hold] = []
    for number in range(1000):
        key = f"user-{number * 7919 % 4}"
        hold = Hold(str(number), [(limits[0], "", 1), (limits[1], key, 1)])
        at_once(store.decide(hold))
        if hold.held:
            admitted[key] += 1
            running.append(hold)
        if number % 3 == 0 and running:
            at_once(store.settle(running.pop(number % len(running)), {}))
    assert sum(admitted.values()) == 100
    assert max(admitted.values()) <= 40


def test_what_the_last_limit_refuses_has_moved_none_of_the_others() -> None:
    limits = [Limit(name, "requests", 10, "hour") for name in "abcd"] + [Limit("e", "cost", 5, "day")]
    clock = Clock()
    store = MemoryStore(limits, monotonic=clock.monotonic, wall=clock.wall)
    hold = Hold("id", [(limit, "k", 6 if limit.name == "e" else 1) for limit in limits])
    at_once(store.decide(hold))
    assert (hold.held, hold.refused_by) == (False, 4)
    assert all(len(table) == 0 for table in store.tables.values())
    at_once(store.settle(hold, {"requests": 0, "cost": 0}))
    assert all(len(table) == 0 for table in store.tables.values())
