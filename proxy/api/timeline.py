"""When things happened in one exchange. All moments are monotonic nanoseconds, 0 while not reached."""

from time import monotonic_ns, time_ns
from typing import Literal, NamedTuple

Phase = Literal["request", "upstream", "response", "end"]


class Hop(NamedTuple):
    """One stretch of work: a plugin's hook, `upstream` (from sending to the answer's headers), or `ask` (a
    plugin's question to the upstream, its answer included), which is part of a hook as a rule."""

    name: str
    phase: Phase
    start: int
    end: int


class Timeline:
    """The moments of one exchange; the one place that tracing, logs and the ledger read.

    `started_at` is wall-clock time in nanoseconds since 1970, everything else is `time.monotonic_ns()`.
    """

    __slots__ = (
        "_added",
        "_marks",
        "_sums",
        "finished",
        "first_byte",
        "last_byte",
        "received",
        "response",
        "started_at",
    )

    def __init__(self) -> None:
        self.started_at = time_ns()
        self.received = monotonic_ns()
        self.response = 0
        """The answer's headers arrived, or a plugin replied."""
        self.first_byte = 0
        """The first byte of the answer's body went out."""
        self.last_byte = 0
        """The last byte before the end was known went out or, on a held answer, came in."""
        self.finished = 0
        self._marks: list[tuple[str, Phase, int, int]] = []
        """The engine's: `hops` as they are written down, which costs less."""
        self._sums: dict[str, int] = {}
        self._added = 0

    @property
    def hops(self) -> list[Hop]:
        """Every stretch of work so far, in the order in which they ended."""
        return [Hop._make(mark) for mark in self._marks]

    def sums(self) -> dict[str, int]:
        """Nanoseconds that each hop has taken so far, all its phases together, in the order of their first.

        Always the same dict, which is only added to: read it, do not change it.
        """
        sums, marks = self._sums, self._marks
        for name, _, start, end in marks[self._added :] if self._added else marks:
            if name in sums:
                sums[name] += end - start
            else:
                sums[name] = end - start
        self._added = len(marks)
        return sums

    @property
    def total(self) -> float:
        """Seconds since the request was received, up to its end."""
        return ((self.finished or monotonic_ns()) - self.received) / 1e9

    @property
    def ttfb(self) -> float | None:
        """Seconds from the request to the first byte of the answer's body, or None."""
        return (self.first_byte - self.received) / 1e9 if self.first_byte else None

    def wall(self, moment: int) -> int:
        """A moment of this timeline as nanoseconds since 1970."""
        return self.started_at + moment - self.received
