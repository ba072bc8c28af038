"""The mock upstream: answers chats at once, whole or event by event, from bytes made before.

    python -m bench.upstream PORT

One thread over epoll, on loopback only, so that the core it shares with the load has room for both. Each
event is a chunk and a send of its own. `GET /bench?events=100&gap=0.02` sets what later streams are like,
and answers how many chats were asked for: {"chats": 1234}.
"""

import gc
import heapq
import select
import signal
import socket
import sys
import time
from collections.abc import Iterator
from typing import NamedTuple
from urllib.parse import parse_qs, urlsplit

import orjson

from .scenarios import MODEL, PATH
from .wire import LAST_CHUNK, FramingError, chunk, message

RECEIVE = 256 * 1024
LARGEST = 16 << 20
"""Bytes of a request; a longer one is cut off."""
TURN = 128
"""Events that are sent before it is looked whether somebody asks."""

_HEADERS = (
    b"openai-organization: bench\r\nopenai-processing-ms: 312\r\nopenai-version: 2020-10-01\r\n"
    b"x-ratelimit-limit-requests: 10000\r\nx-ratelimit-limit-tokens: 10000000\r\n"
    b"x-ratelimit-remaining-requests: 9999\r\nx-ratelimit-remaining-tokens: 9999432\r\n"
    b"x-ratelimit-reset-requests: 6ms\r\nx-ratelimit-reset-tokens: 0s\r\n"
    b"x-request-id: req_4f3d2c1b0a9f8e7d\r\n"
)
_USAGE = {
    "prompt_tokens": 112,
    "completion_tokens": 16,
    "total_tokens": 128,
    "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
    "completion_tokens_details": {"reasoning_tokens": 0},
}
_HEAD = {"id": "chatcmpl-BqK3vJ8mXy2LpQwErTyUi", "created": 1735689600, "model": f"{MODEL}-2024-07-18"}
TEXT = "A proxy stands between a client and a server, and says on behalf of each what the other said."
WHOLE = orjson.dumps(
    {
        **_HEAD,
        "object": "chat.completion",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": TEXT, "refusal": None, "annotations": []},
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "usage": _USAGE,
        "service_tier": "default",
        "system_fingerprint": "fp_0392822090",
    }
)
"""The body of an answer that is not streamed."""


def _event(choices: list[object], usage: object) -> bytes:
    event = {
        **_HEAD,
        "object": "chat.completion.chunk",
        "service_tier": "default",
        "system_fingerprint": "fp_0392822090",
        "choices": choices,
        "usage": usage,
    }
    return b"data: %b\n\n" % orjson.dumps(event)


EVENT = _event([{"index": 0, "delta": {"content": " water"}, "logprobs": None, "finish_reason": None}], None)
ENDING = _event([], _USAGE) + b"data: [DONE]\n\n"


def streamed(events: int) -> bytes:
    """The body of a streamed answer."""
    return EVENT * events + ENDING


def _answer(body: bytes, status: bytes = b"200 OK") -> bytes:
    return b"HTTP/1.1 %b\r\ncontent-type: application/json\r\n%bcontent-length: %d\r\n\r\n%b" % (
        status,
        _HEADERS,
        len(body),
        body,
    )


CHAT = _answer(WHOLE)
STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ncache-control: no-cache\r\n"
    b"%btransfer-encoding: chunked\r\n\r\n" % _HEADERS
)
STREAM_EVENT = chunk(EVENT)
STREAM_END = chunk(_event([], _USAGE)) + chunk(b"data: [DONE]\n\n") + LAST_CHUNK


class Pace(NamedTuple):
    """What streams are like: how many events, and the seconds between two."""

    events: int = 100
    gap: float = 0.0


class _Client:
    """A connection, and what it is still owed."""

    __slots__ = ("left", "parts", "pieces", "sock")

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.parts: list[bytes] = []
        self.pieces: Iterator[bytes] | None = None  # of the stream under way
        self.left = b""  # of what the socket did not take


class Upstream:
    """Serves until it is told to stop; see the module."""

    def __init__(self, listening: socket.socket) -> None:
        self._listening = listening
        self._epoll = select.epoll()
        self._clients: dict[int, _Client] = {}
        self._due: list[tuple[float, int, _Client]] = []
        self._order = 0  # two that are due at once go in the order that they came in
        self._pace = Pace()
        self._chats = 0

    def serve(self) -> None:
        """Never returns."""
        listening, clients, due = self._listening, self._clients, self._due
        self._epoll.register(listening, select.EPOLLIN)
        while True:
            wait = max(0.0, due[0][0] - time.monotonic()) if due else -1
            for fd, _ in self._epoll.poll(wait):
                client = clients.get(fd)
                if client is None:
                    self._accept()
                elif client.left:
                    self._write_on(client)
                else:
                    self._read(client)
            now = time.monotonic()
            for _ in range(TURN):
                if not due or due[0][0] > now:
                    break
                client = heapq.heappop(due)[2]
                if client.pieces is not None and not client.left:
                    self._stream(client)

    def _accept(self) -> None:
        sock, _ = self._listening.accept()
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._clients[sock.fileno()] = _Client(sock)
        self._epoll.register(sock, select.EPOLLIN)

    def _drop(self, client: _Client) -> None:
        client.pieces = None
        self._epoll.unregister(client.sock)
        del self._clients[client.sock.fileno()]
        client.sock.close()

    def _read(self, client: _Client) -> None:
        try:
            data = client.sock.recv(RECEIVE)
        except OSError:
            data = b""
        if not data or client.pieces is not None:  # it left, or asks before it is answered
            self._drop(client)
            return
        if client.parts:
            client.parts.append(data)
            data = b"".join(client.parts)
        try:
            asked = message(data)
        except FramingError:
            self._drop(client)
            return
        if asked is None:
            client.parts = [data]
            if len(data) > LARGEST:
                self._drop(client)
            return
        client.parts = []
        path = asked.head[: asked.head.find(b"\r\n")].split(b" ")[1]
        if path != PATH.encode():
            self._write(client, self._other(path.decode()))
            return
        self._chats += 1
        if b'"stream":true' in asked.body or b'"stream": true' in asked.body:
            client.pieces = self._pieces()
            if self._write(client, STREAM_HEAD):
                self._stream(client)
        else:
            self._write(client, CHAT)

    def _other(self, path: str) -> bytes:
        url = urlsplit(path)
        if url.path != "/bench":
            return _answer(b'{"error":{"message":"there is nothing here"}}', b"404 Not Found")
        asked = parse_qs(url.query)
        if asked:
            self._pace = Pace(int(asked["events"][0]), float(asked["gap"][0]))
        return _answer(orjson.dumps({"chats": self._chats}))

    def _pieces(self) -> Iterator[bytes]:
        for _ in range(self._pace.events):
            yield STREAM_EVENT
        yield STREAM_END

    def _stream(self, client: _Client) -> None:
        """One event; the next one is due after the gap, or when all other streams had their turn."""
        assert client.pieces is not None
        piece = next(client.pieces)
        last = piece is STREAM_END
        if last:
            client.pieces = None
        if self._write(client, piece) and not last:
            gap = self._pace.gap
            self._order += 1
            heapq.heappush(self._due, (time.monotonic() + gap if gap else 0.0, self._order, client))

    def _write(self, client: _Client, data: bytes) -> bool:
        """False when the client is slower or gone: `_write_on` goes on."""
        try:
            sent = client.sock.send(data)
        except BlockingIOError:
            sent = 0
        except OSError:
            self._drop(client)
            return False
        if sent == len(data):
            return True
        client.left = data[sent:]
        self._epoll.modify(client.sock, select.EPOLLOUT)
        return False

    def _write_on(self, client: _Client) -> None:
        data, client.left = client.left, b""
        if self._write(client, data):
            self._epoll.modify(client.sock, select.EPOLLIN)
            if client.pieces is not None:
                self._stream(client)


def listen(port: int) -> socket.socket:
    """Loopback only."""
    sock = socket.create_server(("127.0.0.1", port), backlog=1024)
    sock.setblocking(False)
    return sock


def main(port: int) -> None:
    """Serve until SIGTERM or SIGINT."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: sys.exit(0))
    upstream = Upstream(listen(port))
    gc.freeze()
    gc.disable()  # nothing here makes cycles, and a collection would be somebody's p99
    upstream.serve()


if __name__ == "__main__":
    main(int(sys.argv[1]))
