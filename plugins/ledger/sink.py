"""The database under the writer: rows in, roll-ups of days that are over, months out."""

import datetime as dt
import time
from typing import TYPE_CHECKING, Any, Final

from .columns import COLUMNS
from .daily import DAY, cut, delete_before, not_rolled_up, roll_up
from .table import insert

if TYPE_CHECKING:
    from proxy.api.database import Database

HOUSE_EVERY: Final = 60.0
"""Seconds between two looks at what is to be rolled up or deleted."""
STATEMENT_WITHIN: Final = 5_000
"""Milliseconds that PostgreSQL may take for a row, locks of others included."""
DAYS_AT_ONCE: Final = 5
"""Days that are rolled up between two batches of rows."""
_STARTED: Final = COLUMNS.index("started_at")


class SqlSink:
    """Rows into a database; used by one thread."""

    def __init__(self, database: "Database", keep_months: int | None) -> None:
        """`keep_months`: rows of older months are deleted; None keeps all."""
        self._database = database
        self.keep_months = keep_months
        self._dirty: set[int] = set()
        """Days that have new rows since they were rolled up."""
        self._knows_days = False
        self._house_at = 0.0

    def open(self) -> None:
        """Bring the tables to where this version wants them."""
        self._database.migrate()

    def write(self, rows: list[list[Any]]) -> None:
        """Add rows, in one transaction."""
        with self._database.begin() as connection:
            if not self._database.is_sqlite:
                # Somebody's lock on the table must not hold the writer, who has the journal to look after.
                connection.exec_driver_sql(f"SET LOCAL statement_timeout = {STATEMENT_WITHIN}")
            insert(connection, rows)
        self._dirty.update({row[_STARTED] // DAY for row in rows})

    def keep_house(self) -> None:
        """Roll up days that are over, then delete what is not to be kept; a little at a time."""
        now = time.monotonic()
        if now < self._house_at:
            return
        today = dt.datetime.now(dt.UTC).date()
        day = (today - dt.date(1970, 1, 1)).days
        keep_from = 0 if self.keep_months is None else cut(self.keep_months, today)
        if not self._knows_days:
            with self._database.read() as connection:
                self._dirty |= not_rolled_up(connection, day)
            self._knows_days = True
        over_now = sorted(one for one in self._dirty if one < day)
        for over in over_now[:DAYS_AT_ONCE]:
            # Of a month that was deleted the roll-up is all there is.
            if over * DAY >= keep_from or not self._is_rolled_up(over):
                with self._database.begin() as connection:
                    roll_up(connection, over)
            self._dirty.discard(over)
        if len(over_now) > DAYS_AT_ONCE:
            return  # the rest after the next batch: rows must not wait for long
        if keep_from:
            with self._database.begin() as connection:
                if delete_before(connection, keep_from):
                    return  # there may be more: go on after the next batch
        self._house_at = now + HOUSE_EVERY

    def _is_rolled_up(self, day: int) -> bool:
        from sqlalchemy import exists, select

        from .table import daily

        with self._database.read() as connection:
            return bool(connection.execute(select(exists().where(daily.c.day == day))).scalar())
