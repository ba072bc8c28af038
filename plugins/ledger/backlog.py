"""What of the journal is not yet in the database: all of it from one place on, which the writer moves.

Nothing of it is held in memory. Rows that wait there for half a second, as they did once, push what requests
work with out of the processor's caches: that cost more than a tenth of a request, and to read them back takes
less than a twentieth.
"""

from .journal import Journal
from .record import identity, sorted_out
from .segment import Segment

Place = tuple[Segment, int]
"""A segment, and how far into it."""


class Backlog:
    """The rows of one process that are in its journal, and not yet in the database. For the writer's thread,
    but for `is_done`."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self.running: dict[bytes, bytes] = {}
        """The open records of requests whose rows were not read yet, by id."""
        self._place: Place | None = None
        """Up to which everything is in the database; None before anything was read."""

    @property
    def end(self) -> Place:
        """Where the journal ends now. It has a segment."""
        last = self._journal.segments[-1]
        return last, last.at

    def read(self, most: int, end: Place) -> tuple[list[bytes], Place]:
        """The next rows up to that end, `most` of them, and the place after them. Raises `OSError`."""
        # In one step of the interpreter: the event loop may add one meanwhile.
        segments = [*self._journal.segments]
        segment, at = self._place or (segments[0], 0)
        payloads: list[bytes] = []
        while True:
            upto = end[1] if segment is end[0] else segment.at
            begun, ended, length = sorted_out(segment.read(at, upto), most - len(payloads))
            for payload in begun:
                self.running[identity(payload)] = payload
            for payload in ended:
                self.running.pop(identity(payload), None)
            payloads += ended
            at += length
            if len(payloads) == most or segment is end[0]:
                return payloads, (segment, at)
            segment, at = segments[segments.index(segment) + 1], 0

    def was_read(self, place: Place) -> None:
        """The rows before this place are in the database."""
        self._place = place

    @property
    def needs(self) -> Segment | None:
        """The segment that is to be read next; None before anything was read."""
        return self._place[0] if self._place is not None else None

    @property
    def is_done(self) -> bool:
        """Whether all that the journal has was read. From any thread."""
        try:
            segment, at = self._place or (self._journal.segments[0], 0)
            return (segment, at) == self.end
        except IndexError:
            return True
