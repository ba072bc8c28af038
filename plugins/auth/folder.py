"""Keys from a folder: a file for each, as Kubernetes mounts a Secret.

A file's name is the user, its text the key; or its text is a JSON object, with the fields of an entry of
`keys`. Names that begin with a dot are passed over: Kubernetes keeps the files' true places there, and swaps
a symbolic link (`..data`) when the Secret changes.
"""

import logging
import os
from pathlib import Path
from typing import Any

import orjson

from .keys import Key, read_one

log = logging.getLogger("weir.auth")

MOST = 10_000
"""Files that are read; the rest, by name, is passed over and told of."""
LARGEST = 64 * 1024
"""Bytes of one file."""

State = tuple[Any, ...]


class Folder:
    """A folder of keys. Blocking: for a thread."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path).expanduser()
        self._told: set[str] = set()
        self._state: State | None = None

    def look(self) -> dict[bytes, Key] | None:
        """All keys by digest, or None if nothing has changed since the last look.

        Raises `OSError` for a folder that cannot be read, the first time `ValueError`.
        """
        try:
            state = self.state()
            if state == self._state:
                return None
            keys = self.keys()
            # As it was before. If a swap came in between, what was read is of both, and is read anew.
            self._state = state
        except OSError as error:
            if self._state is None:
                raise ValueError(f"keys_dir: {self.path} cannot be read: {error.strerror}") from error
            raise
        return keys

    def state(self) -> State:
        """What changes whenever the keys may have. Raises `OSError`."""
        try:
            return ("..data", os.readlink(self.path / "..data"))
        except OSError:
            pass  # no Secret of Kubernetes
        return (
            "files",
            *(
                (entry.name, found.st_mtime_ns, found.st_size, found.st_ino)
                for entry in self._entries()
                if (found := _stat(entry)) is not None
            ),
        )

    def keys(self) -> dict[bytes, Key]:
        """All keys that can be read, by digest; a file that will not do is told in the log, once.

        Raises `OSError` for a folder that cannot be read.
        """
        found: dict[bytes, Key] = {}
        ids: set[str | None] = set()
        problems = set()
        for entry in self._entries():
            try:
                if not entry.is_file():
                    continue
                key = _read(entry)
                if key.digest in found or key.id in ids:
                    raise ValueError("another file has the same key or id")
            except OSError as error:
                problems.add(f"{entry.name}: cannot be read: {error.strerror}")
            except ValueError as error:
                problems.add(str(error) if str(error).startswith(entry.name) else f"{entry.name}: {error}")
            else:
                ids.add(key.id)
                found[key.digest] = key
        for problem in sorted(problems - self._told):
            log.error("a key file is left out", extra={"fields": {"keys_dir": self.path, "problem": problem}})
        self._told = problems
        return found

    def _entries(self) -> list["os.DirEntry[str]"]:
        with os.scandir(self.path) as entries:
            found = sorted(
                (entry for entry in entries if not entry.name.startswith(".")), key=lambda one: one.name
            )
        if len(found) > MOST and "" not in self._told:
            log.error("too many key files", extra={"fields": {"keys_dir": self.path, "read": MOST}})
            self._told.add("")
        return found[:MOST]


def _stat(entry: "os.DirEntry[str]") -> os.stat_result | None:
    try:
        return os.stat(entry.path)  # through links: theirs is what counts
    except OSError:
        return None


def _read(entry: "os.DirEntry[str]") -> Key:
    with Path(entry.path).open("rb") as file:
        raw = file.read(LARGEST + 1)
    if len(raw) > LARGEST:
        raise ValueError(f"is larger than {LARGEST} bytes")
    try:
        text = raw.decode().strip()
    except UnicodeDecodeError:
        raise ValueError("is not text") from None
    fields: Any = {"key": text}
    if text.startswith("{"):
        try:
            fields = orjson.loads(text)
        except orjson.JSONDecodeError:
            raise ValueError("begins like JSON and is none") from None
    return read_one({"user": entry.name, "id": entry.name, **fields}, entry.name)
