"""Burning down the fuse of a running stream: what it costs so far, charged as it comes.

Between two charges the meter's bound holds: a stream is charged before it can have cost more than its share
of what is left, and near the end of a budget with each event.
"""

from collections.abc import Callable
from decimal import Decimal
from typing import Final

from proxy.api.fuse import Fuse
from proxy.pricing.output.meter import Meter

Price = Callable[[int], Decimal | None]
"""What the answer costs with so many tokens of output, its input included; None without a price."""

_SAMPLE: Final = 1000


class Burning:
    """One stream and its fuse."""

    __slots__ = ("_charged", "_fuse", "_meter", "_price", "_token")

    def __init__(self, fuse: Fuse, meter: Meter, price: Price) -> None:
        self._fuse = fuse
        self._meter = meter
        self._price = price
        self._charged = price(0) or Decimal(0)
        self._token = ((price(_SAMPLE) or Decimal(0)) - self._charged) / _SAMPLE
        self._allow(fuse.charge(Decimal(0)))

    def used_up(self, event: bytes) -> bool:
        """One more event has come: whether the stream is to end with it."""
        meter = self._meter
        if not meter.due(event):
            return False
        return self.costs(self._price(meter.tokens()) or Decimal(0))

    def costs(self, cost: Decimal) -> bool:
        """So much it has cost by now, in US dollars: whether the stream is to end."""
        cost = max(cost, self._charged)
        left = self._fuse.charge(cost - self._charged)
        self._charged = cost
        self._allow(left)
        return left < 0

    def _allow(self, left: Decimal) -> None:
        """Tokens that cost no more than what is left; without a price, as many as the meter counts anyway."""
        self._meter.allow(int(max(left, Decimal(0)) / self._token) if self._token else 2**31)
