"""The fuse of a stream: it reserves what it streams as it streams it, and ends when nothing is left.

It reserves a little ahead, so that it need not be charged with each event: a small part of what is left,
divided by all streams that run. What it has reserved nobody else is given, in this process or another.
"""

import logging
from decimal import Decimal
from typing import Final

from proxy.api import WeirError

from .limit import Limit
from .meter import UNLIMITED
from .money import MOST, nanodollars
from .refusal import ended
from .store import Hold, Store

log = logging.getLogger("weir.limiter")

PARTS: Final = 8
"""All streams that run hold no more than about this part of what is left."""


class Fuses:
    """How many streams run on each bucket: as many entries as there are running streams at most."""

    def __init__(self) -> None:
        self.running: dict[tuple[str, str], int] = {}

    def light(self, hold: Hold, store: Store) -> "Share | None":
        """The fuse of what is held; None if none of its limits has one."""
        burns = [
            _Burn(place, limit, (limit.id, key))
            for place, ((limit, key, _), taken) in enumerate(zip(hold.asks, hold.taken, strict=True))
            if limit.fuse != "off" and taken[0] is not None
        ]
        return Share(self, hold, store, burns) if burns else None


class _Burn:
    """One limit of a stream. `reserved` is what the stream has reserved since it was admitted."""

    __slots__ = ("bucket", "limit", "place", "reserved", "warned")

    def __init__(self, place: int, limit: Limit, bucket: tuple[str, str]) -> None:
        self.place = place
        self.limit = limit
        self.bucket = bucket
        self.reserved = 0
        self.warned = False


class Share:
    """A `Fuse`: one stream's share of all budgets that it uses up. It is released by `end`."""

    __slots__ = ("_blown_by", "_burns", "_cost", "_fuses", "_hold", "_running", "_store")

    def __init__(self, fuses: Fuses, hold: Hold, store: Store, burns: list[_Burn]) -> None:
        self._fuses = fuses
        self._hold = hold
        self._store = store
        self._burns = burns
        self._cost = Decimal(0)
        self._blown_by = burns[0].limit
        self._running = True
        for burn in burns:
            fuses.running[burn.bucket] = fuses.running.get(burn.bucket, 0) + 1

    def charge(self, amount: Decimal) -> Decimal:
        """See `Fuse.charge`."""
        self._cost += amount
        spent = nanodollars(self._cost)
        allowed = MOST
        for burn in self._burns:
            allowed = min(allowed, self._burn(burn, spent))
        return Decimal(allowed).scaleb(-9)

    def blown(self) -> WeirError:
        """See `Fuse.blown`."""
        return ended(self._blown_by)

    def end(self) -> None:
        """The stream has ended; what it has reserved is for whoever settles it."""
        if self._running:
            self._running = False
            running = self._fuses.running
            for burn in self._burns:
                if running[burn.bucket] > 1:
                    running[burn.bucket] -= 1
                else:
                    del running[burn.bucket]

    def _burn(self, burn: _Burn, spent: int) -> int:
        """What one limit still allows in nanodollars; below 0: nothing is left, and the stream is to end."""
        if not self._running:
            return burn.limit.burst
        store = self._store
        left = store.charge(self._hold, burn.place, spent - burn.reserved)
        burn.reserved = spent
        if left is None:
            return 0
        if left == UNLIMITED:
            return burn.limit.burst // PARTS  # nothing is reserved, but it is asked again
        if left <= 0:
            return self._used_up(burn)
        streams = self._fuses.running[burn.bucket] * store.shares
        ahead = left // (PARTS * streams)
        if ahead:
            store.charge(self._hold, burn.place, ahead)
            burn.reserved += ahead
        return ahead

    def _used_up(self, burn: _Burn) -> int:
        limit = burn.limit
        if limit.fuse == "on" and not limit.shadow:
            self._blown_by = limit
            return -1
        if not burn.warned:
            burn.warned = True
            log.warning(
                'the limit "%s" is used up by a stream that runs, %s; with fuse: on it would end here',
                limit.name,
                self._hold.id,
            )
        return limit.burst // PARTS
