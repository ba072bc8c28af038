import datetime as dt
import random
from collections import Counter
from typing import Any

import pytest

from plugins.ledger.daily import roll_up
from plugins.ledger.query import Query, read
from plugins.ledger.report import FIGURES, TOLD, report
from plugins.ledger.table import insert, rows
from proxy.api.database import Database

from .making import DAY, NOON, a_payload

EVER = Query(0, 2**61)
TODAY = NOON // DAY


def put(database: Database, *batch: bytes) -> None:
    with database.begin() as connection:
        insert(connection, batch)


def asked(
    database: Database, *pairs: tuple[str, str]
) -> tuple[dict[tuple[Any, ...], dict[str, Any]], dict[str, Any]]:
    query = read([("since", "2020-01-01"), *pairs], dt.datetime(2027, 1, 1, tzinfo=dt.UTC))
    with database.read() as connection:
        groups, whole = report(connection, query)
    return {key: totals.told() for key, totals in groups}, whole.told()


def test_nothing_is_no_group_and_a_sum_of_zero(database: Database) -> None:
    groups, whole = asked(database)
    assert groups == {}
    assert (whole["requests"], whole["cost_usd"]) == (0, "0")
    assert tuple(whole) == TOLD


def test_figures_are_summed_by_group_the_dearest_first(database: Database) -> None:
    put(
        database,
        a_payload("a", cost_pico=1, team="red"),
        a_payload("b", cost_pico=5, team="blue", status=500),
        a_payload("c", cost_pico=2, team="red", end_reason="client_gone"),
        a_payload("d", cost_pico=None, cost_low_pico=0, cost_high_pico=9, team=None),
    )
    groups, whole = asked(database, ("by", "team"))
    assert [*groups] == [("blue",), ("red",), (None,)]
    red = groups["red",]
    assert (red["requests"], red["failed"], red["unpriced"]) == (2, 1, 0)
    assert (red["cost_usd"], red["input_tokens"]) == ("0.000000000003", 2000)
    assert (whole["requests"], whole["failed"], whole["unpriced"]) == (4, 2, 1)
    assert whole["cost_usd"] == "0.000000000008"


def test_what_is_only_looked_up_is_not_unpriced(database: Database) -> None:
    put(database, a_payload("a", method="GET", cost_pico=None, cost_high_pico=None, cost_low_pico=None))
    assert asked(database)[1]["unpriced"] == 0


def test_sums_above_what_a_column_holds_are_exact(database: Database) -> None:
    most = 2**63 - 1
    put(
        database,
        *(a_payload(f"{n}", cost_pico=most, cost_high_pico=most, cost_low_pico=most) for n in range(7)),
    )
    with database.read() as connection:
        _, whole = report(connection, EVER)
    assert whole.cost == 7 * most


@pytest.mark.parametrize(
    ("bucket", "expected"),
    [
        ("hour", ["2026-11-03T12:00Z", "2026-11-03T13:00Z", "2026-12-01T12:00Z"]),
        ("day", ["2026-11-03", "2026-12-01"]),
        ("month", ["2026-11", "2026-12"]),
    ],
)
def test_time_comes_in_buckets(database: Database, bucket: str, expected: list[str]) -> None:
    put(
        database,
        a_payload("a"),
        a_payload("b", started_at=NOON + 3_600_000_000),
        a_payload("c", started_at=NOON + 28 * DAY),
        a_payload("d", started_at=NOON + 28 * DAY, model_served="other"),
    )
    groups, whole = asked(database, ("by", bucket))
    assert [key[0] for key in groups] == expected
    assert whole["requests"] == 4
    by_model, _ = asked(database, ("by", f"model,{bucket}"))
    assert (expected[-1], "other") in by_model


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ([("team", "red")], "a"),
        ([("team", "red"), ("team", "blue")], "ab"),
        ([("model", "gpt-4o")], "c"),
        ([("status", "500")], "b"),
        ([("user", "x' OR 1=1 --")], ""),
        ([("key", "key-a"), ("team", "green")], "c"),
        ([("since", "2026-11-03T12:00"), ("until", "2026-11-03T12:00:01")], "abc"),
        ([("until", "2026-11-03T12:00")], ""),
    ],
)
def test_filters(database: Database, filters: list[tuple[str, str]], expected: str) -> None:
    put(
        database,
        a_payload("a", cost_pico=1),
        a_payload("b", team="blue", status=500, cost_pico=2),
        a_payload("c", team="green", model_served=None, cost_pico=4),
    )
    whole = asked(database, *filters)[1]
    assert whole["cost_usd"] == f"{sum(1 << 'abc'.index(one) for one in expected) / 10**12:.12f}".rstrip(
        "0"
    ).rstrip(".")


def test_totals_are_those_of_the_rows_whatever_they_are_grouped_by(database: Database) -> None:
    rng = random.Random(7)
    cost: Counter[str | None] = Counter()
    batch = []
    for n in range(400):
        team, amount = rng.choice(["red", "blue", None]), rng.randrange(10**13)
        cost[team] += amount
        batch.append(
            a_payload(f"{n}", team=team, cost_pico=amount, started_at=NOON + rng.randrange(90 * DAY))
        )
    put(database, *batch)
    for by in ("team", "team,day", "team,month", "team,hour", "model,endpoint,team"):
        query = read([("since", "2020-01-01"), ("by", by)], dt.datetime(2027, 9, 1, tzinfo=dt.UTC))
        with database.read() as connection:
            groups, whole = report(connection, query)
        at = (1 if query.bucket else 0) + query.by.index("team")
        found: Counter[str | None] = Counter()
        for key, totals in groups:
            found[key[at]] += totals.cost
        assert found == cost
        assert whole.cost == sum(cost.values())


def test_months_that_were_deleted_are_told_by_their_roll_ups(database: Database) -> None:
    put(database, a_payload("old", started_at=NOON - 40 * DAY, team=None), a_payload("new"))
    before = asked(database, ("by", "team,month"))
    with database.begin() as connection:
        roll_up(connection, TODAY - 40)
        roll_up(connection, TODAY)  # and what has rows is not counted twice
        connection.execute(rows.delete().where(rows.c.id == "old"))
    assert asked(database, ("by", "team,month")) == before
    assert asked(database, ("team", "red"))[1]["requests"] == 1
    assert asked(database, ("by", "status"))[1]["requests"] == 1  # which no roll-up knows
    with database.begin() as connection:
        connection.execute(rows.delete())
    assert asked(database, ("by", "team,month")) == before


def test_who_has_no_key_is_told_by_roll_ups_too(database: Database) -> None:
    old = NOON - 40 * DAY
    put(database, a_payload("a", started_at=old, key_id=None), a_payload("b", started_at=old))
    with database.begin() as connection:
        roll_up(connection, TODAY - 40)
        connection.execute(rows.delete())
    query = Query(0, NOON)
    for key_id in (None, "key-a"):
        with database.read() as connection:
            _, whole = report(connection, query.restricted("key_id", key_id))
        assert whole.told()["requests"] == 1


def test_every_figure_is_told() -> None:
    assert len(TOLD) == len(FIGURES) == len(set(TOLD))
