"""From `limits:` in the configuration to limits. Every mistake is one line that names the limit."""

import difflib
import re
from collections.abc import Collection, Mapping, Sequence
from decimal import Decimal
from typing import Any, Final, cast, get_args

from .limit import Kind, Limit, Per
from .meter import WINDOWS
from .money import MOST, NANO, nanodollars
from .scope import GROUPS

KINDS: Final[tuple[Kind, ...]] = get_args(Kind)
PERS: Final[tuple[Per, ...]] = get_args(Per)
DEFAULTS: Final = (
    {"name": "global", "requests": "1000/hour", "per": "address"},
    {"name": "chat", "requests": "100/minute", "per": "user", "on": "chat"},
    {"name": "images", "requests": "50/hour", "per": "user", "on": "images"},
    {"name": "embeddings", "requests": "500/hour", "per": "user", "on": "embeddings"},
)
"""What counts where no limits are configured."""

_KEYS: Final = ("name", *KINDS, "burst", "per", "on", "models", "shadow")
_RATE: Final = re.compile(r"\s*([^/\s]+)\s*/\s*(\S+)\s*")
_WHOLE: Final = re.compile(r"[0-9]{1,30}")
_MONEY: Final = re.compile(r"[0-9]{1,20}(\.[0-9]{1,9})?")
_NAME_LENGTH: Final = 64


def read(entries: Any) -> tuple[Limit, ...]:
    """The limits of a configuration. Raises `ValueError`."""
    if isinstance(entries, str | bytes | Mapping) or not isinstance(entries, Sequence):
        raise ValueError("limits is a list of entries like {name: chat, requests: 100/minute, per: user}")
    limits = [_limit(entry, place) for place, entry in enumerate(entries)]
    names: set[str] = set()
    for limit in limits:
        if limit.name in names:
            raise ValueError(f'limit "{limit.name}": the name stands there twice; give each limit its own')
        names.add(limit.name)
    return tuple(limits)


def _limit(entry: Any, place: int) -> Limit:
    if not isinstance(entry, Mapping):
        raise ValueError(f"limits[{place}] is not an entry like {{requests: 100/minute, per: user}}")
    name = entry.get("name")
    called = f'limit "{name}"' if _is_name(name) else f"limits[{place}]"
    if name is not None and not _is_name(name):
        raise ValueError(f"{called}: name is a line of text, at most {_NAME_LENGTH} characters")
    for key in entry:
        if key not in _KEYS:
            raise ValueError(f'{called}: unknown key "{key}"{_near(key, _KEYS)}')
    kinds = [kind for kind in KINDS if kind in entry]
    if len(kinds) != 1:
        said = f"has both {kinds[0]} and {kinds[1]}: make two limits of it" if kinds else "counts nothing"
        raise ValueError(f"{called}: {said}; one limit has one of {', '.join(KINDS)}")
    kind = kinds[0]
    amount, window = _amount(kind, entry[kind], called)
    per = entry.get("per", "user")
    if per not in PERS:
        raise ValueError(f'{called}: per: "{per}" is not one of {", ".join(PERS)}{_near(per, PERS)}')
    shadow = entry.get("shadow", False)
    if not isinstance(shadow, bool):
        raise ValueError(f"{called}: shadow is true or false")
    on = tuple(_on(text, called) for text in _texts(entry, "on", called))
    return Limit(
        name=name or "-".join([kind, "per", per, *(["on", *on] if on else [])]),
        kind=kind,
        amount=amount,
        window=window,
        burst=_burst(kind, entry, called),
        per=cast("Per", per),
        on=on,
        models=tuple(_texts(entry, "models", called)),
        shadow=shadow,
    )


def _is_name(name: Any) -> bool:
    return isinstance(name, str) and 0 < len(name) <= _NAME_LENGTH and name.isprintable()


def _amount(kind: Kind, value: Any, called: str) -> tuple[int, str]:
    """Units, and the window; "" for requests in flight, which have none."""
    if kind == "in_flight":
        return _whole(value, kind, called), ""
    example = "5.00/day" if kind == "cost" else "100/minute"
    match = _RATE.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError(f'{called}: {kind}: "{value}" is not an amount per window, like {example}')
    number, window = match.groups()
    if window not in WINDOWS:
        raise ValueError(
            f'{called}: {kind}: "{window}" is not one of {", ".join(WINDOWS)}{_near(window, WINDOWS)}'
        )
    if kind != "cost":
        return _whole(number, kind, called), window
    if not _MONEY.fullmatch(number):
        raise ValueError(
            f'{called}: cost: "{number}" is not an amount of dollars, like 5 or 0.25, to the nanodollar'
        )
    amount = nanodollars(Decimal(number))
    if amount == 0:
        raise ValueError(f"{called}: cost must be more than 0")
    if amount > MOST:
        raise ValueError(
            f"{called}: cost: {number} dollars is too much to be counted exactly; the most is {MOST // NANO}"
        )
    return amount, window


def _whole(value: Any, key: str, called: str) -> int:
    if isinstance(value, str) and _WHOLE.fullmatch(value):
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool):
        raise ValueError(f'{called}: {key}: "{value}" is not a whole number')
    if value < 1:
        raise ValueError(f"{called}: {key} must be more than 0")
    if value > MOST:
        raise ValueError(f"{called}: {key}: {value} is too much to be counted exactly; the most is {MOST}")
    return value


def _burst(kind: Kind, entry: Mapping[str, Any], called: str) -> int:
    if "burst" not in entry:
        return 0
    if kind in ("cost", "in_flight"):
        raise ValueError(f"{called}: burst is for requests and tokens; {kind} has none")
    return _whole(entry["burst"], "burst", called)


def _texts(entry: Mapping[str, Any], key: str, called: str) -> Sequence[str]:
    if key not in entry:
        return ()
    value = entry[key]
    texts = [value] if isinstance(value, str) else value
    if (
        not isinstance(texts, Sequence)
        or not texts
        or not all(isinstance(text, str) and text and text.isprintable() for text in texts)
    ):
        raise ValueError(f"{called}: {key} is a pattern or a list of patterns; leave it out for all")
    return texts


def _on(text: str, called: str) -> str:
    """The name of a group, or the pattern of a path. A bare word is a group, so that a typing error shows."""
    if text in GROUPS or "/" in text or "*" in text:
        return text
    raise ValueError(
        f'{called}: on: "{text}" is not one of {", ".join(GROUPS)}{_near(text, GROUPS)}; '
        f"a path is written with its slash, /{text}"
    )


def _near(word: Any, known: Collection[str]) -> str:
    near = difflib.get_close_matches(str(word), known, 1)
    return f'; did you mean "{near[0]}"?' if near else ""
