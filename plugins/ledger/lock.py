"""Whose folder it is: a lock that the kernel takes back when its process dies, however it dies."""

import fcntl
import os
from pathlib import Path

NAME = "lock"


class FolderLock:
    """The lock of a folder, held until `release` or the end of the process."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    @classmethod
    def take(cls, folder: Path) -> "FolderLock | None":
        """The lock, or None if somebody holds it, or if the folder is gone. Raises `OSError`."""
        path = folder / NAME
        try:
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except FileNotFoundError:
            return None
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Whoever held it may have removed the folder meanwhile: then this is the lock of nothing.
            if os.fstat(fd).st_ino == path.stat().st_ino:
                return cls(fd)
        except (BlockingIOError, FileNotFoundError):
            pass
        except BaseException:
            os.close(fd)
            raise
        os.close(fd)
        return None

    def release(self) -> None:
        """Let go of it."""
        os.close(self._fd)
