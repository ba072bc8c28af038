"""Counting off the event loop, once for all who ask."""

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor


class Count:
    """A count that is made in a thread by the first call; each call awaits the same result.

    Who stops waiting does not stop the others.
    """

    __slots__ = ("_result", "_threads", "_work")

    def __init__(self, work: Callable[[], int], threads: Executor) -> None:
        self._work = work
        self._threads = threads
        self._result: asyncio.Future[int] | None = None

    async def __call__(self) -> int:
        """The count."""
        if self._result is None:
            self._result = asyncio.get_running_loop().run_in_executor(self._threads, self._work)
        return await asyncio.shield(self._result)
