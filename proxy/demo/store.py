"""A dictionary that cannot grow without end."""

from typing import Generic, TypeVar

T = TypeVar("T")


class Store(Generic[T]):
    """Keeps the newest entries whose weights add up to at most `limit`; the oldest go first."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._weight = 0
        self._entries: dict[str, tuple[T, int]] = {}

    def put(self, key: str, value: T, weight: int = 1) -> None:
        self.pop(key)
        self._entries[key] = value, weight
        self._weight += weight
        while self._weight > self._limit:
            self.pop(next(iter(self._entries)))

    def get(self, key: str) -> T | None:
        entry = self._entries.get(key)
        return entry and entry[0]

    def pop(self, key: str) -> T | None:
        entry = self._entries.pop(key, None)
        if entry is None:
            return None
        self._weight -= entry[1]
        return entry[0]

    def values(self) -> list[T]:
        """Oldest first."""
        return [value for value, _ in self._entries.values()]
