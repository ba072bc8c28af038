"""The `auth` plugin: a key by header, or no keys and whatever the client says of itself."""

import hashlib
from collections.abc import Sequence
from typing import Any

from proxy.api import IDENTITY, Exchange, Identity, Plugin, Reply

from .keys import KeyRing

USER_LIMIT = 256
"""Characters of `x-user-id` that are kept."""
_CREDENTIALS = frozenset((b"authorization", b"api-key"))
_LOOKED_AT = _CREDENTIALS | {b"x-user-id"}


class Auth(Plugin):
    """Fills IDENTITY; with keys configured, turns away who has none of them.

    With keys: the credential must match one, `user` and `team` come from it, `x-user-id` becomes `end_user`,
    and the credential goes no further. Without: every request passes as it came, and `user` is `x-user-id`,
    else a short hash of the client's credential, else the address.
    """

    provides = (IDENTITY,)

    def __init__(self, keys: Sequence[dict[str, Any]] = ()) -> None:
        self._keys = KeyRing(keys)
        self._open = not self._keys
        self._refusal = Reply.error(401, "invalid_api_key", "Incorrect API key provided.")
        self._missing = Reply.error(
            401,
            "missing_api_key",
            "No API key provided. Send it as `Authorization: Bearer KEY` (api_key in the OpenAI SDK).",
        )
        for reply in (self._refusal, self._missing):
            reply.headers.add("www-authenticate", "Bearer")  # RFC 9110, 11.6.1

    def guards(self) -> bool:
        """See `Plugin.guards`."""
        return not self._open

    async def on_request(self, ex: Exchange) -> Reply | None:
        """Find the identity, or refuse."""
        request = ex.request
        said: str | None = None
        credentials = []
        for name, value in request.headers.raw:
            if name not in _LOOKED_AT:
                continue
            if name == b"authorization":
                scheme, _, rest = value.partition(b" ")
                credentials.append(rest.strip() if scheme.lower() == b"bearer" else value)
            elif name == b"api-key":  # Azure's
                credentials.append(value)
            elif value:  # x-user-id
                said = value[:USER_LIMIT].decode("latin-1")
        if self._open:
            user = said or (_short_hash(credentials[0]) if credentials else request.address)
            ex[IDENTITY] = Identity(user, request.address)
            return None
        if not credentials:
            return self._missing
        # Two credentials: which of them the next server would believe is anybody's guess.
        key = self._keys.find(credentials[0]) if len(credentials) == 1 else None
        if key is None:
            return self._refusal
        request.headers.raw = [pair for pair in request.headers.raw if pair[0] not in _CREDENTIALS]
        ex[IDENTITY] = Identity(key.user, request.address, key.id, key.team, said)
        return None


def _short_hash(credential: bytes) -> str:
    return "key-" + hashlib.sha256(credential).hexdigest()[:12]
