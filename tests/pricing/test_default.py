"""The table that comes with Weir has the figures of its sources, and comes to the costs that others do."""

from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import genai_prices
import orjson
import pytest

from proxy.pricing.encodings import encoding_for
from proxy.pricing.table import default
from proxy.pricing.usage import read
from proxy.pricing.values import Usage

from .tables import table

DATA = Path(__file__).parents[1] / "data"
FACTS: dict[str, Any] = orjson.loads((DATA / "prices.json").read_bytes())
MODELS: dict[str, Any] = FACTS["models"]
VECTORS = [
    vector
    for vector in orjson.loads((DATA / "token_vectors.json").read_bytes())["vectors"]
    if vector["kind"] == "cost"
]
SHAPES: list[dict[str, Any]] = orjson.loads((DATA / "usage_shapes.json").read_bytes())["shapes"]

# The facts put some models aside as "legacy"; what they are for is this.
LEGACY = {
    "gpt-4o-realtime-preview": "realtime",
    "gpt-4o-mini-realtime-preview": "realtime",
    "text-davinci-003": "completion",
    "codex-mini": "responses",
}
# What a unit costs shows when a million tokens of nothing else are charged.
COUNTS = {
    "input": ("input_tokens",),
    "cached_input": ("input_tokens", "cached_tokens"),
    "cache_write": ("input_tokens", "cache_write_tokens"),
    "cache_write_12h": ("input_tokens", "cache_write_tokens", "cache_write_12h_tokens"),
    "output": ("output_tokens",),
    "audio_input": ("input_tokens", "audio_input_tokens"),
    "audio_cached_input": ("input_tokens", "audio_input_tokens", "cached_tokens"),
    "audio_output": ("output_tokens", "audio_output_tokens"),
    "image_input": ("input_tokens", "image_input_tokens"),
    "image_cached_input": ("input_tokens", "image_input_tokens", "cached_tokens"),
    "image_output": ("output_tokens", "image_output_tokens"),
}


def per_million(name: str, tier: str, unit: str, *, long: bool = False) -> Decimal | None:
    """What a million tokens of a unit cost, in a short request or in one above 272,000 tokens."""
    tokens = 300_000 if long else 1000
    beside = {"input_tokens": tokens} if long and "input_tokens" not in COUNTS[unit] else {}
    counts: dict[str, Any] = {**beside, **dict.fromkeys(COUNTS[unit], tokens)}
    rest: dict[str, Any] = beside
    cost = default().cost(Usage(**counts, model=name, service_tier=tier))
    assert "tier_priced_as=standard" not in cost.flags
    without = default().cost(Usage(**rest, model=name, service_tier=tier)).amount
    if cost.amount is None or without is None:
        return None
    return (cost.amount - without) * 1_000_000 / tokens


def rows() -> Iterator[tuple[str, str, bool, dict[str, str]]]:
    for name, model in MODELS.items():
        for tier, contexts in model["usd_per_1m_tokens"].items():
            for context, units in contexts.items():
                assert context in ("base", "gt272k")
                yield name, tier, context == "gt272k", units


def test_every_price_per_token_is_that_of_the_facts() -> None:
    compared = 0
    for name, tier, long, units in rows():
        for unit, price in units.items():
            if unit != "_not_confirmed_by_both":
                assert per_million(name, tier, unit, long=long) == Decimal(price), (name, tier, long, unit)
                compared += 1
    assert compared == 1445


def test_there_is_no_price_per_token_that_is_not_in_the_facts() -> None:
    found: set[tuple[str, str, bool, str]] = set()
    for name, tier, long, units in rows():
        found.update((name, tier, long, unit) for unit in units)
    for name in MODELS:
        model = default().model(name)
        assert model is not None
        for shown, row in model.prices.items():
            tier, _, above = shown.partition(">")
            assert above in ("", "272000")
            if set(row) <= COUNTS.keys():
                assert all((name, tier, bool(above), unit) in found for unit in row), (name, shown)


def test_the_line_of_a_long_context_is_strictly_above_272000_tokens() -> None:
    for name in {name for name, _, long, _ in rows() if long}:
        for tokens, long in ((272_000, False), (272_001, True)):
            cost = default().cost(Usage(input_tokens=tokens, model=name))
            assert ("long_context" in cost.flags) == long, name


@pytest.mark.parametrize("name", MODELS)
def test_every_model_is_there_as_the_facts_describe_it(name: str) -> None:
    facts = MODELS[name]
    model = default().model(name)
    assert model is not None
    kind = facts["mode"] if facts["mode"] != "legacy" else LEGACY.get(name, "chat")
    assert model.kind == kind
    if "max_input_tokens" in facts:
        assert model.context_window == facts["max_input_tokens"]
    if "max_output_tokens" in facts:
        assert model.max_output_tokens == facts["max_output_tokens"]
    assert model.encoding == facts.get("tiktoken_0_14_encoding", encoding_for(name))
    assert default().document.models[model.id].encoding == encoding_for(name)


@pytest.mark.parametrize("name", MODELS)
def test_every_other_price_is_that_of_the_facts(name: str) -> None:
    facts = MODELS[name].get("other_units", {})
    hour, day = Decimal(3600), default()

    def cost(**units: int | Decimal) -> Decimal | None:
        counted = {unit: Decimal(count) for unit, count in units.items()}
        return day.cost(Usage(model=name, other_units=counted)).amount

    if "usd_per_audio_hour" in facts:
        assert cost(seconds=hour) == Decimal(facts["usd_per_audio_hour"])
    if "usd_per_input_audio_hour" in facts:
        assert cost(seconds=hour) == Decimal(facts["usd_per_input_audio_hour"])
    if "usd_per_1m_input_characters" in facts:
        assert cost(characters=1_000_000) == Decimal(facts["usd_per_1m_input_characters"])
    if "litellm_input_cost_per_character" in facts:
        assert cost(characters=1) == Decimal(facts["litellm_input_cost_per_character"])
    if "litellm_output_cost_per_video_per_second" in facts:
        assert cost(video_seconds=1) == Decimal(facts["litellm_output_cost_per_video_per_second"])
    if "usd_per_1k_file_search_calls" in facts:
        assert cost(file_search=1000) == Decimal(facts["usd_per_1k_file_search_calls"])
    if "usd_per_1k_web_searches" in facts and "search-preview" not in name:
        assert cost(web_search=1000) == Decimal(facts["usd_per_1k_web_searches"])
    if "litellm_web_search_usd_per_call" in facts:
        (price,) = set(facts["litellm_web_search_usd_per_call"].values())
        tool = "web_search" if "search-" in name else "web_search_preview"
        assert cost(**{tool: 1}) == Decimal(price)
    if "regional_processing_uplift_multiplier_eu" in facts:
        model = day.model(name)
        assert model is not None
        uplift = day.document.models[model.id].regional_uplift
        assert uplift == Decimal(facts["regional_processing_uplift_multiplier_eu"])
    # Per second of audio, litellm has a second price for what is billed by the token or by the hour.
    # fmt: off
    known = {
        "usd_per_audio_hour", "usd_per_input_audio_hour", "usd_per_1m_input_characters",
        "litellm_input_cost_per_character", "litellm_output_cost_per_video_per_second",
        "usd_per_1k_file_search_calls", "usd_per_1k_web_searches", "litellm_web_search_usd_per_call",
        "regional_processing_uplift_multiplier_eu", "regional_processing_uplift_multiplier_us",
        "litellm_input_cost_per_second", "litellm_output_cost_per_second",
    }
    # fmt: on
    assert set(facts) <= known


def test_images_and_tools_have_their_prices() -> None:
    for name, qualities in FACTS["per_image_usd"].items():
        for quality, sizes in qualities.items():
            for size, price in sizes.items():
                usage = Usage(model=name, other_units={f"image:{quality}:{size}": Decimal(1)})
                assert default().cost(usage).amount == Decimal(price)
    tools = default().document.tools
    assert tools["web_search"] == Decimal(FACTS["tools"]["web_search_usd_per_1k_calls"])
    assert tools["file_search"] == Decimal(FACTS["tools"]["file_search_usd_per_1k_calls"])
    session = Decimal(FACTS["tools"]["code_interpreter_container_usd_per_session_litellm"])
    assert tools["code_interpreter"] == session * 1000
    preview = default().cost(Usage(model="gpt-4o", other_units={"web_search_preview": Decimal(1000)}))
    assert preview.amount == Decimal(FACTS["tools"]["web_search_preview_gpt4o_usd_per_1k_calls_litellm"])


@pytest.mark.parametrize("name", [name for name in MODELS if "price_history" in MODELS[name]])
def test_a_request_of_the_past_has_the_price_of_its_day(name: str) -> None:
    before, after = MODELS[name]["price_history"]["entries"]
    day = datetime.fromisoformat(after["effective_from"]).replace(tzinfo=UTC).timestamp()
    for moment, entry in ((day - 1, before), (day, after)):
        for unit, price in entry["standard_base"].items():
            usage: dict[str, Any] = dict.fromkeys(COUNTS[unit], 1000)
            cost = default().cost(Usage(**usage, model=name), at=moment)
            assert cost.amount == Decimal(price) / 1000, (unit, moment)


def test_what_is_only_rumoured_has_no_price() -> None:
    for name in FACTS["unverified_newest"]:
        assert default().cost(Usage(input_tokens=5, model=name)).amount is None


def test_fine_tuned_models_do_not_have_the_prices_of_their_base() -> None:
    usage = Usage(input_tokens=5, model="ft:gpt-4.1-mini-2025-04-14:acme::AbCd")
    assert default().cost(usage, "ft:gpt-4.1-mini").amount is None


# -- published costs -----------------------------------------------------------------------------------

BEFORE_THE_CUT = datetime(2026, 8, 1, tzinfo=UTC).timestamp()


@pytest.mark.parametrize("vector", VECTORS, ids=[vector["id"] for vector in VECTORS])
def test_a_published_cost_is_ours_too(vector: dict[str, Any]) -> None:
    given = vector["input"]
    model: str = given["model"]
    if "quality" in given:
        usage = Usage(output_tokens=given["output_tokens"], image_output_tokens=given["output_tokens"])
        expected = default().cost(usage, model).amount
        assert expected == Decimal(vector["our_formula"])
        assert expected is not None
        assert abs(expected - Decimal(vector["expected"])) < Decimal("0.001")
        return
    if model.startswith("grok-4"):
        # Not a model of ours: the same cliff with its prices, on a table of its own.
        prices = given["prices"]
        long = {"above_input_tokens": 128_000, "standard": prices}
        row = {"input": "3", "output": "15"}
        prices = table({model: {"prices": [{"standard": row, "long_context": long}]}})
        shape = {"usage": given["usage"], "model": model}
        found = read("chat/completions", shape)
        assert found is not None
        assert prices.cost(found).amount == Decimal(vector["expected"])
        return
    shape = {"usage": given["usage"], "model": model, "service_tier": given.get("service_tier")}
    endpoint = "responses" if "input_tokens" in given["usage"] else "chat/completions"
    found = read(endpoint, shape)
    assert found is not None
    # OpenRouter's bills are from before a cut of the price, which they show in "prices".
    at = BEFORE_THE_CUT if "prices" in given else None
    assert default().cost(found, at=at).amount == Decimal(vector["expected"])


# -- genai-prices --------------------------------------------------------------------------------------

GENAI = {
    "input_tokens": "input_tokens",
    "output_tokens": "output_tokens",
    "cached_tokens": "cache_read_tokens",
    "cache_write_tokens": "cache_write_tokens",
    "audio_input_tokens": "input_audio_tokens",
    "audio_output_tokens": "output_audio_tokens",
    "cached_audio_tokens": "cache_audio_read_tokens",
}
# Model and tier, and why genai-prices comes to something else.
OTHERWISE = {
    ("gpt-4o-audio-preview", "standard"): "it has no audio rate, and takes audio for text",
    ("gpt-4o-mini-audio-preview", "standard"): "it has no audio rate, and takes audio for text",
    ("babbage-002", "batch"): "it has no batch rates",
    ("davinci-002", "batch"): "it has no batch rates",
    ("text-embedding-3-large", "batch"): "it has no batch rates",
    ("text-embedding-3-small", "batch"): "it has no batch rates",
    ("text-embedding-ada-002-v2", "batch"): "it has no batch rates",
    ("gpt-4o-search-preview", "standard"): "it has no cached rate",
    ("gpt-4o-search-preview", "batch"): "it has no batch rates",
    ("chatgpt-image-latest", "batch"): "it has no batch rates",
    ("gpt-5.6-cyber", "standard"): "it has no rates for a long context",
    ("gpt-5.5-pro", "batch"): "it has no batch rates for a long context",
    ("gpt-5.5-pro", "flex"): "nobody has flex rates for a long context; here that is the standard price",
    ("gpt-5.4", "priority"): "nobody has priority rates for a long context; here that is the standard price",
    ("gpt-5.5", "priority"): "nobody has priority rates for a long context; here that is the standard price",
    ("gpt-6-astra", "ultrafast"): "it has no ultrafast rates",
    ("gpt-6.1-sol", "ultrafast"): "it has no ultrafast rates",
}
USED = [
    {"input_tokens": 1234},
    {"input_tokens": 1234, "output_tokens": 567},
    {"input_tokens": 4020, "cached_tokens": 4012, "output_tokens": 5},
    {"input_tokens": 4020, "cache_write_tokens": 4012, "output_tokens": 5},
    {"input_tokens": 9000, "cached_tokens": 3000, "cache_write_tokens": 5000, "output_tokens": 77},
    {"input_tokens": 132, "audio_input_tokens": 13, "output_tokens": 121, "audio_output_tokens": 91},
    {"input_tokens": 272_000, "cached_tokens": 1, "output_tokens": 3},
    {"input_tokens": 272_001, "cached_tokens": 270_000, "cache_write_tokens": 1000, "output_tokens": 3},
]


def theirs(model: str, tier: str, used: dict[str, int]) -> Decimal | None:
    counts = {GENAI[name]: count for name, count in used.items()}
    context = {"processing": "batch"} if tier == "batch" else {"service_tier": tier}
    try:
        found = genai_prices.calc_price(
            genai_prices.Usage(**counts),
            model,
            provider_id="openai",
            price_context={} if tier == "standard" else context,
        )
    except LookupError:
        return None
    return found.total_price


def test_genai_prices_comes_to_the_same_wherever_both_have_a_price() -> None:
    same, different = 0, set()
    for model in default().models():
        for tier in [tier for tier in model.prices if tier != "per_image" and ">" not in tier]:
            for used in USED:
                counts: dict[str, Any] = used
                ours = default().cost(Usage(**counts, service_tier=tier), model.id).amount
                other = theirs(model.id, tier, used)
                if ours is None or other is None:
                    continue
                if ours == other:
                    same += 1
                else:
                    different.add((model.id, tier))
    assert different == set(OTHERWISE)
    assert same > 1500


def flavor(shape: dict[str, Any]) -> str | None:
    """How genai-prices reads a usage of a model that both know."""
    name = shape["model"]
    if name is None or default().model(name) is None:
        return None
    known = shape["genai_prices_flavors_that_parse_it"]
    return next((each for each in ("chat", "responses", "embeddings") if f"openai/{each}" in known), None)


OPENAI = [(shape["model"], shape["usage"], found) for shape in SHAPES if (found := flavor(shape))]


@pytest.mark.parametrize(("model", "usage", "flavor"), OPENAI)
def test_a_recorded_usage_costs_the_same_all_the_way(model: str, usage: dict[str, Any], flavor: str) -> None:
    """Through our reader and our prices, and through its extractor and its prices."""
    answer = {"model": model.rpartition("/")[2], "usage": usage}
    found = read({"chat": "chat/completions"}.get(flavor, flavor), answer)
    assert found is not None
    extracted = genai_prices.extract_usage(answer, provider_id="openai", api_flavor=flavor)
    assert default().cost(found).amount == extracted.calc_price().total_price


def test_there_are_recorded_usages_to_compare() -> None:
    assert len(OPENAI) >= 8
