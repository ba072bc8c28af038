import pytest
from hypothesis import given
from hypothesis import strategies as st

from plugins.auth.failures import Failures


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_so_many_are_allowed_and_then_one_waits_for_the_window(clock: Clock) -> None:
    failures = Failures(3, 60, clock=clock)
    assert not failures.addresses
    assert [failures.count("192.0.2.1") for _ in range(3)] == [0, 0, 0]
    assert list(failures.addresses) == ["192.0.2.1"]
    assert failures.wait("192.0.2.1") == 60
    clock.now += 20
    assert failures.count("192.0.2.1") == 40
    assert failures.wait("192.0.2.1") == 40
    clock.now += 40
    assert failures.wait("192.0.2.1") == 0
    assert failures.count("192.0.2.1") == 0


def test_others_are_not_concerned(clock: Clock) -> None:
    failures = Failures(1, 60, clock=clock)
    failures.count("192.0.2.1")
    assert failures.count("192.0.2.1") == 60
    assert failures.wait("192.0.2.2") == 0
    assert failures.count("192.0.2.2") == 0


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("2001:db8::1", "2001:db8::ffff", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("::ffff:192.0.2.1", "192.0.2.1", True),
        ("fe80::1%eth0", "fe80::2%eth1", True),
        ("not:an:address", "not:an:address", True),
    ],
)
def test_an_ipv6_address_counts_as_its_network(clock: Clock, one: str, other: str, same: bool) -> None:
    failures = Failures(1, 60, clock=clock)
    failures.count(one)
    assert (failures.wait(other) > 0) is same


def test_the_table_is_bounded_and_the_oldest_makes_room(clock: Clock) -> None:
    failures = Failures(1, 60, clock=clock, addresses=10)
    for number in range(100):
        failures.count(f"192.0.2.{number}")
        clock.now += 0.1
    assert len(failures) == 10
    assert failures.wait("192.0.2.89") == 0
    assert failures.wait("192.0.2.90") > 0


def test_it_is_empty_again_once_all_windows_are_over(clock: Clock) -> None:
    failures = Failures(1, 60, clock=clock)
    for number in range(5):
        failures.count(f"192.0.2.{number}")
    clock.now += 61
    failures.count("198.51.100.1")
    assert len(failures) == 1


def test_a_reload_forgets_nothing_unless_the_window_changes(clock: Clock) -> None:
    before = Failures(1, 60, clock=clock)
    before.count("192.0.2.1")
    after, other = Failures(1, 60, clock=clock), Failures(1, 61, clock=clock)
    after.adopt(before)
    other.adopt(before)
    assert after.wait("192.0.2.1") == 60
    assert not other.addresses


@given(st.lists(st.tuples(st.integers(0, 3), st.floats(0, 30)), max_size=60))
def test_no_window_lets_more_through(steps: list[tuple[int, float]]) -> None:
    clock = Clock()
    failures = Failures(4, 10, clock=clock)
    passed: dict[str, list[float]] = {}
    for number, pause in steps:
        clock.now += pause
        address = f"192.0.2.{number}"
        if not failures.count(address):
            passed.setdefault(address, []).append(clock.now)
    for moments in passed.values():
        # Windows begin with a failure, so two in a row can hold twice as many; no more than that.
        for moment in moments:
            assert sum(moment <= other < moment + 10 for other in moments) <= 8
