"""Keep the price table up to date.

    python scripts/update_pricing.py pack               # make proxy/pricing/default.json from pricing.yaml
    python scripts/update_pricing.py compare            # say where genai-prices has other prices
    python scripts/update_pricing.py compare FILE.json  # or litellm's model_prices_and_context_window.json

Prices are changed by a person, in pricing.yaml: the sources disagree, and each has been wrong. Run it with
Weir and, to compare, its development dependencies installed.
"""

import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeAlias

import orjson

from proxy.core import yaml
from proxy.core.config import ConfigError
from proxy.core.pricing import load
from proxy.pricing.schema import TIERS
from proxy.pricing.table import PACKED, Table
from proxy.pricing.values import Usage

SOURCE: Final = Path(__file__).parents[1] / "pricing.yaml"
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

    def __str__(self) -> str:
        return f"{self.model} {self.tier} {self.unit}: {_said(self.ours)} here, {_said(self.theirs)} there"


def main(arguments: Sequence[str], source: Path = SOURCE, target: Path = PACKED) -> int:
    """The exit status."""
    try:
        match arguments:
            case ["pack"]:
                print(pack(source, target))  # noqa: T201 # a command speaks
                return 0
            case ["compare"]:
                print(*against_genai(load(source)), sep="\n")  # noqa: T201
                return 0
            case ["compare", file]:
                print(*against_litellm(load(source), orjson.loads(Path(file).read_bytes())), sep="\n")  # noqa: T201
                return 0
    except (ConfigError, OSError, orjson.JSONDecodeError) as error:
        print(error, file=sys.stderr)  # noqa: T201
        return 1
    print(__doc__, file=sys.stderr)  # noqa: T201
    return 2


def pack(source: Path, target: Path) -> str:
    """Write what a table of YAML says as JSON. Raises `ConfigError`, and writes nothing, if it is wrong."""
    version = load(source).version
    packed = compiled(source)
    if not target.exists() or target.read_bytes() != packed:
        target.write_bytes(packed)
    return f"{target.name}: {len(packed)} bytes, version {version}"


def compiled(source: Path) -> bytes:
    """The JSON of a table of YAML, a model a line so that a change of price is one line too."""
    node, _ = yaml.read(source)
    assert node is not None  # noqa: S101 # it was loaded
    lines = []
    for key, value in yaml.plain(node).items():
        if key == "models":
            models = ",\n".join(f"{_dumped(name)}:{_dumped(model)}" for name, model in value.items())
            lines.append(f'"models":{{\n{models}\n}}')
        else:
            lines.append(f"{_dumped(key)}:{_dumped(value)}")
    return ("{\n" + ",\n".join(lines) + "\n}\n").encode()


def against_genai(table: Table) -> Iterator[Difference]:
    """Where genai-prices has another price for what has one here."""
    for model in table.models():
        for tier in TIERS:
            if tier == "standard" or tier in model.prices:
                ours = _ours(table, model.id, tier)
                theirs = _genai(model.id, tier)
                if theirs({"input_tokens": 0}) is not None:
                    yield from _compared(model.id, tier, ours, theirs)


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


def _compared(model: str, tier: str, ours: Price, theirs: Price) -> Iterator[Difference]:
    for name, unit in UNITS.items():
        if not unit.genai:
            continue
        short, long = (
            (_rate(ours, unit.counts, side), _rate(theirs, unit.genai, side)) for side in (False, True)
        )
        if not _agree(*short):
            yield Difference(model, tier, name, *short)
        if long != short and not _agree(*long):
            yield Difference(model, f"{tier}>272000", name, *long)


def _ours(table: Table, model: str, tier: str) -> Price:
    def price(counts: Mapping[str, int]) -> Decimal | None:
        return table.cost(Usage(**counts, service_tier=tier), model).amount  # type: ignore[arg-type] # counts

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


def _agree(ours: Decimal | None, theirs: Decimal | None) -> bool:
    # They have a price for everything: what has none of its own costs what text does, or nothing.
    return ours is None or ours == theirs


def _said(price: Decimal | None) -> str:
    return "no price" if price is None else format(price, "f")


def _dumped(value: object) -> str:
    return orjson.dumps(value).decode()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
