"""Rows one by one, however many: pages of them, each a query of its own, so that memory stays flat and no
transaction stays open for as long as somebody reads."""

from typing import Any, Final

import orjson
from sqlalchemy import Connection, and_, or_, select

from .query import Query
from .report import conditions
from .table import rows
from .told import NAMES, csv_lines, row

PAGE: Final = 1_000
"""Rows of one query, a megabyte or so."""

Place = tuple[int, str]
"""The moment and id of the last row of a page: the next begins after it."""


def page(connection: Connection, query: Query, after: Place | None, form: str) -> tuple[bytes, Place | None]:
    """The next rows by time, as `csv` or `ndjson`, and where to go on; None: that was all."""
    found = select(rows).where(*conditions(rows, query)).order_by(rows.c.started_at, rows.c.id).limit(PAGE)
    if after is not None:
        at, id_ = after
        later = or_(rows.c.started_at > at, and_(rows.c.started_at == at, rows.c.id > id_))
        found = found.where(rows.c.started_at >= at, later)
    lines = connection.execute(found).all()
    last: Place | None = None
    if len(lines) == PAGE:
        last = lines[-1].started_at, lines[-1].id
    told = [row(line) for line in lines]
    if form == "csv":
        return csv_lines(line.values() for line in told), last  # type: ignore[misc]
    return b"".join(orjson.dumps(line) + b"\n" for line in told), last


def heading(form: str) -> bytes:
    """What comes before the first page."""
    return csv_lines([NAMES]) if form == "csv" else b""


def one(connection: Connection, id_: str, restricted: tuple[tuple[str, Any], ...]) -> dict[str, Any] | None:
    """The row of a request; None if there is none, or none with these values."""
    found = select(rows).where(rows.c.id == id_)
    for column, value in restricted:
        found = found.where(rows.c[column].is_(None) if value is None else rows.c[column] == value)
    line = connection.execute(found).one_or_none()
    return None if line is None else row(line)
