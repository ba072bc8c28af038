"""Journals that a dead process has left: their rows are written, and those of requests that never ended."""

import logging
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from .journal import OPEN_LOG
from .lock import NAME, FolderLock
from .record import CLOSED, identity, records
from .row import crashed, readable

log = logging.getLogger("weir.ledger")

Write = Callable[[list[bytes]], None]
BATCH: Final = 1_000
"""Rows of one transaction."""
ASIDE: Final = ".unread"
"""What the name of a journal ends with that holds what this version cannot read."""
_ABANDONED: Final = 60.0
"""Seconds after which a folder that has no lock yet was left by a process that died making it."""


def adopt(folder: Path, write: Write) -> int:
    """Write the rows of all journals in this folder whose processes are dead, and remove them; how many rows.

    `write` adds rows to the database, and what it raises is raised: the journal stays and is read again. To
    be killed in the middle does no harm, since a row that is there already stays as it is. The end of a file
    that cannot be read is passed over, and the first `OSError` is raised when all others are done. A journal
    with records of other columns, as another version of Weir may leave, is set aside once its other rows are
    written: it gets the ending `ASIDE`, and is not looked at again.
    """
    written = 0
    failure: OSError | None = None
    for journal in sorted(folder.iterdir()) if folder.is_dir() else []:
        try:
            if journal.name.startswith("."):
                if time.time() - journal.stat().st_mtime > _ABANDONED and not (journal / NAME).exists():
                    shutil.rmtree(journal, ignore_errors=True)
            elif journal.suffix != ASIDE:
                written += _adopt(journal, write)
        except FileNotFoundError:
            continue  # another process was quicker
        except OSError as error:
            failure = failure or error
    if failure is not None:
        raise failure
    return written


def _adopt(journal: Path, write: Write) -> int:
    lock = FolderLock.take(journal)
    if lock is None:
        return 0
    try:
        count, unended, unread = _replay(journal, write)
        if count:
            fields = {"journal": journal.name, "rows": count, "crashed": unended}
            log.warning("a journal was left behind, and is in the ledger now", extra={"fields": fields})
        if unread:
            aside = journal.with_name(journal.name + ASIDE)
            journal.rename(aside)
            fields = {"journal": aside.name, "records": unread}
            log.error(
                "a journal has records of another version of Weir; it is set aside", extra={"fields": fields}
            )
        else:
            _remove(journal)
        return count
    finally:
        lock.release()


def _replay(journal: Path, write: Write) -> tuple[int, int, int]:
    """How many rows it had, how many of them of requests that never ended, and what could not be read."""
    unended: dict[bytes, bytes] = {}
    payloads: list[bytes] = []
    written = unread = 0
    for path in (journal / OPEN_LOG, *sorted(journal.glob("[0-9]*.log"))):
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            continue
        for kind, payload, _ in records(data):
            ended = kind == CLOSED
            if not readable(payload, ended=ended):
                unread += 1
                continue
            if not ended:
                unended[identity(payload)] = payload
                continue
            unended.pop(identity(payload), None)
            payloads.append(payload)
            if len(payloads) == BATCH:
                write(payloads)
                written += BATCH
                payloads = []
    rows = [*payloads, *map(crashed, unended.values())]
    for at in range(0, len(rows), BATCH):
        write(rows[at : at + BATCH])
    return written + len(rows), len(unended), unread


def _remove(journal: Path) -> None:
    """The lock goes last: until then nobody else may take the folder for one that is to be read."""
    for path in journal.iterdir():
        if path.name != NAME:
            os.unlink(path)
    os.unlink(journal / NAME)
    os.rmdir(journal)
