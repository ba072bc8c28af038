"""Plugins with a leak each: proof that a soak finds what it looks for. Never load one anywhere else."""

import asyncio
import os
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from proxy.api import End, Exchange, Plugin, Server

_KEPT: list[object] = []
"""Beyond the plugin's own life, which ends with a reload."""


class Memory(Plugin):
    """Keeps 512 KiB of each request."""

    async def on_end(self, ex: Exchange, end: End) -> None:
        _KEPT.append(b"x" * 524_288)


class Descriptors(Plugin):
    """Opens a file for every fourth request, and forgets it."""

    def __init__(self) -> None:
        self._seen = 0

    async def on_end(self, ex: Exchange, end: End) -> None:
        self._seen += 1
        if self._seen % 4 == 0:
            os.open(os.devnull, os.O_RDONLY)


class InFlight(Plugin):
    """Never ends some requests whose client has gone: it does not even listen to being cancelled."""

    async def on_end(self, ex: Exchange, end: End) -> None:
        while end.reason == "client_gone":
            with suppress(asyncio.CancelledError):
                await asyncio.Event().wait()


class Leases(Plugin):
    """Has the limiter forget to settle every twentieth request."""

    async def start(self, server: Server) -> None:
        from plugins.limiter.redis.store import RedisStore

        _forgetful(RedisStore, "settle", _forgotten)


class Rows(Plugin):
    """Has the ledger drop every twentieth row."""

    async def start(self, server: Server) -> None:
        from plugins.ledger.keeper import Keeper

        _forgetful(Keeper, "end", lambda: True)


async def _forgotten() -> None:
    """What is awaited in place of what was to be done."""


def _forgetful(cls: type, method: str, instead: Callable[[], Any]) -> None:
    """Leave out every twentieth call; once, however often a reload starts the plugin."""
    done = getattr(cls, method)
    if getattr(done, "forgetful", False):
        return
    calls = 0

    def sometimes(self: Any, *arguments: Any, **more: Any) -> Any:
        nonlocal calls
        calls += 1
        return done(self, *arguments, **more) if calls % 20 else instead()

    sometimes.forgetful = True  # type: ignore[attr-defined] # how the next start knows
    setattr(cls, method, sometimes)
