"""What a meter is: the arithmetic of one limit, and nothing else.

A meter is pure: no clock, no storage, no I/O. A store gives it what it keeps for one bucket and the time, and
keeps what comes back. All of it is integers: amounts in units of the limit (requests, tokens, nanodollars,
requests in flight), times in µs. So a store elsewhere, such as a script in Redis, can do the very same and be
held against these.
"""

from typing import Any, Final, Protocol

State = Any
"""What is kept for one bucket: an integer, or a tuple of them. No entry at all means that nothing is used."""

Taken = tuple[State | None, int, int, int]
"""What came of asking one limit: `(state, wait, remaining, reset)`; a plain tuple on the hot path.

`state` is the bucket once the amount is taken, None if the limit refuses. `wait` is how long until it would
not, 0 if it does not. `remaining` units are left, after taking if it was taken; below 0 they are owed. In
`reset` µs all of them are there again.
"""

WINDOWS: Final = {
    "second": 1_000_000,
    "minute": 60_000_000,
    "hour": 3_600_000_000,
    "day": 86_400_000_000,
    "month": 30 * 86_400_000_000,
}
"""What limits are counted over, in µs. A month has 30 days where it rolls; by the calendar it has its own."""

NEVER: Final = 2**63 - 1
"""A wait that does not end: the request asks for more than the limit ever has."""


UNLIMITED: Final = 2**63 - 1
"""What is left of a limit that does not hold somebody any more, or not now."""


class Meter(Protocol):
    """The arithmetic of one limit. `calendar`: its time is since 1970, else any that never jumps.

    `sort` names what its buckets hold: those of another sort mean nothing to it. `terms` are all that a
    script elsewhere has to know to compute the same.
    """

    calendar: bool

    @property
    def sort(self) -> str:
        """See above."""

    @property
    def terms(self) -> tuple[str | int, ...]:
        """See above."""

    def take(self, state: State | None, amount: int, now: int) -> Taken:
        """Take an amount, all or nothing. 0 takes nothing, and is refused where not even 1 is left."""

    def give(self, state: State | None, receipt: State, reserved: int, used: int, now: int) -> State | None:
        """Make what was reserved into what was used, more or less than that. None: the bucket is unused.

        `receipt` is the state that `take` gave for the reservation, `state` what the bucket is now.
        """

    def level(self, state: State, now: int) -> tuple[int, int]:
        """What a bucket holds in units, with reservations, and what of it is known to be used; rounded up."""

    def weight(self, state: State, now: int) -> int:
        """How much would be lost by forgetting this bucket; 0 means nothing."""


def raised(meter: Meter, amount: int) -> tuple[int, int]:
    """`reserved` and `used` that make `Meter.give` add so much to a reservation, or take it off again.

    A rate must not know it as used before it is settled. A budget makes no difference between the two, and a
    bucket of it that was forgotten, or never begun, is to begin with this.
    """
    if meter.calendar:
        return max(0, -amount), max(0, amount)
    return -amount, 0
