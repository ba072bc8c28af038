import time
from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.pricing.schema import ModelEntry, PriceEntry
from proxy.pricing.tariff import MARGIN, SERVED, UNKNOWN, Period, Tariff
from proxy.pricing.values import Provenance, Usage

from .tables import table

D = Decimal
ENTRY = PriceEntry(
    rows={
        "standard": {"input": D(4), "cached_input": D(1), "cache_write": D(5), "output": D(20)},
        "flex": {"input": D(2), "output": D(10)},
        "priority": {"input": D(8), "output": D(40)},
    },
    above=1000,
    long_rows={"standard": {"input": D(8), "output": D(30)}, "flex": {"input": D(3), "output": D(15)}},
)


def period(tier: str = "standard", entry: PriceEntry = ENTRY, kind: str = "chat", **tools: str) -> Period:
    model = ModelEntry("m", ("m",), kind=kind)
    return Period(entry, model, tier, {name: D(price) for name, price in tools.items()}, D(1))


def used(input_tokens: int = 0, output_tokens: int = 0, provenance: Provenance = "measured") -> Usage:
    return Usage(input_tokens=input_tokens, output_tokens=output_tokens, provenance=provenance)


@pytest.mark.parametrize(
    ("tier", "tokens", "dollars_per_million", "flags"),
    [
        ("standard", 1000, 4, ()),
        ("standard", 1001, 8, ("long_context",)),
        ("flex", 1000, 2, ()),
        ("flex", 1001, 3, ("long_context",)),
        ("priority", 1000, 8, ()),
        ("priority", 1001, 8, ("long_context", "tier_priced_as=standard")),
        ("batch", 1000, 4, ("tier_priced_as=standard",)),
        (UNKNOWN, 1000, 4, ("tier_priced_as=standard",)),
    ],
)
def test_the_tier_and_the_length_choose_the_row(
    tier: str, tokens: int, dollars_per_million: int, flags: tuple[str, ...]
) -> None:
    expected = D(tokens) * dollars_per_million / 10**6
    assert period(tier).charge(used(tokens)) == (expected, flags)


def test_one_token_more_and_the_whole_request_is_a_long_one() -> None:
    assert period().charge(used(1000, 100))[0] == D("0.006")
    assert period().charge(used(1001, 100))[0] == D("0.011008")


def test_cached_tokens_count_for_the_length_too() -> None:
    _, flags = period().charge(replace(used(1001), cached_tokens=1001))
    assert flags == ("long_context",)


def test_units_are_added_to_tokens() -> None:
    usage = replace(used(1000), other_units={"web_search": D(2)})
    assert period(web_search="10").charge(usage) == (D("0.024"), ())
    assert period().charge(usage) == (None, ("no_rate=web_search",))
    assert period(kind="realtime").charge(replace(usage, image_input_tokens=1, other_units={})) == (
        None,
        ("no_rate=image_input",),
    )


def test_what_is_sold_by_the_hour_needs_its_hours() -> None:
    hours = PriceEntry(rows={"standard": {"audio_hour": D("0.36")}})
    assert period(entry=hours).charge(Usage(other_units={"seconds": D(10)})) == (D("0.001"), ())
    assert period(entry=hours).charge(Usage()) == (None, ("no_usage",))
    assert period(entry=hours).charge(used(5)) == (None, ("no_rate=input",))
    assert period().charge(Usage()) == (D(0), ())


def test_a_tool_is_not_what_a_model_is_sold_by() -> None:
    found = table({"m": {"audio_hour": "1"}}, tools={"web_search": "10"})
    usage = Usage(model="m", other_units={"web_search": Decimal(3)})
    assert (found.cost(usage).amount, found.cost(usage).flags) == (None, ("no_usage",))
    both = Usage(model="m", other_units={"web_search": Decimal(3), "seconds": Decimal(3600)})
    assert found.cost(both).amount == Decimal("1.03")


def test_what_is_sold_by_token_or_by_hour_needs_either() -> None:
    both = PriceEntry(rows={"standard": {"input": D(1), "output": D(1), "audio_hour": D("0.36")}})
    assert period(entry=both).charge(used(1000)) == (D("0.001"), ())
    assert period(entry=both).charge(Usage(other_units={"seconds": D(10)})) == (D("0.001"), ())


@pytest.mark.parametrize(
    ("kind", "price"),
    [("chat", D("0.00004")), ("responses", D("0.00004")), ("realtime", None), ("image_generation", None)],
)
def test_images_are_text_to_those_who_chat(kind: str, price: Decimal | None) -> None:
    usage = Usage(input_tokens=10, image_input_tokens=10)
    assert period(kind=kind).charge(usage)[0] == price


# -- estimates -----------------------------------------------------------------------------------------


def test_an_estimate_may_be_off_by_what_a_cache_had_or_took() -> None:
    usage = used(900, 100, "estimated")
    assert period().spread(usage, D("0.0056")) == (D("0.0029"), D("0.0065"))


def test_of_a_bound_the_least_is_nothing() -> None:
    usage = used(900, 100, "bounded")
    assert period().spread(usage, D("0.0056")) == (D(0), D("0.0065"))


@pytest.mark.parametrize("tokens", [951, 1000, 1001, 1050])
def test_near_the_line_an_estimate_may_be_on_either_side(tokens: int) -> None:
    amount = period().charge(used(tokens))[0]
    assert amount is not None
    low, high = period().spread(used(tokens, provenance="estimated"), amount)
    assert (low, high) == (D(tokens) / 10**6, D(tokens) * 8 / 10**6)


@pytest.mark.parametrize(("tokens", "dear"), [(950, 5), (1051, 8)])
def test_away_from_the_line_it_is_on_one(tokens: int, dear: int) -> None:
    amount = period().charge(used(tokens))[0]
    assert amount is not None
    assert period().spread(used(tokens, provenance="estimated"), amount)[1] == D(tokens) * dear / 10**6


def test_a_spread_has_the_units_that_were_counted() -> None:
    usage = replace(used(900, provenance="estimated"), other_units={"web_search": D(1)})
    low, high = period(web_search="10").spread(usage, D("0.0136"))
    assert (low, high) == (D("0.0109"), D("0.0145"))


@pytest.mark.parametrize(("tokens", "rate"), [(950, 5), (951, 8), (1001, 8)])
def test_the_ceiling_is_that_of_a_long_context_from_a_margin_below_it(tokens: int, rate: int) -> None:
    assert period().ceiling(tokens).charge(10**6, 0) == D(rate)
    assert MARGIN == 20


def test_a_ceiling_of_a_long_context_is_never_below_that_of_a_short_one() -> None:
    cheaper = replace(ENTRY, long_rows={"standard": {"input": D(1), "output": D(1)}})
    assert period(entry=cheaper).ceiling(2000).charge(10**6, 10**6) == D(25)


def test_input_alone_takes_the_same_rows() -> None:
    assert period().input(1000) == D("0.004")
    assert period().input(1001) == D("0.008008")


@given(
    st.sampled_from([*SERVED.values(), UNKNOWN]),
    st.integers(0, 2000),
    st.integers(0, 2000),
    st.integers(0, 2000),
    st.integers(0, 500),
)
def test_no_usage_within_bounds_costs_more_than_the_ceiling(
    tier: str, tokens: int, cached: int, written: int, output: int
) -> None:
    prices = period("standard" if tier == "auto" else tier)
    usage = replace(used(tokens, output), cached_tokens=cached, cache_write_tokens=written)
    amount, _ = prices.charge(usage)
    most = prices.ceiling(tokens).charge(tokens, output)
    assert amount is not None
    assert most is not None
    assert amount <= most
    low, high = prices.spread(replace(usage, provenance="estimated"), amount)
    assert 0 <= low <= amount <= high


# -- through time --------------------------------------------------------------------------------------


def tariff(*starts: date | None) -> Tariff:
    entries = tuple(
        PriceEntry(day, rows={"standard": {"input": D(number), "output": D(0)}})
        for number, day in enumerate(starts, 1)
    )
    return Tariff(ModelEntry("m", ("m",), prices=entries), "standard", {})


def price(at: Period | None) -> Any:
    return None if at is None else at.input(10**6)


def moment(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    ("at", "dollars"),
    [
        ("1970-01-01", 1),
        ("2025-06-09T23:59:59.999", 1),
        ("2025-06-10", 2),
        ("2026-06-09T23:59:59", 2),
        ("2026-06-10", 3),
        ("2100-01-01", 3),
    ],
)
def test_the_newest_price_that_has_begun_counts(at: str, dollars: int) -> None:
    prices = tariff(None, date(2025, 6, 10), date(2026, 6, 10))
    assert price(prices.at(moment(at))) == dollars


def test_what_was_asked_before_changes_nothing() -> None:
    starts = (None, date(2025, 6, 10), date(2026, 6, 10))
    prices = tariff(*starts)
    days = ["2024-01-01", "2025-06-10", "2025-06-09T23:59:59.999", "2026-06-10", "2026-06-09T23:59:59.999"]
    for first in days:
        for then in days:
            prices.at(moment(first))
            assert price(prices.at(moment(then))) == price(tariff(*starts).at(moment(then)))
    late = tariff(*starts[1:])
    assert price(late.at(moment("2026-06-10"))) == 2
    assert late.at(moment("2025-06-09")) is None


def test_a_day_begins_at_midnight_utc_wherever_weir_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Pacific/Auckland")
    time.tzset()
    try:
        prices = tariff(date(2025, 6, 10))
    finally:
        monkeypatch.undo()
        time.tzset()
    assert prices.at(moment("2025-06-09T23:59:59")) is None
    assert prices.at(moment("2025-06-10")) is not None


def test_before_the_first_there_is_no_price() -> None:
    prices = tariff(date(2025, 6, 10))
    assert prices.at(moment("2025-06-09")) is None
    assert price(prices.at(moment("2025-06-10"))) == 1


def test_without_a_moment_it_is_now() -> None:
    assert price(tariff(None, date(2025, 6, 10), date(2999, 1, 1)).at(None)) == 2
    assert price(tariff(None).at(None)) == 1
    assert tariff().at(None) is None
