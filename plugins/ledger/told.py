"""Rows and totals as they are told to people and programs: JSON, lines of JSON, CSV."""

import csv
import datetime as dt
import io
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

import orjson

from .columns import COLUMNS
from .money import dollars

_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")
_EPOCH: Final = dt.datetime(1970, 1, 1)
_HOPS: Final = "hops_ns"


def name(column: str) -> str:
    """A column's name in answers: money is told in dollars, and hops in microseconds."""
    if column == _HOPS:
        return "hops"
    return column.removesuffix("_pico") + "_usd" if column.endswith("_pico") else column


NAMES: Final = tuple(map(name, COLUMNS))


def row(values: Sequence[Any]) -> dict[str, Any]:
    """A row, from its values in the order of `COLUMNS`: times in ISO 8601 (UTC), money as text in dollars,
    `hops` in microseconds."""
    told = dict(zip(NAMES, values, strict=True))
    for column, change in _CHANGED:
        value = told[column]
        if value is not None:
            told[column] = change(value)
    return told


def _parsed(value: Any) -> Any:
    return orjson.loads(value) if isinstance(value, str) else value  # PostgreSQL's driver has done it


def _hops(value: Any) -> dict[str, int]:
    return {hop: ns // 1000 for hop, ns in _parsed(value).items()}


def moment(microseconds: int) -> str:
    """ISO 8601 in UTC, with all its microseconds."""
    return (_EPOCH + dt.timedelta(microseconds=microseconds)).isoformat(timespec="microseconds") + "Z"


_CHANGED: Final[tuple[tuple[str, Callable[[Any], Any]], ...]] = (
    *((name(column), dollars) for column in COLUMNS if column.endswith("_pico")),
    *((column, moment) for column in ("started_at", "finished_at")),
    ("other_units", _parsed),
    (name(_HOPS), _hops),
)
"""What is told otherwise than it is kept."""


def csv_lines(lines: Iterable[Sequence[Any]]) -> bytes:
    """RFC 4180. A text that a spreadsheet would take for a formula gets an apostrophe in front."""
    out = io.StringIO()
    csv.writer(out).writerows([_cell(value) for value in line] for line in lines)
    return out.getvalue().encode()


def _cell(value: Any) -> Any:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return orjson.dumps(value).decode()
    if isinstance(value, str) and value.startswith(_FORMULA):
        return "'" + value
    return value
