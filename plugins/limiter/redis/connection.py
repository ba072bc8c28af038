"""The one place that talks to Redis, and the only one that imports redis-py."""

import asyncio
import re
from collections.abc import Sequence
from hashlib import sha1
from pathlib import Path
from typing import Any, Final

from redis.asyncio import Redis, RedisCluster, Sentinel
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.connection import ConnectionPool, parse_url
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import (
    AuthenticationError,
    AuthorizationError,
    ClusterDownError,
    ConnectionError,
    NoPermissionError,
    NoScriptError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
)

from .url import Place

SCRIPT: Final = (Path(__file__).parent / "script.lua").read_text()
FAILURES: Final = (RedisError, OSError, TimeoutError)
"""What `run` may raise: Redis cannot be reached, or will not."""

_MOVED: Final = "READONLY"
_BUSY: Final = (
    "BUSY",
    "LOADING",
    "MASTERDOWN",
    "CLUSTERDOWN",
    "TRYAGAIN",
    "NOREPLICAS",
    "MISCONF",
    "OOM",
    _MOVED,
)
_REFUSALS: Final = (AuthenticationError, AuthorizationError, NoPermissionError)
_CODE: Final = re.compile(r"(?:Error running script .*@user_script: ?\d+: -)?([A-Z]+)\b")
"""Up to version 6 of Redis, what a command of a script said is inside of an error of the script, which
redis-py cannot tell from others."""
_DENIED: Final = "The user executing the script can't"
"""What an ACL says to a command of a script; it has no code in any version."""


class Connection:
    """Runs the script on one Redis, on the master that Sentinels name, or on a node of a Cluster.

    Redis-py's own waits and repetitions are off: whoever calls bounds the time. What is cut off closes its
    connection, so that no answer is ever taken for another's.
    """

    def __init__(self, place: Place, script: str = SCRIPT) -> None:
        self._place = place
        self._script = script
        self._sha = sha1(script.encode(), usedforsecurity=False).hexdigest()
        self._client: Any = None
        self._closers: list[Any] = []
        self._closing: set[asyncio.Task[None]] = set()

    async def run(self, keys: Sequence[str], *arguments: bytes | int) -> bytes:
        """What the script returns. Raises one of `FAILURES`."""
        client = self._client
        if client is None:
            client = self._client = self._made()
        try:
            return await client.evalsha(self._sha, len(keys), *keys, *arguments)  # type: ignore[no-any-return]
        except NoScriptError:
            return await client.eval(self._script, len(keys), *keys, *arguments)  # type: ignore[no-any-return]

    def forget(self) -> None:
        """Forget all connections and what is known of the servers: a name may mean another one now."""
        client, self._client = self._client, None
        closers, self._closers = self._closers, []
        task = asyncio.create_task(_closed([each for each in (client, *closers) if each is not None]))
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    async def close(self) -> None:
        """Close what is open."""
        self.forget()
        await asyncio.gather(*self._closing)

    def _made(self) -> Any:
        place = self._place
        once = Retry(NoBackoff(), 1, supported_errors=(ConnectionError,))
        never = Retry(NoBackoff(), 0)
        waits: dict[str, Any] = {"socket_timeout": None, "socket_connect_timeout": None}
        if place.kind == "single":
            pool = ConnectionPool.from_url(place.url, retry=once, protocol=2, **waits)
            self._closers = [pool]
            return Redis(connection_pool=pool)
        options: dict[str, Any] = dict(parse_url(place.url))
        for name in ("host", "port", "connection_class", *waits):
            options.pop(name, None)
        if place.url.startswith("rediss:"):
            options["ssl"] = True
        if place.kind == "cluster":
            nodes = [ClusterNode(host, port) for host, port in place.hosts]
            return RedisCluster(startup_nodes=nodes, retry=once, protocol=2, **waits, **options)
        user, password = place.sentinel_login
        login = {"username": user, "password": password}
        tls = {name: value for name, value in options.items() if name.startswith("ssl")}
        sentinel = Sentinel(  # type: ignore[no-untyped-call]
            place.hosts,
            sentinel_kwargs={**waits, **tls, **login, "retry": never, "protocol": 2},
            retry=once,
            protocol=2,
            **waits,
            **options,
        )
        self._closers = list(sentinel.sentinels)
        return sentinel.master_for(place.service)


async def _closed(clients: Sequence[Any]) -> None:
    try:
        async with asyncio.timeout(1):
            for each in clients:
                await each.aclose()
    except FAILURES:
        pass  # it was broken, which is why it is closed


def is_refusal(error: BaseException) -> bool:
    """Whether Redis does not let us in: nothing but another password or another ACL will help."""
    return isinstance(error, _REFUSALS) or (isinstance(error, ResponseError) and _DENIED in str(error))


def has_moved(error: BaseException) -> bool:
    """Whether this is no longer the server that takes writes."""
    return isinstance(error, ReadOnlyError) or (isinstance(error, ResponseError) and _code(error) == _MOVED)


def is_ours(error: BaseException) -> bool:
    """Whether Redis answered, and will say the same of the same call for ever."""
    if not isinstance(error, ResponseError) or isinstance(
        error, ReadOnlyError | OutOfMemoryError | ClusterDownError
    ):
        return False
    return not is_refusal(error) and _code(error) not in _BUSY


def _code(error: ResponseError) -> str | None:
    """The word that Redis begins an error with, for machines."""
    found = _CODE.match(str(error))
    return None if found is None else found[1]
