"""What this process last knew of the budgets in Redis, for when Redis has lost them.

A `FLUSHALL`, a restart without persistence, a failover to a replica that lags: without this every budget
would begin anew, and could be spent once more.
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Final, NamedTuple

from ..limit import Limit
from ..meter import State, Taken
from ..money import MOST
from ..table import Table
from .call import Call, refused_by

BOUND: Final = 10_000
"""Budgets that are remembered, about 3 MB. Above it those are forgotten of which least is spent."""
BATCH: Final = 500
"""Budgets that one call puts back; Redis is busy with that for about a millisecond."""


class Spent(NamedTuple):
    """A budget's bucket as it was last seen: by the name of its key, and in which window."""

    name: str
    ends: int
    amount: int


class Known:
    """Kept up to date by every call that was answered; what other processes did since is not in it.

    So it is a lower bound but for what they gave back, and Redis takes the higher of it and what it has.
    """

    def __init__(self, wall: Callable[[], int], bound: int = BOUND) -> None:
        """`wall` gives nanoseconds since 1970; it only tells which windows are over."""
        self._wall = wall
        self._table = Table(_weight, bound)

    def __len__(self) -> int:
        return len(self._table)

    def note(self, call: Call, said: Sequence[Sequence[Taken]]) -> None:
        """What an answered call did, in its order."""
        for limit, key, reserved, used, ends in call.gives:
            if limit.meter.calendar and isinstance(ends, int):
                name = _name(limit, key)
                before = self._table.get(name)
                if before is not None and before[0] == ends:
                    self._put(name, ends, min(MOST, max(0, before[1] + used - reserved)))
        for (_, asks, decide), taken in zip(call.asked, said, strict=True):
            for place, (limit, key, amount) in enumerate(asks):
                if limit.meter.calendar:
                    receipt, _, remaining, _ = taken[place]
                    if receipt is not None:
                        took = decide and refused_by(asks, taken) is None
                        left = remaining if took else remaining + amount
                        self._put(_name(limit, key), receipt[0], limit.amount - left)

    def batches(self) -> Iterator[list[Spent]]:
        """All that is spent in windows that are not over."""
        now = self._wall() // 1000
        table = self._table
        spent = (
            Spent(name, ends, amount)
            for part in (table.fresh, table.older)
            for name, (ends, amount) in [*part.items()]
            if amount and ends > now
        )
        while batch := [*islice(spent, BATCH)]:
            yield batch

    def adopt(self, previous: "Known") -> None:
        """Know what another knew."""
        self._table = previous._table

    def _put(self, name: str, ends: int, spent: int) -> None:
        self._table.put(name, (ends, spent), self._wall() // 1000)


def _name(limit: Limit, key: str) -> str:
    return f"{limit.meter.sort}\n{limit.id}\n{key}"


def _weight(state: State, now: int) -> int:
    ends, spent = state
    return int(spent) if ends > now else 0
