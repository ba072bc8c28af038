"""The limits of a key's own: they are told to the limiter as they stand, in the words of its configuration.

What can be seen without the limiter is checked here, so that most mistakes show when a key is made. The
limiter has the last word: it may be another one, or none.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

KINDS: Final = ("requests", "input_tokens", "tokens", "cost", "in_flight")
WINDOWS: Final = ("second", "minute", "hour", "day", "month")
MOST: Final = 20
"""Limits of one key: each is asked on every request."""
_OTHER: Final = ("name", "burst", "on", "models", "shadow")
_AMOUNT: Final = re.compile(r"[0-9]{1,16}(\.[0-9]{1,9})?")
_WHOLE: Final = re.compile(r"[0-9]{1,16}")

Limit = dict[str, Any]


def read(entries: Any) -> tuple[Limit, ...]:
    """The limits of a key, checked. Raises `ValueError`."""
    if isinstance(entries, str | bytes | Mapping) or not isinstance(entries, Sequence):
        raise ValueError("limits is a list of entries like {requests: 100/minute}")
    if len(entries) > MOST:
        raise ValueError(f"limits: a key has at most {MOST}")
    limits = tuple(_limit(entry, f"limits[{place}]") for place, entry in enumerate(entries))
    names = [limit["name"] for limit in limits if "name" in limit]
    if len(set(names)) < len(names):
        raise ValueError("limits: two have the same name")
    return limits


def parse(text: str) -> Limit:
    """A limit on one line: `requests=100/minute,on=chat`. Raises `ValueError`."""
    entry: Limit = {}
    for pair in text.split(","):
        name, equals, value = (part.strip() for part in pair.partition("="))
        if not equals or not name or not value or name in entry:
            raise ValueError(f'"{text}" is not a limit like requests=100/minute')
        if name in ("in_flight", "burst") and _WHOLE.fullmatch(value):
            entry[name] = int(value)
        elif name == "shadow" and value in ("true", "false"):
            entry[name] = value == "true"
        else:
            entry[name] = value
    return _limit(entry, f'"{text}"')


def _limit(entry: Any, place: str) -> Limit:
    if not isinstance(entry, Mapping):
        raise ValueError(f"{place} is not an entry like {{requests: 100/minute}}")
    for name in entry:
        if name == "per":
            raise ValueError(f"{place}: per goes without saying: the limit is for this key")
        if name not in KINDS and name not in _OTHER:
            raise ValueError(f"{place}: unknown key {name!r}; it knows {', '.join((*KINDS, *_OTHER))}")
    kinds = [kind for kind in KINDS if kind in entry]
    if len(kinds) != 1:
        raise ValueError(f"{place}: a limit has one of {', '.join(KINDS)}")
    _amount(kinds[0], entry[kinds[0]], place)
    return dict(entry)


def _amount(kind: str, value: Any, place: str) -> None:
    if kind == "in_flight":
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ValueError(f"{place}: in_flight is a whole number above 0")
        return
    amount, slash, window = (
        (part.strip() for part in value.partition("/")) if isinstance(value, str) else ("", "", "")
    )
    grammar = _AMOUNT if kind == "cost" else _WHOLE
    if not slash or not grammar.fullmatch(amount) or float(amount) == 0:
        example = "20/day (US dollars)" if kind == "cost" else "100/minute"
        raise ValueError(f"{place}: {kind} is an amount above 0 per window, like {example}")
    if window not in WINDOWS:
        raise ValueError(f"{place}: {kind}: {window!r} is not one of {', '.join(WINDOWS)}")
