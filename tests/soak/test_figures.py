"""Slopes and verdicts, on figures that are written down."""

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from .figures import (
    FEWEST,
    NOISE,
    WARM,
    WARMING,
    Figures,
    Ledger,
    bound,
    line,
    slope,
    slopes,
    summary,
    verdict,
    warm,
)

SOUND = Ledger(requests=100, missing=0, twice=0, invented=0)


def rests(count: int = 12, **changes: Sequence[float]) -> list[Figures]:
    """One every 10 seconds, each as the other but for these figures."""
    made = []
    for turn in range(count):
        figures: dict[str, Any] = Figures(10.0 * turn, 10 * turn, 10 * turn, 150.0, 25, 0, 0)._asdict()
        made.append(Figures(**(figures | {name: values[turn] for name, values in changes.items()})))
    return made


@given(
    st.lists(st.integers(0, 1000), min_size=3, max_size=20, unique=True),
    st.integers(-50, 50),
    st.integers(-50, 50),
)
def test_the_slope_of_a_line_is_that_of_the_line(xs: list[int], steep: int, start: int) -> None:
    assert slope([(x, start + steep * x / 60) for x in sorted(xs)]) == pytest.approx(steep)


def test_one_odd_point_does_not_bend_a_slope() -> None:
    assert slope([(n, 5.0) for n in range(9)] + [(9, 500.0)]) == 0
    assert slope([]) == slope([(1, 1)]) == 0


def test_all_is_well_where_nothing_rises() -> None:
    assert verdict(rests(), SOUND) == []
    assert verdict(rests(memory=[150.0 + (n % 3) for n in range(12)]), SOUND) == []


def test_what_rises_while_it_warms_up_is_of_no_account() -> None:
    assert verdict(rests(memory=[50.0 + 20 * min(n, 5) for n in range(12)]), SOUND) == []


@pytest.mark.parametrize("figure", ["memory", "descriptors"])
def test_a_slope_above_its_bound_is_told_with_its_name(figure: str) -> None:
    most = bound(figure, warm(rests())) / 6  # a rest is a sixth of a minute
    steep: dict[str, Any] = {figure: [100 + 1.2 * most * n for n in range(12)]}
    (told,) = verdict(rests(**steep), SOUND)
    assert told.startswith(f"{figure}: +")
    flat: dict[str, Any] = {figure: [100 + 0.8 * most * n for n in range(12)]}
    assert verdict(rests(**flat), SOUND) == []


def test_a_longer_soak_finds_a_smaller_leak() -> None:
    assert bound("memory", rests(60)) < bound("memory", rests(12)) / 4
    assert bound("memory", rests(2)) == WARMING["memory"] * 6
    assert bound("memory", rests(1)) == float("inf")


def test_ten_minutes_find_what_a_minute_cannot() -> None:
    """A leak of 0.6 MiB a minute, behind a rise of 30 that ends after two."""
    rising = [100 + 2.5 * min(n, 12) + 0.1 * n for n in range(60)]
    assert verdict(rests(60, memory=rising), SOUND) == ["memory: +0.6 MiB a minute, and 0.5 is the bound"]
    assert verdict(rests(60, memory=[100 + 2.5 * min(n, 12) for n in range(60)]), SOUND) == []
    counted = warm(rests(60))
    assert counted[0].seconds == WARM
    assert bound("memory", counted) == NOISE["memory"] / ((590 - WARM) / 60)


@pytest.mark.parametrize(("figure", "told"), [("in_flight", "in flight"), ("leases", "leases")])
def test_what_is_left_at_one_rest_is_told(figure: str, told: str) -> None:
    left: dict[str, Any] = {figure: [0] * 3 + [2] + [0] * 8}
    wrong = verdict(rests(**left), SOUND)
    assert wrong == [f"{told}: up to 2 left at rest, at 1 of 12 rests"]


@pytest.mark.parametrize(
    ("ledger", "told"),
    [
        (SOUND._replace(missing=1), "ledger: 1 of 100 requests have no row"),
        (SOUND._replace(twice=2), "ledger: 2 of 100 requests have more than one row"),
        (SOUND._replace(invented=3), "ledger: 3 rows are of requests that nobody made"),
    ],
)
def test_a_ledger_that_is_not_what_was_asked_is_told(ledger: Ledger, told: str) -> None:
    assert verdict(rests(), ledger) == [told]


def test_too_few_rests_are_no_proof() -> None:
    assert verdict(rests(2 * FEWEST - 1), SOUND) == []
    (told,) = verdict(rests(2 * FEWEST - 2), SOUND)
    assert told.startswith("too short")


def test_the_table_has_every_figure_and_every_slope() -> None:
    assert line(rests()[-1]).split() == ["110s", "110", "110", "150.0", "25", "0", "0"]
    told = summary(rests())
    assert [each.split("+")[0].strip() for each in told[1:]] == list(slopes(rests()))
