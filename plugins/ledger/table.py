"""The tables: one row per request, and one per day, key, user, team, model, endpoint and upstream.

Migrations make them (`versions/`); this is what reads and writes them. Times are microseconds since 1970 in
UTC, money is picodollars.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, Final

from sqlalchemy import BigInteger, Boolean, Column, Connection, Integer, MetaData, SmallInteger, Table, Text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.types import TypeEngine

from .columns import COLUMNS, COMMON, COSTS, KEPT, OWN, TOKENS, WHO
from .row import stored, values

_JSON: Final[TypeEngine[Any]] = Text().with_variant(JSONB(), "postgresql")
_TYPES: Final[dict[str, TypeEngine[Any]]] = {
    **dict.fromkeys((*TOKENS, *COSTS, "estimate_pico"), BigInteger()),
    **dict.fromkeys(("started_at", "finished_at", "ttfb_us", "duration_us"), BigInteger()),
    **dict.fromkeys(("attempts", "status"), SmallInteger()),
    **dict.fromkeys(("other_units", "hops_ns"), _JSON),
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

_FEW: Final = 8
"""Rows of each caller from which on what they say of who asked is told once for all of them."""
_SELDOM: Final = ("trace_id", "client_request_id")
"""Columns of a row's own that are null as a rule. To hand over a null takes Python 3.11 as long as ten texts:
it looks for an adapter, and puts together an error that says that there is none."""
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

    def __init__(self, own: tuple[str, ...], common: tuple[str, ...]) -> None:
        self._own = own
        self._common = [common.index(name) for name in COLUMNS if name in common]

    def insert(self, cursor: Any, batch: Mapping[bytes, Sequence[bytes]]) -> list[int]:
        """Rows' own lines by the one that they have in common; when each of them began."""
        moments: list[int] = []
        for line, lines in batch.items():
            alike = values((line,))
            common = [alike[place] for place in self._common]
            at = 0
            for count in TOGETHER:
                while at + count <= len(lines):
                    moments += self._insert(cursor, common, values(lines[at : at + count]), count)
                    at += count
        return moments

    def _insert(self, cursor: Any, common: list[Any], own: list[Any], count: int) -> list[int]:
        names = [*self._own]
        moments = own[names.index("started_at") :: len(names)]
        left_out = []
        for name in _SELDOM:
            place, width = names.index(name), len(names)
            if own[place::width].count(None) == count:
                del own[place::width]
                names.remove(name)
                left_out.append(name)
        cursor.execute(_alike(self._own, tuple(left_out), count), common + own)
        return moments


@cache
def _alike(own: tuple[str, ...], left_out: tuple[str, ...], count: int) -> str:
    """A statement of so many rows: first come the values that they have in common, then each row's own but
    for those left out, which are null."""
    # No place has a number, by which its value could be used again: from Python 3.12 on the driver asks for
    # the name of each place, which SQLite looks for among all that have one. It took half of all the time.
    there = [name for name in own if name not in left_out]
    from_ = dict.fromkeys(COLUMNS, "?") | dict.fromkeys(left_out, "NULL")
    from_ |= {name: f"column{at}" for at, name in enumerate(there, 1)}
    # In the order of the table, since SQLite copies each value once more in any other.
    selected = ", ".join(from_[name] for name in COLUMNS)
    # `WHERE true` lets SQLite tell the conflict's ON from a join's. Names and places alone are put together.
    source = f"SELECT {selected} FROM ({_values(len(there), count)}) WHERE true"  # noqa: S608
    return _statement(COLUMNS, source)


_OF_FEW: Final = _Alike(OWN, (*WHO, *COMMON))
_OF_MANY: Final = _Alike((*OWN, *WHO), COMMON)
_POSTGRESQL: Final = _statement(KEPT, _values(len(KEPT), 1, "%s"))
_STARTED: Final = KEPT.index("started_at")


def insert(connection: Connection, batch: Sequence[bytes]) -> list[int]:
    """Add rows, as the journal has them; a row that is there already stays as it is. Returns when each of
    them began.

    Raises what the driver raises.
    """
    # SQLAlchemy would look at each value of each row; the drivers take them as they are.
    if connection.dialect.name != "sqlite":
        rows = [tuple(row) for row in stored(batch)]
        connection.exec_driver_sql(_POSTGRESQL, rows)
        return [row[_STARTED] for row in rows]
    alike = defaultdict[bytes, list[bytes]](list)
    for row in batch:
        own, _, rest = row.partition(b"\n")
        alike[rest].append(own)
    few = len(alike) * _FEW <= len(batch)
    cursor = connection.connection.cursor()
    try:
        if few:
            return _OF_FEW.insert(cursor, {rest.replace(b"\n", b","): lines for rest, lines in alike.items()})
        common = defaultdict[bytes, list[bytes]](list)
        for rest, lines in alike.items():
            who, _, line = rest.partition(b"\n")
            common[line] += [own + b"," + who for own in lines]
        return _OF_MANY.insert(cursor, common)
    finally:
        cursor.close()
