"""Who takes a new connection, where several workers listen on one socket.

Left alone, the worker that is awake takes all that come at once, and serves them alone for as long as they
are kept alive. So each writes down how many it has, in memory that all share, and one that has more than the
least lets the others go first, for a moment only: nobody waits for a worker that is stuck.
"""

import asyncio
import mmap
import socket
from collections.abc import Callable, Sized
from typing import Any

SLACK = 1
"""Connections that a worker may have above the least before it lets others go first."""
MOMENT = 0.002
"""Seconds that it lets them."""
SHORT = 0.1
"""Seconds to wait when the system has no descriptor or no memory for one more: somebody may leave."""
_NOBODY = 2**31 - 1


class Loads:
    """How many connections each of several workers has; shared by all that are forked after it was made."""

    def __init__(self, workers: int) -> None:
        self._counts = memoryview(mmap.mmap(-1, 4 * workers)).cast("i")
        for number in range(1, workers + 1):
            self.gone(number)

    def has(self, number: int, connections: int) -> None:
        """This worker has as many."""
        self._counts[number - 1] = connections

    def gone(self, number: int) -> None:
        """This worker takes none."""
        self._counts[number - 1] = _NOBODY

    @property
    def least(self) -> int:
        """What the one with the fewest has."""
        return min(self._counts)


class Accepting:
    """Takes connections from a listening socket for one worker, until it is stopped."""

    def __init__(
        self,
        sock: socket.socket,
        protocol: Callable[[], asyncio.BaseProtocol],
        connections: Sized,
        loads: Loads,
        number: int,
    ) -> None:
        self._sock = sock
        self._protocol = protocol
        self._connections = connections
        self._loads = loads
        self._number = number
        self._loop = asyncio.get_running_loop()
        self._opening: set[asyncio.Task[Any]] = set()
        self._pause: asyncio.TimerHandle | None = None
        self._stopped = False
        self._tell()
        self._listen()

    def stop(self) -> None:
        """Take no more, and close our copy of the socket."""
        if self._stopped:
            return
        self._stopped = True
        self._loads.gone(self._number)
        if self._pause is not None:
            self._pause.cancel()
        else:
            self._loop.remove_reader(self._sock.fileno())
        self._sock.close()

    def _tell(self) -> int:
        mine = len(self._connections) + len(self._opening)
        self._loads.has(self._number, mine)
        return mine

    def _listen(self) -> None:
        self._pause = None
        self._loop.add_reader(self._sock.fileno(), self._come)

    def _rest(self, seconds: float, then: Callable[[], None]) -> None:
        self._loop.remove_reader(self._sock.fileno())
        self._pause = self._loop.call_later(seconds, then)

    def _come(self) -> None:
        """Somebody wants to connect."""
        if self._tell() > self._loads.least + SLACK:
            self._rest(MOMENT, self._take_what_is_left)
        else:
            self._take()

    def _take_what_is_left(self) -> None:
        """Nobody else has taken it, if it is still there."""
        self._listen()
        self._take()

    def _take(self) -> None:
        try:
            sock, _ = self._sock.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            return  # another was faster, or the client has gone
        except OSError:
            self._rest(SHORT, self._listen)
            return
        sock.setblocking(False)
        task = self._loop.create_task(self._loop.connect_accepted_socket(self._protocol, sock))
        self._opening.add(task)
        task.add_done_callback(self._opened)
        self._tell()

    def _opened(self, task: "asyncio.Task[Any]") -> None:
        self._opening.discard(task)
        if not task.cancelled():
            task.exception()  # one that has gone already is no news
