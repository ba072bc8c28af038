"""Where other price tables have other prices: genai-prices, and litellm's file of models and prices.

Both are somebody else's work, and each has been wrong: what differs is for a person to judge.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any, Final, NamedTuple, TypeAlias

from .schema import TIERS
from .table import UNKNOWN_MODEL, Table
from .values import Usage

SHORT: Final = 1000
LONG: Final = 300_000
"""Tokens of input on either side of where a long context begins."""


class Unit(NamedTuple):
    """A unit of ours: which counts of a usage are it, here and at genai-prices, and litellm's field."""

    counts: tuple[str, ...]
    genai: tuple[str, ...]
    litellm: str


UNITS: Final = {
    "input": Unit(("input_tokens",), ("input_tokens",), "input_cost_per_token"),
    "cached_input": Unit(
        ("input_tokens", "cached_tokens"),
        ("input_tokens", "cache_read_tokens"),
        "cache_read_input_token_cost",
    ),
    "cache_write": Unit(
        ("input_tokens", "cache_write_tokens"),
        ("input_tokens", "cache_write_tokens"),
        "cache_creation_input_token_cost",
    ),
    "cache_write_12h": Unit(
        ("input_tokens", "cache_write_tokens", "cache_write_12h_tokens"),
        (),
        "cache_creation_input_token_cost_above_12hr",
    ),
    "audio_input": Unit(
        ("input_tokens", "audio_input_tokens"),
        ("input_tokens", "input_audio_tokens"),
        "input_cost_per_audio_token",
    ),
    "image_input": Unit(
        ("input_tokens", "image_input_tokens"),
        ("input_tokens", "input_image_tokens"),
        "input_cost_per_image_token",
    ),
    "output": Unit(("output_tokens",), ("output_tokens",), "output_cost_per_token"),
    "audio_output": Unit(
        ("output_tokens", "audio_output_tokens"),
        ("output_tokens", "output_audio_tokens"),
        "output_cost_per_audio_token",
    ),
    "image_output": Unit(
        ("output_tokens", "image_output_tokens"),
        ("output_tokens", "output_image_tokens"),
        "output_cost_per_image_token",
    ),
}
_LITELLM_TIER: Final = {"batches": "batch", **{tier: tier for tier in TIERS}}

Price: TypeAlias = Callable[[Mapping[str, int]], Decimal | None]
"""What counts of tokens cost, or None."""


class Difference(NamedTuple):
    """Two prices for a million tokens; None is no price. A `tier` with a ">" is that of a long context."""

    model: str
    tier: str
    unit: str
    ours: Decimal | None
    theirs: Decimal | None
    inherited: bool = False
    """Whether theirs is only that of the standard tier, of a short input or of text: none of its own."""

    def __str__(self) -> str:
        rest = ", which is no price of its own" if self.inherited else ""
        said = f"{_said(self.ours)} here, {_said(self.theirs)} there"
        return f"{self.model} {self.tier} {self.unit}: {said}{rest}"


def against_genai(table: Table) -> Iterator[Difference]:
    """Where genai-prices has another price for what has one here."""
    for model in table.models():
        standard = _genai(model.id, "standard")
        for tier in TIERS:
            if tier == "standard" or tier in model.prices:
                ours = _ours(table, model.id, tier)
                theirs = _genai(model.id, tier)
                if theirs({"input_tokens": 0}) is not None:
                    yield from _compared(model.id, tier, ours, theirs, standard)


def against_litellm(table: Table, rows: Mapping[str, Mapping[str, Any]]) -> Iterator[Difference]:
    """Where litellm has other prices for its OpenAI models; and those that are not here at all."""
    fields = {unit.litellm: name for name, unit in UNITS.items()}
    pattern = re.compile(rf"({'|'.join(fields)})(_above_272k_tokens)?(?:_({'|'.join(_LITELLM_TIER)}))?")
    for name, row in rows.items():
        # Names with a slash are prices of one region or size, ft: those of fine-tuned models.
        if row.get("litellm_provider") != "openai" or re.search("/|^ft:", name):
            continue
        for field, value in row.items():
            if not (found := pattern.fullmatch(field)) or not isinstance(value, int | float | str):
                continue
            unit, long, tier = fields[found[1]], bool(found[2]), _LITELLM_TIER[found[3] or "standard"]
            ours = _rate(_ours(table, name, tier), UNITS[unit].counts, long)
            theirs = (Decimal(str(value)) * 10**6).normalize()
            if ours != theirs and (ours or theirs):
                yield Difference(name, f"{tier}>272000" if long else tier, unit, ours, theirs)


def _compared(model: str, tier: str, ours: Price, theirs: Price, standard: Price) -> Iterator[Difference]:
    for name, unit in UNITS.items():
        if not unit.genai:
            continue
        text = UNITS["output" if name.endswith("output") else "input"]
        short = _rate(ours, unit.counts, long=False), _rate(theirs, unit.genai, long=False)
        for long in (False, True):
            mine, other = _rate(ours, unit.counts, long), _rate(theirs, unit.genai, long)
            # They have a price for everything: what has none of its own costs what text does, or nothing.
            if mine is None or mine == other or (long and (mine, other) == short):
                continue
            broader = [short[1]] if long else []
            broader += [_rate(theirs, text.genai, long)] if unit is not text else []
            broader += [_rate(standard, unit.genai, long)] if tier != "standard" else []
            yield Difference(model, f"{tier}>272000" if long else tier, name, mine, other, other in broader)


def _ours(table: Table, model: str, tier: str) -> Price:
    def price(counts: Mapping[str, int]) -> Decimal | None:
        cost = table.cost(Usage(**counts, service_tier=tier), model)  # type: ignore[arg-type] # counts
        return None if UNKNOWN_MODEL in cost.flags else cost.amount

    return price


def _genai(model: str, tier: str) -> Price:
    import genai_prices

    context = {"processing": "batch"} if tier == "batch" else {"service_tier": tier}

    def price(counts: Mapping[str, int]) -> Decimal | None:
        try:
            usage = genai_prices.Usage(**counts)
            found = genai_prices.calc_price(
                usage, model, provider_id="openai", price_context={} if tier == "standard" else context
            )
        except (LookupError, ValueError):
            return None
        return found.total_price

    return price


def _rate(price: Price, counts: Sequence[str], long: bool) -> Decimal | None:
    """What a million tokens of these counts cost, beside a short or a long input."""
    tokens = LONG if long else SHORT
    beside = {"input_tokens": tokens} if long and "input_tokens" not in counts else {}
    whole, rest = price({**beside, **dict.fromkeys(counts, tokens)}), price(beside) if beside else Decimal(0)
    return None if whole is None or rest is None else ((whole - rest) * 10**6 / tokens).normalize()


def _said(price: Decimal | None) -> str:
    return "no price" if price is None else format(price, "f")
