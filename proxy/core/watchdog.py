"""Says where the event loop is stuck. While it is, nothing on it can: no request, no probe, no timer.

Liveness needs no help, since `/healthz` is answered on the loop too; but who restarts a process that hangs
wants to know what hung. A thread looks, and costs the loop one timer a second.
"""

import asyncio
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Final

from proxy.core.log import log

LOOKS: Final = 5
"""So many looks in a row at which the loop has done nothing are a stall. They are counted, not the time: if
the whole process was stopped, or the machine asleep, the thread has not looked either."""
PLACES: Final = 12
"""Innermost places of the stack that are told."""
_OFF: Final = 1.0
"""Seconds between two looks whether it is on again."""


class Watchdog:
    """Logs the stack of the running loop's thread, once for each stall.

    Code that holds the interpreter's lock all the while, as only C code can, stalls this thread too; it is
    told of when it lets go, if it never does then not at all.
    """

    def __init__(self, after: Callable[[], float | None]) -> None:
        """`after` gives the seconds that are a stall, None for none; it is asked in the thread."""
        self._after = after
        self._beats = 0
        self._beat_at = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Watch the running loop, from its thread."""
        loop = threading.get_ident()
        self._stop.clear()
        self._beat()
        self._thread = threading.Thread(target=self._watch, args=(loop,), name="watchdog", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Watch no longer."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._thread is not None:
            self._stop.set()
            self._thread.join()
            self._thread = None

    def _beat(self) -> None:
        self._beats += 1
        self._beat_at = time.monotonic()
        every = (self._after() or _OFF) / LOOKS
        self._timer = asyncio.get_running_loop().call_later(min(every, _OFF) / 2, self._beat)

    def _watch(self, loop: int) -> None:
        known, still, told = 0, 0, False
        while not self._stop.wait((self._after() or _OFF) / LOOKS):
            if self._beats != known:
                if told:
                    log.warning("the event loop goes on")
                known, still, told = self._beats, 0, False
                continue
            still += 1
            if still >= LOOKS and not told and self._after() is not None:
                told = True
                frame = sys._current_frames().get(loop)
                fields = {"seconds": round(time.monotonic() - self._beat_at, 1), "at": [*_places(frame)]}
                log.error("the event loop is stalled", extra={"fields": fields})


def _places(frame: FrameType | None) -> Iterator[str]:
    """Where a thread is, innermost first; names alone, since values may be anybody's."""
    for _ in range(PLACES):
        if frame is None:
            return
        code = frame.f_code
        yield f"{os.path.basename(code.co_filename)}:{frame.f_lineno} {code.co_name}"
        frame = frame.f_back
