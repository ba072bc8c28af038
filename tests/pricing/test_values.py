"""The values that travel."""

from decimal import Decimal

import pytest

from proxy.pricing.values import Cost, Estimate, Usage


async def test_an_estimate_that_was_counted_is_not_counted_again() -> None:
    async def count() -> int:
        raise AssertionError

    assert await Estimate(10, "tiktoken", input_tokens=7, count=count).exact() == 7


async def test_an_estimate_that_was_only_bounded_is_counted_when_asked() -> None:
    async def count() -> int:
        return 5

    assert await Estimate(10, "upper_bound", count=count).exact() == 5


async def test_without_a_way_to_count_the_bound_is_the_answer() -> None:
    assert await Estimate(10, "upper_bound").exact() == 10


def test_an_unpriced_cost_is_none_and_not_zero() -> None:
    assert Cost(None).amount is None
    assert Cost(None) != Cost(Decimal(0))


def test_values_cannot_be_changed() -> None:
    usage = Usage(input_tokens=3)
    with pytest.raises(AttributeError):
        usage.input_tokens = 4  # type: ignore[misc]
    assert usage.provenance == "measured"
