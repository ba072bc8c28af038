"""Rows, exchanges and databases for the ledger's tests."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import orjson
import sqlalchemy as sa
from prometheus_client import CollectorRegistry

from plugins.ledger.columns import COLUMNS, COMMON, COMMON_FIRST, KEPT, OWN, OWN_FIRST, TOKENS, WHO
from plugins.ledger.row import First, stored
from proxy.api import Server
from proxy.api.database import Database

NOON = 1_793_707_200_000_000
"""2026-11-03T12:00:00Z in microseconds."""
DAY = 86_400_000_000


def insert_before_hops_ns(connection: sa.Connection, batch: Sequence[Sequence[Any]]) -> None:
    """Into the table as it was up to revision 0002; of their hops nothing."""
    names = [name for name in COLUMNS if name not in ("hops_ns", "other_units")]
    old = sa.table("weir_ledger", *map(sa.column, names))
    connection.execute(old.insert(), [{name: row[COLUMNS.index(name)] for name in names} for row in batch])


def a_row(id_: str = "r1", **values: Any) -> list[Any]:
    """A row of a measured request, in the order of `COLUMNS`; `values` by column."""
    made: dict[str, Any] = dict.fromkeys(COLUMNS)
    made |= dict.fromkeys(TOKENS, 0)
    made |= {
        "id": id_,
        "started_at": NOON,
        "finished_at": NOON + 1_500_000,
        "key_id": "key-a",
        "user": "alice",
        "team": "red",
        "address": "192.0.2.7",
        "endpoint": "chat/completions",
        "method": "POST",
        "path": "/v1/chat/completions",
        "model_requested": "gpt-4o",
        "model_served": "gpt-4o-2024-08-06",
        "upstream": "openai",
        "attempts": 1,
        "status": 200,
        "end_reason": "complete",
        "end_code": "completed",
        "stream": False,
        "input_tokens": 1000,
        "output_tokens": 100,
        "usage_provenance": "measured",
        "cost_pico": 3_500_000_000,
        "cost_low_pico": 3_500_000_000,
        "cost_high_pico": 3_500_000_000,
        "duration_us": 1_500_000,
        "hops_ns": '{"upstream":1400000500}',
    }
    unknown = values.keys() - made.keys()
    assert not unknown, unknown
    made |= values
    return [made[name] for name in COLUMNS]


def a_payload(id_: str = "r1", **values: Any) -> bytes:
    """The same as the journal has it."""
    return _lines(a_row(id_, **values), OWN, WHO, COMMON)


def a_first(id_: str = "r1", **values: Any) -> First:
    """What is known of a request that has come."""
    own, who, what = _lines(a_row(id_, **values), OWN_FIRST, WHO, COMMON_FIRST).split(b"\n")
    return own, b"\n" + who, b"\n" + what


def a_begun(id_: str = "r1", **values: Any) -> bytes:
    """The same as the journal has it."""
    return b"".join(a_first(id_, **values))


def _lines(row: Sequence[Any], *lines: Sequence[str]) -> bytes:
    named = dict(zip(COLUMNS, row, strict=True))
    return b"\n".join(orjson.dumps([named[name] for name in line])[1:-1] for line in lines)


def server(folder: Path | None, **more: Any) -> Server:
    """What a plugin is started with."""
    return Server(CollectorRegistry(), state_dir=folder, **more)


def a_database(url: str | Path) -> Database:
    """The ledger's, migrated."""
    database = Database(
        f"sqlite:///{url}/weir.db" if isinstance(url, Path) else url, package="plugins.ledger", name="ledger"
    )
    database.migrate()
    return database


class Memory:
    """A database that is a dict, and goes down when it is told to."""

    def __init__(self) -> None:
        self.rows: dict[str, Sequence[Any]] = {}
        self.batches: list[int] = []
        self.fails: Exception | None = None
        self.opened = 0
        self.refuses: set[str] = set()
        """Ids of rows with a value that it does not take."""

    def open(self) -> None:
        if self.fails is not None:
            raise self.fails
        self.opened += 1

    def write(self, payloads: Sequence[bytes]) -> None:
        if self.fails is not None:
            raise self.fails
        rows = [*stored(payloads)]
        if self.refuses & {row[0] for row in rows}:
            raise OverflowError("too large")
        self.batches.append(len(rows))
        for row in rows:
            self.rows.setdefault(row[0], row)

    def keep_house(self) -> None:
        pass


def until(true: Any, within: float = 10.0) -> None:
    """Wait for it."""
    deadline = time.monotonic() + within
    while not true():
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.005)


def column(row: Sequence[Any], name: str) -> Any:
    """The value of a row of the journal by its column."""
    return row[KEPT.index(name)]
