"""The tables: one row per request, and one per day, key, user, team, model, endpoint and upstream.

Migrations make them (`versions/`); this is what reads and writes them. Times are microseconds since 1970 in
UTC, money is picodollars.
"""

from collections.abc import Sequence
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

_NAMES: Final = ", ".join(f'"{name}"' for name in COLUMNS)
_INSERT: Final = {
    dialect: f"INSERT INTO {rows.name} ({_NAMES}) VALUES ({', '.join([place] * len(COLUMNS))}) "  # noqa: S608
    "ON CONFLICT DO NOTHING"
    for dialect, place in (("sqlite", "?"), ("postgresql", "%s"))
}


def insert(connection: Connection, batch: Sequence[Sequence[Any]]) -> None:
    """Add rows, their values in the order of `COLUMNS`; a row that is there already stays as it is."""
    # SQLAlchemy would look at each value of each row; the driver takes them as they are.
    connection.exec_driver_sql(_INSERT[connection.dialect.name], [tuple(row) for row in batch])
