"""Rows on their way to the database, in their order: by value, and where they are too many, by their place in
the journal.

The event loop adds; the writer's thread takes. Neither waits for the other: each changes only what is its
own, in steps of which the other may see any.
"""

from collections import deque
from collections.abc import Sequence
from itertools import islice, takewhile
from typing import Any, Final

from .journal import Journal
from .record import CLOSED, records
from .row import stored
from .segment import Segment

HELD: Final = 5_000
"""Rows that wait by value, 10 MB of memory or so. Above that they are read back out of the journal."""

Row = Sequence[Any]


class _Stretch:
    """A part of the journal with rows that nobody holds: from `segment` and `at` to `end`, None while it
    grows."""

    __slots__ = ("at", "closing", "end", "segment")

    def __init__(self, segment: Segment, at: int) -> None:
        self.segment = segment
        self.at = at
        self.end: tuple[Segment, int] | None = None
        self.closing = False
        """Set by the writer, who has caught up: the next row can be held again."""


class Backlog:
    """The rows of one process that are in its journal, and not yet in the database."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._waiting: deque[Row | _Stretch] = deque()
        self._stretch: _Stretch | None = None
        """The one that grows, as the event loop sees it."""

    # -- the event loop ----------------------------------------------------------------------------

    def add(self, row: Row, size: int) -> None:
        """A row whose record, of `size` bytes, is the last in the journal."""
        stretch = self._stretch
        if stretch is None:
            if len(self._waiting) < HELD:
                self._waiting.append(row)
                return
            segment = self._journal.segments[-1]
            self._stretch = _Stretch(segment, segment.at - size)
            self._waiting.append(self._stretch)
        elif stretch.closing:
            segment = self._journal.segments[-1]
            stretch.end = segment, segment.at - size
            self._stretch = None
            self._waiting.append(row)

    # -- the writer's thread -----------------------------------------------------------------------

    def take(self, most: int) -> list[Row]:
        """The next rows, as many as there are up to `most`; they stay until they are `taken`."""
        # In one step of the interpreter: the event loop may add meanwhile, and a deque does not like that.
        found = [*islice(self._waiting, most)]
        if _Stretch in map(type, found):
            found = [*takewhile(lambda one: type(one) is not _Stretch, found)]
        return found  # type: ignore[return-value]

    def taken(self, count: int) -> None:
        """So many of them are in the database."""
        for _ in range(count):
            self._waiting.popleft()

    def read(self, most: int) -> tuple[list[Row], tuple[Segment, int]] | None:
        """Up to `most` rows of the stretch that is next, and the place after them; None where rows are next.

        Raises `OSError`.
        """
        if not self._waiting or not isinstance(stretch := self._waiting[0], _Stretch):
            return None
        segments = [*self._journal.segments]
        last, end = stretch.end or (segments[-1], segments[-1].at)
        segment, at = stretch.segment, stretch.at
        payloads: list[bytes] = []
        while True:
            upto = end if segment is last else segment.at
            begin = at
            for kind, payload, after in records(segment.read(begin, upto)):
                if kind == CLOSED:
                    payloads.append(payload)
                    if len(payloads) == most:
                        return [*stored(payloads)], (segment, begin + after)
            if segment is last:
                return [*stored(payloads)], (segment, upto)
            segment, at = segments[segments.index(segment) + 1], 0

    def was_read(self, place: tuple[Segment, int]) -> bool:
        """The rows before this place are in the database; whether that was all of the stretch, for now."""
        stretch = self._waiting[0]
        assert isinstance(stretch, _Stretch)  # noqa: S101 # as `read` has found it
        stretch.segment, stretch.at = place
        if stretch.end is not None:
            if place == stretch.end:
                self._waiting.popleft()
            return place == stretch.end
        last = self._journal.segments[-1]
        if place != (last, last.at):
            return False
        stretch.closing = True
        return True

    @property
    def needs(self) -> Segment | None:
        """The segment that is to be read next, if one is."""
        first = self._waiting[0] if self._waiting else None
        return first.segment if isinstance(first, _Stretch) else None

    def __len__(self) -> int:
        """Rows and stretches."""
        return len(self._waiting)

    @property
    def is_done(self) -> bool:
        """Whether all rows are in the database. From any thread."""
        try:
            first, last = self._waiting[0], self._journal.segments[-1]
        except IndexError:
            return True
        # A stretch that was read to its end stays until the next row comes.
        if not isinstance(first, _Stretch) or first.end is not None:
            return False
        return first.segment is last and first.at == last.at
