"""What one process keeps rows with: journal, writer, database and metrics. A reload goes on with it."""

import asyncio
import logging
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from proxy.api import Server

from .journal import Journal
from .metrics import Metrics
from .record import CLOSED, OPEN
from .row import First
from .writer import Writer

if TYPE_CHECKING:
    from proxy.api.database import Database

    from .sink import SqlSink

log = logging.getLogger("weir.ledger")

STOP_WITHIN: Final = 10.0
"""Seconds that the last rows may take at a stop; what is left then is written at the next start."""


class Keeper:
    """Keeps rows, from `open` by the first owner to `close` by the last; owners are plugins."""

    def __init__(self) -> None:
        self.database: Database | None = None
        """None where rows are kept nowhere: nothing is configured, and the default folder cannot be used."""
        self.journal: Journal | None = None
        self._writer: Writer | None = None
        self._sink: SqlSink | None = None
        self._metrics: Metrics | None = None
        self._owners: set[object] = set()

    async def open(
        self, owner: object, server: Server, *, limit: int, keep_months: int | None, required: bool
    ) -> None:
        """Be ready to keep rows. Raises `ValueError` with a line that says what to put right.

        A database that is down is none of that: rows wait in the journal.
        """
        if not self._owners:
            # Here, since SQLAlchemy takes its time, and `weir --help` has no use for it.
            await asyncio.to_thread(self._open, server, limit, keep_months, required)
        self._owners.add(owner)
        if self._sink is not None and self.journal is not None:
            self._sink.keep_months = keep_months
        if self.journal is not None:
            self.journal.limit = limit

    def _open(self, server: Server, limit: int, keep_months: int | None, required: bool) -> None:
        from proxy.api.database import Database, default_url, state_dir

        from .sink import SqlSink

        folder = None
        try:
            folder = state_dir(server) / "journal"
            url = default_url(server)
        except ValueError as error:
            if required or server.state_dir is not None:
                raise ValueError(f"ledger: {error}") from error
            log.warning("the ledger has no journal", extra={"fields": {"reason": str(error)}})
            if server.database_url is None:
                log.warning("the ledger is off: requests are answered, and no row of them is kept")
                return
            url = server.database_url
        self.database = Database(url, package="plugins.ledger", name="ledger")
        self._sink = SqlSink(self.database, keep_months)
        if folder is not None:
            self.journal = Journal(folder, limit)
            with suppress(OSError):  # the writer tells of it, and tries again
                self.journal.prepare()
        self._writer = writer = Writer(self.journal, folder, self._sink)
        try:
            self._metrics = Metrics(server.metrics, writer, self.journal)
        except ValueError as error:
            raise ValueError("ledger stands in the chain twice: it keeps one row per request") from error
        try:
            self._sink.open()
        except ValueError as error:
            self._metrics.close()
            raise ValueError(f"ledger: {error}") from error
        except Exception:  # noqa: BLE001 # it is down: the writer tells of it, and tries again
            pass
        writer.start()

    async def close(self, owner: object) -> None:
        """The last owner's rows are written before this returns, or are in the journal for the next start."""
        self._owners.discard(owner)
        if self._owners:
            return
        if self._writer is not None:
            if not await asyncio.to_thread(self._writer.stop, STOP_WITHIN):
                log.warning("the last rows wait in the journal until the next start")
            self._writer = None
        if self._metrics is not None:
            self._metrics.close()
            self._metrics = None
        if self.database is not None:
            self.database.dispose()
            self.database = None

    def begin(self, first: First, patient: bool) -> bool:
        """Keep what is known of a request that has come; whether it would survive the process."""
        journal = self.journal
        if journal is None:
            return False
        return journal.append(OPEN, b"".join(first), patient)

    def end(self, row: bytes, patient: bool) -> bool:
        """Keep the row of a request; False if it is lost, which is counted."""
        journal, writer = self.journal, self._writer
        if writer is None:
            return False
        kept = journal is not None and journal.append(CLOSED, row, patient)
        if not kept:
            kept = writer.spill(row)
        return kept

    async def flush(self, within: float) -> bool:
        """Write what is kept now; whether that is done after so many seconds."""
        writer = self._writer
        if writer is None:
            return False
        try:
            return await asyncio.wait_for(asyncio.wrap_future(writer.flush()), within)
        except TimeoutError:
            return False

    def trouble(self) -> str | None:
        """Why a row might not be kept, in one line; None while all is well."""
        writer, journal = self._writer, self.journal
        if writer is None or journal is None:
            return "there is no journal"
        return None if journal.usable else f"the journal takes no rows ({writer.full or 'it is full'})"
