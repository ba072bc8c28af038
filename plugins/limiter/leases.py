"""Requests in flight: each holds a lease from its admission to its end."""

from typing import Final

from .meter import State, Taken

TRY_AGAIN: Final = 1_000_000
"""µs. Nobody knows when a request will end; this is when to look again."""


class Leases:
    """At most `amount` at a time. A bucket is how many there are.

    A lease of this process ends with its request or with the process, so it needs no expiry here. A store
    that outlives the process has to give each one an end, and to put it off while the request runs.
    """

    __slots__ = ("amount", "terms")
    calendar = False
    sort = "l"

    def __init__(self, amount: int) -> None:
        self.amount = amount
        self.terms = ("l", amount)

    def take(self, state: State | None, amount: int, now: int) -> Taken:
        """See `Meter.take`."""
        held = state or 0
        left = self.amount - held
        if left < (amount or 1):
            return None, TRY_AGAIN, left, 0
        return held + amount, 0, left - amount, 0

    def give(self, state: State | None, receipt: State, reserved: int, used: int, now: int) -> State | None:
        """See `Meter.give`; the one use of it is to end a lease."""
        return max(0, (state or 0) + used - reserved) or None

    def level(self, state: State, now: int) -> tuple[int, int]:
        """See `Meter.level`: a lease cannot be handed over as a number, it has a holder."""
        return 0, 0

    def weight(self, state: State, now: int) -> int:
        """See `Meter.weight`."""
        held: int = state
        return held
