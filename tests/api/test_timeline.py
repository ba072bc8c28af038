from time import monotonic_ns, time_ns

import pytest

from proxy.api.timeline import Hop, Timeline


def test_it_starts_now() -> None:
    before, wall = monotonic_ns(), time_ns()
    timeline = Timeline()
    assert before <= timeline.received <= monotonic_ns()
    assert wall <= timeline.started_at <= time_ns()
    assert (timeline.response, timeline.first_byte, timeline.last_byte, timeline.finished) == (0, 0, 0, 0)
    assert timeline.hops == []


def test_total_grows_until_the_end_and_then_stays() -> None:
    timeline = Timeline()
    first = timeline.total
    assert 0 <= first <= timeline.total
    timeline.finished = timeline.received + 1_500_000_000
    assert timeline.total == pytest.approx(1.5)
    assert timeline.total == timeline.total


def test_ttfb_is_none_until_there_is_a_byte() -> None:
    timeline = Timeline()
    assert timeline.ttfb is None
    timeline.first_byte = timeline.received + 250_000_000
    assert timeline.ttfb == pytest.approx(0.25)


def test_moments_as_wall_clock_time() -> None:
    timeline = Timeline()
    assert timeline.wall(timeline.received) == timeline.started_at
    assert timeline.wall(timeline.received + 42) == timeline.started_at + 42


def test_a_hop_is_a_name_a_phase_and_two_moments() -> None:
    name, phase, start, end = Hop("auth", "request", 1, 2)
    assert (name, phase, start, end) == ("auth", "request", 1, 2)


def test_sums_are_of_all_phases_of_a_hop_however_often_they_are_asked_for() -> None:
    timeline = Timeline()
    assert timeline.sums() == {}
    timeline._marks += [("auth", "request", 10, 12), ("limiter", "request", 12, 20)]
    assert timeline.sums() == {"auth": 2, "limiter": 8}
    timeline._marks.append(("limiter", "end", 30, 31))
    assert timeline.sums() == {"auth": 2, "limiter": 9}
    assert timeline.sums() == {"auth": 2, "limiter": 9}


def test_timelines_do_not_share_hops() -> None:
    one, other = Timeline(), Timeline()
    one._marks.append(("auth", "request", 1, 2))
    assert one.hops == [Hop("auth", "request", 1, 2)]
    assert other.hops == []
