"""Looks at something again and again, in a thread of its own, and tells the event loop what is new.

So a database that hangs or a file system that stalls delays nobody's request, and not the exit either.
"""

import asyncio
import logging
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")
log = logging.getLogger("weir.auth")

FIRST = 10.0
"""Seconds that a start waits for the first look."""


class Watch(Generic[T]):
    """What `look` returned last is known; it is trusted until `stale` seconds have passed without a look
    that succeeded (None: for ever), and again from the next that does."""

    def __init__(
        self,
        name: str,
        look: Callable[[], T | None],
        tell: Callable[[T | None], None],
        *,
        period: float,
        retry: float | None = None,
        stale: float | None = None,
    ) -> None:
        """`look` runs in the thread and returns None where nothing has changed; `tell` runs on the event
        loop, with None once what was told is not to be trusted any more. `period` and `retry` are the seconds
        between two looks, after one that succeeded and after one that failed."""
        self.name = name
        self.trusted = False
        self._look = look
        self._tell = tell
        self._period = period
        self._retry = period if retry is None else retry
        self._stale = stale
        self._known: T | None = None
        self._good = 0.0
        self._failing = False
        self._starting = False
        self._stopped = threading.Event()  # of the thread that runs; a new one for each start
        self._wake = threading.Event()
        self._looks: asyncio.Future[BaseException | None] | None = None
        self._timer: asyncio.TimerHandle | None = None

    async def start(self) -> None:
        """Look for the first time. A failure is logged and tried again; only `ValueError` is raised, which
        somebody has to put right."""
        looked = self._next_look()
        self._starting = True
        self._stopped = threading.Event()
        arguments = (asyncio.get_running_loop(), self._stopped)
        name = f"weir-auth-{self.name}"
        threading.Thread(target=self._run, args=arguments, name=name, daemon=True).start()
        await asyncio.wait((looked,), timeout=FIRST)
        self._starting = False
        if looked.done() and isinstance(error := looked.result(), ValueError) and not self.trusted:
            self.stop()
            raise error

    def stop(self) -> None:
        """No more looks; one that runs is left to itself. It can be started again."""
        self._stopped.set()
        self._wake.set()
        self._looks = None
        self.trusted = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    async def again(self, within: float) -> None:
        """Look now; returns when that is done, or after so many seconds."""
        looked = self._next_look()
        self._wake.set()
        await asyncio.wait((looked,), timeout=within)

    async def looked(self, within: float) -> None:
        """Wait for a look that somebody else has asked for, if there is one, but no longer than this."""
        if self._looks is not None:
            await asyncio.wait((self._looks,), timeout=within)

    def ready(self) -> str | None:
        """See `Plugin.ready`."""
        return None if self.trusted else f"{self.name} cannot be read"

    def adopt(self, other: "Watch[T]") -> None:
        """Know what another one knew, as long as that one may be trusted. To be called before `start`."""
        if other.trusted:
            self._known = other._known
            self._good = other._good
            self._trust()

    # -- in the thread -----------------------------------------------------------------------------

    def _run(self, loop: asyncio.AbstractEventLoop, stopped: threading.Event) -> None:
        while not stopped.is_set():
            self._wake.clear()
            found: T | None = None
            failure: BaseException | None = None
            try:
                found = self._look()
            except Exception as error:  # noqa: BLE001 # a database may raise anything
                failure = error
            try:
                loop.call_soon_threadsafe(self._looked, found, failure, stopped)
            except RuntimeError:
                return  # the loop is closed
            if not stopped.is_set():
                self._wake.wait(self._period if failure is None else self._retry)

    # -- on the loop -------------------------------------------------------------------------------

    def _next_look(self) -> "asyncio.Future[BaseException | None]":
        if self._looks is None:
            self._looks = asyncio.get_running_loop().create_future()
        return self._looks

    def _looked(self, found: T | None, failure: BaseException | None, stopped: threading.Event) -> None:
        if stopped.is_set():
            return
        looks, self._looks = self._looks, None
        self._judge(found, failure)
        if looks is not None and not looks.done():
            looks.set_result(failure)

    def _judge(self, found: T | None, failure: BaseException | None) -> None:
        if failure is not None:
            told = self._failing or (self._starting and isinstance(failure, ValueError))
            if not told:
                self._failing = True
                fields = {"source": self.name, "raised": type(failure).__name__}
                if isinstance(failure, OSError) and failure.strerror:
                    fields["problem"] = failure.strerror
                elif isinstance(failure, ValueError):
                    fields["problem"] = str(failure)
                log.error("keys cannot be read; what is known goes on", extra={"fields": fields})
            return
        if self._failing:
            self._failing = False
            log.info("keys can be read again", extra={"fields": {"source": self.name}})
        self._good = asyncio.get_running_loop().time()
        if found is not None:
            self._known = found
        if found is not None or not self.trusted:
            self._trust()

    def _trust(self) -> None:
        if self._known is None:
            return
        self.trusted = True
        self._tell(self._known)
        if self._stale is not None and self._timer is None:
            self._check()

    def _check(self) -> None:
        """Whether the last good look is too long ago; comes back when it may be."""
        assert self._stale is not None  # noqa: S101 # else nobody asks
        loop = asyncio.get_running_loop()
        left = self._good + self._stale - loop.time()
        if left > 0:
            self._timer = loop.call_later(left, self._check)
            return
        self._timer = None
        self.trusted = False
        self._tell(None)
        log.error("keys are not trusted any more", extra={"fields": {"source": self.name}})
