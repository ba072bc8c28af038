"""The values of options, read as people write them."""

import re
from typing import Any, Final

_SIZE: Final = re.compile(r"(\d{1,15})\s*(B|KiB|MiB|GiB|TiB)?")
_UNITS: Final = {"B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}
SMALLEST_JOURNAL: Final = 16 * 2**20


def switch(name: str, value: Any) -> bool:
    """true or false, on or off. Raises `ValueError`."""
    if isinstance(value, bool):
        return value
    if value in ("on", "off"):
        return bool(value == "on")
    raise ValueError(f"{name}: {value!r} is neither true nor false")


def at_least(least: int, name: str, value: Any) -> int:
    """A whole number. Raises `ValueError`."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ValueError(f"{name}: {value!r} is not a whole number from {least} on")
    return value


def size(name: str, value: Any) -> int:
    """Bytes, such as `256MiB`; no less than a journal needs. Raises `ValueError`."""
    found = None if isinstance(value, bool) else _SIZE.fullmatch(str(value))
    if found is None:
        raise ValueError(f"{name}: {value!r} is not a size like 256MiB")
    bytes_ = int(found[1]) * _UNITS[found[2] or "B"]
    if bytes_ < SMALLEST_JOURNAL:
        raise ValueError(f"{name}: {value} is too small, 16MiB is the least")
    return bytes_
