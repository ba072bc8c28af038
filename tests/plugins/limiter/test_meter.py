"""What holds for every meter."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plugins.limiter.limit import Limit
from plugins.limiter.meter import NEVER, WINDOWS, raised
from tests.plugins.limiter.clock import NOON

LIMITS = [
    Limit("a", "requests", 10, "minute"),
    Limit("b", "tokens", 7_001, "hour", burst=50),
    Limit("c", "cost", 100, "day"),
    Limit("d", "cost", 100, "month"),
    Limit("e", "in_flight", 5),
]
OPERATIONS = st.lists(
    st.tuples(st.booleans(), st.integers(0, 60), st.integers(0, 60), st.integers(0, 10**11)), max_size=30
)


def ints(state: Any) -> bool:
    return isinstance(state, int) or (
        isinstance(state, tuple) and all(isinstance(part, int) for part in state)
    )


@pytest.mark.parametrize("limit", LIMITS, ids=lambda limit: limit.kind)
@given(OPERATIONS)
@settings(max_examples=60, deadline=None)
def test_all_or_nothing_and_told_as_it_is(limit: Limit, operations: list[tuple[bool, int, int, int]]) -> None:
    meter = limit.meter
    state = None
    held: list[tuple[Any, int]] = []
    now = NOON
    for gives, amount, used, step in operations:
        now += step
        if gives and held:
            receipt, reserved = held.pop()
            state = meter.give(state, receipt, reserved, 0 if limit.kind == "in_flight" else used, now)
            continue
        left = meter.take(state, 0, now)[2]
        new, wait, remaining, reset = meter.take(state, amount, now)
        assert remaining >= 0 or new is None
        assert reset >= 0
        if new is None:
            assert wait > 0
            assert remaining == left
            assert max(amount, 1) > left
            assert (wait == NEVER) is (max(amount, 1) > limit.burst) or limit.kind == "in_flight"
        else:
            assert wait == 0
            assert ints(new)
            assert remaining == left - amount
            state = new
            held.append((new, amount))
        if state is not None:
            assert (meter.weight(state, now) == 0) <= (meter.take(state, 0, now)[2] == limit.burst)


def test_every_window_divides_a_month() -> None:
    assert all(WINDOWS["month"] % length == 0 for length in WINDOWS.values())


@pytest.mark.parametrize("limit", LIMITS, ids=lambda limit: limit.kind)
def test_what_a_bucket_holds_is_what_is_missing(limit: Limit) -> None:
    meter, now = limit.meter, NOON
    state = meter.take(None, 3, now)[0]
    receipt = meter.take(state, 2, now)[0]
    state = meter.give(receipt, receipt, 2, 1, now)
    assert state is not None
    assert meter.level(state, now) == {"cost": (4, 4), "in_flight": (0, 0)}.get(limit.kind, (4, 1))
    assert limit.burst - meter.take(state, 0, now)[2] == 4


def test_every_sort_of_bucket_has_its_terms() -> None:
    sorts = {limit.meter.sort: limit.meter.terms for limit in LIMITS}
    assert sorts == {
        "r": ("r", 3_600_000_000, 7_001, 50),
        "b day": ("b", 100, 86_400_000_000),
        "b month": ("b", 100, 0),
        "l": ("l", 5),
    }


@pytest.mark.parametrize("limit", [LIMITS[1], LIMITS[2]], ids=["rate", "budget"])
@given(st.integers(0, 40), st.lists(st.integers(-40, 40), max_size=10), st.integers(0, 50))
def test_a_reservation_that_was_raised_settles_like_one_that_was_made_so(
    limit: Limit, amount: int, raises: list[int], used: int
) -> None:
    meter = limit.meter
    receipt = state = meter.take(None, amount, NOON)[0]
    reserved = amount
    for more in raises:
        more = max(more, -reserved)
        state = meter.give(state, receipt, *raised(meter, more), NOON)
        reserved += more
        assert meter.take(state, 0, NOON)[2] == limit.burst - reserved
    state = meter.give(state, receipt, reserved, used, NOON)
    assert meter.take(state, 0, NOON)[2] == limit.burst - used
