"""Where buckets are kept: the interface that every store has, and what travels through it.

A store decides over all limits of a request in one step, all or nothing, and settles each request once.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from .limit import Kind, Limit
from .meter import Taken
from .money import MOST
from .table import Table

if TYPE_CHECKING:
    from .memory import MemoryStore

Ask = tuple[Limit, str, int]
"""`(limit, key, amount)`: so much of one limit, from the bucket of this key."""


class Hold:
    """What one request asks of its limits, what they said, and whether it holds what it asked for.

    It is made before the store is asked, so that a request that is cut off in the middle of asking can be
    settled too. `id` is unique among all processes that share a store, and names what is to be undone.
    """

    __slots__ = (
        "asks",
        "burning",
        "held",
        "id",
        "local",
        "refused_by",
        "settles",
        "share",
        "taken",
        "told",
        "unavailable",
    )

    def __init__(self, id: str, asks: Sequence[Ask], settles: bool = True, told: Any = None) -> None:
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
        self.unavailable: Limit | None = None
        """The limit that refuses because its store does not answer."""
        self.told = told
        """What the headers make of these limits; see `headers.Told`."""
        self.local: Any = None
        """The store's own: what is held elsewhere than usual."""
        self.share: Any = None
        """Its part of what streams use up, which ends with it; see `fuse.Share`."""
        self.burning: Any = None
        """The store's own: the buckets that are charged while this request streams."""

    def raise_by(self, place: int, amount: int) -> None:
        """Ask so much more of one limit, or less, so that settling this gives back that too; at most `MOST`,
        which is all that a bucket ever owes."""
        limit, key, asked = self.asks[place]
        asks = self.asks = list(self.asks)  # what a plan made may be another's too
        asks[place] = limit, key, min(MOST, asked + amount)


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

    def charge(self, hold: Hold, place: int, amount: int) -> int | None:
        """Reserve so much more of one limit for what is held, below 0 less; it never refuses and never waits.

        What is then left in the bucket for anybody; at most 0 where there is nothing. None where that is not
        known just now, and soon will be. What is not held charges nothing.
        """

    @property
    def shares(self) -> int:
        """Processes that charge the same buckets."""

    @property
    def tables(self) -> Mapping[str, Table]:
        """By the limit's id: what this process counts, and how many requests passed and did not."""

    @property
    def mode(self) -> str:
        """`memory`; or `shared`, and `local` while what is shared cannot be reached."""

    @property
    def figures(self) -> Mapping[str, int]:
        """Of a shared store: `calls` that were answered, `decisions` made by them, and settlements `lost`."""

    @property
    def memory(self) -> "MemoryStore":
        """What is counted in this process."""

    def adopt(self, previous: "Store") -> None:
        """Go on from what another store counts in this process, where the limits have the same id."""

    async def start(self, shares: int) -> None:
        """Before the first request. `shares` are the processes that share the limits."""

    async def stop(self) -> None:
        """After the last request: settle what is not settled yet, as far as possible."""

    def ready(self) -> str | None:
        """None, or why requests would be refused that no limit refuses."""
