"""Client keys: only their SHA-256 is kept, and found by it."""

import hashlib
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import translate
from functools import lru_cache
from hmac import compare_digest
from time import time
from typing import Any

from . import limits, when

_SHA256 = re.compile(r"[0-9a-f]{64}")
_FIELDS = frozenset(("key", "key_sha256", "user", "team", "id", "limits", "models", "expires"))
_SHORTEST = 8
LONGEST = 256
"""Characters of an id, a user, a team or a pattern."""
MOST_MODELS = 100
"""Patterns of one key."""


@dataclass(frozen=True, slots=True)
class Key:
    """A client key; `id` names it in logs and ledger (a token has none), `digest` is its SHA-256.

    `limits` are its own, as the limiter reads them, `models` the patterns of those it may use (none: all);
    `until` is when it expires, in seconds since 1970.
    """

    id: str | None
    user: str
    team: str | None
    digest: bytes = field(repr=False)
    limits: tuple[dict[str, Any], ...] = field(default=(), hash=False)
    models: tuple[str, ...] = ()
    until: float = math.inf


_NOBODYS = Key(None, "", None, bytes(32), until=0.0)
"""Found where there is none, so that the same is done then."""


class KeyRing:
    """All keys there are, from wherever they come. Finding one takes the same time whether it exists or not:
    a hash, a look-up by it and one constant-time comparison."""

    def __init__(self, keys: Sequence[Key] = ()) -> None:
        self._by_digest: Mapping[bytes, Key] = {key.digest: key for key in keys}
        self._sources: dict[str, Mapping[bytes, Key]] = {"": self._by_digest}

    def __len__(self) -> int:
        return len(self._by_digest)

    def find(self, presented: bytes) -> Key | None:
        """The key that was presented, or None if there is none such, or no longer."""
        digest = hashlib.sha256(presented).digest()
        key = self._by_digest.get(digest, _NOBODYS)
        in_time = time() < key.until  # asked of whatever was found, so that no answer comes sooner
        return key if compare_digest(digest, key.digest) and in_time else None

    def put(self, source: str, keys: Mapping[bytes, Key]) -> None:
        """Set what one source has, in place of what it had; the mapping is not to change any more.

        Of two keys that are the same the one counts that was configured, or else came from the source that
        was put first. Up to some 5 ms for 100 000 keys of several sources.
        """
        self._sources[source] = keys
        *first, last = [found for found in self._sources.values() if found] or [{}]
        if not first:
            self._by_digest = last
            return
        merged = dict(last)  # a copy is quicker than an update
        for found in reversed(first):
            merged.update(found)
        self._by_digest = merged


def read(entries: Any) -> list[Key]:
    """The keys of a configuration. Raises `ValueError`; its message never holds a key."""
    if isinstance(entries, str | bytes | Mapping) or not isinstance(entries, Sequence):
        raise ValueError("keys is a list of entries like {user: alice, key: ...}")
    found: dict[bytes, Key] = {}
    ids = set()
    for number, entry in enumerate(entries):
        key = read_one(entry, f"keys[{number}]")
        if key.digest in found:
            raise ValueError(f"keys[{number}]: the same key stands there twice")
        if key.id in ids:
            raise ValueError(f"keys[{number}]: the id {key.id!r} stands there twice")
        ids.add(key.id)
        found[key.digest] = key
    return list(found.values())


def read_one(entry: Any, place: str) -> Key:
    """One entry. Raises `ValueError` with a message that begins with `place`."""
    if not isinstance(entry, Mapping):
        raise ValueError(f"{place} is not a mapping like {{user: alice, key: ...}}")
    for name in entry:
        if name not in _FIELDS:
            raise ValueError(f"{place}: unknown key {name!r}; it knows {', '.join(sorted(_FIELDS))}")
    user = _text(entry, "user", place)
    if user is None:
        raise ValueError(f"{place}: user must be set")
    plain, hashed = _text(entry, "key", place), _text(entry, "key_sha256", place)
    if (plain is None) == (hashed is None):
        raise ValueError(f"{place}: set either key or key_sha256")
    if hashed is not None:
        if not _SHA256.fullmatch(hashed.lower()):
            raise ValueError(f"{place}: key_sha256 is 64 hexadecimal digits")
        digest = bytes.fromhex(hashed)
    else:
        assert plain is not None  # noqa: S101 # one of the two is set
        if len(plain) < _SHORTEST:
            raise ValueError(f"{place}: a key has at least {_SHORTEST} characters")
        digest = hashlib.sha256(plain.encode()).digest()
    try:
        return Key(
            id=_text(entry, "id", place) or f"{user}-{digest.hex()[:8]}",
            user=user,
            team=_text(entry, "team", place),
            digest=digest,
            limits=limits.read(entry.get("limits") or ()),
            models=patterns(entry.get("models") or ()),
            until=_until(entry.get("expires")),
        )
    except ValueError as error:
        text = str(error)
        raise ValueError(text if text.startswith(place) else f"{place}: {text}") from error


def patterns(value: Any) -> tuple[str, ...]:
    """Patterns of models: one or a list. Raises `ValueError`."""
    texts = [value] if isinstance(value, str) else value
    if (
        not isinstance(texts, Sequence)
        or isinstance(texts, bytes)
        or len(texts) > MOST_MODELS
        or not all(isinstance(text, str) and is_line(text) for text in texts)
    ):
        raise ValueError("models is a pattern like gpt-4o* or a list of them; leave it out for all")
    return tuple(texts)


@lru_cache(maxsize=4096)
def allows(models: tuple[str, ...]) -> "re.Pattern[str]":
    """What matches the name of a model that such patterns allow, whole and with regard to case."""
    return re.compile("|".join(map(translate, models)))


def is_line(text: str) -> bool:
    """Whether text can stand in a log line, a header and a table."""
    return 0 < len(text) <= LONGEST and text.isprintable()


def _until(value: Any) -> float:
    if value is None:
        return math.inf
    try:
        return when.moment(value)
    except ValueError as error:
        raise ValueError(f"expires {error}") from None


def _text(entry: Mapping[str, Any], name: str, place: str) -> str | None:
    value = entry.get(name)
    if value is None:
        return None
    if not isinstance(value, str) or not value or not value.isprintable():
        raise ValueError(f"{place}: {name} is a line of text (quote it if it looks like a number)")
    return value
