"""One file of the journal; its space is taken when it is made, so that writing to it does not fail later."""

import errno
import mmap
import os
from pathlib import Path
from typing import Final

SIZE: Final = 8 * 1024 * 1024
"""Bytes of a segment: the rows of some eight thousand requests."""


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

    def remove(self) -> None:
        """The file is needed no more."""
        self.close()
        self.path.unlink(missing_ok=True)

    def close(self) -> None:
        """Leave the file where it is."""
        if self._memory is not None:
            self._memory.close()
        os.close(self._fd)


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
