"""Entries of a price table as YAML, in the form of pricing.yaml."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import date
from decimal import Decimal

from .schema import DEFAULT_ENCODING, ModelEntry, PriceEntry, Row
from .sources import Difference


def repriced(entry: ModelEntry, differences: Iterable[Difference], starts: date) -> ModelEntry:
    """A model with the prices of another source from a day on; what it cost before stays."""
    newest = entry.prices[-1]
    rows = {tier: dict(row) for tier, row in newest.rows.items()}
    long_rows = {tier: dict(row) for tier, row in newest.long_rows.items()}
    for each in differences:
        if each.theirs is not None:
            tier, long, _ = each.tier.partition(">")
            (long_rows if long else rows).setdefault(tier, {})[each.unit] = each.theirs
    if newest.above is None:
        long_rows = {}
    prices = [price for price in entry.prices if price.starts is None or price.starts < starts]
    return replace(entry, prices=(*prices, replace(newest, starts=starts, rows=rows, long_rows=long_rows)))


def written(updated: date, models: Sequence[ModelEntry], notes: Mapping[str, Sequence[str]]) -> str:
    """A table of these models on top of the one that comes with Weir. `notes` are lines on a model, by id."""
    lines = ["version: 1", f"updated: {updated.isoformat()}", "extends: default", "models:"]
    for model in models:
        lines += [f"  # {note}" for note in notes.get(model.id, ())]
        lines += _model(model)
    return "\n".join(lines) + "\n"


def _model(entry: ModelEntry) -> Iterator[str]:
    yield f"  {_text(entry.id)}:"
    patterns = [name for name in entry.names if name != entry.id.lower()]
    if patterns:
        yield f"    match: [{', '.join(map(_text, patterns))}]"
    yield f"    kind: {entry.kind}"
    if entry.encoding != DEFAULT_ENCODING:
        yield f"    encoding: {entry.encoding}"
    for name, count in (
        ("context_window", entry.context_window),
        ("max_output_tokens", entry.max_output_tokens),
    ):
        if count is not None:
            yield f"    {name}: {count}"
    if entry.regional_uplift != 1:
        yield f"    regional_uplift: {_money(entry.regional_uplift)}"
    if entry.tools:
        yield f"    tools: {_row(entry.tools)}"
    yield "    prices:"
    for price in entry.prices:
        mark = "-"
        for line in _price(price):
            yield f"      {mark} {line}"
            mark = " "


def _price(entry: PriceEntry) -> Iterator[str]:
    if entry.starts is not None:
        yield f"from: {entry.starts.isoformat()}"
    for tier, row in entry.rows.items():
        yield f"{tier}: {_row(row)}"
    if entry.above is not None:
        yield "long_context:"
        yield f"  above_input_tokens: {entry.above}"
        for tier, row in entry.long_rows.items():
            yield f"  {tier}: {_row(row)}"
    if entry.per_image:
        yield "per_image:"
        for quality, row in entry.per_image.items():
            yield f"  {_text(quality)}: {_row(row)}"


def _row(row: Row) -> str:
    return "{" + ", ".join(f"{_text(unit)}: {_money(rate)}" for unit, rate in row.items()) + "}"


def _money(amount: Decimal) -> str:
    return f'"{format(amount, "f")}"'


def _text(text: str) -> str:
    """A name, which is a word as often as not."""
    word = text.replace("-", "").replace(".", "").replace("_", "")
    return (
        text
        if word.isalnum() and word[0].isalpha()
        else '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
    )
