"""Runs Weir in one process: listeners, signals, and a shutdown that loses nothing.

On the first SIGTERM or SIGINT readiness fails; after `drain.delay` the listeners close and running requests
have `drain.grace` to finish; what is left then ends with an error event. All are settled before the plugins
stop. A second signal forces.
"""

import asyncio
import contextlib
import gc
import signal
import socket
from collections.abc import Awaitable, Callable, Iterator, Sequence
from functools import partial
from typing import Any

import uvicorn

from proxy.admin.app import management
from proxy.api.errors import ShuttingDown
from proxy.core.app import App
from proxy.core.config import Address
from proxy.core.log import log
from proxy.core.server.accept import Accepting
from proxy.core.server.protocol import bound

BACKLOG = 2048
SETTLE = 10.0
"""Seconds for requests that were ended to settle and be logged."""


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    """uvloop where it is installed, asyncio's own loop where it is not (Windows)."""
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory


class StartError(Exception):
    """Weir cannot start. One line that says what to do."""


def listen(address: Address, remedy: str = "choose another port with --port") -> socket.socket:
    """A bound socket, without SO_REUSEPORT, so that a second Weir is told instead of sharing the port.

    Raises `StartError`; `remedy` is what it advises.
    """
    host, port = address.host, address.port
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        # Said in full: asyncio turns Nagle's algorithm off only where it sees that this is TCP.
        listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    except OSError as error:
        raise StartError(f"cannot listen on {address}: {error.strerror}") from error
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(BACKLOG)
        listener.setblocking(False)
    except (OSError, OverflowError) as error:
        listener.close()
        reason = getattr(error, "strerror", None) or str(error)
        raise StartError(f"cannot listen on {address}: {reason}; stop what uses it, or {remedy}") from error
    return listener


class Listener(uvicorn.Server):
    """A uvicorn server that leaves signals to whoever runs several."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def protocol_of(server: Listener) -> Callable[[], asyncio.BaseProtocol]:
    """What makes the protocol of one more connection of this server, on the running loop."""
    make: Any = server.config.http_protocol_class
    return partial(
        make,
        config=server.config,
        server_state=server.server_state,
        app_state={},
        _loop=asyncio.get_running_loop(),
    )


def listener(app: Any, http: Any = "httptools") -> Listener:
    """A server for an ASGI app with everything off that would add a header, a log line or a guess."""
    return Listener(
        uvicorn.Config(
            app,
            http=http,
            ws="none",
            lifespan="off",
            interface="asgi3",
            log_config=None,
            access_log=False,
            server_header=False,
            date_header=False,
            proxy_headers=False,
            timeout_keep_alive=75,
            backlog=BACKLOG,
        )
    )


class Weir:
    """A running Weir: `await run(...)` serves until a signal or `stop()`; it returns the signal's number."""

    def __init__(
        self,
        app: App,
        data: socket.socket,
        admin: socket.socket | None,
        accept: Callable[[socket.socket, Listener], Accepting] | None = None,
    ) -> None:
        """`accept` takes the data port's connections where several processes do; else the server does."""
        self.app = app
        self._data = data
        self._admin = admin
        self._accept = accept
        self._accepting: Accepting | None = None
        self._stop = asyncio.Event()
        self._force = asyncio.Event()
        self._told_by: set[bool] = set()
        self._signal = 0
        self._announced = True
        self._reload: Callable[[], Awaitable[None]] | None = None
        self._reloading: asyncio.Task[None] | None = None

    def stop(self, number: int = 0, *, announced: bool = True) -> None:
        """Begin to shut down; called again, at once.

        One signal and one call are no second time: a service manager sends SIGTERM to a parent, which tells
        us, and to us as well. Without `announced` the data port closes at once: there is nobody who could see
        that we are unready.
        """
        by_signal = number > 0
        if by_signal in self._told_by:
            self._force.set()
        self._told_by.add(by_signal)
        self._announced = announced
        self._signal = self._signal or number
        self._stop.set()

    async def run(
        self,
        started: Callable[[], None] | None = None,
        reload: Callable[[], Awaitable[None]] | None = None,
        signals: Sequence[signal.Signals] = (signal.SIGTERM, signal.SIGINT),
    ) -> int:
        """Serve. Raises what a plugin's `start` raised.

        `started` is called once requests are taken, `reload` at each SIGHUP, one at a time. `signals` are
        those that stop it.
        """
        app = self.app
        await app.start()
        loop = asyncio.get_running_loop()
        for number in signals:
            loop.add_signal_handler(number, self.stop, int(number))
        self._reload = reload
        if reload is not None:
            loop.add_signal_handler(signal.SIGHUP, self.reload)
        http = bound(app.settings.limits_http, app.deadlines)
        app.server.metrics.register(http.places)
        data = listener(app, http)
        servers = [(data, [self._data] if self._accept is None else [])]
        if self._admin is not None:
            servers.append((listener(management(app)), [self._admin]))
        tasks = [loop.create_task(server.serve(sockets=sockets)) for server, sockets in servers]
        try:
            while not all(server.started for server, _ in servers):
                await asyncio.sleep(0.005)
            # What is here now is here to stay: the collector need not look at it again.
            gc.collect()
            gc.freeze()
            if self._accept is not None:
                self._accepting = self._accept(self._data, data)
            if started is not None:
                started()
            await self._stop.wait()
            await self._drain(data, tasks[0])
            for server, _ in servers[1:]:
                server.should_exit = server.force_exit = True
            await asyncio.gather(*tasks)
        finally:
            for number in (*signals, signal.SIGHUP):
                loop.remove_signal_handler(number)
            await app.stop()
        return self._signal

    def reload(self) -> bool:
        """Load the configuration anew, after a reload that runs already. False: it does not run yet."""
        before, reload = self._reloading, self._reload
        if reload is None:
            return False

        async def one_at_a_time() -> None:
            if before is not None:
                await asyncio.wait([before])
            await reload()

        self._reloading = asyncio.get_running_loop().create_task(one_at_a_time())
        return True

    async def _drain(self, server: Listener, task: "asyncio.Task[None]") -> None:
        app = self.app
        app.health.draining = True
        drain = app.settings.drain
        log.info("shutting down", extra={"fields": {"in_flight": self._in_flight()}})
        await self._forced_within(drain.delay if self._announced else 0)
        if self._accepting is not None:
            self._accepting.stop()
        server.should_exit = True
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(drain.grace):
                while self._in_flight() and not self._force.is_set():
                    await asyncio.sleep(0.05)
        if self._in_flight():
            log.warning("ending what still runs", extra={"fields": {"in_flight": self._in_flight()}})
            for trip in app.trips:
                trip.flight.interrupt(ShuttingDown())
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(SETTLE):
                while self._in_flight() and not self._force.is_set():
                    await asyncio.sleep(0.01)
        # What is left is idle connections and clients that do not read their last bytes.
        await asyncio.wait([task], timeout=1.0)
        server.force_exit = True

    async def _forced_within(self, seconds: float) -> None:
        if seconds:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._force.wait(), seconds)

    def _in_flight(self) -> int:
        return len(self.app.trips)
