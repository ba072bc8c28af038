import re

import pytest

from proxy.api.timeline import Hop, Timeline
from proxy.core.server_timing import header

MILLISECOND = 1_000_000


def timeline(*hops: Hop) -> Timeline:
    made = Timeline()
    made._marks.extend(hops)
    return made


def durations(found: bytes) -> list[tuple[str, float]]:
    """W3C Server Timing: metrics are `token;dur=number`, separated by commas."""
    metric = r"([!#$%&'*+.^_`|~0-9A-Za-z-]+);dur=([0-9]+(?:\.[0-9]+)?)"
    text = found.decode("ascii")
    assert re.fullmatch(f"{metric}(, {metric})*", text), text
    return [(name, float(value)) for name, value in re.findall(metric, text)]


def test_nothing_without_hops() -> None:
    assert header(timeline()) == b""


def test_milliseconds_per_hop_in_the_order_they_began() -> None:
    upstream = 312 * MILLISECOND + 400_000
    found = header(timeline(Hop("auth", "request", 0, 21_000), Hop("upstream", "upstream", 5, 5 + upstream)))
    assert durations(found) == [("auth", 0.021), ("upstream", 312.4)]


def test_both_sides_of_a_hop_are_summed() -> None:
    found = header(
        timeline(
            Hop("a", "request", 0, MILLISECOND),
            Hop("b", "request", 0, MILLISECOND),
            Hop("b", "response", 10, 10 + 2 * MILLISECOND),
            Hop("a", "response", 10, 10 + 4 * MILLISECOND),
        )
    )
    assert durations(found) == [("a", 5.0), ("b", 3.0)]


@pytest.mark.parametrize("nanoseconds", [0, 1, 999, 1000, 10**9, 123_456_789_012, 10**18])
def test_it_is_precise_to_the_microsecond_and_a_plain_number(nanoseconds: int) -> None:
    [(_, duration)] = durations(header(timeline(Hop("my_plugin-2.x", "request", 5, 5 + nanoseconds))))
    assert abs(duration - nanoseconds / 1e6) <= 0.001
