"""A TCP relay that can freeze, slow, cut and refuse what goes through it: for Redis, PostgreSQL, anything."""

import asyncio
from collections.abc import Coroutine
from typing import Any, Self

from .wire import Link, Listener, connect


class Relay:
    """Listens on `port` (loopback, kept for life) and relays to `target`, half-closes and resets included.

    Backpressure passes once a direction holds 64 pieces (4 MiB).
    """

    def __init__(self, target: int) -> None:
        self.port = 0
        self.connections = 0
        """How many connections were accepted and reached the target."""
        self._target = target
        self._delay = 0.0
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._pairs: set[tuple[Link, Link]] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._errors: list[Exception] = []
        self._listener: Listener | None = None

    @property
    def open_connections(self) -> int:
        """How many are relayed now."""
        return len(self._pairs)

    async def __aenter__(self) -> Self:
        self._open()
        return self

    async def __aexit__(self, kind: object, error: object, trace: object) -> None:
        self.refuse()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if error is None and self._errors:
            raise self._errors[0]

    def pause(self) -> None:
        """Freeze, as SIGSTOP does to a server: connections open, the kernel takes new ones, no byte moves."""
        self._flowing.clear()

    def resume(self) -> None:
        """Undo pause() and refuse(); bytes held back go on. delay() stays."""
        self._flowing.set()
        if self._listener is None:
            self._open()

    def cut(self) -> None:
        """RST every connection, on both sides. New ones are taken."""
        for pair in self._pairs:
            for link in pair:
                link.reset()
        self._pairs.clear()

    def delay(self, seconds: float) -> None:
        """From now on what the target sends arrives this much later: a round trip takes as much more."""
        self._delay = seconds

    def refuse(self) -> None:
        """New connections are refused until resume(); with cut() before it: a dead server."""
        if self._listener is not None:
            self._listener.close()
            self._listener = None

    def _open(self) -> None:
        self._listener = Listener(port=self.port)
        self.port = self._listener.port
        self._start(self._accept(self._listener))

    def _start(self, job: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(job)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _accept(self, listener: Listener) -> None:
        while True:
            try:
                sock = await listener.accept()
            except ConnectionAbortedError:
                return
            except Exception as error:
                self._errors.append(error)
                return
            self._start(self._relay(Link(sock)))

    async def _relay(self, client: Link) -> None:
        try:
            await self._flowing.wait()
            try:
                server = Link(await connect(self._target))
            except ConnectionError:
                client.reset()
                return
            self.connections += 1
            pair = (client, server)
            self._pairs.add(pair)
            try:
                async with asyncio.TaskGroup() as group:
                    for source, sink in (pair, pair[::-1]):
                        queue: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(64)
                        group.create_task(self._read(source, queue, source is server))
                        group.create_task(self._write(source, sink, queue))
            except* ConnectionError:
                client.reset()
                server.reset()
            finally:
                self._pairs.discard(pair)
                server.close()
        except Exception as error:
            self._errors.append(error)
        finally:
            client.close()

    async def _read(self, source: Link, queue: asyncio.Queue[tuple[float, bytes]], late: bool) -> None:
        loop = asyncio.get_running_loop()
        more = True
        while more:
            await self._flowing.wait()
            more = await source.fill()
            await queue.put((loop.time() + (self._delay if late else 0.0), source.take()))

    async def _write(self, source: Link, sink: Link, queue: asyncio.Queue[tuple[float, bytes]]) -> None:
        loop = asyncio.get_running_loop()
        while True:
            due, data = await queue.get()
            if (wait := due - loop.time()) > 0:
                await asyncio.sleep(wait)
            await self._flowing.wait()
            if not data:  # the source has left
                break
            await sink.send(data, timeout=None)
        if source.left == "reset":
            sink.reset()
        else:
            sink.fin()
