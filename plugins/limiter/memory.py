"""Buckets in this process. One event loop, and no await between check and write: each step is atomic."""

import sys
from collections.abc import Callable, Mapping, Sequence
from time import monotonic_ns, time_ns
from types import MappingProxyType
from typing import Final

from .limit import OF_KEYS, Kind, Limit
from .meter import UNLIMITED, Meter, Taken, raised
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

    def decide_now(self, hold: Hold) -> None:
        """The same as a plain function, for who knows that this store never waits."""
        now = self._monotonic() // 1000
        looked = self._look(hold, now)
        if hold.refused_by is not None:
            for table, _, _, (_, wait, _, _) in looked:
                if wait:
                    table.refused += 1
            return
        hold.held = True
        for table, key, meter, taken in looked:
            state = taken[0]
            if state is None:
                table.refused += 1
                continue
            table.admitted += 1
            if key in table.fresh:
                table.fresh[key] = state
            else:
                table.put(key, state, self._latest if meter.calendar else now)

    async def peek(self, hold: Hold) -> None:
        """See `Store.peek`."""
        self._look(hold, self._monotonic() // 1000)

    async def settle(self, hold: Hold, used: Mapping[Kind, int]) -> None:
        """See `Store.settle`."""
        if not hold.held:
            return
        hold.held = False
        moment = self.moment()
        for (limit, key, amount), (receipt, _, _, _) in zip(hold.asks, hold.taken):  # noqa: B905
            kind = limit.kind
            spent = used.get(kind, amount)
            if spent == amount and kind == "requests":
                continue  # counted when it came; only use is counted anew when it is known
            if receipt is None:
                continue  # a shadow that would have refused
            meter = limit.meter
            now = moment[meter.calendar]
            table = self.tables[limit.id]
            state = table.get(key)
            settled = meter.give(state, receipt, amount, spent, now)
            if settled is not None:
                table.put(key, settled, now)
            elif state is not None:
                table.drop(key)

    def charge(self, hold: Hold, place: int, amount: int) -> int | None:
        """See `Store.charge`; what is left is always known."""
        limit, key, _ = hold.asks[place]
        receipt = hold.taken[place][0]
        meter = limit.meter
        now = self.moment()[meter.calendar]
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

    def _look(self, hold: Hold, now: int) -> list[tuple[Table, str, Meter, Taken]]:
        """Write what each limit says into the hold; and where it was found, in the order of the asks."""
        tables = self.tables
        refused_by = None
        longest = wall = 0
        said: list[Taken] = []
        looked = []
        for limit, key, amount in hold.asks:
            meter = limit.meter
            table = tables[limit.id]
            state = table.fresh.get(key)
            if state is None and table.older:
                state = table.older.get(key)
            if meter.calendar:
                wall = wall or self.moment()[1]
                taken = meter.take(state, amount, wall)
            else:
                taken = meter.take(state, amount, now)
            if taken[1] > longest and not limit.shadow:
                longest = taken[1]
                refused_by = len(said)
            said.append(taken)
            looked.append((table, key, meter, taken))
        hold.taken = said
        hold.refused_by = refused_by
        return looked

    def moment(self) -> tuple[int, int]:
        """µs, monotonic and since 1970; the second place is the calendar's."""
        wall = self._wall() // 1000
        if wall > self._latest:
            self._latest = wall
        return self._monotonic() // 1000, self._latest
