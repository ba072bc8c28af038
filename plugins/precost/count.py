"""Counting off the event loop, once for all who ask."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

THREADS = 2
"""Texts that are counted at a time."""
WAITING = 32
"""Texts that may wait for their turn. A count of 2 MB takes up to a second and a half: who would come after
so many is told the bound at once."""


class Counting:
    """The threads that count, and how many texts wait for them."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(THREADS, "weir-count")
        self._unfinished = 0

    def begin(self, work: Callable[[], int]) -> "asyncio.Future[int] | None":
        """Count when it is its turn; None if too many are waiting."""
        if self._unfinished >= THREADS + WAITING:
            return None
        self._unfinished += 1
        future = asyncio.get_running_loop().run_in_executor(self._threads, work)
        future.add_done_callback(self._done)
        return future

    def _done(self, _: "asyncio.Future[int]") -> None:
        self._unfinished -= 1

    def close(self) -> None:
        """Begin no more."""
        self._threads.shutdown(wait=False, cancel_futures=True)


class Count:
    """A count that is made in a thread by the first call; each call awaits the same result.

    Who stops waiting does not stop the others. Where too many wait, a call gives `bound`.
    """

    __slots__ = ("_bound", "_counting", "_result", "_work")

    def __init__(self, work: Callable[[], int], bound: int, counting: Counting) -> None:
        self._work = work
        self._bound = bound
        self._counting = counting
        self._result: asyncio.Future[int] | None = None

    async def __call__(self) -> int:
        """The count."""
        if self._result is None:
            self._result = self._counting.begin(self._work)
            if self._result is None:
                return self._bound
        return await asyncio.shield(self._result)

    @property
    def counted(self) -> bool:
        """Whether there is a count, and not only a bound."""
        return self._result is not None and self._result.done()
