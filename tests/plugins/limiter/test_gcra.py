import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plugins.limiter.gcra import Gcra
from plugins.limiter.limit import Limit
from plugins.limiter.meter import NEVER, WINDOWS, State
from tests.plugins.limiter.model import Leaking

MINUTE = WINDOWS["minute"]
# Rates whose interval is no whole number of µs, much less than one, and more than a day.
RATES = st.sampled_from([1, 2, 3, 7, 60, 100, 997, 90_000, 7_000_000, 10**12 + 39])
STEPS = st.one_of(st.integers(0, 5), st.integers(0, 10**6), st.integers(0, 2 * WINDOWS["month"]))


def passing(meter: Gcra, state: State | None, now: int, amount: int = 1) -> tuple[State | None, int]:
    """How often an amount can be taken at once."""
    count = 0
    while (taken := meter.take(state, amount, now))[1] == 0:
        state = taken[0]
        count += 1
        assert count < 10_000
    return state, count


def test_exactly_the_burst_passes_at_once() -> None:
    for burst in (1, 7, 100):
        _, count = passing(Gcra(100, MINUTE, burst), None, 12345)
        assert count == burst


@given(st.integers(1, 3000), st.sampled_from(sorted(WINDOWS.values())), st.integers(0, 10**12))
@settings(max_examples=60, deadline=None)
def test_nothing_is_lost_to_rounding(amount: int, window: int, now: int) -> None:
    """After the burst, in each window exactly as many pass, no matter how an interval divides."""
    meter = Gcra(amount, window, amount)
    state, count = passing(meter, None, now)
    assert count == amount
    for _ in range(2):
        now += window
        state, count = passing(meter, state, now)
        assert count == amount


@given(RATES, st.sampled_from(sorted(WINDOWS.values())), st.integers(1, 50), st.lists(STEPS, max_size=30))
@settings(deadline=None)
def test_the_wait_is_exact_to_the_microsecond(amount: int, window: int, burst: int, steps: list[int]) -> None:
    meter = Gcra(amount, window, burst)
    state: State | None = None
    now = 77
    for step in steps:
        now += step
        new, wait, _, _ = meter.take(state, 1, now)
        if new is not None:
            state = new
            continue
        assert meter.take(state, 1, now + wait)[0] is not None
        assert wait > 0
        assert meter.take(state, 1, now + wait - 1)[0] is None


@given(
    RATES,
    st.sampled_from(sorted(WINDOWS.values())),
    st.integers(1, 20),
    st.lists(STEPS, min_size=30, max_size=60),
)
@settings(deadline=None)
def test_no_stretch_of_time_sees_more_than_the_burst_and_its_share(
    amount: int, window: int, burst: int, steps: list[int]
) -> None:
    meter = Gcra(amount, window, burst)
    state: State | None = None
    now = 0
    passed: list[int] = []
    for step in steps:
        now += step
        new = meter.take(state, 1, now)[0]
        if new is not None:
            state = new
            passed.append(now)
    for first, begin in enumerate(passed):
        for last in range(first, len(passed)):
            # One of them fills the place that the first one made.
            assert (last - first + 1 - burst) * window <= (passed[last] - begin) * amount


def test_what_is_more_than_the_burst_never_passes() -> None:
    meter = Gcra(100, MINUTE, 10)
    assert meter.take(None, 11, 0) == (None, NEVER, 10, 0)
    assert meter.take(None, 10, 0)[0] is not None


def test_a_refusal_tells_what_is_there_and_takes_nothing() -> None:
    meter = Gcra(60, MINUTE, 60)
    state = meter.take(None, 50, 0)[0]
    assert meter.take(state, 20, 0) == (None, 10_000_000, 10, 50_000_000)
    assert meter.take(state, 10, 0)[1:] == (0, 0, 60_000_000)


def test_nothing_can_be_asked_for_to_see_what_there_is() -> None:
    meter = Gcra(60, MINUTE, 60)
    assert meter.take(None, 0, 0)[1:] == (0, 60, 0)
    state = meter.take(None, 59, 0)[0]
    assert meter.take(state, 0, 0) == (state, 0, 1, 59_000_000)
    full = meter.take(state, 1, 0)[0]
    assert meter.take(full, 0, 0) == (None, 1_000_000, 0, 60_000_000)
    assert meter.take(full, 0, 1_000_000)[0] is not None


def test_more_use_than_was_reserved_is_owed() -> None:
    meter = Gcra(60, MINUTE, 60)
    receipt = meter.take(None, 10, 0)[0]
    state = meter.give(receipt, receipt, 10, 90, 0)
    assert meter.take(state, 1, 0) == (None, 31_000_000, -30, 90_000_000)


def test_what_was_reserved_and_not_used_comes_back() -> None:
    meter = Gcra(60, MINUTE, 60)
    receipt = meter.take(None, 60, 0)[0]
    assert meter.take(meter.give(receipt, receipt, 60, 0, 0), 60, 0)[0] is not None
    assert meter.give(receipt, receipt, 60, 0, 0) is None
    assert meter.take(meter.give(receipt, receipt, 60, 15, 0), 0, 0)[2] == 45


def test_time_and_a_refund_do_not_give_the_same_back_twice() -> None:
    """A large reservation drains while its request runs, its room is used by others, then it is refunded."""
    meter = Gcra(60, MINUTE, 60)
    now = 0
    held = meter.take(None, 60, now)[0]
    now += 59_000_000
    other = meter.take(held, 59, now)[0]
    assert other is not None
    state = meter.give(other, other, 59, 59, now)  # used in full
    state = meter.give(state, held, 60, 0, now)  # not used at all
    assert meter.take(state, 0, now)[2] == 1


def test_what_was_forgotten_is_charged_and_not_refunded() -> None:
    meter = Gcra(60, MINUTE, 60)
    receipt = meter.take(None, 60, 0)[0]
    assert meter.take(meter.give(None, receipt, 60, 20, 0), 0, 0)[2] == 40
    assert meter.give(None, receipt, 60, 0, 0) is None


def test_a_changed_limit_goes_on_from_what_is_used() -> None:
    before, lower, higher = Gcra(10, MINUTE, 10), Gcra(5, MINUTE, 5), Gcra(997, WINDOWS["hour"], 997)
    state = before.take(None, 4, 0)[0]
    assert lower.take(state, 0, 0)[2] == 1
    assert higher.take(state, 0, 0)[2] == 993
    state = before.take(state, 3, 0)[0]
    assert lower.take(state, 0, 0)[:3] == (None, 36_000_000, -2)  # 7 used of 5: 3 too many, 12 s each
    settled = lower.give(state, state, 3, 0, 0)
    assert lower.take(settled, 0, 0)[2] == 1
    assert before.take(settled, 0, 0)[2] == 6  # and back again


@given(RATES, RATES, st.integers(0, 10**13), st.integers(0, 50))
def test_a_change_and_back_loses_nothing(one: int, other: int, now: int, units: int) -> None:
    first, second = Gcra(one, MINUTE, 100), Gcra(other, MINUTE, 100)
    state = first.take(None, units, now)[0]
    changed = second.take(state, 0, now)[0]
    assert second.take(changed, 0, now)[2] == 100 - units
    assert first.take(changed, 0, now)[2] in (100 - units, 99 - units)  # a rest of a tick is rounded up


@pytest.mark.fault("E18")
def test_a_clock_that_jumps_back_gives_nothing_away() -> None:
    meter = Gcra(60, MINUTE, 60)
    now = 3_600_000_000
    state, _ = passing(meter, None, now)
    _, wait, remaining, _ = meter.take(state, 1, now - 10_000_000)
    assert (wait, remaining) == (11_000_000, -10)
    _, count = passing(meter, state, now - 10_000_000)
    assert count == 0


def test_the_weight_is_the_time_until_it_is_unused() -> None:
    meter = Gcra(60, MINUTE, 60)
    state = meter.take(None, 3, 0)[0]
    assert state is not None
    assert [meter.weight(state, now) for now in (0, 1_000_000, 2_999_999, 3_000_000, 9_000_000)] == [
        3_000_000,
        2_000_000,
        1,
        0,
        0,
    ]
    odd = Gcra(7, MINUTE, 7)
    state = odd.take(None, 1, 0)[0]
    assert state is not None
    unused = odd.weight(state, 0)
    assert odd.take(state, 0, unused)[2] == 7
    assert odd.take(state, 0, unused - 1)[2] == 6


@st.composite
def stories(draw: st.DrawFn) -> tuple[Limit, list[tuple[str, int, int, int]]]:
    amount = draw(RATES)
    window = draw(st.sampled_from(sorted(WINDOWS)))
    limit = Limit("l", "tokens", amount, window, draw(st.integers(1, 2 * amount)))
    units = st.integers(0, limit.burst + 1)
    step = st.tuples(st.sampled_from(["take", "give"]), STEPS, units, units)
    return limit, draw(st.lists(step, max_size=40))


@given(stories())
@settings(max_examples=300, deadline=None)
def test_it_does_what_the_model_does(story: tuple[Limit, list[tuple[str, int, int, int]]]) -> None:
    limit, steps = story
    meter, model = limit.meter, Leaking(limit)
    state: State | None = None
    held: list[tuple[State, int]] = []
    now = 0
    for what, step, amount, used in steps:
        now += step
        model.leak(now)
        if what == "take":
            new, wait, remaining, reset = meter.take(state, amount, now)
            assert (wait == 0) is (new is not None) is model.admits(amount)
            if new is not None:
                model.take(amount)
                state = new
                held.append((new, amount))
            assert (remaining, reset) == (model.remaining, model.reset)
        elif held:
            receipt, reserved = held.pop(0)
            state = meter.give(state, receipt, reserved, used, now)
            model.give(None, reserved, used)
        if state is not None and meter.weight(state, now) == 0:
            state = None  # what weighs nothing may be forgotten at any time


@given(
    RATES,
    st.sampled_from([*WINDOWS.values()]),
    st.integers(1, 10**6),
    st.integers(0, 10**15),
    st.integers(0, 10**9),
    st.booleans(),
)
def test_one_of_an_unused_bucket_is_taken_as_any_number_is(
    amount: int, window: int, burst: int, now: int, since: int, known: bool
) -> None:
    """Taking one where nothing is used goes a shorter way, which a tick of use already leaves."""
    meter = Gcra(amount, window, burst)
    before = ((now - since) * meter.scale, 0, meter.interval, meter.scale) if known else None
    state, wait, remaining, reset = meter.take(before, 1, now)
    assert state == (now * meter.scale + meter.interval, 0, meter.interval, meter.scale)
    assert (wait, remaining, reset) == (0, burst - 1, -(-meter.interval // meter.scale))
    assert meter.take(state, 0, now)[2:] == (remaining, reset)
