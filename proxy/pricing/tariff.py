"""A model's tariff: its rates at one service tier as one upstream sells it, through time."""

import time
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from itertools import pairwise
from typing import Final

from .rates import CLAMPED, EXACT, Ceiling, Rates
from .schema import ModelEntry, PriceEntry, Row
from .units import UnitRates
from .values import Usage

SERVED: Final[Mapping[str | None, str]] = {
    None: "auto",
    "": "auto",
    "auto": "auto",
    "default": "standard",
    "standard": "standard",
    "scale": "standard",  # prepaid: what it would have cost
    "fast": "priority",
    "priority": "priority",
    "flex": "flex",
    "batch": "batch",
    "ultrafast": "ultrafast",
}
"""The tier by which a `service_tier` is priced; `auto` is the upstream's default, all else is `UNKNOWN`."""
UNKNOWN: Final = "unknown"

LONG: Final = "long_context"
NO_USAGE: Final = "no_usage"
FELL_BACK: Final = "tier_priced_as=standard"

ALWAYS: Final = float("-inf")
NEVER: Final = float("inf")
MARGIN: Final = 20
"""One part in so many is how far an estimate of the input may be off, near the line of a long context."""

# Chat models bill an image as text. What is made to hear, to draw or to speak has rates of its own for them.
_READS_IMAGES: Final = frozenset(("chat", "responses", "completion"))


class Period:
    """From `starts` (seconds since 1970) to `ends`, the prices are these."""

    __slots__ = (
        "_by_unit",
        "_ceiling",
        "_long",
        "_long_ceiling",
        "_long_flags",
        "_units",
        "ends",
        "flags",
        "line",
        "rates",
        "starts",
    )

    def __init__(self, entry: PriceEntry, model: ModelEntry, tier: str, tools: Row, factor: Decimal) -> None:
        reads_images = model.kind in _READS_IMAGES
        row, self.flags = _row(entry.rows, tier)
        self.rates = Rates(row, factor=factor, reads_images=reads_images)
        self.line: float = NEVER
        """Tokens of input up to which `rates` count, and `flags` go with what they say."""
        self._ceiling = self._long_ceiling = Ceiling([self.rates])
        self._long: Rates | None = None
        self._long_flags: tuple[str, ...] = ()
        if entry.above is not None:
            long_row, flags = _row(entry.long_rows, tier)
            self._long = Rates(long_row, factor=factor, reads_images=reads_images)
            self._long_flags = (LONG, *flags)
            self._long_ceiling = Ceiling([self.rates, self._long])
            self.line = entry.above
        self._units = UnitRates(row, entry.per_image, {**tools, **model.tools}, factor=factor)
        self._by_unit = bool(self._units) and not self.rates
        self.starts = beginning(entry)
        self.ends = NEVER

    def charge(self, usage: Usage) -> tuple[Decimal | None, tuple[str, ...]]:
        """What a usage costs, and the flags of `Cost` that go with it. Exact; None where a rate is missing.

        One token of input above the line, cached ones included, and the whole request is at the rates of a
        long context.
        """
        rates, flags = self.rates, self.flags
        if self._long is not None and usage.input_tokens > self.line:
            rates, flags = self._long, self._long_flags
        amount, found = rates.charge(usage)
        if found:
            flags += found
        if usage.other_units:
            units, found = self._units.charge(usage.other_units)
            amount = None if amount is None or units is None else EXACT.normalize(EXACT.add(amount, units))
            flags += found
        if self._by_unit and amount is not None and not self._units.sell(usage.other_units):
            amount = None
            flags += (NO_USAGE,)
        if usage.clamped and CLAMPED not in flags:
            flags += (CLAMPED,)
        return amount, flags

    def spread(self, usage: Usage, amount: Decimal) -> tuple[Decimal, Decimal]:
        """The least and the most that it may cost, if `amount` is what an estimated usage costs.

        The estimate may be wrong about which side of the line the input is on, and knows nothing of caches.
        Of a usage that is only a bound the least is nothing.
        """
        rows = self._possible(usage.input_tokens)
        spreads = [spread for row in rows if (spread := row.spread(usage)) is not None]
        units, _ = self._units.charge(usage.other_units)
        low = min((EXACT.add(spread[0], units or 0) for spread in spreads), default=amount)
        high = max((EXACT.add(spread[1], units or 0) for spread in spreads), default=amount)
        if usage.provenance == "bounded":
            low = Decimal(0)
        return EXACT.normalize(min(low, amount)), EXACT.normalize(max(high, amount))

    def input(self, tokens: int) -> Decimal | None:
        """What so many tokens of uncached text cost."""
        rates = self._long if self._long is not None and tokens > self.line else self.rates
        return rates.input(tokens)

    def ceiling(self, input_tokens: int) -> Ceiling:
        """The dearest rates for an input that is only estimated."""
        if self._long is not None and input_tokens > self.line - self.line // MARGIN:
            return self._long_ceiling
        return self._ceiling

    def _possible(self, input_tokens: int) -> tuple[Rates, ...]:
        """The rates that may count for an input that is only estimated: near the line, both."""
        if self._long is None:
            return (self.rates,)
        margin = self.line // MARGIN
        if input_tokens > self.line + margin:
            return (self._long,)
        return (self.rates,) if input_tokens <= self.line - margin else (self.rates, self._long)


class Tariff:
    """What a model costs at a tier; see `Period`."""

    __slots__ = ("_last", "_newest_first", "always")

    def __init__(
        self,
        model: ModelEntry,
        tier: str,
        tools: Row,
        factor: Decimal = Decimal(1),
    ) -> None:
        """`tier` is one of the values of `SERVED` but for `auto`, or `UNKNOWN`; `tools` are the table's."""
        self._newest_first = [Period(entry, model, tier, tools, factor) for entry in reversed(model.prices)]
        for newer, older in pairwise(self._newest_first):
            older.ends = newer.starts
        self._last = self._newest_first[0] if self._newest_first else None
        """The one that was asked for last, which as a rule is the next one too."""
        self.always = self._last if self._last is not None and self._last.starts == ALWAYS else None
        """The prices at any moment, since most models have had the same all along; None of others."""

    def at(self, when: float | None) -> Period | None:
        """The prices at a moment in seconds since 1970 (None: now); None if there were none yet."""
        if self.always is not None:
            return self.always
        moment = time.time() if when is None else when
        last = self._last
        if last is None or not last.starts <= moment < last.ends:
            last = next((period for period in self._newest_first if period.starts <= moment), None)
            if last is not None:
                self._last = last
        return last


def beginning(entry: PriceEntry) -> float:
    """The moment from which these prices count, in seconds since 1970: midnight UTC."""
    day = entry.starts
    return ALWAYS if day is None else datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()


def _row(rows: Mapping[str, Row], tier: str) -> tuple[Row, tuple[str, ...]]:
    """A tier's row, or else the standard one with the flag that says so."""
    if tier in rows:
        return rows[tier], ()
    return rows.get("standard", {}), () if tier == "standard" else (FELL_BACK,)
