"""What is not counted in tokens: seconds, characters, images, calls of tools.

In `Usage.other_units` they are called

- `seconds` of audio, `video_seconds`, `characters` that were spoken,
- `image:{quality}:{size}`, such as `image:hd:1024x1792`,
- and a tool by its name in the price table, such as `web_search`: how often it was called.
"""

from collections.abc import Mapping
from decimal import ROUND_HALF_EVEN, Context, Decimal, InvalidOperation
from typing import Final

from .rates import CLAMPED, EXACT, PICODOLLAR

UNITS: Final = {
    "audio_hour": ("seconds", 3600),
    "video_second": ("video_seconds", 1),
    "input_1m_chars": ("characters", 10**6),
}
"""The units of a row beside tokens: what a usage calls them, and how many of those one price is for."""
_PER: Final = {counted: (unit, many) for unit, (counted, many) in UNITS.items()}
CALLS: Final = 1000
"""Calls of a tool that one price is for."""
MOST: Final = 10**15
"""Of any unit in one answer; more is nonsense, and counts for nothing."""

_ROUNDED: Final = Context(prec=200, rounding=ROUND_HALF_EVEN, traps=[InvalidOperation])


class UnitRates:
    """What a model's other units cost: by row, by image and by call."""

    __slots__ = ("_factor", "_images", "_row", "_tools")

    def __init__(
        self,
        row: Mapping[str, Decimal],
        images: Mapping[str, Mapping[str, Decimal]],
        tools: Mapping[str, Decimal],
        *,
        factor: Decimal = Decimal(1),
    ) -> None:
        """`images` has US dollars by quality and size, `tools` those of a thousand calls by name."""
        self._row = {unit: row[unit] for unit in UNITS if unit in row}
        self._images = images
        self._tools = tools
        self._factor = factor

    def __bool__(self) -> bool:
        """Whether the model itself is sold by such a unit; any model may call tools."""
        return bool(self._row or self._images)

    def sell(self, units: Mapping[str, Decimal]) -> bool:
        """Whether one of these is what the model itself is sold by, rather than a tool."""
        return any(unit in _PER or unit.startswith("image:") for unit in units)

    def charge(self, units: Mapping[str, Decimal]) -> tuple[Decimal | None, tuple[str, ...]]:
        """What these cost, and the flags of `Cost` that go with it; None without a rate.

        Each unit is rounded once, to a picodollar: an hour's price need not be a whole number a second.
        """
        total: Decimal = Decimal(0)
        flags: list[str] = []
        missing = False
        for unit, count in units.items():
            if not count.is_finite() or not 0 <= count <= MOST:
                flags.append(CLAMPED)
                continue
            found = self._rate(unit)
            if found is not None:
                rate, many = found
                dollars = _ROUNDED.divide(_ROUNDED.multiply(EXACT.multiply(rate, self._factor), count), many)
                total = EXACT.add(total, _ROUNDED.quantize(dollars, PICODOLLAR))
            elif count:
                flags.append(f"no_rate={unit}")
                missing = True
        return (None if missing else total), tuple(flags)

    def _rate(self, unit: str) -> tuple[Decimal, int] | None:
        if unit in _PER:
            name, many = _PER[unit]
            rate = self._row.get(name)
        elif unit.startswith("image:"):
            quality, _, size = unit.removeprefix("image:").partition(":")
            rate, many = self._images.get(quality, {}).get(size), 1
        else:
            rate, many = self._tools.get(unit), CALLS
        return None if rate is None else (rate, many)
