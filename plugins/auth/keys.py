"""Client keys: only their SHA-256 is kept, and found by it."""

import hashlib
import hmac
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

_SHA256 = re.compile(r"[0-9a-f]{64}")
_KNOWN = frozenset(("key", "key_sha256", "user", "team", "id"))
_SHORTEST = 8


@dataclass(frozen=True, slots=True)
class Key:
    """A client key as configured; `id` names it in logs and ledger, `digest` is the SHA-256 of the key."""

    id: str
    user: str
    team: str | None
    digest: bytes = field(repr=False)


class KeyRing:
    """The keys of a configuration. Finding one takes the same time whether it exists or not: a hash, a
    look-up by it and one constant-time comparison."""

    def __init__(self, entries: Sequence[Mapping[str, Any]]) -> None:
        """Raises `ValueError` for an entry that will not do; its message never holds a key."""
        if isinstance(entries, str | bytes | Mapping) or not isinstance(entries, Sequence):
            raise ValueError("keys is a list of entries like {user: alice, key: ...}")
        self._by_digest: dict[bytes, Key] = {}
        ids = set()
        for number, entry in enumerate(entries, 1):
            key = _read(entry, f"keys[{number - 1}]")
            if key.digest in self._by_digest:
                raise ValueError(f"keys[{number - 1}]: the same key stands there twice")
            if key.id in ids:
                raise ValueError(f"keys[{number - 1}]: the id {key.id!r} stands there twice")
            ids.add(key.id)
            self._by_digest[key.digest] = key

    def __bool__(self) -> bool:
        return bool(self._by_digest)

    def find(self, presented: bytes) -> Key | None:
        """The key that was presented, or None."""
        digest = hashlib.sha256(presented).digest()
        key = self._by_digest.get(digest)
        matches = hmac.compare_digest(digest, key.digest if key is not None else bytes(32))
        return key if matches else None


def _read(entry: Any, place: str) -> Key:
    if not isinstance(entry, Mapping):
        raise ValueError(f"{place} is not a mapping like {{user: alice, key: ...}}")
    for name in entry:
        if name not in _KNOWN:
            raise ValueError(f"{place}: unknown key {name!r}; it knows {', '.join(sorted(_KNOWN))}")
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
    return Key(
        id=_text(entry, "id", place) or f"{user}-{digest.hex()[:8]}",
        user=user,
        team=_text(entry, "team", place),
        digest=digest,
    )


def _text(entry: Mapping[str, Any], name: str, place: str) -> str | None:
    value = entry.get(name)
    if value is None:
        return None
    if not isinstance(value, str) or not value or not value.isprintable():
        raise ValueError(f"{place}: {name} is a line of text (quote it if it looks like a number)")
    return value
