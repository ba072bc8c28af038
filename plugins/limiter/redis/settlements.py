"""What Redis has still to be told, off the path of requests."""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Final

from ..store import Ask
from .call import Give

BOUND: Final = 50_000
"""Settlements that wait while Redis does not answer, about 10 MB. Above it new ones are lost, and counted."""


class Settlements:
    """Gives that wait for a call, and the leases of requests that run, which have to be renewed.

    A lost settlement leaves a reservation as it was, and a lease to its expiry: limits are kept, and somebody
    may have paid for more than they used.
    """

    def __init__(self, bound: int = BOUND) -> None:
        self._bound = bound
        self._gives: deque[Give] = deque()
        self._charges: deque[Give] = deque()
        self._handed_over: Iterator[Give] = iter(())
        self._beats: deque[str] = deque()
        self._next: Give | None = None
        self.running: dict[str, Sequence[Give]] = {}
        """By the request's id: what renews its leases."""
        self._told: set[str] = set()
        """Those of them whose leases Redis may have although they were admitted here."""
        self.lost = 0

    def __bool__(self) -> bool:
        return bool(self._gives or self._charges or self._beats or self._peek())

    @property
    def waiting(self) -> int:
        """How many wait, without what was counted elsewhere and without leases."""
        return len(self._gives) + len(self._charges)

    def put(self, gives: Sequence[Give]) -> None:
        """Wait for the next call."""
        if len(self._gives) + len(gives) > self._bound:
            self.lost += len(gives)
        else:
            self._gives.extend(gives)

    def charge(self, gives: Iterable[Give]) -> None:
        """Wait for the next call, before all that is put: a settlement gives back what was charged."""
        for give in gives:
            if len(self._charges) >= self._bound:
                self.lost += 1
            else:
                self._charges.append(give)

    def hand_over(self, gives: Iterable[Give]) -> None:
        """What was counted elsewhere meanwhile. It goes first, since what follows may settle it."""
        waiting = self._handed_over, self._next
        self._next = None
        self._handed_over = _chain(gives, *waiting)

    def run(self, id: str, asks: Sequence[Ask]) -> None:
        """A request runs from now on; its leases are renewed until `stop`."""
        leases = [Give(limit, key, amount, 1, id) for limit, key, amount in asks if limit.kind == "in_flight"]
        if leases:
            self.running[id] = leases

    def stop(self, id: str) -> list[Give]:
        """It has ended. What ends its leases, if Redis may have them though it was admitted here."""
        leases = self.running.pop(id, ())
        if id not in self._told:
            return []
        self._told.remove(id)
        return [give._replace(used=0) for give in leases]

    def beat(self) -> None:
        """Renew every lease. Those of the last beat that still wait are among them."""
        self._beats = deque(self.running)

    def take(self, most: int) -> list[Give]:
        """What the next call gives."""
        gives: list[Give] = []
        if self._peek() is not None:
            gives += [self._next] if self._next else []
            self._next = None
            gives += islice(self._handed_over, most - len(gives))
        while self._charges and len(gives) < most:
            gives.append(self._charges.popleft())
        while self._gives and len(gives) < most:
            gives.append(self._gives.popleft())
        while self._beats and len(gives) < most:
            id = self._beats.popleft()
            if id in self.running:
                self._told.add(id)
                gives += self.running[id]
        return gives

    def still_due(self, gives: Iterable[Give]) -> list[Give]:
        """What of an earlier call is still to be done: no lease is renewed whose request has ended."""
        return [
            give
            for give in gives
            if give.limit.kind != "in_flight" or not give.used or give.receipt in self.running
        ]

    def ended(self, gives: Iterable[Give]) -> list[Give]:
        """These without the leases of requests that run: those end with them."""
        ended = []
        for give in gives:
            if give.limit.kind == "in_flight" and give.receipt in self.running:
                self._told.add(str(give.receipt))
            else:
                ended.append(give)
        return ended

    def _peek(self) -> Give | None:
        if self._next is None:
            self._next = next(self._handed_over, None)
        return self._next


def _chain(first: Iterable[Give], rest: Iterator[Give], last: Give | None) -> Iterator[Give]:
    yield from first
    if last is not None:
        yield last
    yield from rest
