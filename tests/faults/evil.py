"""A plugin that breaks the invariants when a request asks for it: proof that they are looked at."""

import asyncio
import logging
import socket
import time
from contextlib import suppress

from plugins.ledger.plugin import _FIRST
from plugins.limiter.plugin import HELD, Limiter
from proxy.api import End, Exchange, Plugin

log = logging.getLogger("weir.evil")


class Evil(Plugin):
    """What `x-evil` says. Before `annotate` and behind all others, so that it ends before them."""

    def __init__(self) -> None:
        self._kept: list[object] = []
        self._tasks: list[asyncio.Task[None]] = []
        Limiter.on_end = _settling_twice  # type: ignore[assignment, method-assign]

    async def on_request(self, ex: Exchange) -> None:
        asked = ex.request.headers.get("x-evil")
        if asked == "socket":
            self._kept.append(socket.socket())
        elif asked == "memory":
            self._kept.append(bytearray(b"x") * (100 << 20))
        elif asked == "let go":
            self._kept.clear()
            for task in self._tasks:
                task.cancel()
        elif asked == "secret":
            log.info("asked", extra={"fields": {"body": (await ex.request.read()).decode()}})
        elif asked == "byte":
            ex.request.set_body((await ex.request.read()).replace(b"Say", b"say"))
        elif asked == "late":
            for _ in range(7):
                time.sleep(0.7)  # noqa: ASYNC251 # that is the evil of it
                await asyncio.sleep(0)
        elif asked == "deaf":
            self._tasks.append(asyncio.create_task(_stall(5.0)))

    async def on_end(self, ex: Exchange, end: End) -> None:
        asked = ex.request.headers.get("x-evil")
        if asked == "slow":
            await asyncio.sleep(2.5)
        elif asked == "twice":
            fields = {"id": ex.id, "end_reason": end.reason, "end_code": end.code}
            log.info("request", extra={"fields": fields})
        elif asked == "lease":
            ex[HELD].held = False
        elif asked == "no row":
            ex._slots.pop(_FIRST, None)


_settling = Limiter.on_end


async def _settling_twice(limiter: Limiter, ex: Exchange, end: End) -> None:
    if ex.request.headers.get("x-evil") == "settled twice":
        await _settled(limiter, ex, end)
        ex[HELD].held = True
    await _settled(limiter, ex, end)


async def _settled(limiter: Limiter, ex: Exchange, end: End) -> None:
    left = _settling(limiter, ex, end)
    if left is not None:
        await left


async def _stall(seconds: float) -> None:
    """Give the loop a single turn now and then."""
    end = time.monotonic() + seconds
    with suppress(asyncio.CancelledError):
        while time.monotonic() < end:
            await asyncio.sleep(0)
            time.sleep(0.25)  # noqa: ASYNC251
