"""Counting off the event loop: what a stream has written so far, and what it has at its end."""

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Final, TypeVar

from proxy.pricing import tokens
from proxy.pricing.output import Output, Streamed
from proxy.pricing.output.streamed import LIMIT

T = TypeVar("T")

THREADS: Final = 2
"""Streams that are counted at a time."""
WAITING: Final = 1024
"""Counts that may wait for their turn: as when many clients leave at once. Of what comes after them there is
only a guess. What waits is small: see `Streamed`."""
PATIENCE: Final = 1.5
"""Seconds that the end of an exchange waits for its count; then it is a guess."""
log = logging.getLogger("weir.annotate")


class Counting:
    """The threads that count, and how many streams wait for them."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(THREADS, "weir-output")
        self._unfinished = 0

    def begin(self, work: Callable[[], T]) -> "asyncio.Future[T] | None":
        """Do this when it is its turn; None if too many wait."""
        if self._unfinished >= THREADS + WAITING:
            return None
        try:
            future = asyncio.get_running_loop().run_in_executor(self._threads, work)
        except RuntimeError:
            return None  # closed
        self._unfinished += 1
        future.add_done_callback(self._done)
        return future

    def _done(self, future: "asyncio.Future[T]") -> None:
        self._unfinished -= 1
        if not future.cancelled() and (error := future.exception()) is not None:
            log.error("counting failed: %s", type(error).__name__)

    def close(self) -> None:
        """Begin no more."""
        self._threads.shutdown(wait=False, cancel_futures=True)


class Running:
    """One stream that is counted while it runs, and what it comes to."""

    __slots__ = ("_counting", "_folding", "_streamed")

    def __init__(self, streamed: Streamed, counting: Counting) -> None:
        self._streamed = streamed
        self._counting = counting
        self._folding: asyncio.Future[None] | None = None

    def make_room(self, event: bytes) -> None:
        """The batch is full, or has a large event as its last: compress; count, of a very long stream."""
        streamed = self._streamed
        if streamed.made_room(event):
            if self._folding is None or self._folding.done():
                packed = streamed.take()
                self._folding = self._counting.begin(partial(streamed.fold, packed))
                if self._folding is None:
                    streamed.drop(packed)
            elif streamed.size > 2 * LIMIT:
                streamed.drop(streamed.take())

    def forget(self) -> None:
        """See `Streamed.forget`."""
        self._streamed.forget()

    async def output(self, choices: int, *, hidden: bool) -> Output:
        """What came, counted; a guess, where that takes longer than `PATIENCE`. To be called once."""
        streamed = self._streamed
        folding = self._folding
        if folding is not None and not folding.done():
            await asyncio.wait((folding,), timeout=PATIENCE / 2)
            if not folding.done():
                return streamed.guess()
        if streamed.few and tokens.loaded(streamed.encoding):
            return streamed.output(choices, hidden=hidden)
        guess = streamed.guess()
        counted = self._counting.begin(partial(streamed.output, choices, hidden=hidden))
        if counted is None:
            return guess
        await asyncio.wait((counted,), timeout=PATIENCE)
        if not counted.done() or counted.cancelled() or counted.exception() is not None:
            return guess
        return counted.result()
