"""The tables: one row per request, and one per day, key, user, team, model, endpoint and upstream.

Migrations make them (`versions/`); this is what reads and writes them. Times are microseconds since 1970 in
UTC, money is picodollars.
"""

from collections.abc import Sequence
from itertools import chain
from operator import itemgetter
from typing import Any, Final

from sqlalchemy import BigInteger, Boolean, Column, Connection, Integer, MetaData, SmallInteger, Table, Text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.types import TypeEngine

from .columns import COLUMNS, COSTS, TOKENS

_JSON: Final[TypeEngine[Any]] = Text().with_variant(JSONB(), "postgresql")
_TYPES: Final[dict[str, TypeEngine[Any]]] = {
    **dict.fromkeys((*TOKENS, *COSTS, "estimate_pico"), BigInteger()),
    **dict.fromkeys(("started_at", "finished_at", "ttfb_us", "duration_us"), BigInteger()),
    **dict.fromkeys(("attempts", "status"), SmallInteger()),
    **dict.fromkeys(("other_units", "hops"), _JSON),
    "stream": Boolean(),
}
"""What is not text."""

metadata = MetaData()
rows = Table(
    "weir_ledger",
    metadata,
    *(Column(name, _TYPES.get(name, Text()), primary_key=name == "id") for name in COLUMNS),
)

DIMENSIONS: Final = ("key_id", "user", "team", "model", "endpoint", "upstream")
"""What a roll-up is by, besides its day; what is not known is an empty text there."""
SUMS: Final = ("requests", "failed", "unpriced", *TOKENS, *COSTS)

daily = Table(
    "weir_usage_daily",
    metadata,
    Column("day", Integer, primary_key=True),  # days since 1970
    *(Column(name, Text, primary_key=True) for name in DIMENSIONS),
    *(Column(name, BigInteger, nullable=False) for name in SUMS),
)

_COMMON: Final = (
    *("endpoint", "method", "path", "model_requested", "model_served", "upstream", "attempts"),
    *("status", "end_reason", "end_code", "stream"),
    *("cache_write_tokens", "audio_input_tokens", "image_input_tokens"),
    *("audio_output_tokens", "image_output_tokens", "other_units"),
    *("usage_provenance", "price_version", "service_tier", "cache"),
)
"""What many rows of a batch have in common."""
_OWN: Final = tuple(name for name in COLUMNS if name not in _COMMON)
_common = itemgetter(*map(COLUMNS.index, _COMMON))
_own = itemgetter(*map(COLUMNS.index, _OWN))
TOGETHER: Final = 20
"""Rows of one statement. After each the driver lets go of the interpreter and takes it back, which beside a
busy event loop costs more than a row."""


def _statement(names: Sequence[str], values: str) -> str:
    quoted = ", ".join(f'"{name}"' for name in names)
    # Names and places alone are put together here; each value goes to the driver.
    return f"INSERT INTO {rows.name} ({quoted}) VALUES {values} ON CONFLICT DO NOTHING"  # noqa: S608


def _together() -> str:
    """A statement of rows that have `_COMMON` in common: SQLite is given those values once."""
    common = [f"?{place}" for place in range(1, len(_COMMON) + 1)]
    own = iter(range(len(_COMMON) + 1, len(_COMMON) + TOGETHER * len(_OWN) + 1))
    each = (", ".join([*common, *(f"?{next(own)}" for _ in _OWN)]) for _ in range(TOGETHER))
    return _statement([*_COMMON, *_OWN], ", ".join(f"({row})" for row in each))


_SQLITE_TOGETHER: Final = _together()
_SQLITE: Final = _statement(COLUMNS, f"({', '.join('?' * len(COLUMNS))})")
_POSTGRESQL: Final = _statement(COLUMNS, f"({', '.join(['%s'] * len(COLUMNS))})")


def insert(connection: Connection, batch: Sequence[Sequence[Any]]) -> None:
    """Add rows, their values in the order of `COLUMNS`; a row that is there already stays as it is.

    Raises what the driver raises.
    """
    # SQLAlchemy would look at each value of each row; the drivers take them as they are.
    if connection.dialect.name != "sqlite":
        connection.exec_driver_sql(_POSTGRESQL, [tuple(row) for row in batch])
        return
    # To hand over a value costs as much as to store it: what rows have in common is handed over once.
    alike: dict[Any, list[Sequence[Any]]] = {}
    for row in batch:
        key = _common(row)
        if key in alike:
            alike[key].append(row)
        else:
            alike[key] = [row]
    single: list[tuple[Any, ...]] = []
    cursor = connection.connection.cursor()
    for common, found in alike.items():
        whole = len(found) // TOGETHER * TOGETHER
        for at in range(0, whole, TOGETHER):
            values = common + tuple(chain.from_iterable(map(_own, found[at : at + TOGETHER])))
            cursor.execute(_SQLITE_TOGETHER, values)
        single += map(tuple, found[whole:])
    cursor.executemany(_SQLITE, single)
    cursor.close()
