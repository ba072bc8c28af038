"""What every store must do, against a plain model: hypothesis picks limits, requests and times.

All stores of a run are asked the same and have to say the same, to the microsecond.
"""

import asyncio
from collections.abc import Coroutine, Iterable, Sequence
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from plugins.limiter.limit import Limit
from plugins.limiter.memory import MemoryStore
from plugins.limiter.store import Ask, Hold, Store
from tests.plugins.limiter.clock import Clock, at_once
from tests.plugins.limiter.model import Counting, Leaking, Model, model

LIMITS = (
    Limit("everybody", "requests", 9, "second", per="all"),
    Limit("bursty", "requests", 7, "minute", burst=3),
    Limit("daily", "requests", 13, "day"),
    Limit("input", "input_tokens", 997, "minute"),
    Limit("tokens", "tokens", 1000, "hour", burst=1500),
    Limit("odd", "tokens", 1_000_003, "month", burst=2000),  # its numbers do not fit a double
    Limit("money", "cost", 1200, "hour"),
    Limit("monthly", "cost", 5000, "month", per="team"),
    Limit("large", "cost", 2**53, "month"),
    Limit("rolling", "cost", 1_000_000_007, "day", burst=2500, rolling=True),
    Limit("running", "in_flight", 3),
    Limit("watched", "requests", 2, "minute", shadow=True),
    Limit("alone", "tokens", 700, "hour", of_key=True),
)
KEYS = st.sampled_from(["alice", "bob", "carol"])
AMOUNTS = st.one_of(st.just(0), st.integers(1, 50), st.integers(0, 2000))
LARGE = st.one_of(st.integers(0, 2**53), st.integers(2**53 - 3, 2**53))
STEPS = st.one_of(st.integers(0, 3), st.integers(0, 10**6), st.integers(0, 4 * 10**9), st.integers(0, 10**12))


def memory(clock: Clock) -> MemoryStore:
    return MemoryStore(LIMITS, monotonic=clock.monotonic, wall=clock.wall)


class Conformance(RuleBasedStateMachine):
    """The same for several stores: several users, many requests that overlap in every order."""

    def make(self, clock: Clock) -> Sequence[Store]:
        """The stores of one run."""
        return [memory(clock)]

    def run(self, coroutine: Coroutine[Any, Any, Any]) -> None:
        at_once(coroutine)

    @initialize()
    def begin(self) -> None:
        self.clock = Clock()
        self.stores = self.make(self.clock)
        self.buckets: dict[tuple[str, str], Model] = {}
        self.held: list[tuple[list[Hold], dict[str, object]]] = []
        self.settled: list[list[Hold]] = []
        self.charged: dict[tuple[str, int], int] = {}
        self.number = 0

    def each(self, coroutines: Iterable[Coroutine[Any, Any, Any]]) -> None:
        """At once, and in this order, where there is something to wait for."""
        if len(self.stores) > 1:
            self.run(together([*coroutines]))
        else:
            for coroutine in coroutines:
                self.run(coroutine)

    def bucket(self, limit: Limit, key: str) -> Model:
        bucket = self.buckets.setdefault((limit.name, key), model(limit))
        bucket.leak(self.clock.wall_us if limit.meter.calendar else self.clock.us)
        return bucket

    @rule(step=STEPS)
    def time_passes(self, step: int) -> None:
        self.clock.pass_by(step)
        # What outlives a process has to hear now and then that its requests still run.
        self.each(store.renew() for store in self.stores if hasattr(store, "renew"))

    @rule(jump=st.integers(-(10**10), 0))
    def the_wall_clock_is_set_back_and_put_right(self, jump: int) -> None:
        self.clock.wall_us += jump
        self.each(store.peek(Hold("", [(LIMITS[0], "", 0)])) for store in self.stores)
        self.clock.wall_us -= jump

    @rule(
        key=KEYS,
        places=st.sets(st.integers(0, len(LIMITS) - 1), min_size=1),
        amount=AMOUNTS,
        large=LARGE,
    )
    def a_request_asks(self, key: str, places: set[int], amount: int, large: int) -> None:
        asks: list[Ask] = []
        for place in sorted(places):
            limit = LIMITS[place]
            asked = large if limit.name == "large" else amount
            asks.append((limit, key, 1 if limit.kind in ("requests", "in_flight") else asked))
        self.number += 1
        seen = [Hold("seen", asks) for _ in self.stores]
        holds = [Hold(f"hold {self.number}", asks) for _ in self.stores]
        self.each(
            [store.peek(hold) for store, hold in zip(self.stores, seen, strict=True)]
            + [store.decide(hold) for store, hold in zip(self.stores, holds, strict=True)]
        )
        hold = holds[0]
        for other in (*seen, *holds):
            assert said(other) == said(hold)
        assert len({each.held for each in holds}) == 1

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
            self.held.append((holds, receipts))
        else:
            longest = max(taken[1] for taken, real in zip(hold.taken, real, strict=True) if not real)
            assert hold.refused_by is not None
            assert not real[hold.refused_by]
            assert hold.taken[hold.refused_by][1] == longest

    @precondition(lambda self: self.held)
    @rule(data=st.data(), sent=st.booleans(), used=AMOUNTS, known=st.booleans())
    def a_request_ends(self, data: Any, sent: bool, used: int, known: bool) -> None:
        holds, receipts = self.held.pop(data.draw(st.integers(0, len(self.held) - 1)))
        ends: dict[Any, int] = {"in_flight": 0}
        if not sent:
            ends |= {"requests": 0, "input_tokens": 0, "tokens": 0, "cost": 0}
        elif known:
            ends |= {"input_tokens": used, "tokens": used, "cost": used}
        self.each(store.settle(hold, ends) for store, hold in zip(self.stores, holds, strict=True))
        self.settled.append(holds)
        for limit, key, amount in holds[0].asks:
            spent = ends.get(limit.kind, amount)
            if limit.name in receipts and not (limit.kind == "requests" and spent == amount):
                self.bucket(limit, key).give(receipts[limit.name], amount, spent)

    @precondition(lambda self: self.held)
    @rule(data=st.data(), amount=st.one_of(st.integers(-2000, 2000), st.integers(2**52, 2**53)))
    def a_request_is_charged_while_it_runs(self, data: Any, amount: int) -> None:
        """No more is taken off again than was charged before."""
        holds, receipts = data.draw(st.sampled_from(self.held))
        for place, (limit, key, asked) in enumerate(holds[0].asks):
            if limit.kind != "cost":
                continue
            if limit.name != "large":
                amount = min(amount, 2000)
            charged = max(amount, -self.charged.get((holds[0].id, place), 0))
            for store, hold in zip(self.stores, holds, strict=True):
                self.run(charge(store, hold, place, charged))
                reserved = asked + (charged if self.counts(receipts, limit, key) else 0)
                assert hold.asks[place][2] == min(2**53, reserved)
            if self.counts(receipts, limit, key):
                self.charged[holds[0].id, place] = self.charged.get((holds[0].id, place), 0) + charged
                self.bucket(limit, key).charge(receipts[limit.name], charged)

    def counts(self, receipts: dict[str, object], limit: Limit, key: str) -> bool:
        """Whether a reservation still holds: what was reserved in another window no longer does."""
        bucket = self.bucket(limit, key)
        return not isinstance(bucket, Counting) or receipts[limit.name] == bucket.window

    @precondition(lambda self: self.settled)
    @rule(data=st.data(), used=AMOUNTS)
    def an_end_is_told_again(self, data: Any, used: int) -> None:
        holds = data.draw(st.sampled_from(self.settled))
        ends: dict[Any, int] = {"in_flight": 0, "requests": 0, "tokens": used, "cost": used}
        self.each(store.settle(hold, ends) for store, hold in zip(self.stores, holds, strict=True))

    @invariant()
    def what_can_be_seen_is_what_there_is(self) -> None:
        if not hasattr(self, "stores") or not self.buckets:
            return
        by_name = {limit.name: limit for limit in LIMITS}
        asks = [(by_name[name], key, 0) for name, key in self.buckets]
        seen = [Hold("", asks) for _ in self.stores]
        self.each(store.peek(hold) for store, hold in zip(self.stores, seen, strict=True))
        for hold in seen:
            for (limit, key, _), (_, _, remaining, reset) in zip(asks, hold.taken, strict=True):
                bucket = self.bucket(limit, key)
                assert remaining == bucket.remaining
                if isinstance(bucket, Leaking):
                    assert reset == bucket.reset


def said(hold: Hold) -> tuple[object, ...]:
    return [taken[1:] for taken in hold.taken], [taken[0] is None for taken in hold.taken], hold.refused_by


async def charge(store: Store, hold: Hold, place: int, amount: int) -> None:
    store.charge(hold, place, amount)
    if hasattr(store, "renew"):
        await store.renew()


async def together(coroutines: Sequence[Coroutine[Any, Any, Any]]) -> None:
    await asyncio.gather(*coroutines)
