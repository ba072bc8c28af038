from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plugins.ledger.money import MOST, ceiling, dollars, floor, pico

AMOUNTS = st.decimals(min_value=0, max_value=Decimal(10) ** 6, allow_nan=False, allow_infinity=False)


@pytest.mark.parametrize(
    ("amount", "expected"),
    [
        ("0", 0),
        ("1", 10**12),
        ("0.000000000001", 1),
        ("0.0000000000005", 0),
        ("0.0000000000015", 2),
        ("1E+3", 10**15),
        ("1.5E-7", 150_000),
        ("0.00", 0),
        ("12.5", 12_500_000_000_000),
    ],
)
def test_dollars_become_picodollars(amount: str, expected: int) -> None:
    assert pico(Decimal(amount)) == expected


@given(AMOUNTS)
def test_bounds_enclose_the_amount_by_less_than_a_picodollar(amount: Decimal) -> None:
    low, high = floor(amount), ceiling(amount)
    assert low is not None
    assert high is not None
    assert Decimal(low).scaleb(-12) <= amount <= Decimal(high).scaleb(-12)
    assert high - low <= 1
    assert pico(amount) in (low, high)


@given(st.integers(0, MOST))
def test_what_is_told_is_exact(amount: int) -> None:
    told = dollars(amount)
    assert told is not None
    assert pico(Decimal(told)) == amount
    assert "E" not in told
    assert not told.endswith(".")
    assert told == format(Decimal(told), "f")


def test_unpriced_is_none_and_not_nothing() -> None:
    assert (pico(None), floor(None), ceiling(None), dollars(None)) == (None, None, None, None)
    assert dollars(0) == "0"
    assert dollars(-1_500_000_000_000) == "-1.5"


def test_more_than_a_column_holds_is_cut() -> None:
    assert pico(Decimal(10) ** 9) == MOST
