"""The tokens of a text that comes in pieces: each piece is tokenised once, and little is kept."""

import re
from collections.abc import Callable
from typing import Final

CARRY: Final = 128
"""Characters that wait for what comes after them."""
LONGEST: Final = 8192
"""Characters without any place to cut at; then they are cut anywhere, which may add a few tokens."""

# What follows such a place is cut into tokens without regard to what went before: see `tokens`.
_END_OF_TOKEN: Final = re.compile(r"[^\W_](?=[ \n\t,.:;\u3001\u3002\uff0c\uff1a\uff1b])")
_NEAR: Final = 64


class RunningCount:
    """Counts a text as it grows: the same as counting it whole, but for what `LONGEST` says."""

    __slots__ = ("_count", "_counted", "_rest", "size")

    def __init__(self, count: Callable[[str], int]) -> None:
        """`count` gives the tokens of a text."""
        self._count = count
        self._counted = 0
        self._rest = ""
        self.size = 0
        """UTF-8 bytes so far."""

    def add(self, text: str) -> None:
        """More of it. Blocks for what counting it takes."""
        self.size += len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))
        rest = self._rest + text
        if len(rest) > CARRY:
            at = _last_end(rest)
            if not at and len(rest) > LONGEST:
                at = len(rest)
            if at:
                self._counted += self._count(rest[:at])
                rest = rest[at:]
        self._rest = rest

    def tokens(self) -> int:
        """How many there are. What waits is counted for this and waits on."""
        return self._counted + (self._count(self._rest) if self._rest else 0)


def _last_end(text: str) -> int:
    """Where the last token ends that is sure to; 0 if none is."""
    start = max(0, len(text) - _NEAR)
    while True:
        at = 0
        for found in _END_OF_TOKEN.finditer(text, start):
            at = found.end()
        if at or not start:
            return at
        start = max(0, len(text) - (len(text) - start) * 8)
