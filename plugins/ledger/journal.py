"""The journal: what is not yet in the database, in files of this process alone.

A folder has a `lock`, held for as long as its process lives, segments `00000001.log`, `00000002.log` …, and
`open.log`: the open records of segments that are gone, whose requests still run. The event loop writes; the
writer's thread makes the next segment ahead of time, reads, and removes.

A record survives the process (`kill -9`) from the moment that `append` returns; the machine's own death only
once the kernel has written it out, which takes it some seconds.
"""

import errno
import os
import secrets
import shutil
from collections import deque
from collections.abc import Callable, Collection
from contextlib import suppress
from pathlib import Path
from threading import Lock
from time import monotonic_ns
from typing import Final

from .lock import FolderLock
from .record import OPEN, record
from .segment import SIZE, Segment

SLOW: Final = 10_000_000
"""Nanoseconds above which a write is counted as slow."""
STUCK: Final = 250_000_000
"""Nanoseconds above which it is the disk, and no processor that was busy elsewhere: then the journal is
passed by for a while, and who kills the process meanwhile loses what is in memory."""
PASSED_BY: Final = 5_000_000_000
"""Nanoseconds for which a stuck journal is passed by."""
OPEN_LOG: Final = "open.log"


class Journal:
    """Segments in their order, the one written to last. `append` is for the event loop, the rest for the
    writer's thread."""

    def __init__(self, folder: Path, limit: int) -> None:
        """`folder` is where the journals of all processes are, `limit` the bytes that this one may take."""
        self._parent = folder
        self.limit = max(limit, 2 * SIZE)
        self.folder: Path | None = None
        self.segments: deque[Segment] = deque()
        self.needed: Callable[[], None] = lambda: None
        """Called on the event loop when the next segment is in use, so that the one after it is made."""
        self.failures = 0
        """Records that could not be written."""
        self.slow_writes = 0
        self._lock: FolderLock | None = None
        self._ready: Segment | None = None
        self._spare: Segment | None = None
        """One that was needed no more: to write to its pages again takes a fifth of what new ones take."""
        self._number = 0
        self._pass_by_until = 0
        # Of `_ready`, which both threads take away and put back; held for no longer than that takes.
        self._handing = Lock()

    @property
    def size(self) -> int:
        """Bytes on the disk."""
        return (len(self.segments) + (self._ready is not None) + (self._spare is not None)) * SIZE

    @property
    def usable(self) -> bool:
        """Whether a record can be written now, as far as is known."""
        return bool(self.segments) and (self.segments[-1].at + SIZE // 64 <= SIZE or self._ready is not None)

    # -- the event loop ----------------------------------------------------------------------------

    def append(self, kind: bytes, payload: bytes, patient: bool = False) -> bool:
        """Write one record; whether it is kept. Never raises.

        The page cache takes it in a microsecond. A disk that is stuck holds up the loop once; then, unless
        the caller is `patient`, records are refused for five seconds.
        """
        start = monotonic_ns()
        if start < self._pass_by_until and not patient:
            return False
        data = record(kind, payload)
        try:
            segment = self.segments[-1]
            if segment.at + len(data) > SIZE:
                if not self._advance():
                    self.failures += 1
                    return False
                segment = self.segments[-1]
            written = segment.write(data)
        except (OSError, IndexError, ValueError):  # ValueError: larger than a segment
            written = False
        took = monotonic_ns() - start
        if took > SLOW:
            self.slow_writes += 1
            if took > STUCK:
                self._pass_by_until = start + took + PASSED_BY
        if not written:
            self.failures += 1
        return written

    def _advance(self) -> bool:
        """Go on with the next segment; False while there is none."""
        with self._handing:
            segment, self._ready = self._ready, None
        if segment is not None:
            self.segments.append(segment)
        self.needed()
        return segment is not None

    # -- the writer's thread -----------------------------------------------------------------------

    def prepare(self) -> None:
        """See to it that the next segment is there. Raises `OSError` while it cannot be."""
        if self.folder is None:
            self._make_folder()
        if not self.segments:
            self.segments.append(Segment(self._next_path()))
        if self._ready is None:
            segment, self._spare = self._spare, None
            if segment is None:
                if self.size + SIZE > self.limit:
                    raise OSError(errno.EDQUOT, f"it has reached its limit of {self.limit} bytes")
                segment = Segment(self._next_path())
            with self._handing:
                self._ready = segment

    def keep_open(self, payloads: Collection[bytes]) -> None:
        """Replace `open.log` by these open records, in one step. Raises `OSError`."""
        assert self.folder is not None  # noqa: S101 # there are segments
        path = self.folder / OPEN_LOG
        if not payloads:
            path.unlink(missing_ok=True)
            return
        new = path.with_suffix(".new")
        new.write_bytes(b"".join(record(OPEN, payload) for payload in payloads))
        new.replace(path)

    def drop_first(self) -> None:
        """The oldest segment is needed no more."""
        segment = self.segments.popleft()
        if self._spare is None:
            with suppress(OSError):  # what it has is in the database
                segment.empty(self._next_path())
                self._spare = segment
                return
        segment.remove()

    def close(self, *, done: bool) -> None:
        """Let go of everything. Where all is `done` nothing is left, else another process takes it over."""
        for segment in (*self.segments, self._ready, self._spare):
            if segment is not None:
                segment.close()
        self.segments.clear()
        self._ready = self._spare = None
        if self.folder is not None and done:
            shutil.rmtree(self.folder, ignore_errors=True)
        if self._lock is not None:
            self._lock.release()
        self.folder = self._lock = None

    def _make_folder(self) -> None:
        # Under a name that nobody looks at until the lock is held.
        name = f"{os.getpid()}-{secrets.token_hex(6)}"
        new = self._parent / f".{name}"
        new.mkdir(mode=0o700, parents=True)
        lock = FolderLock.take(new)
        if lock is None:
            raise OSError("the lock of a new folder is held by somebody")
        self._lock = lock
        self.folder = new.rename(self._parent / name)

    def _next_path(self) -> Path:
        assert self.folder is not None  # noqa: S101 # made before
        self._number += 1
        return self.folder / f"{self._number:08}.log"
