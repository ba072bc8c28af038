"""Other tables, compared with a small one of ours; and all that differs from the one that comes with Weir."""

from decimal import Decimal
from typing import Any

import pytest

from proxy.pricing.sources import Difference, against_genai, against_litellm
from proxy.pricing.table import default

from .tables import table

SMALL = table(
    {
        "gpt-4o": {
            "prices": [
                {
                    "standard": {"input": "2.5", "cached_input": "1", "output": "10"},
                    "batch": {"input": "9", "output": "5"},
                }
            ]
        },
        "mine": {
            "prices": [
                {
                    "standard": {"input": "1"},
                    "long_context": {"above_input_tokens": 272_000, "standard": {"input": "2"}},
                }
            ]
        },
    }
)


def test_prices_that_differ_from_genai_prices_are_found() -> None:
    found = set(against_genai(SMALL))
    assert Difference("gpt-4o", "standard", "cached_input", Decimal(1), Decimal("1.25")) in found
    assert Difference("gpt-4o", "batch", "input", Decimal(9), Decimal("1.25")) in found
    assert {each.model for each in found} == {"gpt-4o"}
    assert not [each for each in found if each.unit == "output"]


def test_prices_that_differ_from_litellms_are_found() -> None:
    rows: dict[str, Any] = {
        "gpt-4o": {
            "litellm_provider": "openai",
            "input_cost_per_token": 2.5e-06,
            "output_cost_per_token": 1.2e-05,
            "input_cost_per_token_batches": 1.25e-06,
            "supports_vision": True,
            "search_context_cost_per_query": {"search_context_size_low": 0.03},
        },
        "mine": {
            "litellm_provider": "openai",
            "input_cost_per_token_above_272k_tokens": 3e-06,
            "output_cost_per_token": 0,
        },
        "new": {"litellm_provider": "openai", "input_cost_per_token": 1e-06},
        "azure/gpt-4o": {"litellm_provider": "azure", "input_cost_per_token": 1},
        "ft:gpt-4o": {"litellm_provider": "openai", "input_cost_per_token": 1},
        "1024-x-1024/dall-e-2": {"litellm_provider": "openai", "input_cost_per_token": 1},
    }
    assert list(against_litellm(SMALL, rows)) == [
        Difference("gpt-4o", "standard", "output", Decimal(10), Decimal(12)),
        Difference("gpt-4o", "batch", "input", Decimal(9), Decimal("1.25")),
        Difference("mine", "standard>272000", "input", Decimal(2), Decimal(3)),
        Difference("new", "standard", "input", None, Decimal(1)),
    ]


@pytest.mark.parametrize(
    ("inherited", "said"),
    [
        (False, "gpt-4o batch input: 9 here, 1.25 there"),
        (True, "gpt-4o batch input: 9 here, 1.25 there, which is no price of its own"),
    ],
)
def test_a_difference_in_words(inherited: bool, said: str) -> None:
    assert str(Difference("gpt-4o", "batch", "input", Decimal(9), Decimal("1.25"), inherited)) == said


@pytest.mark.parametrize(
    ("rows", "unit"),
    [
        ({"standard": {"input": "0.15", "audio_input": "10"}}, "audio_input"),  # it has no rate for audio
        ({"standard": {"input": "0.15"}, "ultrafast": {"input": "3"}}, "input"),  # nor for that tier
    ],
)
def test_what_the_other_table_has_no_price_of_its_own_for_is_said(rows: dict[str, Any], unit: str) -> None:
    found = list(against_genai(table({"gpt-4o-mini-audio-preview": {"prices": [rows]}})))
    assert [(each.unit, each.inherited) for each in found if each.unit == unit] == [(unit, True)]


def test_the_table_that_comes_with_weir_differs_only_where_that_is_known() -> None:
    # Why is in test_default.py; this is that the comparison sees no more.
    found = list(against_genai(default()))
    assert len({(each.model, each.tier.partition(">")[0]) for each in found}) == 17
    assert all(each.inherited for each in found)
