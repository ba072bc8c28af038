"""What is left of the buckets that streams use up, as far as this process knows, and what it has to tell.

Streams are charged here at once. Redis is told all of it together every `LAG`, and says what the others have
left.
"""

import asyncio
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple, Protocol

from ..limit import Limit
from ..meter import UNLIMITED, State, raised
from ..store import Hold
from .call import Give
from .settlements import Settlements

LAG: Final = 0.1
"""Seconds between two tellings, and how long what Redis has said is believed."""
_TOLD: Final = 128
"""Buckets told of in one call."""


class Asking(Protocol):
    """The line to Redis."""

    async def ask(self, hold: Hold, decide: bool) -> bool:
        """See `Line.ask`."""


class Bucket(NamedTuple):
    """One bucket; of a budget that of one window, whose end is the receipt."""

    limit: Limit
    key: str
    receipt: int


class Mirror:
    """What is left of one bucket, without what is pending: charged here and not told yet."""

    __slots__ = ("alone", "bucket", "heard", "holds", "left", "pending")

    def __init__(self, bucket: Bucket, left: int) -> None:
        self.bucket = bucket
        self.left = left
        self.pending = 0
        self.heard = -LAG
        """When Redis said it; before the first time it may be as old as the stream."""
        self.holds = 0
        self.alone = False
        """Whether this is only our share of what was left when Redis was last heard."""

    def give(self) -> Iterator[Give]:
        """What Redis has to be told; nothing is pending then."""
        limit, key, receipt = self.bucket
        pending, self.pending = self.pending, 0
        if pending:
            reserved, used = raised(limit.meter, pending)
            yield Give(limit, key, reserved, used, receipt)


class Mirrors:
    """Those of all streams that run: no more than there are."""

    def __init__(
        self,
        line: Asking,
        settlements: Settlements,
        away: Callable[[], bool],
        wall: Callable[[], int],
    ) -> None:
        """`away`: whether Redis does not answer. `wall` gives nanoseconds since 1970."""
        self._line = line
        self._settlements = settlements
        self._away = away
        self._wall = wall
        self.shares = 1
        self._mirrors: dict[Bucket, Mirror] = {}
        self._due: dict[Bucket, Mirror] = {}
        self._telling: asyncio.Task[None] | None = None

    def __len__(self) -> int:
        return len(self._mirrors)

    def is_over(self, limit: Limit, state: State) -> bool:
        """Whether the window has ended that this was taken in: nothing counts in it any more."""
        return limit.meter.calendar and state[0] <= self._wall() // 1000

    def charge(
        self, hold: Hold, place: int, limit: Limit, key: str, state: State, left: int, amount: int
    ) -> int | None:
        """See `Store.charge`. `left` is what there was when `state` was taken, for the first time here.

        While Redis does not answer, limits that are `open` let pass; of the others this process uses no more
        than its share of what was left.
        """
        if hold.burning is None:
            hold.burning = {}
        mirror: Mirror | None = hold.burning.get(place)
        if mirror is None:
            bucket = Bucket(limit, key, state[0] if limit.meter.calendar else 0)
            mirror = self._mirrors.get(bucket)
            if mirror is None:
                mirror = self._mirrors[bucket] = Mirror(bucket, left)
            hold.burning[place] = mirror
            mirror.holds += 1
        mirror.left -= amount
        mirror.pending += amount
        fresh = asyncio.get_running_loop().time() - mirror.heard <= LAG
        if mirror.pending or not fresh:
            self._due[mirror.bucket] = mirror
            if self._telling is None:
                self._telling = asyncio.create_task(self._tell())
        if self._away():
            if not mirror.alone:
                mirror.alone = True
                mirror.left = mirror.left // self.shares
            return UNLIMITED if limit.on_failure == "open" else mirror.left
        return mirror.left if fresh else None

    def release(self, hold: Hold) -> None:
        """A hold is settled: what it was charged is told before that."""
        if hold.burning is None:
            return
        for mirror in hold.burning.values():
            self._settlements.charge(mirror.give())
            mirror.holds -= 1
            if not mirror.holds:
                del self._mirrors[mirror.bucket]
                self._due.pop(mirror.bucket, None)
        hold.burning = None

    async def tell(self) -> None:
        """Tell Redis what is due, and hear what is left."""
        due, self._due = [*self._due.values()], {}
        for at in range(0, len(due), _TOLD):
            told = due[at : at + _TOLD]
            for mirror in told:
                self._settlements.charge(mirror.give())
            now = Hold("", [(mirror.bucket.limit, mirror.bucket.key, 0) for mirror in told])
            if not await self._line.ask(now, False):
                continue
            heard = asyncio.get_running_loop().time()
            for mirror, (_, _, left, _) in zip(told, now.taken, strict=True):
                mirror.left = left - mirror.pending
                mirror.heard = heard
                mirror.alone = False

    def close(self) -> None:
        """Tell no more, but what is pending."""
        if self._telling is not None:
            self._telling.cancel()
        for mirror in self._mirrors.values():
            self._settlements.charge(mirror.give())

    async def _tell(self) -> None:
        try:
            while self._due:
                if not self._away():
                    await self.tell()
                await asyncio.sleep(LAG)
        finally:
            self._telling = None
