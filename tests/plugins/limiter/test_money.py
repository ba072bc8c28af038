from decimal import Decimal, getcontext, localcontext

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plugins.limiter.money import MOST, NANO, dollars, nanodollars


@pytest.mark.parametrize(
    ("amount", "nano"),
    [
        ("0", 0),
        ("1", NANO),
        ("0.000000001", 1),
        ("0.0000000001", 1),
        ("0.0000000010000001", 2),
        ("12.345678901234567890", 12_345_678_902),
        ("1E-30", 1),
        ("9007199.254740992", MOST),
        ("123456789012345678901234567890.000000001", 123456789012345678901234567890 * NANO + 1),
    ],
)
def test_dollars_become_nanodollars_rounded_up(amount: str, nano: int) -> None:
    assert nanodollars(Decimal(amount)) == nano


def test_the_precision_of_others_does_not_matter() -> None:
    with localcontext() as context:
        context.prec = 3
        assert nanodollars(Decimal("12.345678901")) == 12_345_678_901
    assert getcontext().prec > 3


@pytest.mark.parametrize(
    ("nano", "text"),
    [
        (0, "0"),
        (1, "0.000000001"),
        (NANO, "1"),
        (100 * NANO, "100"),
        (5 * NANO // 2, "2.5"),
        (10, "0.00000001"),
    ],
)
def test_nanodollars_are_written_in_full(nano: int, text: str) -> None:
    assert dollars(nano) == text


@given(st.integers(0, 10**30))
def test_there_and_back(nano: int) -> None:
    assert nanodollars(Decimal(dollars(nano))) == nano
