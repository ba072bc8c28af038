from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plugins.limiter.budget import Budget, bounds
from plugins.limiter.meter import NEVER, WINDOWS, State

SECOND = 1_000_000


def taken(budget: Budget, state: State | None, amount: int, now: int) -> State:
    """The bucket once an amount is taken, which must be possible."""
    new = budget.take(state, amount, now)[0]
    assert new is not None
    return new


def at(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * SECOND


@pytest.mark.parametrize(
    ("window", "now", "begins", "ends"),
    [
        ("second", "2026-03-01T10:20:30", "2026-03-01T10:20:30", "2026-03-01T10:20:31"),
        ("minute", "2026-03-01T10:20:30", "2026-03-01T10:20:00", "2026-03-01T10:21:00"),
        ("hour", "2026-03-01T10:20:30", "2026-03-01T10:00:00", "2026-03-01T11:00:00"),
        ("day", "2026-03-01T23:59:59", "2026-03-01T00:00:00", "2026-03-02T00:00:00"),
        ("month", "2026-03-31T23:59:59", "2026-03-01T00:00:00", "2026-04-01T00:00:00"),
        ("month", "2026-12-31T23:59:59", "2026-12-01T00:00:00", "2027-01-01T00:00:00"),
        ("month", "2028-02-29T12:00:00", "2028-02-01T00:00:00", "2028-03-01T00:00:00"),
        ("month", "2027-01-01T00:00:00", "2027-01-01T00:00:00", "2027-02-01T00:00:00"),
    ],
)
def test_windows_are_the_calendars(window: str, now: str, begins: str, ends: str) -> None:
    assert bounds(window, at(now)) == (at(begins), at(ends))


@given(st.sampled_from(sorted(WINDOWS)), st.integers(0, 4_000_000_000 * SECOND))
def test_windows_follow_upon_each_other(window: str, now: int) -> None:
    begins, ends = bounds(window, now)
    assert begins <= now < ends
    assert bounds(window, begins) == bounds(window, ends - 1) == (begins, ends)
    assert bounds(window, ends)[0] == ends


def test_it_is_spent_to_the_last_and_not_beyond() -> None:
    budget = Budget(100, "day")
    now = at("2026-03-01T18:00:00")
    until_midnight = 6 * 3600 * SECOND
    state, wait, remaining, reset = budget.take(None, 60, now)
    assert (wait, remaining, reset) == (0, 40, until_midnight)
    assert budget.take(state, 41, now) == (None, until_midnight, 40, until_midnight)
    state = budget.take(state, 40, now)[0]
    assert budget.take(state, 1, now)[:3] == (None, until_midnight, 0)
    assert budget.take(state, 0, now)[0] is None
    assert budget.take(None, 101, now)[:3] == (None, NEVER, 100)
    assert budget.take(state, 100, now + until_midnight)[0] is not None
    assert budget.take(state, 1, now + until_midnight - 1)[0] is None


def test_settling_corrects_what_was_reserved() -> None:
    budget = Budget(100, "day")
    now = at("2026-03-01T18:00:00")
    receipt = taken(budget, None, 60, now)
    assert budget.give(receipt, receipt, 60, 25, now) == (receipt[0], 25)
    assert budget.give(receipt, receipt, 60, 130, now) == (receipt[0], 130)
    assert budget.give(receipt, receipt, 60, 0, now) is None
    assert budget.take((receipt[0], 130), 1, now)[:3] == (None, 6 * 3600 * SECOND, -30)


def test_a_settlement_after_the_window_changes_nothing() -> None:
    budget = Budget(100, "day")
    evening, morning = at("2026-03-01T23:59:59"), at("2026-03-02T00:00:01")
    receipt = taken(budget, None, 60, evening)
    assert budget.give(None, receipt, 60, 10, morning) is None
    today = taken(budget, receipt, 30, morning)
    assert today[1] == 30
    assert budget.give(today, receipt, 60, 10, morning) == today
    assert budget.give(today, receipt, 60, 90, morning) == today


def test_a_refund_of_what_was_forgotten_gives_nothing_away() -> None:
    budget = Budget(100, "day")
    now = at("2026-03-01T18:00:00")
    receipt = taken(budget, None, 60, now)
    since = taken(budget, None, 5, now)  # as if nothing had been spent before
    assert budget.give(since, receipt, 60, 10, now) is None


def test_what_was_reserved_in_a_day_is_not_settled_in_a_month() -> None:
    day, month = Budget(100, "day"), Budget(100, "month")
    now = at("2026-03-01T18:00:00")
    receipt = taken(day, None, 60, now)
    state = taken(month, receipt, 30, now)
    assert state[1] == 30
    assert day.give(state, receipt, 60, 10, now) == state


def test_what_was_forgotten_is_charged() -> None:
    budget = Budget(100, "day")
    now = at("2026-03-01T18:00:00")
    receipt = taken(budget, None, 60, now)
    assert budget.give(None, receipt, 60, 25, now) == (receipt[0], 25)


def test_a_lowered_budget_goes_on_from_what_is_spent() -> None:
    now = at("2026-03-01T18:00:00")
    state = Budget(100, "day").take(None, 60, now)[0]
    assert Budget(50, "day").take(state, 1, now)[1:3] == (6 * 3600 * SECOND, -10)
    assert Budget(70, "day").take(state, 1, now)[2] == 9


def test_the_weight_is_what_is_spent_while_it_counts() -> None:
    budget = Budget(100, "day")
    now = at("2026-03-01T18:00:00")
    state = taken(budget, None, 60, now)
    assert budget.weight(state, now) == 60
    assert budget.weight(state, at("2026-03-02T00:00:00")) == 0
