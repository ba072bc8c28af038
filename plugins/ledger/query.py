"""What somebody asks of the ledger: a span of time, filters, and what to group by."""

import datetime as dt
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from .columns import TEXT

FILTERS: Final = {
    "key": "key_id",
    "user": "user",
    "team": "team",
    "end_user": "end_user",
    "model": "model",
    "endpoint": "endpoint",
    "upstream": "upstream",
    "status": "status",
    "end_reason": "end_reason",
    "provenance": "usage_provenance",
}
"""What can be filtered and grouped by, and its column; `model` is what served, else what was asked for."""
BUCKETS: Final = ("hour", "day", "month")
DEFAULT_SINCE: Final = "30d"
MOST_GROUPS: Final = 10_000
VALUES: Final = 100
"""Values of one filter."""
_MICROSECONDS: Final = {"m": 60_000_000, "h": 3_600_000_000, "d": 86_400_000_000, "w": 7 * 86_400_000_000}
_AGO: Final = re.compile(r"([0-9]{1,6})([mhdw])")


class QueryError(ValueError):
    """One line on what cannot be asked like that."""


@dataclass(frozen=True, slots=True)
class Query:
    """`since` and `until` are microseconds since 1970: from the one up to, but not, the other."""

    since: int
    until: int
    where: tuple[tuple[str, tuple[Any, ...]], ...] = ()
    """Columns, and which values each may have."""
    by: tuple[str, ...] = ()
    """Names out of `FILTERS`."""
    bucket: str | None = None
    limit: int = 1_000

    def restricted(self, column: str, value: Any) -> "Query":
        """The same, of those rows alone; None means that there must be no value."""
        return replace(self, where=(*self.where, (column, (value,))))


def read(pairs: Iterable[tuple[str, str]], now: dt.datetime, known: Sequence[str] = ()) -> Query:
    """The query that parameters spell; `known` are others that may be there. Raises `QueryError`."""
    given: dict[str, list[str]] = {}
    for name, value in pairs:
        given.setdefault(name, []).append(value)
    for name in given:
        if name not in FILTERS and name not in ("since", "until", "by", "limit", *known):
            allowed = ", ".join(("since", "until", "by", "limit", *known, *FILTERS))
            raise QueryError(f"{name[:TEXT]!r} is nothing to ask by; there are {allowed}")
    since = moment("since", given.get("since", [DEFAULT_SINCE])[-1], now)
    until = moment("until", given["until"][-1], now) if "until" in given else _micro(now) + 1
    if until < since:
        raise QueryError("until lies before since")
    by, bucket = _by(given.get("by", []))
    where = tuple((column, _values(name, given[name])) for name, column in FILTERS.items() if given.get(name))
    return Query(since, until, where, by, bucket, _limit(given.get("limit", ["1000"])[-1]))


def moment(name: str, text: str, now: dt.datetime) -> int:
    """`7d`, `24h`, `90m`, `2w` ago, `2026-11-01`, or ISO 8601 with a time (UTC unless it says otherwise)."""
    ago = _AGO.fullmatch(text)
    if ago is not None:
        return max(0, _micro(now) - int(ago[1]) * _MICROSECONDS[ago[2]])
    try:
        found = dt.datetime.fromisoformat(text)
    except ValueError:
        raise QueryError(
            f"{name}: {text[:64]!r} is neither a moment, like 2026-11-01T12:00Z, nor how long ago, like 7d"
        ) from None
    at = _micro(found if found.tzinfo is not None else found.replace(tzinfo=dt.UTC))
    return min(max(0, at), _LAST)


def _micro(at: dt.datetime) -> int:
    return (at - dt.datetime(1970, 1, 1, tzinfo=dt.UTC)) // dt.timedelta(microseconds=1)


_LAST: Final = _micro(dt.datetime(9999, 12, 31, tzinfo=dt.UTC))
"""West of Greenwich a year may end later, and no later moment could be told."""


def _by(given: Sequence[str]) -> tuple[tuple[str, ...], str | None]:
    names = [name.strip() for text in given for name in text.split(",") if name.strip()]
    buckets = [name for name in names if name in BUCKETS]
    if len(buckets) > 1:
        raise QueryError("by: one of hour, day and month")
    by = dict.fromkeys(name for name in names if name not in BUCKETS)
    for name in by:
        if name not in FILTERS:
            raise QueryError(f"by: {name[:64]!r} is none of {', '.join((*FILTERS, *BUCKETS))}")
    return tuple(by), buckets[0] if buckets else None


def _values(name: str, given: Sequence[str]) -> tuple[Any, ...]:
    if len(given) > VALUES:
        raise QueryError(f"{name}: more than {VALUES} values")
    if name != "status":
        return tuple(value.replace("\0", "") for value in given)
    if not all(re.fullmatch("[0-9]{1,3}", value) for value in given):
        raise QueryError("status: a number such as 200")
    return tuple(map(int, given))


def _limit(text: str) -> int:
    if not re.fullmatch("[0-9]{1,5}", text) or not 1 <= int(text) <= MOST_GROUPS:
        raise QueryError(f"limit: a number from 1 to {MOST_GROUPS}")
    return int(text)
