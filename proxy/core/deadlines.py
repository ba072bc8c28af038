"""One timer for everything that may take too long.

A timer per request and per wait would cost more than the request: most never fire. Here each running thing
carries its own `deadline`, moves it as it goes on, and one tick looks for those that have passed.
"""

import asyncio
from collections.abc import Callable
from typing import Protocol

TICK = 0.1
"""Seconds between two looks, so a deadline fires up to this much late."""

NEVER = float("inf")


class Timed(Protocol):
    """Something with a deadline, in seconds of the event loop's clock."""

    deadline: float

    def expire(self, now: float) -> None:
        """The deadline has passed. Called again at each tick until it is moved or discarded."""


class Deadlines:
    """The running things of one event loop. The timer runs only while there are any."""

    def __init__(self) -> None:
        timed = self._timed = set[Timed]()
        self._timer: asyncio.TimerHandle | None = None
        self.discard: Callable[[Timed], None] = timed.discard
        """Watch this no longer."""

    def add(self, timed: Timed) -> None:
        """Watch this until it is discarded."""
        self._timed.add(timed)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(TICK, self._tick)

    def __len__(self) -> int:
        return len(self._timed)

    def close(self) -> None:
        """Stop the timer."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._timed.clear()

    def _tick(self) -> None:
        self._timer = None
        loop = asyncio.get_running_loop()
        now = loop.time()
        for timed in [timed for timed in self._timed if timed.deadline <= now]:
            timed.expire(now)
        if self._timed:
            self._timer = loop.call_later(TICK, self._tick)
