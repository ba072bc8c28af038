from decimal import Decimal
from typing import Any

import pytest

from proxy.pricing.prompt import Prompt, read
from proxy.pricing.prompt.priced import max_cost, max_output, used
from proxy.pricing.table import default
from proxy.pricing.values import Model, Usage
from tests.pricing.tables import table

PRICES = table(
    {
        "chat": {"input": "1", "output": "10"},
        "images": {"prices": [{"per_image": {"standard": {"1024x1024": "0.04"}, "hd": {"512x512": "0.08"}}}]},
        "speech": {"input_1m_chars": "15"},
    },
    upstreams={"dear": {"multiplier": "2"}},
)


def prompt(endpoint: str, **body: Any) -> Prompt:
    found = read(endpoint, body)
    assert found is not None
    return found


def most(endpoint: str, upstream: str | None = None, **body: Any) -> Decimal | None:
    return max_cost(prompt(endpoint, **body), PRICES, input_tokens=10, output_tokens=10, upstream=upstream)


def test_tokens_are_priced_as_tokens() -> None:
    assert most("chat/completions", model="chat") == Decimal("0.00011")
    assert most("chat/completions", "dear", model="chat") == Decimal("0.00022")


@pytest.mark.parametrize(
    ("endpoint", "body", "dollars"),
    [
        ("images/generations", {"model": "images", "n": 3}, "0.12"),
        ("images/generations", {"model": "images", "quality": "hd", "size": "512x512"}, "0.08"),
        ("images/generations", {"model": "images", "size": "7x7"}, None),
        ("images/edits", {"model": "images"}, "0.04"),
        ("audio/speech", {"model": "speech", "input": "x" * 1000}, "0.015"),
        ("audio/speech", {"model": "speech"}, None),
        ("images/generations", {"model": "nobody-knows"}, None),
        ("images/generations", {}, None),
    ],
)
def test_what_is_not_sold_by_the_token_is_priced_as_it_is_asked_for(
    endpoint: str, body: dict[str, Any], dollars: str | None
) -> None:
    assert most(endpoint, **body) == (None if dollars is None else Decimal(dollars))
    if dollars is not None:
        assert most(endpoint, "dear", **body) == 2 * Decimal(dollars)


def test_the_dearest_pictures_of_the_table_that_comes_with_weir() -> None:
    asked = prompt("images/generations", model="dall-e-3", quality="hd", size="1024x1792", n=1)
    assert max_cost(asked, default(), input_tokens=5, output_tokens=None) == Decimal("0.12")
    spoken = prompt("audio/speech", model="tts-1-hd", input="x" * 100)
    assert max_cost(spoken, default(), input_tokens=5, output_tokens=None) == Decimal("0.003")


@pytest.mark.parametrize(
    ("body", "known", "tokens"),
    [
        ({"max_tokens": 5, "n": 3}, None, 15),
        ({"n": 3}, None, None),
        ({"n": 3}, Model("m", "chat", "o200k_base", max_output_tokens=100), 300),
        ({"max_tokens": 5}, Model("m", "chat", "o200k_base", max_output_tokens=100), 5),
        ({}, Model("m", "chat", "o200k_base"), None),
    ],
)
def test_the_output_of_all_choices(body: dict[str, Any], known: Model | None, tokens: int | None) -> None:
    assert max_output(prompt("chat/completions", **body), known) == tokens


@pytest.mark.parametrize(
    ("endpoint", "request_", "answer", "units"),
    [
        (
            "images/generations",
            {"model": "dall-e-3", "n": 2},
            {"data": [{}]},
            {"image:standard:1024x1024": 1},
        ),
        ("images/generations", {"model": "dall-e-3", "n": 2}, None, {"image:standard:1024x1024": 2}),
        ("images/generations", {"size": "256x256"}, {"data": None}, {"image:standard:256x256": 1}),
        ("audio/speech", {"input": "hello"}, None, {"characters": 5}),
    ],
)
def test_an_answer_without_a_usage_used_what_was_asked_for(
    endpoint: str, request_: Any, answer: Any, units: dict[str, int]
) -> None:
    found = used(prompt(endpoint, **request_).units, answer)
    assert found == Usage(
        other_units={unit: Decimal(count) for unit, count in units.items()}, provenance="estimated"
    )


@pytest.mark.parametrize("units", [None, {}])
def test_where_the_request_does_not_tell_there_is_none(units: Any) -> None:
    assert used(units, {"data": [1]}) is None


def test_pictures_that_were_asked_for_have_their_price_and_tokens_none() -> None:
    found = used(prompt("images/generations", model="dall-e-2", size="512x512", n=2).units)
    assert found is not None
    cost = default().cost(found, "dall-e-2")
    assert (cost.amount, cost.low, cost.high) == (Decimal("0.036"),) * 3
    assert default().cost(found, "gpt-image-1").amount is None
