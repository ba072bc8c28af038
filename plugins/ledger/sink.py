"""The database under the writer: rows in, roll-ups of days that are over, months out."""

import datetime as dt
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from .daily import DAY, cut, delete_before, not_rolled_up, roll_up
from .table import insert

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from proxy.api.database import Database

HOUSE_EVERY: Final = 60.0
"""Seconds between two looks at what is to be rolled up or deleted."""
STATEMENT_WITHIN: Final = 5_000
"""Milliseconds that PostgreSQL may take for a row, locks of others included."""
HOUSE_WITHIN: Final = 600_000
"""The same for the roll-up of a day: a hundred million rows."""
LOCKED_WITHIN: Final = 5_000
"""Milliseconds that the house waits there for a lock of others, who may be waiting for it."""


def utc_today() -> dt.date:
    """The day that is not over."""
    return dt.datetime.now(dt.UTC).date()


class SqlSink:
    """Rows into a database; one thread writes them, and one keeps house."""

    def __init__(
        self, database: "Database", keep_months: int | None, today: Callable[[], dt.date] = utc_today
    ) -> None:
        """`keep_months`: rows of older months are deleted; None keeps all."""
        self._database = database
        self._today = today
        self.keep_months = keep_months
        self._dirty: set[int] = set()
        """Days that have new rows since they were rolled up."""
        self._knows_days = False
        self._house_at = 0.0

    def open(self) -> None:
        """Bring the tables to where this version wants them."""
        self._database.migrate()

    def write(self, rows: Sequence[bytes]) -> None:
        """Add rows, as the journal has them, in one transaction."""
        with self._database.begin() as connection:
            if not self._database.is_sqlite:
                # Somebody's lock on the table must not hold the writer, who has the journal to look after.
                connection.exec_driver_sql(f"SET LOCAL statement_timeout = {STATEMENT_WITHIN}")
            moments = insert(connection, rows)
        if min(moments) // DAY == max(moments) // DAY:  # as a rule, and to divide each costs ten times that
            moments = moments[:1]
        self._dirty.update(moment // DAY for moment in moments)

    def keep_house(self) -> None:
        """Roll up days that are over, then delete some of what is not to be kept. May take minutes."""
        now = time.monotonic()
        if now < self._house_at:
            return
        today = self._today()
        day = (today - dt.date(1970, 1, 1)).days
        keep_from = 0 if self.keep_months is None else cut(self.keep_months, today)
        if not self._knows_days:
            with self._house(reads=True) as connection:
                self._dirty |= not_rolled_up(connection, day)
            self._knows_days = True
        for over in sorted(one for one in [*self._dirty] if one < day):
            # First: a row that comes meanwhile makes it dirty again.
            self._dirty.discard(over)
            try:
                # Of a month that was deleted the roll-up is all there is.
                if over * DAY >= keep_from or not self._is_rolled_up(over):
                    with self._house() as connection:
                        roll_up(connection, over)
            except BaseException:
                self._dirty.add(over)
                raise
        if keep_from:
            with self._house() as connection:
                if delete_before(connection, keep_from):
                    return  # there may be more: go on at the next call
        self._house_at = now + HOUSE_EVERY

    @contextmanager
    def _house(self, *, reads: bool = False) -> "Iterator[Connection]":
        with self._database.read() if reads else self._database.begin() as connection:
            if not self._database.is_sqlite:
                connection.exec_driver_sql(f"SET LOCAL statement_timeout = {HOUSE_WITHIN}")
                connection.exec_driver_sql(f"SET LOCAL lock_timeout = {LOCKED_WITHIN}")
            yield connection

    def _is_rolled_up(self, day: int) -> bool:
        from sqlalchemy import exists, select

        from .table import daily

        with self._house(reads=True) as connection:
            return bool(connection.execute(select(exists().where(daily.c.day == day))).scalar())
