"""A key as the database has it, and as it is shown: never the key, never its hash."""

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from . import limits, when
from .keys import LONGEST, Key, is_line, patterns

FIELDS: Final = ("user", "team", "limits", "models", "expires")
"""What a person says of a key; the rest is Weir's own."""
MICROSECONDS: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Record:
    """One key. Hashes are SHA-256 in hexadecimal, moments µs since 1970; what is not set is None.

    After a rotation the key that was before, `previous_sha256`, is good until `previous_until`.
    """

    id: str
    sha256: str = field(repr=False)
    user: str
    team: str | None
    limits: tuple[dict[str, Any], ...]
    models: tuple[str, ...]
    created_at: int
    created_by: str
    updated_at: int
    expires_at: int | None = None
    revoked_at: int | None = None
    previous_sha256: str | None = field(default=None, repr=False)
    previous_until: int | None = None
    version: int = 0

    def keys(self) -> dict[bytes, Key]:
        """What may be presented, by its hash: one key, for a time after a rotation two, none if revoked."""
        if self.revoked_at is not None:
            return {}
        until = math.inf if self.expires_at is None else self.expires_at / MICROSECONDS
        found = [self._key(self.sha256, until)]
        if self.previous_sha256 is not None and self.previous_until is not None:
            found.append(self._key(self.previous_sha256, min(until, self.previous_until / MICROSECONDS)))
        return {key.digest: key for key in found}

    def _key(self, sha256: str, until: float) -> Key:
        return Key(self.id, self.user, self.team, bytes.fromhex(sha256), self.limits, self.models, until)

    def state(self, now: float) -> str:
        """`active`, `expired` or `revoked`."""
        if self.revoked_at is not None:
            return "revoked"
        expired = self.expires_at is not None and self.expires_at <= now * MICROSECONDS
        return "expired" if expired else "active"

    def shown(self, now: float) -> dict[str, Any]:
        """As JSON."""
        return {
            "object": "weir.key",
            "id": self.id,
            "state": self.state(now),
            "user": self.user,
            "team": self.team,
            "limits": list(self.limits),
            "models": list(self.models),
            "expires": _written(self.expires_at),
            "created": _written(self.created_at),
            "created_by": self.created_by,
            "updated": _written(self.updated_at),
            "revoked": _written(self.revoked_at),
            "previous_until": _written(self.previous_until),
        }


def digest(key: str) -> str:
    """The hash by which a key is kept."""
    return hashlib.sha256(key.encode()).hexdigest()


def checked(fields: Mapping[str, Any], now: float) -> dict[str, Any]:
    """What a person says of a key, for the database. Raises `ValueError` with one line.

    `expires` is text, a span or a moment, and becomes `expires_at`; None takes a value away.
    """
    found: dict[str, Any] = {}
    for name, value in fields.items():
        if name not in FIELDS:
            raise ValueError(f"unknown field {name!r}; there are {', '.join(FIELDS)}")
        if name == "user" or (name == "team" and value is not None):
            if not isinstance(value, str) or not is_line(value):
                raise ValueError(f"{name} is a line of text, at most {LONGEST} characters")
            found[name] = value
        elif name == "team":
            found[name] = None
        elif name == "limits":
            found[name] = limits.read(() if value is None else value)
        elif name == "models":
            found[name] = patterns(() if value is None else value)
        else:
            found["expires_at"] = None if value is None else _expiry(value, now)
    return found


def _expiry(value: Any, now: float) -> int:
    try:
        return int(when.expiry(value, now) * MICROSECONDS)
    except ValueError as error:
        raise ValueError(f"expires {error}") from None


def _written(moment: int | None) -> str | None:
    return None if moment is None else when.written(moment / MICROSECONDS)
