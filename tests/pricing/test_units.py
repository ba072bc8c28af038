from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.pricing.rates import CLAMPED
from proxy.pricing.units import MOST, UnitRates


def rates(factor: str = "1") -> UnitRates:
    return UnitRates(
        {"audio_hour": Decimal("1.02"), "video_second": Decimal("0.1"), "input_1m_chars": Decimal(15)},
        {"standard": {"1024x1024": Decimal("0.04")}, "hd": {"1024x1024": Decimal("0.08")}},
        {"web_search": Decimal(10), "file_search": Decimal("2.5")},
        factor=Decimal(factor),
    )


@pytest.mark.parametrize(
    ("unit", "count", "dollars"),
    [
        ("seconds", "3600", "1.02"),
        ("seconds", "1", "0.000283333333"),
        ("seconds", "0.5", "0.000141666667"),
        ("video_seconds", "8", "0.8"),
        ("characters", "4096", "0.06144"),
        ("image:standard:1024x1024", "3", "0.12"),
        ("image:hd:1024x1024", "1", "0.08"),
        ("web_search", "3", "0.03"),
        ("file_search", "1", "0.0025"),
        ("anything", "0", "0"),
    ],
)
def test_what_is_not_counted_in_tokens(unit: str, count: str, dollars: str) -> None:
    assert rates().charge({unit: Decimal(count)}) == (Decimal(dollars), ())


def test_units_add_up() -> None:
    units = {"seconds": Decimal(3600), "web_search": Decimal(1), "image:hd:1024x1024": Decimal(1)}
    assert rates().charge(units) == (Decimal("1.11"), ())
    assert rates("2").charge(units) == (Decimal("2.22"), ())


@pytest.mark.parametrize(
    "unit", ["svg_tokens", "image:hd:1x1", "image:ultra:1024x1024", "image:hd", "image:", "", "audio_hour"]
)
def test_a_unit_without_a_rate_has_no_price(unit: str) -> None:
    assert rates().charge({"web_search": Decimal(1), unit: Decimal(1)}) == (None, (f"no_rate={unit}",))


@pytest.mark.parametrize("count", ["-1", "NaN", "sNaN", "Infinity", "1e16"])
def test_a_count_that_cannot_be_counts_for_nothing_and_is_flagged(count: str) -> None:
    assert rates().charge({"seconds": Decimal(count), "web_search": Decimal(1)}) == (
        Decimal("0.01"),
        (CLAMPED,),
    )


def test_only_what_the_model_itself_is_sold_by_makes_it_sold_by_the_unit() -> None:
    assert rates()
    assert not UnitRates({"input": Decimal(1)}, {}, {"web_search": Decimal(10)})
    assert UnitRates({}, {"hd": {"1x1": Decimal(1)}}, {})


@given(st.decimals(0, MOST, allow_nan=False, allow_infinity=False))
def test_a_duration_is_rounded_once_to_the_nearest_picodollar(seconds: Decimal) -> None:
    amount, flags = rates().charge({"seconds": seconds})
    assert flags == ()
    assert amount is not None
    assert amount >= 0
    with_more_digits = seconds.as_integer_ratio()
    numerator, denominator = with_more_digits
    # |amount - seconds * 1.02 / 3600| <= 0.5e-12, in whole numbers
    error = abs(int(amount.scaleb(12)) * 3600 * 100 * denominator - numerator * 102 * 10**12)
    assert 2 * error <= 3600 * 100 * denominator
