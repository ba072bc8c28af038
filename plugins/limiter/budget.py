"""A budget: a counter per calendar window in UTC. A day begins at 00:00, a month on its first."""

import calendar
import time

from .meter import NEVER, WINDOWS, State, Taken
from .money import MOST


class Budget:
    """At most `amount` units in each window. A bucket is `(end of its window, spent)`.

    What was reserved in one window is settled in it: a settlement that comes later changes nothing, so a
    refund cannot make room in a window that never held the reservation. No more than `MOST` is ever owed.
    """

    __slots__ = ("_begins", "_ends", "amount", "sort", "terms", "window")
    calendar = True

    def __init__(self, amount: int, window: str) -> None:
        self.amount = amount
        self.window = window
        self.sort = f"b {window}"  # one window's spending is not another's
        self.terms = ("b", amount, 0 if window == "month" else WINDOWS[window])
        self._begins = self._ends = 0  # the window that was asked for last: windows change seldom

    def take(self, state: State | None, amount: int, now: int) -> Taken:
        """See `Meter.take`."""
        if not self._begins <= now < self._ends:
            self._begins, self._ends = bounds(self.window, now)
        ends = self._ends
        spent = 0 if state is None or state[0] != ends else state[1]
        left = self.amount - spent
        if left < (amount or 1):
            return None, NEVER if amount > self.amount else ends - now, left, ends - now
        spent += amount
        return (ends, spent), 0, left - amount, ends - now

    def give(self, state: State | None, receipt: State, reserved: int, used: int, now: int) -> State | None:
        """See `Meter.give`."""
        ends = receipt[0]
        if ends <= now or (state is not None and state[0] != ends):
            return state
        # No entry: it was forgotten, and the reservation with it.
        spent = used if state is None else min(MOST, max(0, state[1] + used - reserved))
        return (ends, spent) if spent else None

    def level(self, state: State, now: int) -> tuple[int, int]:
        """See `Meter.level`."""
        spent = self.weight(state, now)
        return spent, spent

    def weight(self, state: State, now: int) -> int:
        """See `Meter.weight`: what is spent."""
        ends, spent = state
        return spent if ends > now else 0


def bounds(window: str, now: int) -> tuple[int, int]:
    """Begin and end of the calendar window that `now` is in; µs since 1970."""
    if window == "month":
        year, month = time.gmtime(now // 1_000_000)[:2]
        return _first(year, month), _first(year + month // 12, month % 12 + 1)
    length = WINDOWS[window]
    begins = now // length * length
    return begins, begins + length


def _first(year: int, month: int) -> int:
    return calendar.timegm((year, month, 1, 0, 0, 0)) * 1_000_000
