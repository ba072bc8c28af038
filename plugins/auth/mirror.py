"""The keys of a database as this process knows them: a copy that is brought up to date row by row."""

import logging
import threading
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from .keys import Key

if TYPE_CHECKING:
    from .store import Seen, Store

log = logging.getLogger("weir.auth")


class Mirror:
    """All keys that are not revoked, about 1 KB each. Blocking: for a thread.

    The database is opened, and SQLAlchemy imported, when it is first asked for something.
    """

    def __init__(self, url: Callable[[], str]) -> None:
        self._url = url
        self._opening = threading.Lock()
        self._store: Store | None = None
        self._seen: Seen | None = None
        self._of: dict[str, dict[bytes, Key]] = {}
        self._keys: dict[bytes, Key] = {}

    def store(self) -> "Store":
        """The database, open. Raises as `Store.open`; the next call tries again."""
        with self._opening:
            if self._store is None:
                from .store import Store

                store = Store(self._url())
                store.open()
                self._store = store
            return self._store

    def look(self) -> Mapping[bytes, Key] | None:
        """All keys by digest, or None if nothing has changed since the last look."""
        store = self.store()
        from .store import Seen

        changes = store.changes(self._seen or Seen())
        if changes is None:
            return None
        if changes.whole:
            self._of.clear()
            self._keys.clear()
        for id_ in changes.damaged:
            self._forget(id_)
            log.error("a key cannot be read and is not good", extra={"fields": {"key_id": id_}})
        for record in changes.records:
            self._forget(record.id)
            if keys := record.keys():
                self._of[record.id] = keys
                self._keys.update(keys)
        if self._seen is not None:
            fields = {"changed": len(changes.records), "keys": len(self._of)}
            log.info("keys changed", extra={"fields": fields})
        self._seen = changes.seen
        return self._keys.copy()

    def _forget(self, id: str) -> None:
        for digest in self._of.pop(id, ()):
            self._keys.pop(digest, None)

    def close(self) -> None:
        """Close the connections that are not in use."""
        with self._opening:
            if self._store is not None:
                self._store.close()
