import datetime as dt

import pytest
from sqlalchemy import func, select
from sqlalchemy.exc import OperationalError

from plugins.ledger import sink as module
from plugins.ledger.sink import SqlSink
from plugins.ledger.table import daily, rows
from proxy.api.database import Database

from .making import DAY, a_database, a_payload

TODAY = dt.date(2026, 10, 6)
MIDNIGHT = int(dt.datetime(2026, 10, 6, tzinfo=dt.UTC).timestamp()) * 1_000_000
NOW = MIDNIGHT + DAY // 2


def today() -> dt.date:
    """What the sinks of these tests are told, so that no midnight comes between two lines of one."""
    return TODAY


@pytest.fixture
def sink(database: Database, monkeypatch: pytest.MonkeyPatch) -> SqlSink:
    monkeypatch.setattr(module, "HOUSE_EVERY", 0.0)
    return SqlSink(database, 1, today)


def counts(database: Database) -> tuple[int, int]:
    """Rows, and the requests that roll-ups have."""
    with database.read() as connection:
        there = connection.execute(select(func.count()).select_from(rows)).scalar()
        rolled = connection.execute(select(func.sum(daily.c.requests))).scalar()
    return int(there or 0), int(rolled or 0)


@pytest.mark.parametrize("now", [MIDNIGHT, NOW, MIDNIGHT + DAY - 1], ids=["first", "noon", "last"])
def test_days_that_are_over_are_rolled_up_and_today_is_not(
    sink: SqlSink, database: Database, now: int
) -> None:
    sink.write(
        [
            a_payload("a", started_at=now),
            a_payload("b", started_at=now - DAY),
            a_payload("c", started_at=now - 2 * DAY),
        ]
    )
    sink.keep_house()
    assert counts(database) == (3, 2)


def test_a_row_that_comes_late_is_in_its_days_roll_up(sink: SqlSink, database: Database) -> None:
    sink.write([a_payload("a", started_at=NOW - DAY)])
    sink.keep_house()
    sink.write([a_payload("b", started_at=NOW - DAY)])
    sink.keep_house()
    assert counts(database) == (2, 2)


def test_a_batch_of_several_days_is_in_the_roll_up_of_each(sink: SqlSink, database: Database) -> None:
    sink.keep_house()  # from here on it knows of days by what is written
    sink.write([a_payload(f"{n}", started_at=NOW - days * DAY) for n, days in enumerate((0, 2, 1, 2, 0))])
    sink.keep_house()
    assert counts(database) == (5, 3)


def test_rows_of_old_months_go_and_their_sums_stay(sink: SqlSink, database: Database) -> None:
    sink.write([a_payload("old", started_at=NOW - 70 * DAY), a_payload("new", started_at=NOW)])
    for _ in range(3):
        sink.keep_house()
    assert counts(database) == (1, 1)
    sink.write([a_payload("late", started_at=NOW - 70 * DAY)])
    for _ in range(3):
        sink.keep_house()
    assert counts(database) == (1, 1)  # the sums of what is gone are not made anew


def test_nothing_is_deleted_where_all_is_to_be_kept(sink: SqlSink, database: Database) -> None:
    sink.keep_months = None
    sink.write([a_payload("old", started_at=NOW - 9000 * DAY)])
    sink.keep_house()
    assert counts(database) == (1, 1)


@pytest.mark.slow
def test_a_lock_of_others_holds_the_writer_for_no_longer_than_it_may(
    postgres: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "STATEMENT_WITHIN", 100)
    database = a_database(postgres)
    sink = SqlSink(database, None, today)
    with database.begin() as connection:
        connection.exec_driver_sql("LOCK TABLE weir_ledger")
        with pytest.raises(OperationalError, match="statement timeout"):
            sink.write([a_payload("a")])
    sink.write([a_payload("a")])
    assert counts(database) == (1, 0)
    database.dispose()


@pytest.mark.slow
def test_a_lock_of_others_holds_the_house_for_no_longer_than_it_may_and_the_day_is_not_forgotten(
    postgres: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LOCKED_WITHIN", 100)
    database = a_database(postgres)
    sink = SqlSink(database, None, today)
    sink.write([a_payload("a", started_at=NOW - DAY)])
    with database.begin() as connection:
        connection.exec_driver_sql("LOCK TABLE weir_usage_daily")
        with pytest.raises(OperationalError, match="lock timeout"):
            sink.keep_house()
    assert counts(database) == (1, 0)
    sink.keep_house()
    assert counts(database) == (1, 1)
    database.dispose()


def test_it_does_not_keep_house_all_the_time(
    sink: SqlSink, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "HOUSE_EVERY", 60.0)
    sink.keep_house()
    sink.write([a_payload("a", started_at=NOW - DAY)])
    sink.keep_house()
    assert counts(database) == (1, 0)
