"""What was counted before: a chat repeats its history with every turn.

No text is kept, only its length and its hash, which Python makes with a secret of the process: two texts of
one length that share it are nothing that anybody meets (2^-64 a pair).
"""

SHORTEST = 32
"""Characters of a text that is worth remembering: shorter ones are counted as quickly."""
GENERATION = 16_384
"""Counts in a generation. Two are kept, some 5 MB: when the younger is full the older is forgotten."""

Key = tuple[str, int, int]


class Counted:
    """Counts by encoding and text, the last `GENERATION` of them at least. Any thread may ask."""

    def __init__(self) -> None:
        self._young: dict[Key, int] = {}
        self._old: dict[Key, int] = {}

    def get(self, key: Key) -> int | None:
        """The count, if it is known."""
        count = self._young.get(key)
        if count is None:
            count = self._old.get(key)
            if count is not None:
                self.put(key, count)
        return count

    def put(self, key: Key, count: int) -> None:
        """Remember a count."""
        if len(self._young) >= GENERATION:
            self._old, self._young = self._young, {}
        self._young[key] = count


def key_of(text: str, encoding: str) -> Key:
    """What a text is remembered by. Takes 0.1 ms for 100 KB, the first time."""
    return encoding, len(text), hash(text)
