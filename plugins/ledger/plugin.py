"""The `ledger` plugin: one row for every request, kept before its answer is whole."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from proxy.api import COST, IDENTITY, USAGE, End, Exchange, Plugin, Reply, Server, Slot

from .keeper import Keeper
from .options import at_least, size, switch
from .row import First, closed, opened

if TYPE_CHECKING:
    import click
    from starlette.routing import BaseRoute

    from .routes import Reading

_FIRST: Slot[First] = Slot("ledger.first")
LIMIT = "1GiB"
"""What the journal of one process may take of the disk."""
KEEP_MONTHS = 13
"""Whole months whose rows are kept, besides the one that runs: a year ago can be compared with."""


class Ledger(Plugin):
    """Keeps a row for every request whose caller is known: who, which model, how much, and how it ended.

    A row is in the journal before the last bytes of its answer go out, and soon after in the database. No
    database, however dead, and no disk, however full, stops a request, unless `required`: then one whose row
    could not be kept is answered 503. docs/ledger.md says what is kept when, and what can be lost.
    """

    requires: ClassVar[tuple[Any, ...]] = (IDENTITY,)
    reads_at_end: ClassVar[tuple[Any, ...]] = (USAGE, COST)
    on_error = "skip"

    def __init__(
        self,
        required: bool | str = False,
        keep_months: int | None = KEEP_MONTHS,
        journal: int | str = LIMIT,
    ) -> None:
        """`journal` is what each process may take of the disk; `keep_months: null` keeps rows for ever."""
        self._required = switch("required", required)
        self._keep_months = None if keep_months is None else at_least(1, "keep_months", keep_months)
        self._limit = size("journal", journal)
        if self._required:
            self.on_error = "fail"  # type: ignore[misc,assignment] # per configuration, not per class
        self._keeper = Keeper()
        self._reading: Reading | None = None
        self._unkept = Reply.error(
            503,
            "ledger_unavailable",
            "This request cannot be recorded now, and requests that are not recorded are not served.",
            retry_after=5,
        )

    def adopt(self, previous: Plugin) -> None:
        """Go on with the journal and the writer of the one that a reload replaces."""
        if isinstance(previous, Ledger):
            self._keeper = previous._keeper

    async def start(self, server: Server) -> None:
        """See `Plugin.start`."""
        await self._keeper.open(
            self, server, limit=self._limit, keep_months=self._keep_months, required=self._required
        )

    async def stop(self) -> None:
        """See `Plugin.stop`."""
        if self._reading is not None:
            self._reading.close()
        await self._keeper.close(self)

    def ready(self) -> str | None:
        """Not while rows are required and cannot be kept. A dead database is no reason: the journal keeps."""
        return self._keeper.trouble() if self._required else None

    def on_request(self, ex: Exchange) -> Reply | None:
        """Note that the request has come: should the process die, this is what is known of it."""
        first = ex._slots[_FIRST] = opened(ex)
        kept = self._keeper.begin(first, self._required)
        return None if kept or not self._required else self._unkept

    def on_end(self, ex: Exchange, end: End) -> None:
        """Keep the row."""
        first = ex._slots.get(_FIRST)
        if first is not None:
            self._keeper.end(closed(ex, end, first), self._required)

    def routes(self) -> "Sequence[BaseRoute]":
        """`GET /usage`, `/usage/rows` and `/usage/{id}`: the caller's own rows."""
        return self._reads().routes(own=True)

    def management_routes(self) -> "Sequence[BaseRoute]":
        """The same of everybody's."""
        return self._reads().routes(own=False)

    def _reads(self) -> "Reading":
        if self._reading is None:
            from .routes import Reading

            self._reading = Reading(self._keeper)
        return self._reading

    @classmethod
    def commands(cls) -> "Sequence[click.Command]":
        """`weir usage`."""
        from .command import usage

        return (usage,)
