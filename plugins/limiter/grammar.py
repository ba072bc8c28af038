"""From `limits:` in the configuration to limits. Every mistake is one line that names the limit."""

import difflib
import itertools
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Any, Final, cast, get_args

from .limit import Fuse, Kind, Limit, OnFailure, Per, Queue
from .meter import WINDOWS
from .money import MOST, MOST_UNITS, NANO, nanodollars
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

FUSES: Final[tuple[Fuse, ...]] = get_args(Fuse)
ON_FAILURE: Final[tuple[OnFailure, ...]] = get_args(OnFailure)
MOST_OF_KEY: Final = 64
"""Limits of one client key."""

_KEYS: Final = (
    "name",
    *KINDS,
    "burst",
    "rolling",
    "fuse",
    "per",
    "on",
    "models",
    "shadow",
    "on_failure",
    "queue",
)
_RESERVED: Final = "keys:"
_RATE: Final = re.compile(r"\s*([^/\s]+)\s*/\s*(\S+)\s*")
_WHOLE: Final = re.compile(r"[0-9]{1,30}")
_MONEY: Final = re.compile(r"[0-9]{1,20}(\.[0-9]{1,9})?")
_DURATION: Final = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)(ms|s|m|h)")
_UNITS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
LONGEST_WAIT: Final = 600.0
"""Seconds that a request may wait in a queue at most."""
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


def read_of_key(entries: Any) -> tuple[Limit, ...]:
    """The limits that a client key carries: the same entries without `per`, `on_failure` and `queue`.

    Who has no name is called by what it counts; a second one of that name gets a number. Raises `ValueError`.
    """
    if isinstance(entries, str | bytes | Mapping) or not isinstance(entries, Sequence):
        raise ValueError("limits is a list of entries like {requests: 100/minute}")
    if len(entries) > MOST_OF_KEY:
        raise ValueError(f"a key has at most {MOST_OF_KEY} limits")
    limits: list[Limit] = []
    names: set[str] = set()
    for place, entry in enumerate(entries):
        for key in ("per", "on_failure", "queue"):
            if isinstance(entry, Mapping) and key in entry:
                raise ValueError(f"limits[{place}]: {key} is not for a key's own limits")
        limit = _limit(entry, place)
        name = base = entry.get("name") or "-".join(["key", limit.kind, limit.window or "at-once"])
        for number in itertools.count(2):
            if name not in names:
                break
            if "name" in entry:
                raise ValueError(f'limit "{name}": the name stands there twice; give each limit its own')
            name = f"{base}-{number}"
        names.add(name)
        limits.append(replace(limit, name=name, per="key", of_key=True))
    return tuple(limits)


def _limit(entry: Any, place: int) -> Limit:
    if not isinstance(entry, Mapping):
        raise ValueError(f"limits[{place}] is not an entry like {{requests: 100/minute, per: user}}")
    name = entry.get("name")
    called = f'limit "{name}"' if _is_name(name) else f"limits[{place}]"
    if isinstance(name, str) and name.startswith(_RESERVED):
        raise ValueError(f'{called}: a name does not begin with "{_RESERVED}"; those are in the metrics')
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
    rolling = _flag(entry, "rolling", called)
    amount, window = _amount(kind, entry[kind], called, MOST_UNITS if rolling else MOST)
    per = entry.get("per", "user")
    if per not in PERS:
        raise ValueError(f'{called}: per: "{per}" is not one of {", ".join(PERS)}{_near(per, PERS)}')
    if rolling and kind != "cost":
        raise ValueError(f"{called}: rolling is for cost; {kind} has no calendar to leave")
    on_failure = entry.get("on_failure", "closed" if kind == "cost" else "local")
    if on_failure not in ON_FAILURE:
        near = _near(on_failure, ON_FAILURE)
        raise ValueError(f'{called}: on_failure: "{on_failure}" is not one of {", ".join(ON_FAILURE)}{near}')
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
        shadow=_flag(entry, "shadow", called),
        rolling=rolling,
        fuse=_fuse(kind, entry, called),
        on_failure=on_failure,
        queue=_queue(entry, called),
    )


def _flag(entry: Mapping[str, Any], key: str, called: str) -> bool:
    value = entry.get(key, False)
    if not isinstance(value, bool):
        raise ValueError(f"{called}: {key} is true or false")
    return value


def _fuse(kind: Kind, entry: Mapping[str, Any], called: str) -> Fuse:
    value = entry.get("fuse", "off")
    if isinstance(value, bool):  # JSON, and YAML 1.1, say it so
        value = "on" if value else "off"
    if value not in FUSES:
        raise ValueError(f'{called}: fuse: "{value}" is not one of {", ".join(FUSES)}{_near(value, FUSES)}')
    if "fuse" in entry and kind != "cost":
        raise ValueError(f"{called}: fuse is for cost; {kind} is not charged while a stream runs")
    if value == "on" and entry.get("shadow"):
        raise ValueError(f"{called}: a shadow ends no stream; write fuse: warn, or leave out shadow")
    return cast("Fuse", value)


def _queue(entry: Mapping[str, Any], called: str) -> Queue | None:
    if "queue" not in entry:
        return None
    value = entry["queue"]
    if not isinstance(value, Mapping) or not value or not {"max", "wait"}.issuperset(value):
        raise ValueError(f"{called}: queue is written like {{max: 100, wait: 2s}}")
    if entry.get("shadow"):
        raise ValueError(f"{called}: nobody waits for a shadow; leave out queue or shadow")
    return Queue(
        _whole(value.get("max", 100), "queue.max", called),
        seconds(value.get("wait", "2s"), f"{called}: queue.wait", LONGEST_WAIT),
    )


def seconds(value: Any, called: str, most: float) -> float:
    """A duration like `30s`, in seconds. Raises `ValueError`."""
    match = _DURATION.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError(f'{called}: "{value}" is not a duration like 2s or 500ms')
    found = float(match[1]) * _UNITS[match[2]]
    if not 0 < found <= most:
        raise ValueError(f"{called}: {value} is not more than 0 and at most {most:g}s")
    return found


def _is_name(name: Any) -> bool:
    return isinstance(name, str) and 0 < len(name) <= _NAME_LENGTH and name.isprintable()


def _amount(kind: Kind, value: Any, called: str, most: int) -> tuple[int, str]:
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
    if amount > most:
        raise ValueError(
            f"{called}: cost: {number} dollars is too much to be counted exactly; the most is {most // NANO}"
        )
    return amount, window


def _whole(value: Any, key: str, called: str) -> int:
    if isinstance(value, str) and _WHOLE.fullmatch(value):
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool):
        raise ValueError(f'{called}: {key}: "{value}" is not a whole number')
    if value < 1:
        raise ValueError(f"{called}: {key} must be more than 0")
    if value > MOST_UNITS:
        raise ValueError(
            f"{called}: {key}: {value} is too much to be counted exactly; the most is {MOST_UNITS}"
        )
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
