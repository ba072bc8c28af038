import orjson
import pytest

from plugins.ledger import export
from plugins.ledger.export import heading, one, page
from plugins.ledger.query import Query
from plugins.ledger.table import insert
from plugins.ledger.told import NAMES
from proxy.api.database import Database

from .making import NOON, a_payload

EVER = Query(0, 2**61)


@pytest.fixture(autouse=True)
def small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export, "PAGE", 3)


def pages(database: Database, query: Query = EVER, form: str = "ndjson") -> list[bytes]:
    found, after = [], None
    while True:
        with database.read() as connection:
            lines, after = page(connection, query, after, form)
        found.append(lines)
        if after is None:
            return found


def test_all_rows_come_once_and_in_the_order_of_their_time(database: Database) -> None:
    # Several of the same microsecond, across the ends of pages.
    moments = [NOON, NOON, NOON, NOON, NOON, NOON + 1, NOON + 1, NOON - 1, NOON + 5]
    with database.begin() as connection:
        insert(connection, [a_payload(f"{n}", started_at=at) for n, at in enumerate(moments)])
    found = pages(database)
    ids = [orjson.loads(line)["id"] for lines in found for line in lines.splitlines()]
    assert ids == ["7", "0", "1", "2", "3", "4", "5", "6", "8"]
    assert len(found) == 4  # a full last page may be followed by an empty one


def test_only_what_was_asked_for_comes(database: Database) -> None:
    with database.begin() as connection:
        insert(connection, [a_payload(f"{n}", team="red" if n % 2 else "blue") for n in range(8)])
    found = pages(database, EVER.restricted("team", "red"))
    assert [orjson.loads(line)["id"] for lines in found for line in lines.splitlines()] == [
        "1",
        "3",
        "5",
        "7",
    ]


def test_csv_has_its_heading_and_no_page_of_its_own(database: Database) -> None:
    with database.begin() as connection:
        insert(connection, [a_payload("a")])
    assert heading("csv").decode().strip().split(",") == list(NAMES)
    assert heading("ndjson") == b""
    (lines,) = pages(database, form="csv")
    assert lines.startswith(b"a,2026-11-03T12:00:00.000000Z,2026-11-03T12:00:01.500000Z,key-a,alice,red,")


def test_one_row_is_found_by_its_id_and_by_whom_it_is_of(database: Database) -> None:
    with database.begin() as connection:
        insert(connection, [a_payload("a"), a_payload("b", key_id=None)])
    with database.read() as connection:
        found = one(connection, "a", ())
        assert found is not None
        assert found["user"] == "alice"
        assert one(connection, "a", (("key_id", "key-a"),)) == found
        assert one(connection, "a", (("key_id", "another"),)) is None
        assert one(connection, "b", (("key_id", None), ("user", "alice"))) is not None
        assert one(connection, "a", (("key_id", None), ("user", "alice"))) is None
        assert one(connection, "none", ()) is None
