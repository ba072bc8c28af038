"""JSON Web Tokens as credentials (RFC 7519): signed by an issuer that is trusted, for us as audience."""

import asyncio
import hashlib
import math
from base64 import urlsafe_b64decode
from collections.abc import Mapping, Sequence
from time import time
from typing import Any, Final

import jwt
import orjson

from . import limits, when
from .jwks import ALGORITHMS, Keys, KeySet
from .keys import Key, is_line, patterns
from .watch import Watch

KNOWN_ALGORITHMS: Final = tuple(name for names in ALGORITHMS.values() for name in names)
DEFAULT_ALGORITHMS: Final = ("RS256", "ES256")
VERIFIED: Final = 10_000
"""Tokens whose signature need not be checked again, about 1 KB each; above it the oldest is forgotten."""
TRUST: Final = 3600.0
"""Seconds after which a token is checked again even if it is good for longer."""
LONGEST: Final = 8192
"""Bytes of a token."""
REFRESH: Final = 600.0
"""Seconds between two looks at a URL; a file is looked at every second."""
RETRY: Final = 5.0
UNKNOWN: Final = 10.0
"""Seconds between two looks because of a key id that is not known: anybody can make one up."""
PATIENCE: Final = 2.0
"""Seconds that a request waits for such a look."""
_FIELDS: Final = (
    "issuer",
    "audience",
    "jwks",
    "jwks_ca",
    "jwks_token",
    "algorithms",
    "leeway",
    "user",
    "team",
    "limits",
    "models",
)

Claim = tuple[str, ...]


class Issuer:
    """Who may sign, and what is taken from what they say."""

    def __init__(self, entry: Any, place: str) -> None:
        """Raises `ValueError` with a message that begins with `place`."""
        if not isinstance(entry, Mapping):
            raise ValueError(f"{place} is a mapping like {{issuer: …, audience: weir, jwks: https://…}}")
        for name in entry:
            if name not in _FIELDS:
                raise ValueError(f"{place}: unknown key {name!r}; it knows {', '.join(_FIELDS)}")
        self.name = _text(entry, "issuer", place)
        self.audiences = _texts(entry, "audience", place)
        self.algorithms = _texts(entry, "algorithms", place, DEFAULT_ALGORITHMS)
        for one in self.algorithms:
            if one not in KNOWN_ALGORITHMS:
                raise ValueError(
                    f"{place}: algorithms: {one!r} is not one of {', '.join(KNOWN_ALGORITHMS)}; "
                    "what is checked with a public key is signed with a private one"
                )
        self.user = _claim(entry, "user", place) or ("sub",)
        self.team = _claim(entry, "team", place)
        try:
            self.leeway = when.span(entry.get("leeway", "30s"))
            self.limits = limits.read(entry.get("limits") or ())
            self.models = patterns(entry.get("models") or ())
            self.key_set = KeySet(
                _text(entry, "jwks", place),
                self.algorithms,
                ca=_text(entry, "jwks_ca", place) if "jwks_ca" in entry else None,
                token_file=_text(entry, "jwks_token", place) if "jwks_token" in entry else None,
            )
        except ValueError as error:
            text = str(error)
            if text.startswith("is not a span"):
                text = f"leeway {text}"
            raise ValueError(text if text.startswith(place) else f"{place}: {text}") from error
        self.keys: Keys = {}


class Tokens:
    """The tokens of some issuers. Finding one that was seen before takes a hash and a look-up; the signature
    of another is checked on the event loop, in 50 to 200 µs."""

    def __init__(self, entries: Any) -> None:
        """Raises `ValueError`."""
        several = isinstance(entries, Sequence) and not isinstance(entries, str | bytes)
        found = entries if several else [entries]
        self._issuers: dict[str, Issuer] = {}
        self.watches: list[Watch[Keys]] = []
        self._watch_of: dict[str, Watch[Keys]] = {}
        self._asked: dict[str, float] = {}
        self._verified: dict[bytes, Key] = {}
        for number, entry in enumerate(found):
            issuer = Issuer(entry, f"jwt[{number}]" if several else "jwt")
            if issuer.name in self._issuers:
                raise ValueError(f"jwt[{number}]: the issuer stands there twice")
            self._issuers[issuer.name] = issuer
            self._watch(issuer)

    async def find(self, presented: bytes) -> Key | None:
        """Who such a token names, as a key without an id; None if it is none that is to be trusted."""
        if len(presented) > LONGEST or presented.count(b".") != 2:
            return None
        digest = hashlib.sha256(presented).digest()
        key = self._verified.get(digest)
        if key is not None and time() < key.until:
            return key
        key = await self._verify(presented, digest)
        if key is not None:
            if len(self._verified) >= VERIFIED:
                del self._verified[next(iter(self._verified))]
            self._verified[digest] = key
        return key

    async def _verify(self, presented: bytes, digest: bytes) -> Key | None:
        try:
            header, said = (_part(part) for part in presented.split(b".")[:2])
        except ValueError:
            return None
        name, algorithm, id = said.get("iss"), header.get("alg"), header.get("kid")
        issuer = self._issuers.get(name) if isinstance(name, str) else None
        if issuer is None or algorithm not in issuer.algorithms or not (id is None or isinstance(id, str)):
            return None
        if (id, algorithm) not in issuer.keys:
            await self._look_again(issuer)
        key = issuer.keys.get((id, algorithm))
        if key is None:
            return None
        try:
            claims = jwt.decode(
                presented,
                key,
                algorithms=[algorithm],
                audience=issuer.audiences,
                issuer=issuer.name,
                leeway=issuer.leeway,
                options={"require": ["exp", "iss", "aud"]},
            )
        except jwt.PyJWTError:
            return None
        user, team = _of(claims, issuer.user), _of(claims, issuer.team) if issuer.team else None
        if user is None:
            return None
        until = min(float(claims["exp"]) + issuer.leeway, time() + TRUST)
        if not math.isfinite(until):
            return None
        return Key(None, user, team, digest, issuer.limits, issuer.models, until)

    async def _look_again(self, issuer: Issuer) -> None:
        """For a key id that is not known: at most once in a while, and not for long.

        Who comes while others wait for it waits too: after a rotation all clients come with the new key.
        """
        now, watch = asyncio.get_running_loop().time(), self._watch_of[issuer.name]
        if now - self._asked.get(issuer.name, -UNKNOWN) >= UNKNOWN:
            self._asked[issuer.name] = now
            await watch.again(PATIENCE)
        else:
            await watch.looked(PATIENCE)

    def _watch(self, issuer: Issuer) -> None:
        def tell(keys: Keys | None) -> None:
            issuer.keys = keys or {}
            self._verified.clear()  # a key that was taken back has signed nothing any more

        source = issuer.key_set
        watch = Watch(
            f"jwks {source.source}",
            source.look,
            tell,
            period=REFRESH if source.is_url else 1.0,
            retry=RETRY if source.is_url else 1.0,
        )
        self.watches.append(watch)
        self._watch_of[issuer.name] = watch


def _part(part: bytes) -> dict[str, Any]:
    """A part of a token that nobody has checked. Raises `ValueError`."""
    found = orjson.loads(urlsafe_b64decode(part + b"=" * (-len(part) % 4)))
    if not isinstance(found, dict):
        raise ValueError("not an object")
    return found


def _of(claims: Any, path: Claim) -> str | None:
    for name in path:
        claims = claims.get(name) if isinstance(claims, dict) else None
    return claims if isinstance(claims, str) and is_line(claims) else None


def _text(entry: Mapping[str, Any], name: str, place: str) -> str:
    value = entry.get(name)
    if not isinstance(value, str) or not value.isprintable() or not value:
        raise ValueError(f"{place}: {name} must be set, to a line of text")
    return value


def _texts(entry: Mapping[str, Any], name: str, place: str, default: tuple[str, ...] = ()) -> tuple[str, ...]:
    value = entry.get(name, default)
    found = (value,) if isinstance(value, str) else value
    if (
        not isinstance(found, list | tuple)
        or not found
        or not all(isinstance(one, str) and is_line(one) for one in found)
    ):
        raise ValueError(f"{place}: {name} must be set, to a line of text or a list of them")
    return tuple(found)


def _claim(entry: Mapping[str, Any], name: str, place: str) -> Claim:
    """The way to a claim: its name, or a list of names from the outside in."""
    return _texts(entry, name, place) if name in entry else ()
