"""Messages between processes of one Weir: a line of JSON each, perhaps with a socket that goes along.

A Unix socket pair: nobody else can join, and however a process ends, the other end hears of it.
"""

import asyncio
import socket
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import orjson

Message = dict[str, Any]

LINE = 256 * 1024
"""Bytes of a message at most; who is sent more is taken for broken."""
_READ = 64 * 1024
_SOCKETS = 64
_KEY = "_socket"  # a message with this has the next socket that came


class Channel:
    """One end of it. Neither sending nor receiving ever waits."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self._sock = sock
        self._buffer = b""
        self._sockets: deque[int] = deque()
        self._loop: asyncio.AbstractEventLoop | None = None
        self.closed = False

    @classmethod
    def pair(cls) -> "tuple[Channel, socket.socket]":
        """Our end, and the socket that makes the other one."""
        ours, theirs = socket.socketpair()
        return cls(ours), theirs

    def fileno(self) -> int:
        """For who waits until there is something to receive."""
        return self._sock.fileno()

    def send(self, message: Message, along: socket.socket | None = None) -> bool:
        """Whether it went out. Not so if the other end is gone, or has not listened for long.

        `along` is duplicated: the caller still has to close its own.
        """
        if self.closed:
            return False
        line = orjson.dumps(message if along is None else {**message, _KEY: True}) + b"\n"
        try:
            if along is None:
                return self._sock.send(line) == len(line)
            return socket.send_fds(self._sock, [line], [along.fileno()]) == len(line)
        except OSError:
            return False

    def receive(self) -> list[tuple[Message, socket.socket | None]] | None:
        """What has come, with the sockets that came along; None when the other end is gone."""
        data = b""
        if not self.closed:
            try:
                data, sockets, _, _ = socket.recv_fds(self._sock, _READ, _SOCKETS)
            except BlockingIOError:
                return []
            except OSError:
                sockets = []
            self._sockets.extend(sockets)
        if not data or len(self._buffer) > LINE:
            return None
        *lines, self._buffer = (self._buffer + data).split(b"\n")
        found: list[tuple[Message, socket.socket | None]] = []
        for line in lines:
            message = orjson.loads(line)
            along = message.pop(_KEY, False) and self._sockets
            found.append((message, socket.socket(fileno=self._sockets.popleft()) if along else None))
        return found

    def listen(
        self, heard: Callable[[Message, socket.socket | None], None], gone: Callable[[], None]
    ) -> None:
        """Call `heard` on the running loop for each message, and `gone`, once, when the other end is."""
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._sock.fileno(), self._readable, heard, gone)

    def _readable(
        self, heard: Callable[[Message, socket.socket | None], None], gone: Callable[[], None]
    ) -> None:
        found = self.receive()
        if found is None:
            self.close()
            gone()
            return
        for message, along in found:
            heard(message, along)

    def close(self) -> None:
        """Let go of it."""
        if self.closed:
            return
        self.closed = True
        if self._loop is not None and not self._loop.is_closed():
            self._loop.remove_reader(self._sock.fileno())
        while self._sockets:
            with suppress(OSError):
                socket.close(self._sockets.popleft())
        self._sock.close()
