from typing import Any

import orjson
import pytest
from sqlalchemy import inspect, select
from sqlalchemy.exc import DBAPIError

from plugins.ledger.columns import COLUMNS
from plugins.ledger.table import TOGETHER, daily, insert, rows
from proxy.api.database import Database

from .making import a_payload, a_row


def found(database: Database) -> list[dict[str, Any]]:
    with database.read() as connection:
        return [dict(row) for row in connection.execute(select(rows).order_by(rows.c.id)).mappings()]


def test_a_row_comes_out_as_it_went_in(database: Database) -> None:
    said: dict[str, Any] = {"cost_pico": 2**63 - 1, "user": '"; drop table', "end_user": "Ünï"}
    said |= {"other_units": '{"seconds": "1.5"}', "trace_id": "ab" * 16}
    row = a_row(**said)
    with database.begin() as connection:
        insert(connection, [a_payload(**said)])
    (out,) = found(database)
    expected = dict(zip(COLUMNS, row, strict=True))
    for name in ("hops_ns", "other_units"):  # PostgreSQL knows JSON
        assert out.pop(name) in (expected[name], orjson.loads(expected[name]))
        del expected[name]
    assert out == expected


def test_the_same_request_has_one_row_and_the_first_one_stays(database: Database) -> None:
    for batch in ([a_payload("a", status=200)], [a_payload("a", status=500), a_payload("b"), a_payload("b")]):
        with database.begin() as connection:
            insert(connection, batch)
    assert [(row["id"], row["status"]) for row in found(database)] == [("a", 200), ("b", 200)]


@pytest.mark.parametrize("users", [1, 10, 100])
@pytest.mark.parametrize("traced", [0, 1, 60])
def test_rows_that_have_much_in_common_come_out_as_they_went_in(
    database: Database, users: int, traced: int
) -> None:
    batch: list[dict[str, Any]] = [
        {
            "id_": f"{n:04}",
            "user": f"u{n % users}",
            "team": ("red", None)[n * 2 // users % 2],
            "started_at": n,
            "endpoint": ("chat/completions", "responses")[n % 3 == 0],
            "model_served": (None, "m")[n % 2],
            "status": (200, None)[n == 50],
            "cost_pico": n,
            "cached_tokens": n % 5,
            "trace_id": (None, "t")[traced > n % 60],
            "client_request_id": (None, f"c{n}")[traced > n % 50],
        }
        for n in range(TOGETHER[0] * 4 + TOGETHER[1] * 2 + 7)
    ]
    with database.begin() as connection:
        payloads = [a_payload(**each) for each in batch]
        assert sorted(insert(connection, [*payloads, a_payload("0003", status=500, started_at=0)])) == [
            0,
            *range(len(batch)),
        ]
    names = [name for name in COLUMNS if name != "hops_ns"]
    places = [COLUMNS.index(name) for name in names]
    assert [[row[name] for name in names] for row in found(database)] == [
        [row[place] for place in places] for row in (a_row(**each) for each in batch)
    ]


def test_a_batch_goes_in_whole_or_not_at_all(database: Database) -> None:
    with pytest.raises((DBAPIError, OverflowError)), database.begin() as connection:
        insert(connection, [a_payload("a"), a_payload("b", cost_pico=2**63)])
    assert found(database) == []


def test_the_migrations_make_what_the_tables_say(database: Database) -> None:
    with database.read() as connection:
        there = inspect(connection)
        for table in (rows, daily):
            made = {column["name"]: column for column in there.get_columns(table.name)}
            assert set(made) == {column.name for column in table.columns}
            for column in table.columns:
                assert made[column.name]["type"]._type_affinity is _affinity(column, connection)
            key = there.get_pk_constraint(table.name)["constrained_columns"]
            assert set(key) == {column.name for column in table.primary_key}


def test_rows_go_in_in_the_order_of_the_table(database: Database) -> None:
    with database.read() as connection:
        assert [column["name"] for column in inspect(connection).get_columns(rows.name)] == [*COLUMNS]


def _affinity(column: Any, connection: Any) -> Any:
    return column.type.dialect_impl(connection.dialect)._type_affinity
