"""Money as the ledger keeps it: integer picodollars, 10^-12 of a US dollar."""

import math
from decimal import Context, Decimal
from typing import Final

PICO: Final = 10**12
"""Picodollars in a dollar."""
MOST: Final = 2**63 - 1
"""The largest integer that a column holds: nine million dollars in one row."""
_PLACES: Final = Decimal(12)
_scaled: Final = Context(prec=80).scaleb


def pico(amount: Decimal | None) -> int | None:
    """Dollars as picodollars, half of one to even; None is unpriced and stays so."""
    return None if amount is None else min(round(_scaled(amount, _PLACES)), MOST)


def floor(amount: Decimal | None) -> int | None:
    """The same for a lower bound: rounded down."""
    return None if amount is None else min(math.floor(_scaled(amount, _PLACES)), MOST)


def ceiling(amount: Decimal | None) -> int | None:
    """The same for an upper bound: rounded up."""
    return None if amount is None else min(math.ceil(_scaled(amount, _PLACES)), MOST)


def dollars(amount: int | None) -> str | None:
    """Picodollars as dollars: every digit that counts, no exponent, no zeros behind."""
    if amount is None:
        return None
    sign = "-" if amount < 0 else ""
    whole, part = divmod(abs(amount), PICO)
    return f"{sign}{whole}.{part:012}".rstrip("0").rstrip(".") if part else f"{sign}{whole}"
