"""Where buckets are kept: the interface that every store has, and what travels through it.

A store decides over all limits of a request in one step, all or nothing, and settles each request once.
"""

from collections.abc import Mapping, Sequence
from typing import Protocol

from .limit import Kind, Limit
from .meter import Taken

Ask = tuple[Limit, str, int]
"""`(limit, key, amount)`: so much of one limit, from the bucket of this key."""


class Hold:
    """What one request asks of its limits, what they said, and whether it holds what it asked for.

    It is made before the store is asked, so that a request that is cut off in the middle of asking can be
    settled too. `id` is unique among all processes that share a store, and names what is to be undone.
    """

    __slots__ = ("asks", "held", "id", "refused_by", "settles", "taken")

    def __init__(self, id: str, asks: Sequence[Ask], settles: bool = True) -> None:
        """`settles`: whether the end of a request that was sent changes anything."""
        self.id = id
        self.asks = asks
        self.settles = settles
        self.taken: Sequence[Taken] = ()
        """What each limit said, in the order of the asks; empty until they were asked."""
        self.refused_by: int | None = None
        """The place of the limit that refuses. Of several it is the one that does so for longest: who waits
        for that one meets none of the others."""
        self.held = False
        """Whether there is anything to settle."""


class Store(Protocol):
    """Keeps buckets. Its methods are coroutine functions, whether or not it has anything to wait for: one
    that never suspends costs a tenth of a µs, and the plugin need not know the difference."""

    async def decide(self, hold: Hold) -> None:
        """Take what a hold asks from every limit, or nothing from any, and write the outcome into the hold.

        A shadow never refuses; where it would, nothing is taken from it.
        """

    async def peek(self, hold: Hold) -> None:
        """Write into the hold what `decide` would. Nothing is taken."""

    async def settle(self, hold: Hold, used: Mapping[Kind, int]) -> None:
        """Make what is held into what was used, by kind; a kind that is not named stays as reserved.

        Settling a hold again, or one that holds nothing, does nothing.
        """
