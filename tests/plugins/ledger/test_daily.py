import datetime as dt
from typing import Any

import pytest
from sqlalchemy import func, select

from plugins.ledger.daily import CHUNK, cut, delete_before, not_rolled_up, roll_up
from plugins.ledger.money import MOST
from plugins.ledger.table import daily, insert, rows
from proxy.api.database import Database

from .making import DAY, NOON, a_payload

TODAY = NOON // DAY


def put(database: Database, *batch: bytes) -> None:
    with database.begin() as connection:
        insert(connection, batch)


def rolled(database: Database, *names: str) -> list[tuple[Any, ...]]:
    with database.read() as connection:
        found = connection.execute(select(*(daily.c[name] for name in names)).order_by(*daily.primary_key))
        return [tuple(row) for row in found]


def test_a_day_is_summed_by_all_that_it_can_be_asked_for(database: Database) -> None:
    put(
        database,
        a_payload("a", input_tokens=1, cost_pico=10),
        a_payload("b", input_tokens=2, cost_pico=None, cost_low_pico=0, cost_high_pico=7),
        a_payload("c", key_id=None, team=None, model_served=None, end_reason="client_gone"),
        a_payload("before", started_at=TODAY * DAY - 1),
        a_payload("after", started_at=(TODAY + 1) * DAY),
    )
    with database.begin() as connection:
        roll_up(connection, TODAY)
    names = ("day", "key_id", "team", "model", "requests", "failed", "unpriced", "input_tokens", "cost_pico")
    assert rolled(database, *names) == [
        (TODAY, "", "", "gpt-4o", 1, 1, 0, 1000, 3_500_000_000),
        (TODAY, "key-a", "red", "gpt-4o-2024-08-06", 2, 0, 1, 3, 10),
    ]


def test_a_day_that_is_rolled_up_again_is_not_counted_twice(database: Database) -> None:
    put(database, a_payload("a"))
    for more in ([a_payload("b")], [a_payload("b")]):
        with database.begin() as connection:
            roll_up(connection, TODAY)
        put(database, *more)
    with database.begin() as connection:
        roll_up(connection, TODAY)
    assert rolled(database, "requests") == [(2,)]


def test_days_that_have_no_roll_up_are_found(database: Database) -> None:
    with database.read() as connection:
        assert not_rolled_up(connection, TODAY) == set()
    put(database, a_payload("a", started_at=NOON - 3 * DAY), a_payload("b", started_at=NOON))
    put(database, a_payload("c", started_at=NOON - DAY))
    with database.begin() as connection:
        assert not_rolled_up(connection, TODAY) == {TODAY - 3, TODAY - 1}
        roll_up(connection, TODAY - 3)
        # The last one too: it may have been made before all of its rows had come.
        assert not_rolled_up(connection, TODAY) == {TODAY - 3, TODAY - 1}
        roll_up(connection, TODAY - 1)
        assert not_rolled_up(connection, TODAY) == {TODAY - 1}


@pytest.mark.parametrize(
    ("months", "today", "first"),
    [
        (1, "2026-11-23", "2026-10-01"),
        (13, "2026-11-23", "2025-10-01"),
        (1, "2026-01-01", "2025-12-01"),
        (12, "2026-12-31", "2025-12-01"),
        (9999, "2026-12-31", "1970-01-01"),
    ],
)
def test_whole_months_are_kept(months: int, today: str, first: str) -> None:
    moment = cut(months, dt.date.fromisoformat(today))
    at = dt.datetime(1970, 1, 1) + dt.timedelta(microseconds=moment)
    if months < 9999:
        assert at.isoformat() == f"{first}T00:00:00"
    else:
        assert moment <= 11 * 31 * DAY


def test_rows_are_deleted_a_few_at_a_time_and_no_others(database: Database) -> None:
    put(database, *(a_payload(f"{n}", started_at=NOON - 1) for n in range(CHUNK + 3)), a_payload("kept"))
    deleted: list[int] = []
    while not deleted or deleted[-1]:
        with database.begin() as connection:
            deleted.append(delete_before(connection, NOON))
    assert deleted == [CHUNK, 3, 0]
    with database.read() as connection:
        assert connection.execute(select(func.count()).select_from(rows)).scalar() == 1


def test_a_sum_that_no_column_holds_ends_at_the_most_there_can_be(database: Database) -> None:
    """The bounds of a cost go by what a client asks for, and anybody can ask for too much."""
    put(database, *(a_payload(id_, cost_high_pico=MOST) for id_ in ("a", "b", "c")))
    put(database, *(a_payload(id_, user="bob", cost_high_pico=MOST // 3) for id_ in ("d", "e")))
    with database.begin() as connection:
        roll_up(connection, TODAY)
    found = rolled(database, "user", "requests", "cost_pico", "cost_high_pico")
    assert found == [("alice", 3, 10_500_000_000, MOST), ("bob", 2, 7_000_000_000, MOST // 3 * 2)]


def test_what_is_deleted_goes_in_the_order_of_time(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So a report that is made meanwhile finds all rows of a day, or none but its roll-up."""
    monkeypatch.setattr("plugins.ledger.daily.CHUNK", 2)
    put(database, *(a_payload(str(9 - at), started_at=NOON + at) for at in (3, 0, 2, 1)))
    with database.begin() as connection:
        assert delete_before(connection, NOON + 9) == 2
    with database.read() as connection:
        assert sorted(connection.execute(select(rows.c.started_at)).scalars()) == [NOON + 2, NOON + 3]
