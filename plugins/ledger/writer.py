"""The thread that moves rows from the journal into the database, in batches; another keeps house there."""

import logging
import threading
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Final, Protocol

from .backlog import Backlog
from .journal import Journal
from .record import identity
from .replay import BATCH, adopt
from .row import tidied

log = logging.getLogger("weir.ledger")

EVERY: Final = 0.5
"""Seconds between two batches, unless somebody waits for one."""
LONGEST_PAUSE: Final = 5.0
"""Seconds between two tries to reach a database that is down."""
ADOPT_EVERY: Final = 10.0
"""Seconds between two looks for journals that dead processes have left."""
HOUSE_EVERY: Final = 1.0
"""Seconds between two looks at what is to be done in the database besides."""
SPILL: Final = 10_000
"""Rows that wait in memory while the journal takes none: 10 MB at most, as a rule."""


class Sink(Protocol):
    """The database as the writer sees it. Everything blocks, and may raise anything."""

    def open(self) -> None:
        """Be ready for rows: once, before the first."""

    def write(self, rows: Sequence[bytes]) -> None:
        """Add rows, as the journal has them; those that are there already stay."""

    def keep_house(self) -> None:
        """What is to be done now and then: called every second, from a thread of its own."""


class Writer:
    """Writes rows that the journal has, and removes its segments whose rows are all written.

    While the database is down the journal grows up to its limit. While the journal takes nothing, rows wait
    in memory, up to `SPILL`; above it they are lost, and counted.
    """

    def __init__(self, journal: Journal | None, folder: Path | None, sink: Sink) -> None:
        """`folder` is where the journals of all processes are."""
        self._journal = journal
        self._folder = folder
        self._sink = sink
        self._opened = False
        self._spill: deque[bytes] = deque()
        self.backlog = None if journal is None else Backlog(journal)
        self._waiting: deque[Future[bool]] = deque()
        self._wake = threading.Event()
        self._stopping = False
        self._pause = EVERY
        self._adopt_at = 0.0
        self._caught_up = time.monotonic()
        self._thread = threading.Thread(target=self._run, name="weir-ledger", daemon=True)
        # Of its own: a day takes minutes to roll up if it was a busy one, and rows do not wait for that.
        self._house = threading.Thread(target=self._keep_house, name="weir-ledger-house", daemon=True)
        self._leave = threading.Event()
        self.written = 0
        self.lost = 0
        self.down: str | None = None
        """Why the database takes no rows; None while it does, or before it was asked."""
        self.full: str | None = None
        """Why the journal cannot grow."""

    # -- the event loop ----------------------------------------------------------------------------

    def start(self) -> None:
        """Begin."""
        if self._journal is not None:
            self._journal.needed = self._wake.set
        self._thread.start()
        self._house.start()

    def spill(self, row: bytes) -> bool:
        """Take a row that the journal did not take; False if there are too many, and it is lost."""
        if len(self._spill) >= SPILL:
            self.lost += 1
            return False
        self._spill.append(row)
        return True

    def flush(self) -> "Future[bool]":
        """Whether what was kept before this call is in the database, as soon as that is known."""
        future: Future[bool] = Future()
        self._waiting.append(future)
        self._wake.set()
        return future

    def stop(self, within: float) -> bool:
        """Write what there is, and end; blocks. False if it did not within so many seconds."""
        self._stopping = True
        self._wake.set()
        self._leave.set()
        self._thread.join(within)
        self._house.join(HOUSE_EVERY)  # what it has not done it does again
        return not self._thread.is_alive()

    @property
    def waiting(self) -> int:
        """Rows that are in memory alone."""
        return len(self._spill)

    @property
    def lag(self) -> float:
        """Seconds since everything that was kept was also written; 0 while that is so."""
        return 0.0 if self._is_done() else time.monotonic() - self._caught_up

    # -- the thread --------------------------------------------------------------------------------

    def _run(self) -> None:
        while True:
            stopping = self._stopping
            waiting = [self._waiting.popleft() for _ in range(len(self._waiting))]
            try:
                done = self._turn()
            except Exception as error:  # noqa: BLE001 # ours: rows are safe in the journal, and it is tried again
                self._failed(error)
                done = False
            _tell(waiting, done)
            if stopping:
                break
            self._wake.wait(EVERY if done else self._pause)
            self._wake.clear()
        _tell([*self._waiting], False)
        if self._journal is not None:
            self._journal.close(done=self.down is None and self._is_done() and not self._running)

    def _turn(self) -> bool:
        """One round; whether the database took all that there was when it began."""
        self._prepare()
        try:
            if not self._opened:
                self._sink.open()
                self._opened = True
            self._adopt()
            spilled = len(self._spill)
            self._move()
            self._move_spilled(spilled)
        except Exception as error:  # noqa: BLE001 # drivers raise what they like, and the rows are safe here
            self._failed(error)
            return False
        self._caught_up = time.monotonic()
        if self.down is not None:
            log.info("the database takes rows again", extra={"fields": {"rows": self.written}})
        self.down = None
        self._pause = EVERY
        return True

    def _keep_house(self) -> None:
        failed = False
        while not self._leave.wait(HOUSE_EVERY):
            if not self._opened or self.down is not None:
                continue
            try:
                self._sink.keep_house()
                failed = False
            except Exception as error:  # noqa: BLE001 # drivers raise what they like; it is tried again
                if not failed:
                    fields = {"raised": type(error).__name__}
                    log.error("days are not rolled up, and old rows not deleted", extra={"fields": fields})
                failed = True

    def _prepare(self) -> None:
        if self._journal is None:
            return
        try:
            self._journal.prepare()
        except OSError as error:
            if self.full is None:
                fields = {"reason": error.strerror or str(error)}
                log.error("the ledger's journal cannot grow; rows wait in memory", extra={"fields": fields})
            self.full = error.strerror or str(error)
        else:
            if self.full is not None:
                log.info("the ledger's journal can grow again")
            self.full = None

    def _failed(self, error: Exception) -> None:
        reason = type(error).__name__
        if self.down is None:
            # The driver's own words name hosts and users, and may quote a row: its type alone is told.
            cause = getattr(error, "orig", None)
            fields = {"raised": reason, "cause": type(cause).__name__ if cause is not None else None}
            if isinstance(error, ValueError):  # ours, with a line for people
                fields["reason"] = str(error)
            log.error("the database takes no rows; the journal keeps them", extra={"fields": fields})
        self.down = reason
        self._pause = min(self._pause * 2, LONGEST_PAUSE)

    def _adopt(self) -> None:
        now = time.monotonic()
        if self._folder is None or now < self._adopt_at:
            return
        try:
            self.written += adopt(self._folder, self._write)
        except OSError as error:  # somebody's files, or a full disk: no reason to keep our own rows waiting
            fields = {"reason": error.strerror or str(error)}
            log.error("a journal that was left behind cannot be read", extra={"fields": fields})
        self._adopt_at = now + ADOPT_EVERY

    def _move(self) -> None:
        """From the journal to the database, what there was when this began."""
        journal, backlog = self._journal, self.backlog
        if journal is None or backlog is None or not journal.segments:
            return
        end, place = backlog.end, None
        while place != end:
            rows, place = backlog.read(BATCH, end)
            self._put(rows)
            backlog.was_read(place)
            # There may be a gigabyte of it, and meanwhile requests go on.
            self._prepare()
            self._drop(journal, backlog)

    def _move_spilled(self, count: int) -> None:
        while count > 0:
            rows = [self._spill[at] for at in range(min(count, BATCH))]
            self._put(rows)
            for row in rows:
                self._spill.popleft()
                if self.backlog is not None:  # its open record may be in the journal
                    self.backlog.running.pop(identity(row), None)
            count -= len(rows)

    def _put(self, rows: list[bytes]) -> None:
        if rows:
            self._write(rows)
            self.written += len(rows)

    def _write(self, rows: list[bytes]) -> None:
        try:
            self._sink.write(rows)
        except (ValueError, OverflowError) as error:
            self._write_one_by_one(rows, error)
        except Exception as error:
            # A value that this database does not take: whatever else is wrong would be wrong of one row too.
            if not _is_about_data(error):
                raise
            self._write_one_by_one(rows, error)

    def _write_one_by_one(self, rows: list[bytes], error: Exception) -> None:
        fields = {"raised": type(error).__name__}
        log.warning("a row has a value that the database does not take", extra={"fields": fields})
        for row in rows:
            try:
                self._sink.write([tidied(row)])
            except Exception as error:
                if not (_is_about_data(error) or isinstance(error, ValueError | OverflowError)):
                    raise
                self.lost += 1
                fields = {"id": identity(row).decode(), "raised": type(error).__name__}
                log.error("a row was lost", extra={"fields": fields})

    def _drop(self, journal: Journal, backlog: Backlog) -> None:
        """Remove segments whose rows are all written; their requests that still run are kept beside."""
        if journal.segments[0] is backlog.needs:
            return
        try:
            journal.keep_open(backlog.running.values())
            while journal.segments[0] is not backlog.needs:
                journal.drop_first()
        except OSError as error:
            self.full = error.strerror or str(error)

    @property
    def _running(self) -> bool:
        return self.backlog is not None and bool(self.backlog.running)

    def _is_done(self) -> bool:
        return not self._spill and (self.backlog is None or self.backlog.is_done)


def _tell(waiting: list["Future[bool]"], done: bool) -> None:
    for future in waiting:
        if future.set_running_or_notify_cancel():  # who gave up waiting has cancelled it
            future.set_result(done)


def _is_about_data(error: Exception) -> bool:
    return type(error).__name__ == "DataError"
