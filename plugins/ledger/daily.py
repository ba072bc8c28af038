"""Daily roll-ups, and the deletion of rows whose months are over."""

import datetime as dt
from typing import Any, Final

from sqlalchemy import BigInteger, Connection, case, delete, func, insert, literal, select, text
from sqlalchemy.sql.elements import ColumnElement

from .columns import COSTS, TOKENS
from .money import MOST
from .table import DIMENSIONS, daily, rows

DAY: Final = 86_400_000_000
"""Microseconds."""
CHUNK: Final = 5_000
"""Rows that are deleted in one transaction: others want to write too."""
_LOCK: Final = 0x7765697264  # the advisory lock of PostgreSQL for roll-ups: "weird"

FAILED: Final = rows.c.end_reason.not_in(("complete", "rejected")) | (rows.c.status >= 400)
UNPRICED: Final = rows.c.cost_pico.is_(None) & (rows.c.method == "POST")
"""Nobody can say to the picodollar what it cost. What is only looked up costs nothing anywhere."""
MODEL: Final = func.coalesce(rows.c.model_served, rows.c.model_requested)


def roll_up(connection: Connection, day: int) -> None:
    """Make the roll-up of one day, counted from 1970, anew from its rows."""
    if connection.dialect.name == "postgresql":  # two at once would both insert
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
    connection.execute(delete(daily).where(daily.c.day == day))
    by: list[Any] = [
        func.coalesce(MODEL if name == "model" else rows.c[name], "").label(name) for name in DIMENSIONS
    ]
    sums: list[Any] = [
        func.count(),
        func.coalesce(func.sum(case((FAILED, 1), else_=0)), 0),
        func.coalesce(func.sum(case((UNPRICED, 1), else_=0)), 0),
        *(_sum(rows.c[name]) for name in (*TOKENS, *COSTS)),
    ]
    of_the_day = rows.c.started_at.between(day * DAY, (day + 1) * DAY - 1)
    rolled = select(literal(day), *by, *sums).where(of_the_day).group_by(*by)
    connection.execute(insert(daily).from_select([column.name for column in daily.columns], rolled))


def _sum(column: ColumnElement[int]) -> ColumnElement[int]:
    """A sum that ends at `MOST` instead of failing: bounds of what a stranger asks for may be absurd, and one
    day that cannot be summed would hold up all that come after it. In two parts, since SQLite's own sum ends
    there with an error."""
    million = literal(10**6, BigInteger)
    high = func.coalesce(func.sum(column.op("/")(million)), 0)
    low = func.coalesce(func.sum(column % million), 0)
    most = literal(MOST, BigInteger)
    return case((high + low / million >= MOST // 10**6, most), else_=high * million + low)


def not_rolled_up(connection: Connection, today: int) -> set[int]:
    """Days before today that have rows and may have no roll-up: from the last one that has, on."""
    since = connection.execute(select(func.max(daily.c.day))).scalar() or 0
    day = rows.c.started_at.op("/")(literal(DAY, BigInteger))
    span = rows.c.started_at.between(since * DAY, today * DAY - 1)
    return {int(one) for (one,) in connection.execute(select(day).distinct().where(span))}


def cut(keep_months: int, today: dt.date) -> int:
    """The moment before which rows are not kept, in microseconds: the beginning of a month."""
    months = today.year * 12 + today.month - 1 - keep_months
    first = dt.date(max(months // 12, 1970), months % 12 + 1, 1)
    return max(0, (first - dt.date(1970, 1, 1)).days) * DAY


def delete_before(connection: Connection, moment: int) -> int:
    """Delete some of the rows that began before; how many. 0: there are none left."""
    old = (
        select(rows.c.id)
        .where(rows.c.started_at < moment)
        .order_by(rows.c.started_at)
        .limit(CHUNK)
        .scalar_subquery()
    )
    return connection.execute(delete(rows).where(rows.c.id.in_(old))).rowcount
