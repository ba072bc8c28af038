"""The tables: one row per request, and one per day, key, user, team, model, endpoint and upstream.

Migrations make them (`versions/`); this is what reads and writes them. Times are microseconds since 1970 in
UTC, money is picodollars.
"""

from collections.abc import Sequence
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
    **dict.fromkeys(("other_units", "hops_ns"), _JSON),
    "stream": Boolean(),
}
"""What is not text."""

STORED: Final = (
    *("id", "started_at", "finished_at", "key_id", "user", "team", "end_user", "address"),
    *("endpoint", "method", "path", "model_requested", "model_served", "upstream", "attempts"),
    *("status", "end_reason", "end_code", "stream"),
    *("input_tokens", "cached_tokens", "cache_write_tokens", "audio_input_tokens", "image_input_tokens"),
    *("output_tokens", "reasoning_tokens", "audio_output_tokens", "image_output_tokens"),
    *("other_units", "usage_provenance", "cost_pico", "cost_low_pico", "cost_high_pico", "estimate_pico"),
    *("price_version", "service_tier", "ttfb_us", "duration_us", "hops_ns"),
    *("trace_id", "client_request_id", "upstream_request_id", "cache"),
)
"""The columns in the order that the table has them in."""

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
_WHO: Final = ("key_id", "user", "team", "end_user", "address")
"""What they have in common too where few ask much."""
_FEW: Final = 8
"""Rows for each of whom it takes for that."""
TOGETHER: Final = (500, 50, 5, 1)
"""Rows of one statement, as many as there are. After each the driver lets go of the interpreter and takes it
back. Beside an event loop that is busy on another processor that costs more than many rows: with 50 at most
all of a request cost a twentieth more. SQLite takes 32,766 values."""


def _statement(names: Sequence[str], source: str) -> str:
    quoted = ", ".join(f'"{name}"' for name in names)
    return f"INSERT INTO {rows.name} ({quoted}) {source} ON CONFLICT DO NOTHING"


def _values(columns: int, count: int, place: str = "?") -> str:
    one = f"({', '.join([place] * columns)})"
    return f"VALUES {', '.join([one] * count)}"


class _Alike:
    """Rows into SQLite, which is given once what they have in common: to hand over a value costs as much as
    to store it."""

    def __init__(self, common: Sequence[str]) -> None:
        own = [name for name in COLUMNS if name not in common]
        self._common = _values_of(common)
        self._own = _values_of(own)
        self._statements = {count * len(own): _together(common, own, count) for count in TOGETHER}
        """By how many values of their own they take."""

    def insert(self, cursor: Any, batch: Sequence[Sequence[Any]]) -> None:
        alike: dict[Any, list[Any]] = {}
        last, own = None, []
        for row in batch:
            common = self._common(row)
            if common != last:  # to compare costs a third of what to look it up does
                last, own = common, alike.setdefault(common, [])
            own += self._own(row)
        for common, own in alike.items():
            at = 0
            for width, statement in self._statements.items():
                while at + width <= len(own):
                    cursor.execute(statement, (*common, *own[at : at + width]))
                    at += width


def _together(common: Sequence[str], own: Sequence[str], count: int) -> str:
    """A statement of so many rows with `common` in common."""
    # No place has a number, by which its value could be used again: from Python 3.12 on the driver asks for
    # the name of each place, which SQLite looks for among all that have one. It took half of all the time.
    # In the order of the table, since SQLite copies each value once more in any other.
    from_ = {name: f"c.column{at}" for at, name in enumerate(common, 1)}
    from_ |= {name: f"o.column{at}" for at, name in enumerate(own, 1)}
    values = ", ".join(from_[name] for name in STORED)
    one, all_ = _values(len(common), 1), _values(len(own), count)
    # `WHERE true` lets SQLite tell the conflict's ON from a join's. Names and places alone are put together.
    joined = f"SELECT {values} FROM ({one}) AS c CROSS JOIN ({all_}) AS o WHERE true"  # noqa: S608
    return _statement(STORED, joined)


def _values_of(names: Sequence[str]) -> "itemgetter[Any]":
    return itemgetter(*map(COLUMNS.index, names))


_who = _values_of(_WHO)
_OF_FEW: Final = _Alike((*_WHO, *_COMMON))
_OF_MANY: Final = _Alike(_COMMON)
_POSTGRESQL: Final = _statement(COLUMNS, _values(len(COLUMNS), 1, "%s"))


def insert(connection: Connection, batch: Sequence[Sequence[Any]]) -> None:
    """Add rows, their values in the order of `COLUMNS`; a row that is there already stays as it is.

    Raises what the driver raises.
    """
    # SQLAlchemy would look at each value of each row; the drivers take them as they are.
    if connection.dialect.name != "sqlite":
        connection.exec_driver_sql(_POSTGRESQL, [tuple(row) for row in batch])
        return
    alike = _OF_FEW if len(set(map(_who, batch))) * _FEW <= len(batch) else _OF_MANY
    cursor = connection.connection.cursor()
    alike.insert(cursor, batch)
    cursor.close()
