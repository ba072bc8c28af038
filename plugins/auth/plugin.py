"""The `auth` plugin: a key by header, or no keys and whatever the client says of itself."""

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from proxy.api import IDENTITY, Exchange, Identity, Plugin, Reply, Server

from . import models, secret, when
from .failures import Failures
from .folder import Folder
from .keys import Key, KeyRing, read
from .mirror import Mirror
from .watch import Watch

if TYPE_CHECKING:
    import click
    from starlette.routing import BaseRoute

    from .tokens import Tokens

USER_LIMIT = 256
"""Characters of `x-user-id` that are kept."""
POLL = 0.5
"""Seconds between two looks at the database; what is revoked there ends within 2 s."""
POLL_FOLDER = 1.0
_LOOKED_AT = frozenset((b"authorization", b"api-key", b"x-user-id"))
_RATE = re.compile(r"([0-9]{1,6})/(second|minute|hour|day)")
# A quarter of what the constructor costs that a NamedTuple is given.
_new_identity: Callable[[tuple[Any, ...]], Identity] = partial(tuple.__new__, Identity)
_WINDOWS = {"second": 1.0, "minute": 60.0, "hour": 3600.0, "day": 86400.0}


class Auth(Plugin):
    """Fills IDENTITY; with keys configured, turns away who has none of them.

    With keys: the credential must match one, `user` and `team` come from it, `x-user-id` becomes `end_user`,
    and the credential goes no further. Without: every request passes as it came, and `user` is `x-user-id`,
    else a short hash of the client's credential, else the address.
    """

    provides = (IDENTITY,)

    def __init__(
        self,
        keys: Sequence[dict[str, Any]] = (),
        keys_dir: str | None = None,
        store: str | None = None,
        stale: str = "1h",
        failures: str = "100/minute",
        jwt: Any = None,
    ) -> None:
        self._ring = KeyRing(read(keys))
        self._watches: list[Watch[Any]] = []
        self._mirror: Mirror | None = None
        self._tokens: Tokens | None = None
        self._server: Server | None = None
        trust = _span("stale", stale)
        if keys_dir is not None:
            self._keep(f"keys_dir {keys_dir}", Folder(_path(keys_dir)).look, POLL_FOLDER, trust)
        if store is not None:
            if store != "database":
                raise ValueError("store is database, or left out")
            self._mirror = Mirror(self._database_url)
            self._keep("database", self._mirror.look, POLL, trust)
        if jwt is not None:
            self._tokens = _tokens(jwt)
            self._watches += self._tokens.watches
        self._open = not len(self._ring) and not self._watches
        self._failures = _failures(failures)
        # Looked at on every request: a look at an empty table, and no call.
        self._suspects = () if self._failures is None else self._failures.addresses
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

    async def start(self, server: Server) -> None:
        """See `Plugin.start`. Raises `ValueError`."""
        self._server = server
        try:
            for watch in self._watches:
                await watch.start()
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """See `Plugin.stop`."""
        for watch in self._watches:
            watch.stop()
        if self._mirror is not None:
            self._mirror.close()

    def ready(self) -> str | None:
        """See `Plugin.ready`."""
        return next((reason for watch in self._watches if (reason := watch.ready())), None)

    def adopt(self, previous: Plugin) -> None:
        """See `Plugin.adopt`: what is known of sources that stay is known still, and who failed too often."""
        if isinstance(previous, Auth):
            known = {watch.name: watch for watch in previous._watches}
            for watch in self._watches:
                if watch.name in known:
                    watch.adopt(known[watch.name])
            if self._failures is not None and previous._failures is not None:
                self._failures.adopt(previous._failures)

    async def on_request(self, ex: Exchange) -> Reply | None:
        """Find the identity, or refuse."""
        request = ex.request
        said: str | None = None
        credentials = []
        at = 0
        raw = request.headers.raw
        for place, (name, value) in enumerate(raw):
            if name not in _LOOKED_AT:
                continue
            if name == b"authorization":
                at = place
                scheme, _, rest = value.partition(b" ")
                credentials.append(rest.strip() if scheme.lower() == b"bearer" else value)
            elif name == b"api-key":  # Azure's
                at = place
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
        key = self._ring.find(credentials[0]) if len(credentials) == 1 else None
        if key is None:
            if self._tokens is not None and len(credentials) == 1:
                key = await self._tokens.find(credentials[0])
            if key is None:
                return self._refuse(request.address, credentials)
        elif self._suspects and (reply := self._too_many(request.address, credentials[0])):
            return reply
        del raw[at]  # there is no other: who shows two is refused
        may = key.models
        ex[IDENTITY] = _new_identity((key.user, request.address, key.id, key.team, said, key.limits, may))
        if may:
            await models.check(ex, may)
        return None

    def management_routes(self) -> "Sequence[BaseRoute]":
        """See `Plugin.management_routes`: keys in the database can be managed there."""
        if self._mirror is None:
            return ()
        from .admin import routes

        return routes(self._mirror.store)

    @classmethod
    def commands(cls) -> "Sequence[click.Command]":
        """See `Plugin.commands`."""
        from .commands import keys

        return (keys,)

    def _refuse(self, address: str, presented: Sequence[bytes]) -> Reply:
        """The answer to a credential that is none: the same whether it never was one, or is no longer."""
        known = all(watch.trusted for watch in self._watches)
        # While keys are not known a right one may be refused too; that must not count against its address.
        guessed = len(presented) == 1 and (known or not secret.well_formed(presented[0]))
        if guessed and self._failures is not None and (wait := self._failures.count(address)):
            return _later(wait)
        if not known:
            return Reply.error(
                503, "keys_unavailable", "Whether this API key is good cannot be told now.", retry_after=1
            )
        return self._refusal

    def _too_many(self, address: str, presented: bytes) -> Reply | None:
        """Whether even a right key is refused for what its address has tried before.

        One of our making is not: nobody guesses 256 bits, and its owner may share the address with whoever
        tries. One that somebody thought up might just have been guessed.
        """
        assert self._failures is not None  # noqa: S101 # asked where it is
        if secret.well_formed(presented):
            return None
        wait = self._failures.wait(address)
        return _later(wait) if wait else None

    def _keep(self, name: str, look: Any, period: float, stale: float) -> None:
        """Have a source of keys watched, and what it has in the ring."""
        self._ring.put(name, {})

        def tell(keys: Mapping[bytes, Key] | None) -> None:
            self._ring.put(name, keys or {})

        self._watches.append(Watch(name, look, tell, period=period, stale=stale))

    def _database_url(self) -> str:
        from proxy.api.database import default_url

        if self._server is None:
            raise ValueError("this Weir has not started")
        return default_url(self._server)


def _tokens(entries: Any) -> "Tokens":
    from .tokens import Tokens  # PyJWT and cryptography: 100 ms that nobody else pays

    return Tokens(entries)


def _failures(value: Any) -> Failures | None:
    if value == "off":
        return None
    found = _RATE.fullmatch(value) if isinstance(value, str) else None
    if found is None or int(found[1]) == 0:
        raise ValueError("failures is how many wrong keys an address may send, like 100/minute, or off")
    return Failures(int(found[1]), _WINDOWS[found[2]])


def _path(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError("keys_dir is the path of a folder")
    return value


def _span(name: str, value: Any) -> float:
    try:
        return when.span(value)
    except ValueError as error:
        raise ValueError(f"{name} {error}") from None


def _later(wait: float) -> Reply:
    return Reply.error(
        429, "too_many_invalid_keys", "Too many wrong API keys came from this address.", retry_after=wait
    )


def _short_hash(credential: bytes) -> str:
    return "key-" + hashlib.sha256(credential).hexdigest()[:12]
