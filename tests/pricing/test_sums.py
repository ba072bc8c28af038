"""Ten thousand answers of all kinds, from their JSON to the sum of their costs, to the picodollar.

The other side of the equation is worked out here once more: with fractions, from the table as it is written.
"""

import random
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

import orjson

from proxy.pricing.table import PACKED, parse
from proxy.pricing.usage import read

TREE: dict[str, Any] = orjson.loads(PACKED.read_bytes())
TREE["upstreams"] = {"dear": {"multiplier": "1.1"}, "regional": {"regional": True, "multiplier": "0.93"}}
TABLE = parse(TREE)
FACTOR = {None: Fraction(1), "dear": Fraction("1.1"), "regional": Fraction("0.93")}
TIERS = {
    "default": "standard",
    "auto": "standard",
    "flex": "flex",
    "priority": "priority",
    "fast": "priority",
}
READS_IMAGES = ("chat", "responses", "completion")
MANY = 10_000
PICO = 10**12
NOW = 2_000_000_000.0  # all prices of the table have begun


def rates(model: Mapping[str, Any], tier: str, tokens: int) -> dict[str, Fraction]:
    """The row that counts, with what it may leave out."""
    entry = model["prices"][-1]
    if "long_context" in entry and tokens > entry["long_context"]["above_input_tokens"]:
        entry = entry["long_context"]
    row = {unit: Fraction(rate) for unit, rate in entry.get(tier, entry.get("standard", {})).items()}
    if "output" not in row and "image_output" in row:
        row["output"] = row["image_output"]
    if "input" in row:
        if "cache_write" not in row:
            row.setdefault("cache_write_12h", row["input"])
        row.setdefault("cache_write", row["input"])
        if model.get("kind", "chat") in READS_IMAGES and "image_input" not in row:
            row["image_input"] = row["input"]
            row["image_cached_input"] = row.get("cached_input", row["input"])
    for plain, cached in (
        ("input", "cached_input"),
        ("audio_input", "audio_cached_input"),
        ("image_input", "image_cached_input"),
    ):
        if plain in row:
            row.setdefault(cached, row[plain])
    return row


def dollars(
    model: Mapping[str, Any], tier: str, parts: Mapping[str, int], units: Mapping[str, Any], factor: Fraction
) -> Fraction | None:
    """What the parts of a usage cost, each token once; None where a rate is missing."""
    total_in = sum(count for unit, count in parts.items() if "output" not in unit)
    row = rates(model, tier, total_in)
    total = Fraction(0)
    for unit, count in parts.items():
        if count and unit not in row:
            return None
        total += count * row.get(unit, Fraction(0)) * factor / 10**6
    tools = {**TREE["tools"], **model.get("tools", {})}
    for unit, count in units.items():
        if unit == "seconds":
            if count and "audio_hour" not in row:
                return None
            cost = row.get("audio_hour", Fraction(0)) * factor * Fraction(str(count)) / 3600
        else:
            cost = Fraction(tools[unit]) * factor * count / 1000
        total += Fraction(round(cost * PICO), PICO)  # halves to even
    return total


class Answers:
    """Answers that might be, with what they used."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.by_kind: dict[str, list[str]] = {}
        for name, model in TREE["models"].items():
            self.by_kind.setdefault(model.get("kind", "chat"), []).append(name)

    def count(self, most: int) -> int:
        return self.random.choice((0, 1, self.random.randrange(100), self.random.randrange(most + 1)))

    def chat(self) -> tuple[str, dict[str, Any], dict[str, int], dict[str, Any]]:
        """Chat, or a response: everything that a usage can have."""
        parts = dict.fromkeys(("input", "output"), 0)
        parts["input"] = self.random.choice((self.count(5000), self.count(400_000)))
        parts["output"] = self.count(20_000)
        for unit, most in (("cached_input", 300_000), ("cache_write", 5000), ("cache_write_12h", 500)):
            parts[unit] = self.count(most) if self.random.random() < 0.4 else 0
        loud = self.random.random() < 0.2
        for unit in ("audio_input", "audio_cached_input", "audio_output"):
            parts[unit] = self.count(3000) if loud else 0
        parts["image_input"] = self.count(3000) if self.random.random() < 0.2 else 0
        total_in = sum(count for unit, count in parts.items() if "output" not in unit)
        total_out = parts["output"] + parts["audio_output"]
        ins = {
            "cached_tokens": parts["cached_input"] + parts["audio_cached_input"],
            "cache_write_tokens": parts["cache_write"] + parts["cache_write_12h"],
            "audio_tokens": parts["audio_input"] + parts["audio_cached_input"],
            "image_tokens": parts["image_input"],
            "cached_tokens_details": {"audio_tokens": parts["audio_cached_input"]},
            "cache_write_tokens_details": {"ttl_12h_tokens": parts["cache_write_12h"]},
        }
        outs = {"reasoning_tokens": self.count(parts["output"]), "audio_tokens": parts["audio_output"]}
        units: dict[str, Any] = {}
        if self.random.random() < 0.5:
            usage = {"prompt_tokens": total_in, "completion_tokens": total_out, "prompt_tokens_details": ins}
            return "chat/completions", {"usage": {**usage, "completion_tokens_details": outs}}, parts, units
        usage = {"input_tokens": total_in, "output_tokens": total_out, "input_tokens_details": ins}
        answer: dict[str, Any] = {"usage": {**usage, "output_tokens_details": outs}}
        if self.random.random() < 0.2:
            units["web_search"] = self.random.randrange(1, 20)
            answer["tool_usage"] = {"web_search": {"num_requests": units["web_search"]}}
        if self.random.random() < 0.3:
            answer = {"type": "response.completed", "response": answer}
        return "responses", answer, parts, units

    def embedding(self) -> tuple[str, dict[str, Any], dict[str, int], dict[str, Any]]:
        parts = {"input": self.count(300_000)}
        return "embeddings", {"usage": {"prompt_tokens": parts["input"]}}, parts, {}

    def picture(self) -> tuple[str, dict[str, Any], dict[str, int], dict[str, Any]]:
        parts = {"input": self.count(500), "image_input": self.count(5000), "image_output": self.count(7000)}
        usage = {
            "input_tokens": parts["input"] + parts["image_input"],
            "input_tokens_details": {"text_tokens": parts["input"], "image_tokens": parts["image_input"]},
            "output_tokens": parts["image_output"],
        }
        return "images/generations", {"usage": usage}, parts, {}

    def transcription(self) -> tuple[str, dict[str, Any], dict[str, int], dict[str, Any]]:
        if self.random.random() < 0.5:
            seconds = self.random.choice((0, 9, 9.5, round(self.random.random() * 4000, 3)))
            return (
                "audio/transcriptions",
                {"usage": {"type": "duration", "seconds": seconds}},
                {},
                {"seconds": seconds},
            )
        parts = {"input": self.count(50), "audio_input": self.count(50_000), "output": self.count(2000)}
        usage = {
            "type": "tokens",
            "input_tokens": parts["input"] + parts["audio_input"],
            "input_token_details": {"text_tokens": parts["input"], "audio_tokens": parts["audio_input"]},
            "output_tokens": parts["output"],
        }
        return "audio/transcriptions", {"usage": usage}, parts, {}


def test_the_sum_of_ten_thousand_costs_is_exact() -> None:
    answers = Answers(7)
    makers = (
        (answers.chat, ("chat", "responses", "completion", "realtime")),
        (answers.chat, ("chat",)),
        (answers.embedding, ("embedding",)),
        (answers.picture, ("image_generation",)),
        (answers.transcription, ("audio_transcription",)),
    )
    ours = theirs = Fraction(0)
    unpriced = flagged = 0
    for _ in range(MANY):
        make, kinds = answers.random.choice(makers)
        name = answers.random.choice([each for kind in kinds for each in answers.by_kind.get(kind, ())])
        tier = answers.random.choice((None, *TIERS, "batch", "a new one"))
        upstream = answers.random.choice((None, "dear", "regional"))
        endpoint, answer, parts, units = make()
        inner = answer.get("response", answer)
        inner["model"], inner["service_tier"] = name, tier
        usage = read(endpoint, orjson.loads(orjson.dumps(answer)))
        assert usage is not None
        cost = TABLE.cost(usage, upstream=upstream, at=NOW)
        model = TREE["models"][name]
        factor = FACTOR[upstream]
        if upstream == "regional":
            factor *= Fraction(model.get("regional_uplift", "1"))
        expected = dollars(model, TIERS.get(tier or "", tier or "standard"), parts, units, factor)
        sold_by_unit = not any(unit in rates(model, "standard", 0) for unit in ("input", "output"))
        if sold_by_unit and "seconds" not in units:
            expected = None  # nothing that it is sold by was counted
        if expected is None:
            unpriced += 1
            assert cost.amount is None, (name, tier, answer, cost)
            continue
        assert cost.amount is not None, (name, tier, answer, cost)
        flagged += bool(cost.flags)
        theirs += expected
        ours += Fraction(cost.amount)
        assert Fraction(cost.amount) == expected, (name, tier, answer, cost)
        assert (cost.low, cost.high) == (cost.amount, cost.amount)
    assert ours == theirs
    assert unpriced < MANY // 2
    assert flagged > MANY // 10
    assert ours > 1000
