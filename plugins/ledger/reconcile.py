"""The ledger beside what a provider says: its usage export, per span of time and model.

Known is OpenAI's organization usage, as its API answers (JSON: pages of buckets) and as its site exports it
(CSV): `start_time`, `end_time`, `model`, `num_model_requests`, `input_tokens`, `output_tokens`,
`input_cached_tokens`; and its costs, `amount` (JSON) or `amount_value` (CSV), which are per span alone.
"""

import csv
import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final

import orjson
from sqlalchemy import Connection

from .money import dollars, pico
from .query import Query
from .report import FIGURES, Totals, report

FIELDS: Final = {
    "num_model_requests": "requests",
    "input_tokens": "input_tokens",
    "input_cached_tokens": "cached_tokens",
    "output_tokens": "output_tokens",
}
"""What is compared: the provider's name of it, and ours."""
_SECOND: Final = 1_000_000


class ExportError(ValueError):
    """One line on why a file is no usage export."""


@dataclass(frozen=True, slots=True)
class Line:
    """What one side says, or both, of a span (seconds since 1970) and a model (None: of all)."""

    start: int
    end: int
    model: str | None
    figure: str
    theirs: int
    ours: int

    def told(self, value: int) -> str:
        """A figure of this line for reading."""
        return f"${dollars(value)}" if self.figure == "cost" else f"{value:,}"


def differences(connection: Connection, export: bytes) -> tuple[list[Line], int]:
    """Where ledger and export differ, in the order of time, and how many figures were compared.

    Requests that the ledger has and their models do not count with the provider, such as those it refused,
    are not compared: only rows with a usage are. Raises `ExportError`.
    """
    theirs = _read(export)
    spans = sorted({key[:2] for key in theirs})
    if not spans:
        raise ExportError("there is no usage in this file")
    found: list[Line] = []
    compared = 0
    for start, end in spans:
        said = {(key[2], key[3]): value for key, value in theirs.items() if key[:2] == (start, end)}
        mine = _ours(connection, start, end, {figure for _, figure in said})
        for model, figure in sorted({*said, *mine}, key=str):
            compared += 1
            pair = said.get((model, figure), 0), mine.get((model, figure), 0)
            if pair[0] != pair[1]:
                found.append(Line(start, end, model, figure, *pair))
    return found, compared


def _ours(
    connection: Connection, start: int, end: int, figures: set[str]
) -> dict[tuple[str | None, str], int]:
    query = Query(start * _SECOND, end * _SECOND, by=("model", "provenance"))
    mine: dict[tuple[str | None, str], int] = {}
    groups, whole = report(connection, query)
    by_model: dict[str | None, Totals] = {}
    for (model, provenance), totals in groups:
        if provenance != "none":
            by_model.setdefault(model, Totals()).add(totals.sums)
    for model, totals in by_model.items():
        for figure in figures & set(FIELDS.values()):
            value = totals.sums[FIGURES.index(figure)]
            if value:
                mine[model, figure] = value
    if "cost" in figures and whole.cost:
        mine[None, "cost"] = whole.cost
    return mine


Theirs = dict[tuple[int, int, str | None, str], int]


def _read(export: bytes) -> Theirs:
    theirs: Theirs = {}

    def add(start: int, end: int, model: str | None, figure: str, value: int) -> None:
        if value:
            key = (start, end, model, figure)
            theirs[key] = theirs.get(key, 0) + value

    try:
        for entry in _entries(export):
            start, end = int(entry["start_time"]), int(entry["end_time"])
            amount = entry.get("amount_value")
            if isinstance(entry.get("amount"), Mapping):
                amount = entry["amount"].get("value")
            if amount not in (None, ""):
                add(start, end, None, "cost", pico(Decimal(str(amount))) or 0)
            for name, figure in FIELDS.items():
                if entry.get(name) not in (None, ""):
                    add(start, end, entry.get("model") or None, figure, int(entry[name]))
    except (KeyError, TypeError, ValueError, ArithmeticError, csv.Error) as error:
        raise ExportError(
            "this is no usage export: start_time, end_time, model, num_model_requests, input_tokens and "
            f"output_tokens are looked for, in JSON or CSV ({type(error).__name__}: {error})"
        ) from error
    return theirs


def _entries(export: bytes) -> Iterator[Mapping[str, Any]]:
    """One mapping a result, with the start and end of its bucket."""
    text = export.decode("utf-8-sig").lstrip()
    if not text.startswith(("{", "[")):
        yield from csv.DictReader(io.StringIO(text, newline=""))
        return
    pages = orjson.loads(text)
    for page in pages if isinstance(pages, list) else [pages]:
        for bucket in page["data"]:
            times = {name: bucket[name] for name in ("start_time", "end_time")}
            for result in bucket["results"]:
                yield {**result, **times}
