"""Buckets in this process. One event loop, and no await between check and write: each step is atomic."""

import sys
from collections.abc import Callable, Mapping, Sequence
from time import monotonic_ns, time_ns
from types import MappingProxyType
from typing import Final

from .limit import OF_KEYS, Kind, Limit
from .meter import UNLIMITED, State, Taken, raised
from .store import Hold, Store
from .table import Table

BUCKETS: Final = 100_000
"""Buckets of each limit, at about 250 bytes each."""


class MemoryStore:
    """A `Store` for one process: what it knows ends with it.

    Rates and leases go by the monotonic clock; budgets by the wall clock, which here never goes back: a clock
    that is set back stands until the old time is reached again.
    """

    def __init__(
        self,
        limits: Sequence[Limit],
        buckets: int = BUCKETS,
        *,
        monotonic: Callable[[], int] = monotonic_ns,
        wall: Callable[[], int] = time_ns,
    ) -> None:
        """`buckets` bounds each limit's; clocks give nanoseconds."""
        self._buckets = buckets
        self._monotonic = monotonic
        self._wall = wall
        self._latest = 0
        # There are never more leases than requests in flight, and none of them may be forgotten.
        self.tables = {
            limit.id: Table(limit.meter.weight, sys.maxsize if limit.kind == "in_flight" else buckets)
            for limit in (*limits, *OF_KEYS)
        }
        """By the limit's id."""

    mode = "memory"
    shares = 1
    figures: Mapping[str, int] = MappingProxyType({})

    @property
    def memory(self) -> "MemoryStore":
        """See `Store.memory`."""
        return self

    async def start(self, shares: int) -> None:
        """See `Store.start`."""

    async def stop(self) -> None:
        """See `Store.stop`."""

    def ready(self) -> str | None:
        """See `Store.ready`."""
        return None

    def adopt(self, previous: Store) -> None:
        """See `Store.adopt`.

        Both stores then keep the same buckets, so that what runs on the old limits is settled in them too.
        """
        self._latest = previous.memory._latest
        for id, table in previous.tables.items():
            if id in self.tables:
                table.bound = self.tables[id].bound
                self.tables[id] = table

    async def decide(self, hold: Hold) -> None:
        """See `Store.decide`."""
        self.decide_now(hold)

    def decide_now(self, hold: Hold, *, takes: bool = True) -> None:
        """The same as a plain function, for who knows that this store never waits; unless it `takes`, `peek`.

        One pass, since nearly always no limit refuses; where one does, what was taken is put back, and nobody
        has seen it. A bucket that is new, or was not used for long, is kept only when all have agreed: what
        is refused makes nobody else's bucket go.
        """
        tables = self.tables
        now = self._monotonic() // 1000
        wall = longest = 0
        refused_by: int | None = None
        said: list[Taken] = []
        before: list[State | None] = []
        new: list[tuple[Table, str, State, int]] = []
        for limit, key, amount in hold.asks:
            meter = limit.meter
            table = tables[limit.id]
            fresh = table.fresh
            if meter.calendar:
                at = wall = wall or self._calendar()
            else:
                at = now
            state = fresh.get(key)
            taken = meter.take(table.older.get(key) if state is None else state, amount, at)
            after = taken[0]
            said.append(taken)
            if after is None:
                if taken[1] > longest and not limit.shadow:
                    longest = taken[1]
                    refused_by = len(said) - 1
                if takes:
                    table.refused += 1
            elif takes:
                before.append(state)
                table.admitted += 1
                if state is None:
                    new.append((table, key, after, at))
                else:
                    fresh[key] = after
        hold.taken = said
        hold.refused_by = refused_by
        if not takes:
            return
        if refused_by is not None:
            self._put_back(hold, before)
            return
        hold.held = True
        for table, key, after, at in new:
            table.put(key, after, at)

    async def peek(self, hold: Hold) -> None:
        """See `Store.peek`."""
        self.decide_now(hold, takes=False)

    async def settle(self, hold: Hold, used: Mapping[Kind, int]) -> None:
        """See `Store.settle`."""
        self.settle_now(hold, used)

    def settle_now(self, hold: Hold, used: Mapping[Kind, int]) -> None:
        """The same as a plain function."""
        if not hold.held:
            return
        hold.held = False
        now = wall = 0
        for (limit, key, amount), (receipt, _, _, _) in zip(hold.asks, hold.taken):  # noqa: B905
            kind = limit.kind
            spent = used.get(kind, amount)
            if spent == amount and kind == "requests":
                continue  # counted when it came; only use is counted anew when it is known
            if receipt is None:
                continue  # a shadow that would have refused
            meter = limit.meter
            if meter.calendar:
                at = wall = wall or self._calendar()
            else:
                at = now = now or self._monotonic() // 1000
            table = self.tables[limit.id]
            state = table.get(key)
            settled = meter.give(state, receipt, amount, spent, at)
            if settled is not None:
                table.put(key, settled, at)
            elif state is not None:
                table.drop(key)

    def charge(self, hold: Hold, place: int, amount: int) -> int | None:
        """See `Store.charge`; what is left is always known."""
        limit, key, _ = hold.asks[place]
        receipt = hold.taken[place][0]
        meter = limit.meter
        now = self._calendar() if meter.calendar else self._monotonic() // 1000
        if not hold.held or receipt is None or (meter.calendar and receipt[0] <= now):
            return UNLIMITED  # it has ended, or its window has
        table = self.tables[limit.id]
        state = table.get(key)
        if amount:
            hold.raise_by(place, amount)
            reserved, used = raised(meter, amount)
            charged = meter.give(state, receipt, reserved, used, now)
            if charged is not None:
                table.put(key, charged, now)
            elif state is not None:
                table.drop(key)
            state = charged
        return meter.take(state, 0, now)[2]

    def moment(self) -> tuple[int, int]:
        """µs, monotonic and since 1970; the second place is the calendar's."""
        return self._monotonic() // 1000, self._calendar()

    def _calendar(self) -> int:
        wall = self._wall() // 1000
        if wall > self._latest:
            self._latest = wall
        return self._latest

    def _put_back(self, hold: Hold, before: Sequence[State | None]) -> None:
        """What was taken from some limits although another refuses: `before` are the buckets of those."""
        taken_from = [ask for ask, taken in zip(hold.asks, hold.taken, strict=True) if taken[0] is not None]
        for (limit, key, _), state in zip(taken_from, before, strict=True):
            table = self.tables[limit.id]
            table.admitted -= 1
            if state is not None:
                table.fresh[key] = state
