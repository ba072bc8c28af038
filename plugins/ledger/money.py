"""Money as the ledger keeps it: integer picodollars, 10^-12 of a US dollar."""

import math
from collections.abc import Callable
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
    return None if amount is None else _whole(amount, round)


def floor(amount: Decimal | None) -> int | None:
    """The same for a lower bound: rounded down."""
    return None if amount is None else _whole(amount, math.floor)


def ceiling(amount: Decimal | None) -> int | None:
    """The same for an upper bound: rounded up."""
    return None if amount is None else _whole(amount, math.ceil)


def _whole(amount: Decimal, rounded: Callable[[Decimal], int]) -> int:
    scaled = _scaled(amount, _PLACES)
    whole = int(scaled)  # which it is as a rule, and to find out takes half of what rounding does
    if whole != scaled:
        whole = rounded(scaled)
    return whole if whole < MOST else MOST


def dollars(amount: int | None) -> str | None:
    """Picodollars as dollars: every digit that counts, no exponent, no zeros behind."""
    if amount is None:
        return None
    sign = "-" if amount < 0 else ""
    whole, part = divmod(abs(amount), PICO)
    return f"{sign}{whole}.{part:012}".rstrip("0").rstrip(".") if part else f"{sign}{whole}"
