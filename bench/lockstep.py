"""A client and an upstream in one thread, of which neither goes on before the other has got what was sent.

So a proxy between them does the same work in the same steps, however slow it is and whatever else the machine
does: what is needed to count its instructions.
"""

import select
import socket

from .process import BenchError
from .scenarios import CLIENT_KEY, PATH, SHORT, STREAM
from .upstream import CHAT, STREAM_END, STREAM_EVENT, STREAM_HEAD
from .wire import Message, message, request

RECEIVE = 256 * 1024
WITHIN = 60.0
"""Seconds for each step: a proxy under valgrind is fifty times slower."""
_HEADERS = {"authorization": f"Bearer {CLIENT_KEY}"}


class Lockstep:
    """Both ends of a proxy on this port of loopback; `listening` is where it finds its upstream."""

    def __init__(self, port: int, listening: socket.socket) -> None:
        self._port = port
        self._listening = listening
        self._client = self._connected()
        self._upstream: socket.socket | None = None
        self._chat, self._stream = (request(PATH, each.body(), _HEADERS) for each in (SHORT, STREAM))

    def _connected(self) -> socket.socket:
        client = socket.create_connection(("127.0.0.1", self._port), WITHIN)
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return client

    def close(self) -> None:
        """Both ends."""
        self._client.close()
        if self._upstream is not None:
            self._upstream.close()

    def chats(self, count: int) -> None:
        """So many requests, each answered before the next. Raises BenchError."""
        for _ in range(count):
            upstream = self._asked(self._chat)
            upstream.sendall(CHAT)
            _right(self._whole(self._client, b""))

    def streams(self, count: int, events: int) -> None:
        """So many streams of so many events, each sent when the one before has come. Raises BenchError."""
        for _ in range(count):
            self._streamed(events)

    def _streamed(self, events: int) -> None:
        upstream = self._asked(self._stream)
        upstream.sendall(STREAM_HEAD)
        got = b""
        for number in range(1, events + 1):
            upstream.sendall(STREAM_EVENT)
            while got.count(b"data: ") < number:
                got += self._more(self._client)
        upstream.sendall(STREAM_END)
        _right(self._whole(self._client, got))

    def _asked(self, data: bytes) -> socket.socket:
        """Send a request; the upstream's connection that it came on. One that idled too long may be gone."""
        if _readable(self._client, within=0):
            self._client.close()
            self._client = self._connected()
        self._client.sendall(data)
        while True:
            ends = [self._listening] if self._upstream is None else [self._listening, self._upstream]
            readable = _readable(*ends, self._client, within=WITHIN)
            if self._client in readable:
                _right(self._whole(self._client, b""))
                raise BenchError("answered before the upstream did")
            if not readable:
                raise BenchError(f"the request did not come within {WITHIN:g} s")
            if self._listening in readable:
                if self._upstream is not None:
                    self._upstream.close()
                self._upstream, _ = self._listening.accept()
                self._upstream.settimeout(WITHIN)
                self._upstream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            assert self._upstream is not None
            if self._upstream.recv(1, socket.MSG_PEEK):
                self._whole(self._upstream, b"")
                return self._upstream
            self._upstream.close()
            self._upstream = None

    def _whole(self, end: socket.socket, got: bytes) -> Message:
        while (found := message(got)) is None:
            got += self._more(end)
        return found

    def _more(self, end: socket.socket) -> bytes:
        try:
            data = end.recv(RECEIVE)
        except TimeoutError:
            raise BenchError(f"nothing came within {WITHIN:g} s") from None
        if not data:
            raise BenchError("the connection was closed")
        return data


def _readable(*ends: socket.socket, within: float) -> list[socket.socket]:
    return select.select(ends, [], [], within)[0]


def _right(answer: Message) -> None:
    if answer.status != 200:
        raise BenchError(f"answered {answer.status}: {answer.body[:300].decode(errors='replace')}")
