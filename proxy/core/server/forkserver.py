"""The process that workers are forked from: one thread, no event loop, and all that they share in memory.

A process that runs an event loop or threads cannot be forked safely: locks stay locked in the child, and both
would wait on one epoll. So before the parent starts its own it forks this one, which does nothing but fork,
wait for what it has forked, and try a configuration out. When the parent is gone it sees to it that no worker
outlives it for long.
"""

import gc
import os
import selectors
import signal
import socket
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import NoReturn

from proxy.core import pricing
from proxy.core.config import ConfigError, Settings
from proxy.core.log import raised
from proxy.core.server.accept import Loads
from proxy.core.server.channel import Channel, Message
from proxy.core.server.origin import Origin
from proxy.core.server.run import SETTLE
from proxy.pricing.values import Prices

MARGIN = 5.0
"""Seconds more than it should take, before a worker is killed."""

Work = Callable[[int, socket.socket, socket.socket, "Template"], int]
"""What a worker does, with its number, the data socket, and its end of a channel to the parent; returns its
exit status."""


class Template:
    """What a worker begins with: the last configuration that was found good."""

    def __init__(self, origin: Origin, settings: Settings, prices: Prices) -> None:
        self.origin = origin
        self.settings = settings
        self.prices = prices
        self.loads = Loads(settings.workers)
        self._tried: tuple[Settings, Prices] | None = None

    def check(self) -> Message:
        """Try the configuration that there is now; blocks. What is found is kept by `keep`."""
        self._tried = None
        try:
            changed = self.origin.changed(self.settings)
            self._tried = (changed.settings, pricing.load(changed.settings.pricing))
        except ConfigError as error:
            return {"problems": error.problems}
        except Exception as error:  # noqa: BLE001 # making a plugin may raise anything
            return {"raised": raised(error)}
        drain = changed.settings.drain
        names = [plugin.name for plugin in changed.chain.plugins]
        return {
            "plugins": names,
            "stays": changed.stays,
            "patience": drain.delay + drain.grace + SETTLE,
            "files": [str(file) for file in self.origin.files(changed.settings)],
        }

    def keep(self) -> None:
        """Begin with what was tried last from now on."""
        if self._tried is not None:
            self.settings, self.prices = self._tried
            self._tried = None


def fork(
    work: Work, template: Template, data: socket.socket, close: Sequence[socket.socket]
) -> tuple[Channel, int]:
    """Start it; the channel to it, and its process id. `close` are sockets that are for the parent alone.

    Call this before any thread or event loop is there.
    """
    ours, theirs = Channel.pair()
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid:
        theirs.close()
        return ours, pid
    status = 1
    try:
        ours.close()
        for sock in close:
            sock.close()
        ForkServer(Channel(theirs), work, template, data).run()
        status = 0
    finally:
        _leave(status)


def joined(pid: int) -> None:
    """Wait until it has ended: which it does once its channel is closed and its workers are gone."""
    with suppress(ChildProcessError):
        os.waitpid(pid, 0)


class ForkServer:
    """Forks when the parent says so, and tells what became of whom."""

    def __init__(self, parent: Channel, work: Work, template: Template, data: socket.socket) -> None:
        self._parent = parent
        self._work = work
        self._template = template
        self._data = data
        self._workers: dict[int, int] = {}
        """Their numbers by their process ids."""

    def run(self) -> None:
        """Until the parent is gone, and then until all workers are."""
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)  # the parent says when to stop
        wake, woken = socket.socketpair()
        for sock in (wake, woken):
            sock.setblocking(False)
        self._close = [wake, woken]
        signal.set_wakeup_fd(wake.fileno(), warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        # What is here is here to stay: a collection in a worker would copy the pages that it touches.
        gc.collect()
        gc.freeze()
        with selectors.DefaultSelector() as selector:
            self._selector = selector
            selector.register(self._parent, selectors.EVENT_READ)
            selector.register(woken, selectors.EVENT_READ)
            listening = True
            while listening:
                for key, _ in selector.select():
                    if key.fileobj is woken:
                        _drained(woken)
                        self._reap()
                    else:
                        listening = self._hear()
        self._data.close()
        self._outlive()

    def _hear(self) -> bool:
        found = self._parent.receive()
        for message, along in found or ():
            self._do(message, along)
        return found is not None

    def _do(self, message: Message, along: socket.socket | None) -> None:
        match message["do"]:
            case "fork" if along is not None:
                pid = self._fork(message["worker"], along)
                self._parent.send({"did": "fork", "worker": message["worker"], "pid": pid})
            case "kill" if message["pid"] in self._workers:  # not reaped yet, so the id is still its own
                os.kill(message["pid"], signal.SIGKILL)
            case "close":
                self._data.close()
            case "check":
                self._parent.send({"did": "check", "number": message["number"], **self._template.check()})
            case "keep":
                self._template.keep()

    def _fork(self, number: int, channel: socket.socket) -> int:
        pid = os.fork()
        if pid:
            channel.close()
            self._workers[pid] = number
            return pid
        status = 1
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            self._selector.close()
            self._parent.close()
            for sock in self._close:
                sock.close()
            status = self._work(number, self._data, channel, self._template)
        finally:
            _leave(status)

    def _reap(self) -> None:
        while self._workers:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if not pid:
                return
            number = self._workers.pop(pid, None)
            if number is not None:
                self._template.loads.gone(number)
            self._parent.send({"did": "end", "pid": pid, "status": os.waitstatus_to_exitcode(status)})

    def _outlive(self) -> None:
        """Workers see for themselves that the parent is gone, and drain. Who does not is killed."""
        drain = self._template.settings.drain
        deadline = time.monotonic() + drain.grace + SETTLE + MARGIN
        while self._workers and time.monotonic() < deadline:
            self._reap()
            time.sleep(0.05)
        for pid in self._workers:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for pid in self._workers:
            joined(pid)


def _drained(sock: socket.socket) -> None:
    with suppress(BlockingIOError):
        while sock.recv(4096):
            pass


def _leave(status: int) -> NoReturn:
    """End a forked process: nothing of what forked it runs on, no `finally` and no exit handler."""
    error = sys.exc_info()[1]
    if error is not None and not isinstance(error, SystemExit):
        # Without its message, which may quote anything.
        sys.stderr.write(f"weir: a process failed: {raised(error)}\n")
    with suppress(OSError, ValueError):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(status)
