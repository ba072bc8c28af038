"""The values that travel."""

from decimal import Decimal
from pathlib import Path

import mypy.api

from proxy.pricing.values import Cost, Estimate


async def test_an_estimate_that_was_counted_has_its_count() -> None:
    assert await Estimate(10, "tiktoken", input_tokens=7).exact() == 7


async def test_a_better_count_than_that_is_the_exact_one() -> None:
    async def count() -> int:
        return 8

    assert await Estimate(10, "tiktoken", input_tokens=7, count=count).exact() == 8


async def test_an_estimate_that_was_only_bounded_is_counted_when_asked() -> None:
    async def count() -> int:
        return 5

    assert await Estimate(10, "upper_bound", count=count).exact() == 5


async def test_without_a_way_to_count_the_bound_is_the_answer() -> None:
    assert await Estimate(10, "upper_bound").exact() == 10


def test_an_unpriced_cost_is_none_and_not_zero() -> None:
    assert Cost(None).amount is None
    assert Cost(None) != Cost(Decimal(0))


def test_type_checkers_hold_values_to_be_frozen(tmp_path: Path) -> None:
    script = tmp_path / "changes.py"
    script.write_text("from proxy.pricing.values import Usage\n\nUsage(input_tokens=3).input_tokens = 4\n")
    found, _, status = mypy.api.run(["--config-file=", str(script)])
    assert status == 1
    assert 'Property "input_tokens" defined in "Usage" is read-only' in found
