"""Names of models: how they are spelled, and which pattern of a table one means.

A pattern is a name in which `*` is any text and `?` any one character; case does not count. Exact beats
pattern, and of two patterns the one with more text before its first wildcard. Two that could both mean a name
with nothing to choose between them are an error of the table.
"""

import bisect
from collections.abc import Iterator
from typing import Final, Generic, TypeVar

LONGEST: Final = 256
"""Characters of a model's name. A longer one is no model's."""
MAX_PATTERNS: Final = 2000
"""Of one table: a name that is new is compared with all of them, on the event loop."""

Owner = TypeVar("Owner")


def is_pattern(name: str) -> bool:
    """Whether it has a wildcard."""
    return "*" in name or "?" in name


def spellings(name: str) -> tuple[str, ...]:
    """A name as it may stand in a table, the likeliest first: `OpenAI/GPT-4o` may be there as `gpt-4o`.

    A fine-tuned model (`ft:gpt-4o:…`) keeps its wrapper: it has prices of its own.
    """
    name = name.strip().lower()
    bare = name.rpartition("/")[2]
    return (name,) if bare == name else (name, bare)


def both_match(one: str, other: str) -> bool:
    """Whether some name fits both patterns."""
    # reached[j]: what is left of `one` from i, and of `other` from j, have a text in common.
    reached = [False] * len(other) + [True]
    for j in reversed(range(len(other))):
        reached[j] = other[j] == "*" and reached[j + 1]
    for mine in reversed(one):
        after, reached = reached, [False] * len(reached)
        reached[-1] = mine == "*" and after[-1]
        for j in reversed(range(len(other))):
            theirs = other[j]
            if mine == "*" or theirs == "*":
                reached[j] = after[j] or reached[j + 1]
            else:
                reached[j] = after[j + 1] and (mine == theirs or "?" in (mine, theirs))
    return reached[0]


def matches(pattern: str, name: str) -> bool:
    """Whether a name fits a pattern. Takes their lengths multiplied at most, whatever a client sends."""
    at = tried = 0
    star = -1
    for_star = 0
    while at < len(name):
        if tried < len(pattern) and pattern[tried] == "*":
            star, for_star = tried, at
            tried += 1
        elif tried < len(pattern) and pattern[tried] in ("?", name[at]):
            tried += 1
            at += 1
        elif star >= 0:
            for_star += 1
            tried, at = star + 1, for_star
        else:
            return False
    return not pattern[tried:].strip("*")


class Names(Generic[Owner]):
    """Names and patterns, each with what it stands for."""

    def __init__(self) -> None:
        self._exact: dict[str, Owner] = {}
        self._patterns: dict[str, list[tuple[str, Owner]]] = {}  # by the text before their first wildcard
        self._prefixes: list[str] = []  # the longest first

    def add(self, name: str, owner: Owner) -> Owner | None:
        """Add one; if a name could then mean either of two, nothing is added and the other is returned."""
        name = name.lower()
        if not is_pattern(name):
            other = self._exact.setdefault(name, owner)
            return None if other is owner else other
        prefix = name.partition("*")[0].partition("?")[0]
        rivals = self._patterns.setdefault(prefix, [])
        for rival, other in rivals:
            if other is not owner and both_match(name, rival):
                return other
        if not rivals:
            bisect.insort(self._prefixes, prefix, key=lambda each: -len(each))
        rivals.append((name, owner))
        return None

    def find(self, name: str) -> Owner | None:
        """What a name stands for, or None."""
        tried = spellings(name)
        for spelling in tried:
            if (owner := self._exact.get(spelling)) is not None:
                return owner
        for prefix in self._prefixes:
            for spelling in tried:
                if spelling.startswith(prefix):
                    for pattern, owner in self._patterns[prefix]:
                        if matches(pattern, spelling):
                            return owner
        return None

    def __iter__(self) -> Iterator[str]:
        """The exact names."""
        return iter(self._exact)
