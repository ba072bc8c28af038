"""Requests that wait for a limit instead of being refused, and whose turn it is."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Final

from .store import Hold

MOST: Final = 10_000
"""Requests that wait in this process, in all queues together. Above it they are refused at once."""
LOOK: Final = 0.1
"""Seconds until a queue looks again by itself: a lease may have been given back by another process."""

Decide = Callable[[Hold], Awaitable[None]]


class Waiter:
    """A request that waits. `turn` is done when it need not wait any more."""

    __slots__ = ("hold", "number", "turn", "user")

    def __init__(self, hold: Hold, user: str, number: int, turn: "asyncio.Future[None]") -> None:
        self.hold = hold
        self.user = user
        self.number = number
        self.turn = turn


class Queue:
    """Who waits for one bucket."""

    __slots__ = ("changed", "serving", "waiting")

    def __init__(self) -> None:
        self.waiting: list[Waiter] = []
        self.changed = asyncio.Event()
        self.serving: asyncio.Task[None] | None = None


class Queues:
    """One queue for each bucket that somebody waits for.

    The next is not who came first but whose user has the fewest tokens in flight: who sends a hundred
    requests at once waits behind who sends one. Who comes while others wait stands in line too.
    """

    def __init__(self, decide: Decide, undo: Decide) -> None:
        """`decide` asks the store; `undo` gives back what was admitted for somebody who had left."""
        self._decide = decide
        self._undo = undo
        self._queues: dict[tuple[str, str], Queue] = {}
        self._running: dict[str, tuple[str, int]] = {}
        self._tokens: Counter[str] = Counter()
        self._number = 0
        self.waiting = 0

    def line(self, hold: Hold) -> int | None:
        """The place of a limit among a hold's asks for which others wait already."""
        if self._queues:
            for place, (limit, key, _) in enumerate(hold.asks):
                if limit.queue is not None and (limit.id, key) in self._queues:
                    return place
        return None

    async def wait(self, hold: Hold, place: int, user: str) -> bool:
        """Wait for the limit at this place of the asks; whether it was decided, which the hold then tells.

        It comes back at once where the queue is full.
        """
        limit, key, _ = hold.asks[place]
        terms = limit.queue
        queue = self._queues.get((limit.id, key))
        if terms is None or self.waiting >= MOST or (queue and len(queue.waiting) >= terms.max):
            return False
        if queue is None:
            queue = self._queues[limit.id, key] = Queue()
        self._number += 1
        waiter = Waiter(hold, user, self._number, asyncio.get_running_loop().create_future())
        queue.waiting.append(waiter)
        self.waiting += 1
        queue.changed.set()
        if queue.serving is None:
            queue.serving = asyncio.create_task(self._serve(queue, (limit.id, key)))
        try:
            async with asyncio.timeout(terms.wait):
                await waiter.turn
        except TimeoutError:
            pass  # the hold says what refused it last
        finally:
            self.waiting -= 1
            if waiter in queue.waiting:
                queue.waiting.remove(waiter)
                queue.changed.set()
        return hold.held or hold.unavailable is not None

    def began(self, hold: Hold, user: str, tokens: int) -> None:
        """A request was admitted that may use so many tokens."""
        self._running[hold.id] = user, tokens
        self._tokens[user] += tokens

    def ended(self, hold: Hold) -> None:
        """It is over: there may be room for others."""
        running = self._running.pop(hold.id, None)
        if running is not None:
            user, tokens = running
            self._tokens[user] -= tokens
            if self._tokens[user] <= 0:
                del self._tokens[user]
        for queue in self._queues.values():
            queue.changed.set()

    async def _serve(self, queue: Queue, key: tuple[str, str]) -> None:
        try:
            while queue.waiting:
                queue.changed.clear()
                waiter = min(queue.waiting, key=self._turn)
                hold = waiter.hold
                await self._decide(hold)
                left = waiter not in queue.waiting
                if hold.held and left:
                    await self._undo(hold)
                elif hold.held or hold.unavailable is not None or _elsewhere(hold, key):
                    queue.waiting.remove(waiter)
                    if not waiter.turn.done():
                        waiter.turn.set_result(None)
                elif not left:
                    await self._pause(queue, hold)
        finally:
            del self._queues[key]
            for waiter in queue.waiting:  # only if something broke: nobody must wait in vain
                if not waiter.turn.done():
                    waiter.turn.set_result(None)

    async def _pause(self, queue: Queue, hold: Hold) -> None:
        wait = LOOK
        if hold.refused_by is not None and hold.asks[hold.refused_by][0].kind != "in_flight":
            wait = hold.taken[hold.refused_by][1] / 1e6
        try:
            async with asyncio.timeout(wait):
                await queue.changed.wait()
        except TimeoutError:
            pass

    def _turn(self, waiter: Waiter) -> tuple[int, int]:
        return self._tokens[waiter.user], waiter.number


def _elsewhere(hold: Hold, key: tuple[str, str]) -> bool:
    """Whether it is another limit that refuses: those behind need not wait for that one."""
    if hold.refused_by is None:
        return False
    limit, bucket, _ = hold.asks[hold.refused_by]
    return (limit.id, bucket) != key
