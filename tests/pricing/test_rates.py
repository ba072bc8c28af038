from collections.abc import Mapping
from dataclasses import replace
from decimal import ROUND_CEILING, Decimal, localcontext
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from proxy.pricing.rates import (
    CACHES,
    CLAMPED,
    INPUT_UNITS,
    OUTPUT_UNITS,
    TOKEN_UNITS,
    Ceiling,
    Rates,
    partition,
)
from proxy.pricing.values import Usage

FULL = {
    "input": "4",
    "cached_input": "0.4",
    "cache_write": "5",
    "cache_write_12h": "8",
    "output": "16",
    "audio_input": "32",
    "audio_cached_input": "0.5",
    "audio_output": "64",
    "image_input": "6",
    "image_cached_input": "0.6",
    "image_output": "40",
}


def rates(row: Mapping[str, str], factor: str = "1", *, reads_images: bool = False) -> Rates:
    decimals = {unit: Decimal(rate) for unit, rate in row.items()}
    return Rates(decimals, factor=Decimal(factor), reads_images=reads_images)


def used(counts: Mapping[str, Any]) -> Usage:
    return Usage(**counts)


def cost(row: Rates, **counts: int) -> Decimal | None:
    return row.charge(used(counts))[0]


@pytest.mark.parametrize(
    ("counts", "dollars"),
    [
        ({}, "0"),
        ({"input_tokens": 10}, "40"),
        ({"output_tokens": 10}, "160"),
        ({"input_tokens": 10, "cached_tokens": 10}, "4"),
        ({"input_tokens": 10, "cached_tokens": 4}, "25.6"),
        ({"input_tokens": 10, "cache_write_tokens": 10}, "50"),
        ({"input_tokens": 10, "cache_write_tokens": 10, "cache_write_12h_tokens": 4}, "62"),
        ({"input_tokens": 10, "cached_tokens": 3, "cache_write_tokens": 5}, "34.2"),
        ({"input_tokens": 10, "audio_input_tokens": 10}, "320"),
        ({"input_tokens": 10, "audio_input_tokens": 4}, "152"),
        ({"input_tokens": 10, "image_input_tokens": 4}, "48"),
        ({"input_tokens": 10, "audio_input_tokens": 4, "image_input_tokens": 6}, "164"),
        ({"output_tokens": 10, "reasoning_tokens": 9}, "160"),
        ({"output_tokens": 10, "audio_output_tokens": 4}, "352"),
        ({"output_tokens": 10, "image_output_tokens": 10}, "400"),
        # Cached: text as long as nobody says what it was ...
        ({"input_tokens": 10, "audio_input_tokens": 4, "cached_tokens": 6}, "130.4"),
        # ... then images, then audio ...
        ({"input_tokens": 10, "audio_input_tokens": 4, "image_input_tokens": 4, "cached_tokens": 7}, "99.7"),
        # ... and what it is said to be.
        (
            {"input_tokens": 10, "audio_input_tokens": 4, "cached_tokens": 6, "cached_audio_tokens": 4},
            "18.8",
        ),
        (
            {"input_tokens": 10, "image_input_tokens": 4, "cached_tokens": 6, "cached_image_tokens": 4},
            "19.2",
        ),
    ],
)
def test_each_token_is_charged_once_and_at_its_own_rate(counts: dict[str, int], dollars: str) -> None:
    millions = {name: count * 1_000_000 for name, count in counts.items()}
    assert rates(FULL).charge(used(millions)) == (Decimal(dollars), ())


@pytest.mark.parametrize(
    ("counts", "like"),
    [
        ({"input_tokens": -5}, {}),
        ({"output_tokens": -5}, {}),
        ({"input_tokens": 5, "cached_tokens": 9}, {"input_tokens": 5, "cached_tokens": 5}),
        ({"input_tokens": 5, "cached_tokens": -1}, {"input_tokens": 5}),
        ({"input_tokens": 5, "cache_write_tokens": -1}, {"input_tokens": 5}),
        (
            {"input_tokens": 5, "cached_tokens": 3, "cache_write_tokens": 3},
            {"input_tokens": 5, "cached_tokens": 3, "cache_write_tokens": 2},
        ),
        ({"input_tokens": 5, "audio_input_tokens": 9}, {"input_tokens": 5, "audio_input_tokens": 5}),
        (
            {"input_tokens": 5, "audio_input_tokens": 3, "image_input_tokens": 3},
            {"input_tokens": 5, "audio_input_tokens": 3, "image_input_tokens": 2},
        ),
        ({"output_tokens": 5, "audio_output_tokens": 9}, {"output_tokens": 5, "audio_output_tokens": 5}),
        ({"input_tokens": 5, "cached_audio_tokens": 2}, {"input_tokens": 5}),
        ({"input_tokens": 5, "cache_write_12h_tokens": 2}, {"input_tokens": 5}),
    ],
)
def test_a_usage_that_contradicts_itself_is_cut_to_fit_and_flagged(
    counts: dict[str, int], like: dict[str, int]
) -> None:
    row = rates(FULL)
    amount, flags = row.charge(used(counts))
    assert flags == (CLAMPED,)
    assert amount == cost(row, **like)


@pytest.mark.parametrize(
    ("row", "counts", "dollars"),
    [
        ({"input": "4", "output": "8"}, {"input_tokens": 5, "cached_tokens": 5}, "20"),
        ({"input": "4", "output": "8"}, {"input_tokens": 5, "cache_write_tokens": 5}, "20"),
        (
            {"input": "4", "output": "8"},
            {"input_tokens": 5, "cache_write_tokens": 5, "cache_write_12h_tokens": 5},
            "20",
        ),
        ({"audio_input": "4"}, {"input_tokens": 5, "audio_input_tokens": 5, "cached_tokens": 5}, "20"),
        ({"image_input": "4"}, {"input_tokens": 5, "image_input_tokens": 5, "cached_tokens": 5}, "20"),
        ({"image_output": "4"}, {"output_tokens": 5}, "20"),
        ({"input": "4"}, {"input_tokens": 5}, "20"),
        ({"input": "0", "output": "0"}, {"input_tokens": 5, "output_tokens": 5}, "0"),
    ],
)
def test_what_a_row_may_leave_out(row: dict[str, str], counts: dict[str, int], dollars: str) -> None:
    millions = {name: count * 1_000_000 for name, count in counts.items()}
    assert rates(row).charge(used(millions)) == (Decimal(dollars), ())


@pytest.mark.parametrize(
    ("row", "counts", "missing"),
    [
        ({}, {"input_tokens": 5}, ("input",)),
        ({"input": "4"}, {"input_tokens": 5, "output_tokens": 1}, ("output",)),
        ({"output": "4"}, {"input_tokens": 5, "output_tokens": 1}, ("input",)),
        ({"output": "4"}, {"input_tokens": 5, "cached_tokens": 5}, ("cached_input",)),
        ({"input": "4", "output": "8"}, {"input_tokens": 5, "audio_input_tokens": 1}, ("audio_input",)),
        ({"input": "4", "output": "8"}, {"input_tokens": 5, "image_input_tokens": 1}, ("image_input",)),
        ({"input": "4", "output": "8"}, {"output_tokens": 5, "audio_output_tokens": 1}, ("audio_output",)),
        ({"input": "4", "output": "8"}, {"output_tokens": 5, "image_output_tokens": 1}, ("image_output",)),
        (
            {"input": "4", "output": "8", "cache_write": "5"},
            {"input_tokens": 5, "cache_write_tokens": 5, "cache_write_12h_tokens": 5},
            ("cache_write_12h",),
        ),
        ({}, {"input_tokens": 5, "output_tokens": 5}, ("input", "output")),
    ],
)
def test_a_token_without_a_rate_has_no_price(
    row: dict[str, str], counts: dict[str, int], missing: tuple[str, ...]
) -> None:
    amount, flags = rates(row).charge(used(counts))
    assert amount is None
    assert flags == tuple(f"no_rate={unit}" for unit in missing)


def test_a_model_that_reads_images_bills_them_as_text() -> None:
    seen = Usage(input_tokens=10**6, image_input_tokens=10**6)
    both = replace(seen, cached_tokens=10**6)
    row = rates({"input": "4", "cached_input": "1", "output": "8"}, reads_images=True)
    assert row.charge(seen) == (Decimal(4), ())
    assert row.charge(both) == (Decimal(1), ())
    assert rates({"input": "4", "image_input": "9"}, reads_images=True).charge(seen) == (Decimal(9), ())


def test_every_rate_is_multiplied() -> None:
    for unit in TOKEN_UNITS:
        assert rates({unit: "3"}).dearest([unit]) == Decimal("0.000003")
        assert rates({unit: "3"}, "1.1").dearest([unit]) == Decimal("0.0000033")


def test_nothing_is_rounded_whatever_the_caller_set() -> None:
    row = rates({"input": "9999999.999999999999", "output": "0.000000000001"}, "9999999.999999999999")
    exact = cost(row, input_tokens=10**9, output_tokens=1)
    with localcontext() as caller:
        caller.prec = 3
        assert cost(row, input_tokens=10**9, output_tokens=1) == exact
    with localcontext() as wide:
        wide.prec = 100
        price = Decimal("9999999.999999999999") ** 2
        assert exact == price * 1000 + Decimal("9999999.999999999999") * Decimal("1e-18")


def test_an_amount_has_no_trailing_zeros() -> None:
    assert (
        format(rates({"input": "2.5000", "output": "1"}).charge(Usage(input_tokens=4))[0] or 0, "f")
        == "0.00001"
    )
    assert (
        format(rates({"input": "100.0", "output": "1"}).charge(Usage(input_tokens=10**8))[0] or 0, "f")
        == "10000"
    )


def test_input_is_uncached_text() -> None:
    assert rates(FULL).input(1_000_000) == Decimal(4)
    assert rates(FULL).input(-1) == Decimal(0)
    assert rates({"output": "4"}).input(5) is None


def test_a_row_without_rates_is_false() -> None:
    assert not rates({})
    assert rates({"output": "0"})


# -- properties ----------------------------------------------------------------------------------------

MONEY = st.integers(0, 10**9).map(lambda n: format(Decimal(n).scaleb(-6), "f"))
ROWS = st.dictionaries(st.sampled_from(TOKEN_UNITS), MONEY)
COUNTS = st.fixed_dictionaries(
    {
        name: st.one_of(st.integers(-3, 9), st.integers(-(10**9), 10**9))
        for name in (
            "input_tokens",
            "output_tokens",
            "cached_tokens",
            "cache_write_tokens",
            "audio_input_tokens",
            "image_input_tokens",
            "reasoning_tokens",
            "audio_output_tokens",
            "image_output_tokens",
            "cached_audio_tokens",
            "cached_image_tokens",
            "cache_write_12h_tokens",
        )
    }
)
USAGES = COUNTS.map(used)


@given(USAGES)
def test_a_partition_has_each_token_once(usage: Usage) -> None:
    parts, cut = partition(usage)
    assert all(count >= 0 for count in parts.values())
    assert sum(parts[unit] for unit in INPUT_UNITS) == max(usage.input_tokens, 0)
    assert sum(parts[unit] for unit in OUTPUT_UNITS) == max(usage.output_tokens, 0)
    cached = sum(parts[unit] for unit in INPUT_UNITS if "cached" in unit)
    assert cached == min(max(usage.cached_tokens, 0), max(usage.input_tokens, 0))
    if not cut:
        assert parts["audio_input"] + parts["audio_cached_input"] == usage.audio_input_tokens
        assert parts["image_input"] + parts["image_cached_input"] == usage.image_input_tokens
        assert parts["audio_cached_input"] >= usage.cached_audio_tokens
        assert parts["image_cached_input"] >= usage.cached_image_tokens
        assert (parts["audio_output"], parts["image_output"]) == (
            usage.audio_output_tokens,
            usage.image_output_tokens,
        )


@given(ROWS, USAGES)
def test_the_short_way_and_the_long_way_agree(row: dict[str, str], usage: Usage) -> None:
    whole = rates(row)
    amount, flags = whole.charge(usage)
    parts, cut = partition(usage)
    assert (CLAMPED in flags) == cut
    assert (amount is None) == any(flag.startswith("no_rate=") for flag in flags)
    if amount is not None:
        assert amount >= 0
        each = [(whole.dearest([unit]) or Decimal(0)) * parts[unit] for unit in parts]
        assert amount == sum(each)


@given(ROWS, st.integers(0, 10**6), st.integers(0, 10**6), st.integers(0, 50))
def test_twice_as_many_tokens_cost_twice_as_much(row: dict[str, str], i: int, o: int, times: int) -> None:
    whole = rates(row)
    once = cost(whole, input_tokens=i, cached_tokens=i // 2, output_tokens=o)
    assume(once is not None)
    assert once is not None
    many = cost(whole, input_tokens=i * times, cached_tokens=i // 2 * times, output_tokens=o * times)
    if times:
        assert many == once * times


@given(ROWS, USAGES, st.sampled_from(["input_tokens", "output_tokens"]), st.integers(1, 10**6))
def test_more_tokens_never_cost_less(row: dict[str, str], usage: Usage, side: str, more: int) -> None:
    whole = rates(row)
    counts: dict[str, Any] = {side: max(getattr(usage, side), 0)}
    grown = {side: counts[side] + more}
    less, much = cost(whole, **counts), cost(whole, **grown)
    if less is not None and much is not None:
        assert less <= much


@given(MONEY, MONEY, st.integers(0, 10**9), st.integers(0, 10**9))
def test_cached_input_costs_no_more_than_uncached(one: str, other: str, tokens: int, cached: int) -> None:
    low, high = sorted((one, other), key=Decimal)
    row = rates({"input": high, "cached_input": low, "output": "1"})
    plain, read = cost(row, input_tokens=tokens), cost(row, input_tokens=tokens, cached_tokens=cached)
    assert plain is not None
    assert read is not None
    assert read <= plain


@given(st.lists(ROWS, min_size=1, max_size=3), USAGES, st.integers(0, 10**9), st.integers(0, 10**9))
def test_no_usage_within_the_bounds_costs_more_than_the_ceiling(
    rows: list[dict[str, str]], usage: Usage, more_input: int, more_output: int
) -> None:
    several = [rates(row, reads_images=True) for row in rows]
    ceiling = Ceiling(several)
    most = ceiling.charge(max(usage.input_tokens, 0) + more_input, max(usage.output_tokens, 0) + more_output)
    for row in several:
        amount, _ = row.charge(usage)
        if amount is not None and most is not None:
            assert amount <= most


@given(ROWS, st.integers(0, 10**6), st.integers(0, 10**6))
def test_a_ceiling_is_rounded_up_to_a_picodollar(row: dict[str, str], i: int, o: int) -> None:
    whole = rates(row, "1.0000001")
    most = Ceiling([whole]).charge(i, o)
    dear_in, dear_out = whole.dearest(INPUT_UNITS), whole.dearest(OUTPUT_UNITS)
    if dear_in is None:
        assert most is None
    else:
        exact = dear_in * i + (dear_out or 0) * o
        assert most == exact.quantize(Decimal("1e-12"), ROUND_CEILING)


def test_the_ceiling_takes_the_dearest_of_each_side() -> None:
    ceiling = Ceiling([rates(FULL), rates({"input": "99", "output": "1"})])
    assert ceiling.charge(1_000_000, 0) == Decimal(99)
    assert ceiling.charge(0, 1_000_000) == Decimal(64)
    assert ceiling.charge(-1, -1) == Decimal(0)
    assert ceiling.has_output
    assert not Ceiling([rates({"input": "1"})]).has_output
    assert Ceiling([rates({"output": "1"})]).charge(0, 5) is None


@given(ROWS, USAGES)
def test_the_spread_encloses_the_amount_and_what_a_cache_could_change(
    row: dict[str, str], usage: Usage
) -> None:
    whole = rates(row)
    amount, _ = whole.charge(usage)
    spread = whole.spread(usage)
    assert (amount is None) == (spread is None)
    if amount is not None and spread is not None:
        assert spread[0] <= amount <= spread[1]
        text = replace(usage, audio_input_tokens=0, image_input_tokens=0)
        inner = whole.spread(text)
        for cached in (0, max(usage.input_tokens, 0)):
            other, _ = whole.charge(replace(text, cached_tokens=cached, cache_write_tokens=0))
            if inner is not None and other is not None:
                assert inner[0] <= other <= inner[1]


def test_each_unit_of_input_is_among_those_that_a_cache_changes() -> None:
    assert sorted(unit for units in CACHES for unit in units) == sorted(INPUT_UNITS)
