"""A JSON Web Key Set (RFC 7517) from a file or a URL: the public keys that an issuer signs with."""

import ssl
import urllib.error
import urllib.request
from collections.abc import Collection, Mapping
from http.client import HTTPException, HTTPMessage
from pathlib import Path
from typing import IO, Any, Final
from urllib.parse import urlsplit

import orjson
from jwt import PyJWK, PyJWKError
from jwt.exceptions import InvalidKeyError

ALGORITHMS: Final = {
    "RSA": ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"),
    "P-256": ("ES256",),
    "P-384": ("ES384",),
    "P-521": ("ES512",),
    "Ed25519": ("EdDSA",),
}
"""What keys of a type, or on a curve, can sign: asymmetric algorithms only."""
LARGEST: Final = 1 << 20
"""Bytes of a set."""
MOST: Final = 100
"""Keys of a set that are looked at."""
WAIT: Final = 5.0
"""Seconds for each step of asking a URL."""

Keys = Mapping[tuple[str | None, str], PyJWK]
"""By key id and algorithm; also by None for the id where just one key can sign that way."""


class Unreadable(Exception):
    """A set could not be had, this time. One line."""


class KeySet:
    """Where a set comes from. Blocking: for a thread."""

    def __init__(
        self,
        source: str,
        algorithms: Collection[str],
        *,
        ca: str | None = None,
        token_file: str | None = None,
    ) -> None:
        """Raises `ValueError` for a URL that anybody on the way could answer."""
        self.source = source
        self.is_url = "://" in source
        self._algorithms = algorithms
        self._ca = ca
        self._token_file = token_file
        self._raw: bytes | None = None
        if self.is_url:
            parts = urlsplit(source)
            local = parts.hostname in ("localhost", "127.0.0.1", "::1")
            if parts.username or not (parts.scheme == "https" or (parts.scheme == "http" and local)):
                raise ValueError("jwks is a file or an https:// URL (http:// on this machine only)")

    def look(self) -> Keys | None:
        """The keys, or None if they are those of the last look. Raises `Unreadable` or `OSError`."""
        raw = self._ask() if self.is_url else self._read()
        if len(raw) > LARGEST:
            raise Unreadable(f"is larger than {LARGEST} bytes")
        if raw == self._raw:
            return None
        keys = read(raw, self._algorithms)
        self._raw = raw
        return keys

    def _read(self) -> bytes:
        with Path(self.source).expanduser().open("rb") as file:
            return file.read(LARGEST + 1)

    def _ask(self) -> bytes:
        request = urllib.request.Request(self.source, headers={"accept": "application/json"})  # noqa: S310
        if self._token_file is not None:
            # Anew each time: Kubernetes renews it.
            token = Path(self._token_file).expanduser().read_text("ascii").strip()
            request.add_unredirected_header("Authorization", f"Bearer {token}")
        context = ssl.create_default_context(cafile=self._ca)
        opener = urllib.request.build_opener(urllib.request.HTTPSHandler(context=context), _NoRedirect())
        try:
            with opener.open(request, timeout=WAIT) as answer:
                found: bytes = answer.read(LARGEST + 1)
                return found
        except urllib.error.HTTPError as error:
            error.close()
            raise Unreadable(f"answered {error.code}") from None
        except HTTPException as error:
            raise Unreadable(f"is no HTTP: {type(error).__name__}") from None


def read(raw: bytes, algorithms: Collection[str]) -> Keys:
    """The keys of a set that can sign with these algorithms. Others, secret ones above all, are passed over.

    Raises `Unreadable`.
    """
    try:
        document = orjson.loads(raw)
    except orjson.JSONDecodeError:
        raise Unreadable("is not JSON") from None
    entries = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(entries, list):
        raise Unreadable("is not a JSON Web Key Set")
    found: dict[tuple[str | None, str], PyJWK] = {}
    by_algorithm: dict[str, list[PyJWK]] = {}
    for entry in entries[:MOST]:
        if not isinstance(entry, dict) or entry.get("use", "sig") != "sig":
            continue
        kind = entry.get("kty")
        signs = ALGORITHMS.get(str(kind if kind == "RSA" else entry.get("crv")), ())
        for algorithm in signs:
            if algorithm not in algorithms or entry.get("alg", algorithm) != algorithm:
                continue
            try:
                key = PyJWK(entry, algorithm)
            except (PyJWKError, InvalidKeyError, ValueError, TypeError, KeyError):
                continue
            by_algorithm.setdefault(algorithm, []).append(key)
            if isinstance(id := entry.get("kid"), str):
                found[id, algorithm] = key
    for algorithm, keys in by_algorithm.items():
        if len(keys) == 1:
            found[None, algorithm] = keys[0]
    return found


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: HTTPMessage,
        newurl: str,
    ) -> Any:
        """None: the redirect is the answer, and an error."""
