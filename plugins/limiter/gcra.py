"""GCRA, the generic cell rate algorithm (ITU-T I.371): a rate with an exact burst, in one number per bucket.

That number is the theoretical arrival time, TAT: when the bucket will be unused again. Each unit moves it by
one interval, `window / amount`; a request passes while that leaves it within `burst` intervals of now.

An interval is seldom a whole number of µs, so TAT counts ticks of `1 / scale` µs, of which an interval has
`interval`: nothing is rounded, however many requests there are.
"""

from math import gcd

from .meter import NEVER, State, Taken


class Gcra:
    """`amount` units per `window` µs, `burst` of them at once.

    A bucket is `(tat, floor, interval, scale)`. `floor` is the TAT that known use alone would make. Giving a
    reservation back never moves TAT below it: a reservation has partly drained by then, and that part would
    otherwise be given back twice, once by time and once by the refund. The rate stands beside them, so that a
    bucket stays readable when the limit is changed: its used units count on under the new rate.
    """

    __slots__ = ("_one", "burst", "interval", "scale", "terms", "tolerance")
    calendar = False
    sort = "r"

    def __init__(self, amount: int, window: int, burst: int) -> None:
        common = gcd(amount, window)
        self.interval = window // common
        self.scale = amount // common
        self.burst = burst
        self.tolerance = burst * self.interval
        self.terms = ("r", self.interval, self.scale, burst)
        self._one = burst - 1, -(-self.interval // self.scale)

    def take(self, state: State | None, amount: int, now: int) -> Taken:
        """See `Meter.take`."""
        interval = self.interval
        scale = self.scale
        now *= scale
        backlog = floor = 0
        if state is not None:
            tat, floor, its_interval, its_scale = state
            if its_interval != interval or its_scale != scale:
                tat, floor, _, _ = self._under_this_rate(state, now)
            if tat > now:
                backlog = tat - now
        if amount == 1 and not backlog:
            # A request to a bucket that is unused: what it leaves is known. Half of the work is saved.
            remaining, reset = self._one
            return (now + interval, floor, interval, scale), 0, remaining, reset
        after = backlog + amount * interval
        spare = self.tolerance - after
        if spare >= 0 and (amount or spare >= interval):
            return (now + after, floor, interval, scale), 0, spare // interval, -(-after // scale)
        needed = (amount or 1) * interval
        short = backlog + needed - self.tolerance
        return (
            None,
            NEVER if needed > self.tolerance else -(-short // scale),
            (self.tolerance - backlog) // interval,
            -(-backlog // scale),
        )

    def give(self, state: State | None, receipt: State, reserved: int, used: int, now: int) -> State | None:
        """See `Meter.give`."""
        interval, scale = self.interval, self.scale
        now *= scale
        if state is None:
            tat = floor = now
        else:
            if state[2] != interval or state[3] != scale:
                state = self._under_this_rate(state, now)
            tat, floor = state[0], state[1]
        # Conditions rather than max(), which takes thrice as long.
        floor = (floor if floor > now else now) + used * interval
        tat = (tat if tat > now else now) + (used - reserved) * interval
        if tat < floor:
            tat = floor
        return (tat, floor, interval, scale) if tat > now else None

    def level(self, state: State, now: int) -> tuple[int, int]:
        """See `Meter.level`."""
        tat, floor, interval, scale = state
        now *= scale
        return max(0, -((now - tat) // interval)), max(0, -((now - floor) // interval))

    def weight(self, state: State, now: int) -> int:
        """See `Meter.weight`: µs until the bucket is unused."""
        backlog: int = -(-state[0] // state[3]) - now
        return max(0, backlog)

    def _under_this_rate(self, state: State, now: int) -> State:
        """A bucket of another rate as one of this: as many units are used, rounded up to a tick."""
        tat, floor, interval, scale = state
        moment = now // self.scale * scale
        tat, floor = (now - ((moment - time) * self.interval // interval) for time in (tat, floor))
        return tat, floor, self.interval, self.scale
