"""One of several processes that share the data port: what Weir is, but for who tells it what to do.

The parent does, over a channel: stop, reload, and serve this connection, which is how it asks for health,
figures and whatever plugins have on the management port. When the parent is gone the worker drains and ends.
"""

import asyncio
import signal
import socket
from typing import Any

from proxy.admin.app import management
from proxy.admin.workers import with_peer
from proxy.core import log as logs
from proxy.core.app import App
from proxy.core.config import ConfigError
from proxy.core.log import log
from proxy.core.server.accept import Accepting
from proxy.core.server.channel import Channel, Message
from proxy.core.server.forkserver import Template
from proxy.core.server.origin import made, reload
from proxy.core.server.protocol import bound
from proxy.core.server.run import Listener, Weir, listener, loop_factory, protocol_of


def work(number: int, data: socket.socket, channel: socket.socket, template: Template) -> int:
    """Serve in this process, which was forked for it, until told to stop; returns its exit status."""
    for ignored in (signal.SIGINT, signal.SIGHUP):
        # A terminal sends them to every process; it is for the parent to say what they mean.
        signal.signal(ignored, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    settings = template.settings
    flush = logs.configure(settings.log.level, settings.log.format, number)
    try:
        with asyncio.Runner(loop_factory=loop_factory()) as runner:
            return runner.run(Worker(number, data, Channel(channel), template).run())
    finally:
        flush()


class Worker:
    """A running Weir and its line to the parent."""

    def __init__(self, number: int, data: socket.socket, channel: Channel, template: Template) -> None:
        self._number = number
        self._data = data
        self._channel = channel
        self._origin = template.origin
        self._template = template
        self._reloading: asyncio.Task[None] | None = None
        self._app: App
        self._weir: Weir
        self._door: Door

    async def run(self) -> int:
        """Serve until the parent says so, is gone, or SIGTERM comes."""
        origin, template = self._origin, self._template
        try:
            chain = origin.chain(template.settings)
            self._app = made(template.settings, chain, template.prices)
            self._weir = Weir(self._app, self._data, None, self._accept)
            self._door = Door(self._app)
            self._channel.listen(self._do, self._alone)
            await self._weir.run(self._started, signals=(signal.SIGTERM,))
        except Exception as error:
            if hasattr(self, "_app") and self._app.setup is not None:
                raise
            failure = origin.not_started(error)
            if isinstance(failure, ConfigError):
                self._channel.send({"did": "fail", "kind": "config", "problems": failure.problems})
            else:
                self._channel.send({"did": "fail", "kind": "start", "problems": [str(failure)]})
            return 1
        finally:
            self._channel.close()
        return 0

    def _accept(self, data: socket.socket, server: Listener) -> Accepting:
        connections = server.server_state.connections
        return Accepting(data, protocol_of(server), connections, self._template.loads, self._number)

    def _started(self) -> None:
        self._channel.send({"did": "start"})

    def _do(self, message: Message, along: socket.socket | None) -> None:
        match message["do"]:
            case "stop":
                self._weir.stop()
            case "reload":
                reloading = self._reload(message["number"], self._reloading)
                self._reloading = asyncio.get_running_loop().create_task(reloading)
            case "serve" if along is not None:
                self._door.serve(along)

    def _alone(self) -> None:
        log.error("the parent process is gone")
        self._weir.stop(announced=False)

    async def _reload(self, number: int, before: "asyncio.Task[None] | None") -> None:
        if before is not None:
            await asyncio.wait([before])  # one at a time
        changed = await reload(self._app, self._origin)
        self._channel.send({"did": "reload", "number": number, "well": changed is not None})


class Door:
    """Serves the management port's requests on connections that the parent hands over."""

    def __init__(self, app: App) -> None:
        self._server = listener(with_peer(management(app)), bound(app.settings.limits_http, app.deadlines))
        self._server.config.load()
        self._opening: set[asyncio.Task[Any]] = set()

    def serve(self, sock: socket.socket) -> None:
        """Serve what comes on this connection."""
        sock.setblocking(False)
        loop = asyncio.get_running_loop()
        task = loop.create_task(loop.connect_accepted_socket(protocol_of(self._server), sock))
        self._opening.add(task)
        task.add_done_callback(self._opening.discard)
