"""What happens around Weir while it serves: to Redis, to the way to the upstream, to its configuration."""

import asyncio
import random
import signal
from collections.abc import Awaitable, Callable
from typing import Any, Final

from tests.faults.process import Process
from tests.faults.relay import Relay


class Disturbances:
    """One at a time, at random; each is undone before the next."""

    def __init__(self, weir: Process, redis: Relay, upstream: Relay, chance: random.Random) -> None:
        self.weir = weir
        self.redis = redis
        self.upstream = upstream
        self.random = chance
        self._config = dict(weir.config)
        self._reloads = 0

    async def run(self, until: float) -> None:
        """Until that time of the loop. However it ends, all is as it was."""
        loop = asyncio.get_running_loop()
        try:
            while loop.time() < until:
                await self.random.choice(KINDS)(self)
                await asyncio.sleep(self.random.uniform(0.1, 0.6))
        finally:
            self.restore()

    def restore(self) -> None:
        """All is well again."""
        for relay in (self.redis, self.upstream):
            relay.delay(0.0)
            relay.resume()
        self.weir.write_config(**self._config)

    async def redis_frozen(self) -> None:
        self.redis.pause()
        await self._wait(1.0)
        self.redis.resume()

    async def redis_cut(self) -> None:
        self.redis.cut()

    async def redis_dead(self) -> None:
        self.redis.refuse()
        self.redis.cut()
        await self._wait(1.0)
        self.redis.resume()

    async def redis_slow(self) -> None:
        self.redis.delay(0.08)
        await self._wait(0.6)
        self.redis.delay(0.0)

    async def upstream_dead(self) -> None:
        self.upstream.refuse()
        self.upstream.cut()
        await self._wait(0.5)
        self.upstream.resume()

    async def upstream_frozen(self) -> None:
        self.upstream.pause()
        await self._wait(0.5)
        self.upstream.resume()

    async def upstream_cut(self) -> None:
        self.upstream.cut()

    async def reload(self) -> None:
        """Something that every request may notice has changed."""
        self._reloads += 1
        self.weir.write_config(server_timing=bool(self._reloads % 2))
        self.weir.signal(signal.SIGHUP)

    async def bad_reload(self) -> None:
        """A configuration that is none."""
        broken: dict[str, Any] = {"listen": "nowhere:x"}
        self.weir.write_config(**broken)
        self.weir.signal(signal.SIGHUP)
        await asyncio.sleep(0.2)
        self.weir.write_config(listen=self._config["listen"])

    async def _wait(self, most: float) -> None:
        await asyncio.sleep(self.random.uniform(0.1, most))


KINDS: Final[list[Callable[[Disturbances], Awaitable[None]]]] = [
    Disturbances.redis_frozen,
    Disturbances.redis_cut,
    Disturbances.redis_dead,
    Disturbances.redis_slow,
    Disturbances.upstream_dead,
    Disturbances.upstream_frozen,
    Disturbances.upstream_cut,
    Disturbances.reload,
    Disturbances.bad_reload,
]
