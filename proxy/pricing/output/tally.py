"""What a model has written, sorted by where it stands: several answers, and several texts in one, may come
mixed. A text is counted as one, since tokens do not end where its pieces do."""

from collections.abc import Callable
from typing import Any, Final

from proxy.pricing.output.deltas import Key, Kind
from proxy.pricing.output.running import RunningCount

TEXTS: Final = 256
"""Texts that are kept apart. What more there are counts as one, with its tokens cut where its pieces are."""


class Tally:
    """See `deltas.Tally`. `settle` after a batch of events: until then their pieces wait."""

    __slots__ = (
        "_count",
        "_listed",
        "_over",
        "_pieces",
        "_texts",
        "audio_bytes",
        "calls",
        "hidden",
        "model",
        "service_tier",
    )

    def __init__(self, count: Callable[[str], int]) -> None:
        """`count` gives the tokens of a text."""
        self._count = count
        self._texts: dict[Key, RunningCount] = {}
        self._pieces: dict[Key, list[str]] = {}
        self._listed: dict[Key, int] = {}
        self._over: set[Any] = set()
        self.calls = 0
        self.audio_bytes = 0
        self.hidden = False
        self.model: str | None = None
        self.service_tier: str | None = None

    def text(self, key: Key, piece: str) -> None:
        """A piece of text."""
        pieces = self._pieces.get(key)
        if pieces is None:
            self._pieces[key] = [piece]
        else:
            pieces.append(piece)

    def listed(self, key: Key, tokens: int) -> None:
        """So many tokens of a text, as the upstream lists them."""
        if key not in self._listed and len(self._listed) >= TEXTS:
            key = _rest(key)
        self._listed[key] = self._listed.get(key, 0) + tokens

    def has(self, key: Key) -> bool:
        """Whether any of this text has come."""
        return key in self._pieces or key in self._texts or key in self._listed

    def over(self, choice: Any) -> None:
        """This choice, or all of the answer, is complete."""
        if len(self._over) < TEXTS:
            self._over.add(choice)

    def settle(self) -> None:
        """Count what came since the last time. Blocks."""
        for key, pieces in self._pieces.items():
            text = self._texts.get(key)
            if text is None:
                if len(self._texts) >= TEXTS:
                    key = _rest(key)
                text = self._texts.setdefault(key, RunningCount(self._count))
            text.add("".join(pieces))
        self._pieces.clear()

    def tokens(self, *kinds: Kind) -> int:
        """Tokens of these kinds. Blocks a little, for what waits in `RunningCount`."""
        counted = sum(text.tokens() for (kind, *_), text in self._texts.items() if kind in kinds)
        return counted + sum(tokens for (kind, *_), tokens in self._listed.items() if kind in kinds)

    @property
    def listed_tokens(self) -> int:
        """Those of them all that the upstream listed."""
        return sum(self._listed.values())

    @property
    def texts(self) -> int:
        """How many texts are counted."""
        return len(self._texts)

    @property
    def most(self) -> int:
        """No fewer tokens than all that was shown can be: a token is a byte at least."""
        return sum(text.size for text in self._texts.values()) + self.listed_tokens

    @property
    def finished(self) -> int:
        """Choices that are complete."""
        return len(self._over)


def _rest(key: Key) -> Key:
    return key[0], "rest", None
