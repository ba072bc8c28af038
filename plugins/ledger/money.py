"""Money as the ledger keeps it: integer picodollars, 10^-12 of a US dollar."""

from collections.abc import Callable
from decimal import ROUND_CEILING, ROUND_FLOOR, ROUND_HALF_EVEN, Context, Decimal
from typing import Final

PICO: Final = 10**12
"""Picodollars in a dollar."""
MOST: Final = 2**63 - 1
"""The largest integer that a column holds: nine million dollars in one row."""
_PLACES: Final = Decimal(12)


def _to_pico(rounding: str) -> Callable[[Decimal | None], int | None]:
    context = Context(prec=80, rounding=rounding)
    scaled, whole = context.scaleb, context.to_integral_value

    def convert(amount: Decimal | None) -> int | None:
        if amount is None:
            return None
        picodollars = int(whole(scaled(amount, _PLACES)))
        return picodollars if picodollars < MOST else MOST

    return convert


pico: Final = _to_pico(ROUND_HALF_EVEN)
"""Dollars as picodollars, half of one to even; None is unpriced and stays so."""
floor: Final = _to_pico(ROUND_FLOOR)
"""The same for a lower bound: rounded down."""
ceiling: Final = _to_pico(ROUND_CEILING)
"""The same for an upper bound: rounded up."""


def dollars(amount: int | None) -> str | None:
    """Picodollars as dollars: every digit that counts, no exponent, no zeros behind."""
    if amount is None:
        return None
    sign = "-" if amount < 0 else ""
    whole, part = divmod(abs(amount), PICO)
    return f"{sign}{whole}.{part:012}".rstrip("0").rstrip(".") if part else f"{sign}{whole}"
