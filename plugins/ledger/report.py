"""Totals by group and time: out of the rows, and before the first of them out of the daily roll-ups."""

import datetime as dt
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, Final

from sqlalchemy import BigInteger, Connection, Select, Table, case, cast, func, literal, select
from sqlalchemy.sql.elements import ColumnElement

from .columns import COSTS, TOKENS
from .daily import DAY, FAILED, MODEL, UNPRICED
from .money import dollars
from .query import FILTERS, Query, QueryError
from .table import DIMENSIONS, daily, rows

COUNTS: Final = ("requests", "failed", "unpriced")
FIGURES: Final = (*COUNTS, *TOKENS, *COSTS)
_HOUR: Final = 3_600_000_000
_MILLION: Final = 1_000_000

Key = tuple[Any, ...]


class Totals:
    """Sums of one group, in the order of `FIGURES`; exact, however large."""

    __slots__ = ("sums",)

    def __init__(self) -> None:
        self.sums = [0] * len(FIGURES)

    def add(self, values: Sequence[int]) -> None:
        """Add another group's."""
        self.sums = [a + b for a, b in zip(self.sums, values, strict=True)]

    @property
    def cost(self) -> int:
        """Picodollars."""
        return self.sums[FIGURES.index("cost_pico")]

    def told(self) -> dict[str, Any]:
        """As answers have them: money in dollars, as text."""
        figures = dict(zip(FIGURES, self.sums, strict=True))
        return {_told(name): dollars(n) if name in COSTS else n for name, n in figures.items()}


def _told(name: str) -> str:
    return name.removesuffix("_pico") + "_usd" if name in COSTS else name


TOLD: Final = tuple(map(_told, FIGURES))
"""The names of the figures in answers."""


def report(
    connection: Connection, query: Query, most: int | None = None
) -> tuple[list[tuple[Key, Totals]], Totals]:
    """The groups, by time and then the dearest first, and all of them together. Times are ISO 8601 in UTC.

    `most` are the groups that may be put together, about 1 KB each. Raises `QueryError` above it: by what
    clients make up there may be any number.
    """
    groups: dict[Key, Totals] = {}
    whole = Totals()
    for key, sums in _groups(connection, query):
        if len(groups) == most and key not in groups:
            raise QueryError(f"by: that makes more than {most} groups; ask for less time, or by less")
        groups.setdefault(key, Totals()).add(sums)
        whole.add(sums)
    timed = query.bucket is not None

    def order(item: tuple[Key, Totals]) -> Any:
        key, totals = item
        return (key[0] if timed else "", -totals.cost, -totals.sums[0], str(key))

    return sorted(groups.items(), key=order), whole


def _groups(connection: Connection, query: Query) -> Iterator[tuple[Key, list[int]]]:
    rolled_until = _rolled_until(connection, query)
    if rolled_until > query.since:
        older = replace(query, until=min(query.until, rolled_until))
        yield from _select(connection, older, daily)
    if query.until > rolled_until:
        yield from _select(connection, replace(query, since=max(query.since, rolled_until)), rows)


def _rolled_until(connection: Connection, query: Query) -> int:
    """Up to where roll-ups are all there is: the day of the oldest row, if they can tell what is asked."""
    asked = {FILTERS[name] for name in query.by} | {column for column, _ in query.where}
    if query.bucket == "hour" or asked - set(DIMENSIONS):
        return 0
    first = connection.execute(select(func.min(rows.c.started_at))).scalar()
    if first is None:
        first = ((connection.execute(select(func.max(daily.c.day))).scalar() or -1) + 1) * DAY
    return int(first) // DAY * DAY


def _select(connection: Connection, query: Query, table: Table) -> Iterator[tuple[Key, list[int]]]:
    by = [_column(table, FILTERS[name]).label(f"by_{name}") for name in query.by]
    if query.bucket is not None:
        by.insert(0, _bucket(table, query.bucket).label("at"))
    found: Select[Any] = select(*by, *_sums(table)).where(*conditions(table, query))
    if by:
        found = found.group_by(*by)
    for line in connection.execute(found):
        key = [None if value == "" else value for value in line[: len(by)]]
        figures = [int(value or 0) for value in line[len(by) :]]
        if not figures[0]:
            continue  # without groups there is a line for nothing, too
        if query.bucket is not None:
            key[0] = _told_bucket(query.bucket, int(line[0]))
        counted = len(COUNTS) + len(TOKENS)
        costs = [
            a * _MILLION + b for a, b in zip(figures[counted::2], figures[counted + 1 :: 2], strict=True)
        ]
        yield tuple(key), [*figures[:counted], *costs]


def _sums(table: Table) -> Iterator[ColumnElement[Any]]:
    if table is rows:
        yield func.count()
        yield func.sum(case((FAILED, 1), else_=0))
        yield func.sum(case((UNPRICED, 1), else_=0))
    else:
        yield from (func.sum(table.c[name]) for name in COUNTS)
    yield from (func.sum(table.c[name]) for name in TOKENS)
    for name in COSTS:
        # In two parts: SQLite's sum ends at 2^63, which is nine million dollars.
        yield func.sum(table.c[name].op("/")(literal(_MILLION, BigInteger)))
        yield func.sum(table.c[name] % literal(_MILLION, BigInteger))


def conditions(table: Table, query: Query) -> Iterator[ColumnElement[bool]]:
    """What rows of either table must satisfy."""
    if table is rows:
        yield rows.c.started_at >= query.since
        yield rows.c.started_at < query.until
    else:
        # Of a day that lies in the span with a part only, the roll-up can say nothing.
        yield daily.c.day >= -(-query.since // DAY)
        yield daily.c.day < query.until // DAY
    for name, values in query.where:
        column = _column(table, name)
        if values == (None,):
            yield column.is_(None) if table is rows else column == ""
        else:
            yield column.in_(values)


def _column(table: Table, name: str) -> ColumnElement[Any]:
    return MODEL if table is rows and name == "model" else table.c[name]


def _bucket(table: Table, bucket: str) -> ColumnElement[Any]:
    # Months are put together from their days, since no two databases say month alike.
    if table is daily:
        return table.c.day
    width = literal(_HOUR if bucket == "hour" else DAY, BigInteger)
    return cast(rows.c.started_at.op("/")(width), BigInteger)


def _told_bucket(bucket: str, number: int) -> str:
    unit = dt.timedelta(hours=1) if bucket == "hour" else dt.timedelta(days=1)
    at = dt.datetime(1970, 1, 1) + number * unit
    return at.strftime({"hour": "%Y-%m-%dT%H:00Z", "day": "%Y-%m-%d", "month": "%Y-%m"}[bucket])
