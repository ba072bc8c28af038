"""Durations and sizes as people write them: `5s`, `500ms`, `16MiB`.

Arithmetic is exact (fractions, never binary floats), so that what `format_*` writes `parse_*` reads back
to the very same value. Messages are predicates without the value ("has no unit: …"): the caller knows
what the value was, where it stood and whether it may be shown.
"""

import math
import re
from decimal import Decimal
from fractions import Fraction
from typing import Final

MAX_DURATION: Final = 366 * 86400.0
"""Seconds. Longer is a typing error, and timers of the event loop overflow somewhere above."""
MAX_SIZE: Final = 2**63 - 1
"""Bytes."""

DURATION_PATTERN: Final = r"[0-9]+(\.[0-9]+)?(ms|s|m|h|d)"
SIZE_PATTERN: Final = r"[0-9]+(\.[0-9]+)?(B|KB|MB|GB|TB|KiB|MiB|GiB|TiB)"

_SECONDS: Final = {
    "d": Fraction(86400),
    "h": Fraction(3600),
    "m": Fraction(60),
    "s": Fraction(1),
    "ms": Fraction(1, 1000),
}
_BYTES: Final = {
    "TiB": 2**40,
    "GiB": 2**30,
    "MiB": 2**20,
    "KiB": 2**10,
    "TB": 10**12,
    "GB": 10**9,
    "MB": 10**6,
    "KB": 10**3,
    "B": 1,
}
# 340 digits hold every float that repr() can write; the bound keeps Fraction cheap on hostile text.
_NUMBER: Final = re.compile(r"([0-9]{1,40}(?:\.[0-9]{1,340})?)([^0-9.].*)?", re.DOTALL)


class UnitError(ValueError):
    """The text is not a duration or a size; `str()` is a predicate that does not repeat the text."""


def _split(text: str, kind: str) -> tuple[Fraction, str]:
    match = _NUMBER.fullmatch(text.strip())
    if match is None:
        raise UnitError(f"is not {kind}")
    return Fraction(match[1]), match[2] or ""


def parse_duration(text: str, *, zero: bool = False) -> float:
    """Seconds, rounded once, to the nearest float: more than 0 (or 0 with `zero`), at most `MAX_DURATION`.

    Raises `UnitError`, also for a number without a unit: 5 of what?
    """
    number, unit = _split(text, "a duration like 5s, 500ms, 10m, 1h or 1d")
    if not unit:
        raise UnitError("has no unit: say 5s for five seconds (units: ms, s, m, h, d)")
    if unit not in _SECONDS:
        raise UnitError("has an unknown unit (units of time: ms, s, m, h, d)")
    return check_duration(float(min(number, Fraction(10**20)) * _SECONDS[unit]), zero=zero)


def check_duration(seconds: float, *, zero: bool = False) -> float:
    """The same seconds, or `UnitError` where `parse_duration` would raise it."""
    if not seconds >= 0 or (seconds == 0 and not zero):
        raise UnitError("must not be negative" if zero else "must be more than 0")
    if seconds > MAX_DURATION:
        raise UnitError(f"is longer than {format_duration(MAX_DURATION)}")
    return seconds


def format_duration(seconds: float) -> str:
    """The largest unit that divides evenly. `parse_duration` gives back the same float.

    Raises `ValueError` for negative and non-finite numbers.
    """
    if not math.isfinite(seconds) or seconds < 0:
        raise ValueError("a duration is finite and not negative")
    if seconds == 0:
        return "0s"
    written = repr(float(seconds))
    exact = Fraction(written)
    for unit, factor in _SECONDS.items():
        if (count := exact / factor).denominator == 1:
            return f"{count}{unit}"
    return f"{Decimal(written):f}s"


def parse_size(text: str) -> int:
    """Bytes, 0 to `MAX_SIZE`; a bare number is bytes. KB, MB … are powers of 1000, KiB, MiB … of 1024.

    Raises `UnitError`, also for a part of a byte.
    """
    number, unit = _split(text, "a size like 64KiB, 16MiB or 512B")
    factor = _BYTES.get(unit or "B")
    if factor is None:
        raise UnitError("has an unknown unit (units of size: B, KB, MB, GB, TB, KiB, MiB, GiB, TiB)")
    size = number * factor
    if size.denominator != 1:
        raise UnitError("is not a whole number of bytes")
    return check_size(size.numerator)


def check_size(size: int) -> int:
    """The same bytes, or `UnitError` where `parse_size` would raise it."""
    if size < 0:
        raise UnitError("must not be negative")
    if size > MAX_SIZE:
        raise UnitError("is more than 8EiB")
    return size


def format_size(size: int) -> str:
    """The largest unit that divides evenly, powers of 1024 first. `parse_size` gives back the same number.

    Raises `ValueError` for a negative number.
    """
    if size < 0:
        raise ValueError("a size is not negative")
    for unit, factor in _BYTES.items():
        if size and size % factor == 0:
            return f"{size // factor}{unit}"
    return "0B"
