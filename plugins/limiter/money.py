"""Money as limits count it: integer nanodollars, always rounded up."""

from decimal import Context, Decimal
from math import ceil
from typing import Final

NANO: Final = 1_000_000_000
"""Nanodollars in a dollar."""
MOST: Final = 2**53
"""The largest count: scripts in Redis compute in doubles, which are exact up to here."""
MOST_UNITS: Final = 2**50
"""The largest count of anything else: there the same scripts also need room for parts of a unit."""
_EXACT: Final = Context(prec=60)
_NINE: Final = Decimal(9)


def nanodollars(amount: Decimal) -> int:
    """Dollars as nanodollars; a part of one counts as a whole one."""
    return ceil(amount.scaleb(_NINE, _EXACT))


def dollars(nano: int) -> str:
    """Nanodollars as dollars: exact, without an exponent or trailing zeros."""
    whole, part = divmod(nano, NANO)
    return f"{whole}.{part:09}".rstrip("0").rstrip(".") if part else str(whole)
