"""What was counted before: a chat repeats its history with every turn.

No text is kept, only its hash, which Python makes with a secret of the process: two texts that share it are
nothing that anybody meets (2^-64 a pair).
"""

SHORTEST = 8
"""Characters of a text that is worth remembering: shorter ones are counted as quickly."""
GENERATION = 16_384
"""Counts in a generation. Two are kept of each encoding, some 4 MB: when the younger is full the older is
forgotten."""


class Counted:
    """Counts in one encoding by the hash of the text, the last `GENERATION` of them at least. Any thread may
    ask; the hash of 100 KB takes 25 µs, the first time."""

    def __init__(self) -> None:
        self.lately: dict[int, int] = {}
        """The younger generation: a look there is all that a text costs that comes often."""
        self._old: dict[int, int] = {}

    def get(self, text: str) -> int | None:
        """The count, if it is known."""
        key = hash(text)
        count = self.lately.get(key)
        if count is None:
            count = self._old.get(key)
            if count is not None:
                self.put(text, count)
        return count

    def put(self, text: str, count: int) -> None:
        """Remember a count."""
        if len(self.lately) >= GENERATION:
            self._old, self.lately = self.lately, {}
        self.lately[hash(text)] = count
