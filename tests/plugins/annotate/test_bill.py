"""Bills by the real price table: what encloses what."""

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given as examples
from hypothesis import strategies as st

from plugins.annotate.bill import UNKNOWN, Asked, Input, bounded, estimated, failed
from proxy.api import Cost, Usage
from proxy.pricing.output import Output
from proxy.pricing.table import Table, default

PRICES: Table = default()
ASKED = Asked("gpt-4o", "up", None, 100)
"""A token of input costs 2.5 millionths of a dollar (1.25 from a cache), one of output 10."""
GIVEN = Input(1000, 950, 1050)
ZERO = Decimal(0)
counts = st.integers(0, 10**6)


def dollars(millionths: Any) -> Decimal:
    return Decimal(millionths) / 1_000_000


def test_what_was_shown_costs_what_was_shown() -> None:
    usage, cost = estimated(PRICES, ASKED, GIVEN, Output(20, 17))
    assert usage == Usage(1000, 20, provenance="estimated")
    assert (cost.amount, cost.provenance) == (dollars(2700), "estimated")
    assert cost.low == dollars(Decimal("1.25") * 950 + 170)
    assert cost.high == dollars(Decimal("2.5") * 1050 + 1000)
    assert (cost.model, cost.price_version) == ("gpt-4o", PRICES.version)


def test_a_whole_answer_cannot_have_cost_more_than_what_it_shows() -> None:
    _, cost = estimated(PRICES, ASKED, GIVEN, Output(20, 17, 60))
    assert cost.high == dollars(Decimal("2.5") * 1050 + 600)


def test_an_upstream_that_had_not_begun_to_answer_may_have_done_nothing() -> None:
    _, cost = estimated(PRICES, ASKED, GIVEN, Output(), accepted=False)
    assert (cost.low, cost.amount) == (ZERO, dollars(2500))


def test_the_model_and_the_tier_that_serve_count() -> None:
    written = Output(20, 17, model="gpt-4o-mini-2024-07-18", service_tier="priority")
    usage, cost = estimated(PRICES, ASKED._replace(service_tier="flex"), GIVEN, written)
    assert (usage.model, usage.service_tier) == ("gpt-4o-mini-2024-07-18", "priority")
    assert (cost.model, cost.flags) == ("gpt-4o-mini", ())
    assert cost.amount == dollars(Decimal("0.25") * 1000 + 20)
    asked = ASKED._replace(service_tier="priority")
    assert estimated(PRICES, asked, GIVEN, Output(20, 17))[0].service_tier == "priority"


def test_an_answer_out_of_sight_is_at_most_what_was_allowed() -> None:
    usage, cost = bounded(PRICES, ASKED, GIVEN)
    assert usage == Usage(1050, 100, provenance="bounded")
    assert (cost.low, cost.provenance) == (ZERO, "bounded")
    assert cost.amount == cost.high == dollars(Decimal("2.5") * 1050 + 1000)


def test_what_failed_cost_nothing_as_a_rule() -> None:
    cost = failed(PRICES, ASKED, GIVEN)
    assert (cost.low, cost.amount, cost.provenance) == (ZERO, ZERO, "estimated")
    assert cost.high == dollars(Decimal("2.5") * 1050 + 1000)


@pytest.mark.parametrize("given", [Input(10, 0, None), Input(10, 0, None, True)])
def test_without_a_bound_for_the_input_there_is_none_for_the_cost(given: Input) -> None:
    usage, cost = estimated(PRICES, ASKED, given, Output(20, 17, 60))
    assert cost.high is None
    assert cost.amount is not None
    assert usage.provenance == ("bounded" if given.bounded else "estimated")


def test_without_a_bound_for_the_output_there_is_none_for_the_cost() -> None:
    _, cost = estimated(PRICES, ASKED._replace(most_output=None), GIVEN, Output(20, 17))
    assert (cost.amount, cost.high) == (dollars(2700), None)
    _, cost = bounded(PRICES, ASKED._replace(most_output=None), GIVEN)
    assert (cost.amount, cost.low, cost.high, cost.flags) == (None, ZERO, None, ("no_usage",))


def test_without_any_input_there_is_no_cost_but_what_it_is_at_least() -> None:
    usage, cost = estimated(PRICES, ASKED, UNKNOWN, Output(20, 17))
    assert usage.output_tokens == 20
    assert (cost.amount, cost.high, cost.flags) == (None, None, ("no_usage",))
    assert cost.low == dollars(170)
    _, cost = bounded(PRICES, ASKED, UNKNOWN)
    assert (cost.amount, cost.low, cost.high) == (None, ZERO, None)
    assert failed(PRICES, ASKED, UNKNOWN).amount is None


@pytest.mark.parametrize("model", ["no-such-model", None])
def test_what_has_no_price_has_no_bounds(model: str | None) -> None:
    asked = ASKED._replace(model=model)
    for cost in (
        estimated(PRICES, asked, GIVEN, Output(20, 17))[1],
        estimated(PRICES, asked, UNKNOWN, Output(20, 17))[1],
        bounded(PRICES, asked, GIVEN)[1],
        failed(PRICES, asked, GIVEN),
    ):
        assert (cost.amount, cost.low, cost.high, cost.flags) == (None, None, None, ("unknown_model",))


def test_without_a_table_there_is_only_the_usage() -> None:
    for usage, cost in (estimated(None, ASKED, GIVEN, Output(20)), bounded(None, ASKED, GIVEN)):
        assert cost == Cost(None)
        assert usage.input_tokens >= 1000
    assert failed(None, ASKED, GIVEN) == Cost(None)


def test_embeddings_cost_their_input() -> None:
    asked = Asked("text-embedding-3-small", "up", None, 0)
    _, cost = bounded(PRICES, asked, GIVEN)
    assert cost.amount == cost.high == dollars(Decimal("0.02") * 1050)


@examples(
    tokens=counts,
    output=counts,
    most=st.none() | counts,
    model=st.sampled_from(["gpt-4o", "gpt-5.5", "gpt-audio", "o3", "gpt-6.1-terra"]),
    audio=st.booleans(),
    tier=st.sampled_from([None, "priority", "flex", "default"]),
    truth=st.tuples(st.floats(0, 1), st.floats(0, 1), st.floats(0, 1)),
)
def test_whatever_the_truth_within_its_tokens_is_it_lies_within_the_bounds(
    tokens: int,
    output: int,
    most: int | None,
    model: str,
    audio: bool,
    tier: str | None,
    truth: tuple[float, float, float],
) -> None:
    given = Input(tokens, tokens * 19 // 20, tokens * 21 // 20)
    written = Output(output, output * 49 // 50, most, audio_tokens=output // 2 if audio else 0)
    asked = Asked(model, "up", tier, output + 1000)
    _, cost = estimated(PRICES, asked, given, written)
    least_in, most_in = given.least, given.most or 0
    top = max(output, output + 1000 if most is None else most)
    billed = int(least_in + truth[0] * (most_in - least_in))
    said = int(written.least + truth[1] * (top - written.least))
    true = PRICES.cost(Usage(billed, said, int(billed * truth[2]), service_tier=tier), model)
    if cost.amount is None or true.amount is None:
        return
    assert cost.low is not None
    assert cost.high is not None
    assert cost.low <= cost.amount <= cost.high
    assert cost.low <= true.amount <= cost.high
