"""The buckets of one limit, by key: bounded, since clients choose many of the keys."""

from collections.abc import Callable, Iterator

from .meter import State

SWEPT = 4
"""Buckets looked at for each new one, to forget those that are unused again."""
SAMPLE = 16
"""Buckets looked at for each new one while there are as many as there may be."""
SMALL = 1024
"""A table of fewer buckets is not swept."""


class Table:
    """At most `bound` buckets. At the bound, the one of a sample that knows least makes room for a new one.

    So nobody is refused for want of room, and nobody gets rid of their own bucket with a flood of new keys:
    the flood's buckets know of one request each, and they go first.

    Sweeping goes round: buckets move from `older` to `fresh`, unless they are unused or were moved by use,
    and when none is left the two change places. Each new bucket pays for a few steps; nothing ever stops for
    the whole table.
    """

    __slots__ = ("_weight", "admitted", "bound", "forgotten", "fresh", "older", "refused")

    def __init__(self, weight: Callable[[State, int], int], bound: int) -> None:
        """`weight` says how much is lost by forgetting a bucket; see `Meter.weight`."""
        self._weight = weight
        self.fresh: dict[str, State] = {}
        """For a store to read, and to replace in it what is there already."""
        self.older: dict[str, State] = {}
        """The rest, to read."""
        self.bound = bound
        self.admitted = self.refused = 0
        """Requests; a shadow's refusals are those that it would have made."""
        self.forgotten = 0
        """Buckets that were given up for others while they were in use."""

    def __len__(self) -> int:
        return len(self.fresh) + len(self.older)

    def get(self, key: str) -> State | None:
        """What is kept for a key."""
        state = self.fresh.get(key)
        return self.older.get(key) if state is None else state

    def put(self, key: str, state: State, now: int) -> None:
        """Keep this for a key."""
        if key not in self.fresh and self.older.pop(key, None) is None:
            self._make_room(now)
        self.fresh[key] = state

    def drop(self, key: str) -> None:
        """Keep nothing for a key."""
        if self.fresh.pop(key, None) is None:
            self.older.pop(key, None)

    def empty(self) -> Iterator[tuple[str, State]]:
        """All that is kept, one by one; nothing of it is kept any more."""
        while self.fresh or self.older:
            yield (self.fresh or self.older).popitem()

    def _make_room(self, now: int) -> None:
        full = len(self) >= self.bound
        if len(self) < SMALL and not full:
            return
        kept = []
        dropped = False
        for _ in range(min(len(self), SAMPLE if full else SWEPT)):
            if not self.older:
                self.older, self.fresh = self.fresh, self.older
            key, state = self.older.popitem()
            weight = self._weight(state, now)
            if weight > 0:
                kept.append((weight, key, state))
            else:
                dropped = True
        if full and not dropped:
            kept.remove(min(kept, key=_first))
            self.forgotten += 1
        for _, key, state in kept:
            self.fresh[key] = state


def _first(entry: tuple[int, str, State]) -> int:
    return entry[0]
