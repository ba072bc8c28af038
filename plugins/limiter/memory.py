"""Buckets in this process. One event loop, and no await between check and write: each step is atomic."""

import sys
from collections.abc import Callable, Mapping, Sequence
from time import monotonic_ns, time_ns
from typing import Final

from .limit import Kind, Limit
from .meter import Taken
from .store import Hold
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
            for limit in limits
        }
        """By the limit's id."""

    def adopt(self, previous: "MemoryStore") -> None:
        """Go on from the buckets of another store, where the limits have the same id.

        Both stores then keep the same buckets, so that what runs on the old limits is settled in them too.
        """
        self._latest = previous._latest
        for id, table in previous.tables.items():
            if id in self.tables:
                table.bound = self.tables[id].bound
                self.tables[id] = table

    async def decide(self, hold: Hold) -> None:
        """See `Store.decide`."""
        moment = self._moment()
        self._look(hold, moment)
        tables = self.tables
        if hold.refused_by is not None:
            for (limit, _, _), (_, wait, _, _) in zip(hold.asks, hold.taken, strict=True):
                if wait:
                    tables[limit.id].refused += 1
            return
        hold.held = True
        for (limit, key, _), (state, _, _, _) in zip(hold.asks, hold.taken, strict=True):
            table = tables[limit.id]
            if state is None:
                table.refused += 1
            else:
                table.admitted += 1
                table.put(key, state, moment[limit.meter.calendar])

    async def peek(self, hold: Hold) -> None:
        """See `Store.peek`."""
        self._look(hold, self._moment())

    async def settle(self, hold: Hold, used: Mapping[Kind, int]) -> None:
        """See `Store.settle`."""
        if not hold.held:
            return
        hold.held = False
        moment = self._moment()
        for (limit, key, amount), (receipt, _, _, _) in zip(hold.asks, hold.taken, strict=True):
            spent = used.get(limit.kind, amount)
            if receipt is None:
                continue  # a shadow that would have refused
            if spent == amount and limit.kind == "requests":
                continue  # counted when it came; only use is counted anew when it is known
            now = moment[limit.meter.calendar]
            table = self.tables[limit.id]
            state = table.get(key)
            settled = limit.meter.give(state, receipt, amount, spent, now)
            if settled is not None:
                table.put(key, settled, now)
            elif state is not None:
                table.drop(key)

    def _look(self, hold: Hold, moment: tuple[int, int]) -> None:
        tables = self.tables
        refused_by = None
        longest = 0
        found: list[Taken] = []
        for limit, key, amount in hold.asks:
            meter = limit.meter
            taken = meter.take(tables[limit.id].get(key), amount, moment[meter.calendar])
            if taken[1] > longest and not limit.shadow:
                longest = taken[1]
                refused_by = len(found)
            found.append(taken)
        hold.taken = found
        hold.refused_by = refused_by

    def _moment(self) -> tuple[int, int]:
        """µs, monotonic and since 1970; the second place is the calendar's."""
        wall = self._wall() // 1000
        if wall > self._latest:
            self._latest = wall
        return self._monotonic() // 1000, self._latest
