"""One file of the journal; its space is taken when it is made, so that writing to it does not fail later."""

import errno
import mmap
import os
import time
from pathlib import Path
from typing import Final

SIZE: Final = 8 * 1024 * 1024
"""Bytes of a segment: the rows of some ten thousand requests."""
_PIECE: Final = 256 * 1024
"""Bytes that are prepared at a time; requests wait no longer than that takes."""
_ZEROS: Final = bytes(_PIECE)
_POPULATE_WRITE: Final = 23  # Linux 5.14; `mmap` has no name for it


class Segment:
    """A file of `SIZE` bytes with records from its beginning up to `at`; after them, zeros or remains.

    Where the file system takes the space for good, the file is written to as memory, which costs a tenth of a
    system call and does not let go of the interpreter; what is in that memory is in the kernel's hands and
    survives the process. Elsewhere, where such a write could kill the process when the disk is full, by
    `pwrite`. What a failed write has left behind is written over by the next.
    """

    __slots__ = ("_fd", "_memory", "at", "path")

    def __init__(self, path: Path) -> None:
        """Make the file. Raises `OSError`, above all where the disk is full; then there is no file."""
        self.path = path
        self.at = 0
        self._memory: mmap.mmap | None = None
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            if _take(self._fd):
                self._memory = mmap.mmap(self._fd, SIZE)
                _touch(self._memory)
        except BaseException:
            os.close(self._fd)
            path.unlink(missing_ok=True)
            raise

    def write(self, data: bytes) -> bool:
        """Append; whether all of it is there. Raises `OSError`. There must be room."""
        at = self.at
        end = at + len(data)
        if self._memory is not None:
            self._memory[at:end] = data
        elif os.pwrite(self._fd, data, at) != len(data):
            return False
        self.at = end
        return True

    def read(self, at: int, end: int) -> bytes:
        """What was written between two places, from any thread. Raises `OSError`, also where somebody has
        made the file shorter."""
        data = os.pread(self._fd, end - at, at)
        if len(data) != end - at:
            raise OSError(errno.EIO, "a file of the journal is shorter than it was")
        return data

    def empty(self, path: Path) -> None:
        """Begin anew under another name. Raises `OSError`; then the file is good for nothing."""
        self.path = self.path.rename(path)
        for at in range(0, self.at, _PIECE):
            if os.pwrite(self._fd, _ZEROS, at) != _PIECE:
                raise OSError(errno.EIO, "zeros were not written whole")
        self.at = 0

    def remove(self) -> None:
        """The file is needed no more."""
        self.close()
        self.path.unlink(missing_ok=True)

    def close(self) -> None:
        """Leave the file where it is."""
        if self._memory is not None:
            self._memory.close()
        os.close(self._fd)


def _touch(memory: mmap.mmap) -> None:
    """Have the kernel make its pages now: each would take 5 µs of the request that comes upon it."""
    for at in range(0, SIZE, _PIECE):
        try:
            memory.madvise(_POPULATE_WRITE, at, _PIECE)
        except (OSError, AttributeError):  # an older kernel, or another one
            return
        time.sleep(0)  # lets go of the interpreter


def _take(fd: int) -> bool:
    """Take the space; whether the file system can promise it."""
    if not hasattr(os, "posix_fallocate"):  # macOS
        os.truncate(fd, SIZE)
        return False
    try:
        os.posix_fallocate(fd, 0, SIZE)
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):
            raise
        os.truncate(fd, SIZE)
        return False
    return True
