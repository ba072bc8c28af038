"""What every store must do, against a plain model: hypothesis picks limits, requests and times."""

from collections import defaultdict
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from plugins.limiter.limit import Limit
from plugins.limiter.memory import MemoryStore
from plugins.limiter.store import Ask, Hold
from tests.plugins.limiter.clock import Clock, at_once
from tests.plugins.limiter.model import Leaking, Model, model

LIMITS = (
    Limit("everybody", "requests", 9, "second", per="all"),
    Limit("bursty", "requests", 7, "minute", burst=3),
    Limit("daily", "requests", 13, "day"),
    Limit("input", "input_tokens", 997, "minute"),
    Limit("tokens", "tokens", 1000, "hour", burst=1500),
    Limit("money", "cost", 1200, "hour"),
    Limit("monthly", "cost", 5000, "month", per="team"),
    Limit("running", "in_flight", 3),
    Limit("watched", "requests", 2, "minute", shadow=True),
)
KEYS = st.sampled_from(["alice", "bob", "carol"])
AMOUNTS = st.one_of(st.just(0), st.integers(1, 50), st.integers(0, 2000))
STEPS = st.one_of(st.integers(0, 3), st.integers(0, 10**6), st.integers(0, 4 * 10**9), st.integers(0, 10**12))


class Conformance(RuleBasedStateMachine):
    """One store, several users, many requests that overlap in every order."""

    @initialize()
    def begin(self) -> None:
        self.clock = Clock()
        self.store = MemoryStore(LIMITS, monotonic=self.clock.monotonic, wall=self.clock.wall)
        self.buckets: dict[tuple[str, str], Model] = {}
        self.held: list[tuple[Hold, dict[str, object]]] = []
        self.settled: list[Hold] = []

    def bucket(self, limit: Limit, key: str) -> Model:
        bucket = self.buckets.setdefault((limit.name, key), model(limit))
        bucket.leak(self.clock.wall_us if limit.kind == "cost" else self.clock.us)
        return bucket

    @rule(step=STEPS)
    def time_passes(self, step: int) -> None:
        self.clock.pass_by(step)

    @rule(jump=st.integers(-(10**10), 0))
    def the_wall_clock_is_set_back_and_put_right(self, jump: int) -> None:
        self.clock.wall_us += jump
        at_once(self.store.peek(Hold("", [(LIMITS[0], "", 0)])))
        self.clock.wall_us -= jump

    @rule(key=KEYS, places=st.sets(st.integers(0, len(LIMITS) - 1), min_size=1), amount=AMOUNTS)
    def a_request_asks(self, key: str, places: set[int], amount: int) -> None:
        asks: list[Ask] = []
        for place in sorted(places):
            limit = LIMITS[place]
            asks.append((limit, key, 1 if limit.kind in ("requests", "in_flight") else amount))
        seen = Hold("seen", asks)
        at_once(self.store.peek(seen))
        hold = Hold("hold", asks)
        at_once(self.store.decide(hold))
        assert (seen.taken, seen.refused_by) == (hold.taken, hold.refused_by)

        says = [self.bucket(limit, key).admits(amount) for limit, key, amount in asks]
        real = [admits or limit.shadow for admits, (limit, _, _) in zip(says, asks, strict=True)]
        assert hold.held is all(real)
        receipts: dict[str, object] = {}
        for admits, taken, (limit, key, asked) in zip(says, hold.taken, asks, strict=True):
            bucket = self.bucket(limit, key)
            assert (taken[1] == 0) is admits
            if hold.held and admits:
                receipts[limit.name] = bucket.take(asked)
                assert taken[2] == bucket.remaining
            elif not admits:
                assert taken[2] == bucket.remaining
        if hold.held:
            self.held.append((hold, receipts))
        else:
            longest = max(taken[1] for taken, real in zip(hold.taken, real, strict=True) if not real)
            assert hold.refused_by is not None
            assert not real[hold.refused_by]
            assert hold.taken[hold.refused_by][1] == longest

    @precondition(lambda self: self.held)
    @rule(data=st.data(), sent=st.booleans(), used=AMOUNTS, known=st.booleans())
    def a_request_ends(self, data: Any, sent: bool, used: int, known: bool) -> None:
        hold, receipts = self.held.pop(data.draw(st.integers(0, len(self.held) - 1)))
        ends: dict[Any, int] = {"in_flight": 0}
        if not sent:
            ends |= {"requests": 0, "input_tokens": 0, "tokens": 0, "cost": 0}
        elif known:
            ends |= {"input_tokens": used, "tokens": used, "cost": used}
        at_once(self.store.settle(hold, ends))
        self.settled.append(hold)
        for limit, key, amount in hold.asks:
            spent = ends.get(limit.kind, amount)
            if limit.name in receipts and not (limit.kind == "requests" and spent == amount):
                self.bucket(limit, key).give(receipts[limit.name], amount, spent)

    @precondition(lambda self: self.settled)
    @rule(data=st.data(), used=AMOUNTS)
    def an_end_is_told_again(self, data: Any, used: int) -> None:
        hold = data.draw(st.sampled_from(self.settled))
        at_once(self.store.settle(hold, {"in_flight": 0, "requests": 0, "tokens": used, "cost": used}))

    @invariant()
    def what_can_be_seen_is_what_there_is(self) -> None:
        if not hasattr(self, "store"):
            return
        for (name, key), bucket in self.buckets.items():
            limit = next(limit for limit in LIMITS if limit.name == name)
            now = Hold("", [(limit, key, 0)])
            at_once(self.store.peek(now))
            self.bucket(limit, key)
            assert now.taken[0][2] == bucket.remaining
            if isinstance(bucket, Leaking):
                assert now.taken[0][3] == bucket.reset


Conformance.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestConformance = Conformance.TestCase


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
