"""What is measured at every rest, its slope, and the verdict."""

import statistics
from collections.abc import Sequence
from itertools import combinations
from typing import Final, NamedTuple

WARM: Final = 120.0
"""Seconds after which caches have what they will have, and malloc the room for it."""
NOISE: Final = {"memory": 4.0, "descriptors": 4.0}
"""What a figure may rise without a leak over the rests that count: MiB, which malloc's fragments take, and
open files. A slope is too steep where it would rise by more than that, so a longer soak finds a smaller leak:
in 10 minutes 0.5 MiB a minute, at 40 requests a second 220 bytes a request; in an hour 30 bytes."""
WARMING: Final = {**NOISE, "memory": 12.0}
"""The same for a soak that is over before it is warm."""
FEWEST: Final = 3
"""Rests that count, below which nothing can be said of a slope."""


class Figures(NamedTuple):
    """What Weir holds while nothing goes on."""

    seconds: float
    """Since the soak began."""
    requests: int
    """That have to have a row in the ledger: those that Weir answered or the upstream saw."""
    rows: int
    memory: float
    """Resident and of no file, in MiB."""
    descriptors: int
    in_flight: int
    leases: int
    """In Redis, not expired."""


class Ledger(NamedTuple):
    """The rows at the end, against what clients and the upstream know."""

    requests: int
    missing: int
    twice: int
    invented: int


def slope(points: Sequence[tuple[float, float]]) -> float:
    """The median of the slopes of all pairs (Theil and Sen), a minute: one odd point does not bend it.

    `points` are seconds and a figure, in order of time."""
    slopes = [(y2 - y1) / (x2 - x1) * 60 for (x1, y1), (x2, y2) in combinations(points, 2) if x2 > x1]
    return statistics.median(slopes) if slopes else 0.0


def warm(rests: Sequence[Figures]) -> Sequence[Figures]:
    """The rests that count: those after warming up, and of a short soak the second half."""
    if rests and rests[-1].seconds >= 2 * WARM:
        return [each for each in rests if each.seconds >= WARM]
    return rests[len(rests) // 2 :]


def bound(figure: str, rests: Sequence[Figures]) -> float:
    """How steep it may be over these rests, a minute."""
    minutes = (rests[-1].seconds - rests[0].seconds) / 60
    noise = NOISE if rests[0].seconds >= WARM else WARMING
    return noise[figure] / minutes if minutes > 0 else float("inf")


def slopes(rests: Sequence[Figures]) -> dict[str, float]:
    """Of each figure over the rests that count, a minute. Of the ledger it is the rows that are behind."""
    counted = warm(rests)
    return {
        "memory": slope([(each.seconds, each.memory) for each in counted]),
        "descriptors": slope([(each.seconds, each.descriptors) for each in counted]),
        "in flight": slope([(each.seconds, each.in_flight) for each in counted]),
        "leases": slope([(each.seconds, each.leases) for each in counted]),
        "ledger": slope([(each.seconds, each.requests - each.rows) for each in counted]),
    }


def verdict(rests: Sequence[Figures], ledger: Ledger) -> list[str]:
    """What is wrong, a line each; nothing if all is well."""
    wrong = []
    counted = warm(rests)
    if len(counted) < FEWEST:
        wrong.append(f"too short: {len(counted)} rests in the second half say nothing; {FEWEST} do")
    else:
        found = slopes(rests)
        for figure, unit in (("memory", "MiB"), ("descriptors", "open files")):
            if found[figure] > (most := bound(figure, counted)):
                wrong.append(f"{figure}: {found[figure]:+.1f} {unit} a minute, and {most:.1f} is the bound")
    for name, left in (
        ("in flight", [each.in_flight for each in rests]),
        ("leases", [each.leases for each in rests]),
    ):
        if any(left):
            times = sum(map(bool, left))
            wrong.append(f"{name}: up to {max(left)} left at rest, at {times} of {len(left)} rests")
    for count, what in (
        (ledger.missing, "have no row"),
        (ledger.twice, "have more than one row"),
    ):
        if count:
            wrong.append(f"ledger: {count} of {ledger.requests} requests {what}")
    if ledger.invented:
        wrong.append(f"ledger: {ledger.invented} rows are of requests that nobody made")
    return wrong


HEAD: Final = (
    f"{'time':>7} {'requests':>9} {'rows':>9} {'MiB':>7} {'files':>6} {'in flight':>10} {'leases':>7}"
)


def line(rest: Figures) -> str:
    """One line of the table under `HEAD`."""
    return (
        f"{rest.seconds:6.0f}s {rest.requests:9} {rest.rows:9} {rest.memory:7.1f} {rest.descriptors:6} "
        f"{rest.in_flight:10} {rest.leases:7}"
    )


def summary(rests: Sequence[Figures]) -> list[str]:
    """The slopes and their bounds, a line each."""
    counted = warm(rests)
    told = [f"slopes over the last {counted[-1].seconds - counted[0].seconds:.0f} s, a minute:"]
    for figure, steep in slopes(rests).items():
        most = bound(figure, counted) if figure in NOISE else 0.0
        told.append(f"  {figure:<12} {steep:+8.2f}   (bound {most:.2f})")
    return told
