import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.api.errors import UpstreamError
from proxy.core.config import UpstreamSettings
from proxy.core.upstream.breaker import Breaker, Trial


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def breaker(clock: Clock, **settings: object) -> Breaker:
    written = {"failures": 3, "open": "1s", "most": "10s", **settings}
    return Breaker(UpstreamSettings(base_url="http://up", breaker=written), clock)  # type: ignore[arg-type]


def refused(of: Breaker) -> float:
    """Seconds until it may be tried again."""
    with pytest.raises(UpstreamError) as raised:
        of.trial()
    assert (raised.value.status, raised.value.code) == (503, "upstream_unavailable")
    assert raised.value.retry_after is not None
    return raised.value.retry_after


def fail(of: Breaker, times: int = 1) -> None:
    for _ in range(times):
        of.trial().failed()


def test_failures_in_a_row_open_it_and_fewer_do_not() -> None:
    one = breaker(Clock())
    fail(one, 2)
    one.trial().reached()
    fail(one, 2)
    one.trial().failed()
    assert refused(one) == 1


def test_one_is_let_through_when_the_time_is_over_and_the_others_wait_for_it() -> None:
    clock = Clock()
    one = breaker(clock)
    fail(one, 3)
    clock.now += 0.7
    assert refused(one) == pytest.approx(0.3)
    clock.now += 0.3
    probe = one.trial()
    assert refused(one) == 1
    probe.reached()
    one.trial()
    one.trial()


def test_each_probe_that_fails_doubles_the_time_up_to_the_most() -> None:
    clock = Clock()
    one = breaker(clock)
    fail(one, 3)
    waits = []
    for _ in range(6):
        assert one.suspended
        waits.append(refused(one))
        clock.now += waits[-1]
        one.trial().failed()
    assert waits == [1, 2, 4, 8, 10, 10]
    clock.now += 10
    one.trial().reached()
    assert (one.suspended, one.refused) == (False, 6)
    fail(one, 3)
    assert refused(one) == 1


def test_a_probe_that_is_given_up_early_says_nothing_and_the_next_one_is_it() -> None:
    clock = Clock()
    one = breaker(clock)
    fail(one, 3)
    clock.now += 1
    one.trial().given_up()
    probe = one.trial()
    clock.now += 5  # timeouts.connect
    probe.given_up()
    assert refused(one) == 2


def test_what_is_given_up_counts_after_half_the_time_to_connect() -> None:
    clock = Clock()
    one = breaker(clock)
    for _ in range(10):
        early = one.trial()
        clock.now += 2.4
        early.given_up()
    for _ in range(3):
        late = one.trial()
        clock.now += 2.5
        late.given_up()
    refused(one)


def test_what_began_before_it_opened_neither_opens_it_longer_nor_is_the_probe() -> None:
    clock = Clock()
    one = breaker(clock)
    old = [one.trial() for _ in range(4)]
    fail(one, 3)
    clock.now += 1
    probe = one.trial()
    old[0].failed()
    old[1].given_up()
    refused(one)
    probe.failed()
    assert refused(one) == 2
    old[2].reached()  # whoever gets through shows that it is back
    one.trial()


def test_it_can_be_off() -> None:
    one = breaker(Clock(), failures="off")
    fail(one, 1000)


def test_its_opening_and_closing_are_told_once_each(caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock()
    one = breaker(clock)
    with caplog.at_level(logging.INFO, "weir"):
        many = [one.trial() for _ in range(10)]
        for trial in many:
            trial.failed()
        clock.now += 1
        one.trial().failed()
        clock.now += 2
        one.trial().reached()
        one.trial().reached()
    assert [record.getMessage() for record in caplog.records] == [
        "upstream cannot be reached: connecting is suspended",
        "upstream is reached again",
    ]
    assert {record.levelname for record in caplog.records} == {"WARNING"}


STEPS = st.lists(
    st.tuples(st.sampled_from(["begin", "reached", "failed", "given_up"]), st.floats(0, 20)), max_size=60
)


@given(STEPS)
def test_it_never_refuses_for_longer_than_the_most_after_the_last_probe(
    steps: list[tuple[str, float]],
) -> None:
    """Whatever happens: at most one probe at a time, and one that ends lets the next one in."""
    clock = Clock()
    one = breaker(clock)
    running: list[Trial] = []
    told: list[float] = []
    for what, seconds in steps:
        clock.now += seconds
        if what == "begin":
            try:
                running.append(one.trial())
            except UpstreamError as error:
                told.append(error.retry_after or 0)
        elif running:
            getattr(running.pop(0), what)()
    assert all(0 < wait <= 10 for wait in told)
    for trial in running:
        trial.given_up()
    clock.now += 10
    one.trial().reached()
    one.trial()
