"""The load: a closed loop of requests over so many connections, for so long, and what their answers took.

    python -m bench.load SPEC    # a JSON object, see `Spec`; one line of JSON comes out, see `Result`

One thread over epoll. A request's latency is from its first byte sent to the last byte of its answer,
"ttft" to the first event of a stream. An answer counts if its status is 200 and it is whole; of a stream,
if it has all its events and `[DONE]`.
"""

import gc
import select
import socket
import sys
import time
from array import array
from dataclasses import asdict, dataclass, field

import orjson

from .scenarios import CLIENT_KEY, NUMBER, PATH, SCENARIOS, Scenario
from .wire import LAST_CHUNK, FramingError, message, request

RECEIVE = 256 * 1024
CONNECT = 5.0
"""Seconds for a connection to be made."""


@dataclass(frozen=True)
class Spec:
    """One load. `drain`: seconds after the end that answers under way may still take."""

    scenario: str
    port: int
    seconds: float
    drain: float = 30.0
    headers: dict[str, str] = field(default_factory=lambda: {"authorization": f"Bearer {CLIENT_KEY}"})


@dataclass(frozen=True)
class Result:
    """What came of a load; times in milliseconds, None where there was no answer or no stream.

    `errors` are answers that did not count and `first_error` says what was wrong with the first of them.
    """

    requests: int
    seconds: float
    p50: float | None
    p90: float | None
    p99: float | None
    ttft_p50: float | None
    ttft_p99: float | None
    errors: int
    first_error: str


class _Connection:
    __slots__ = ("begun", "first", "left", "parts", "sock")

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.parts: list[bytes] = []
        self.left = b""  # of the request, what the socket did not take
        self.begun = 0.0
        self.first = 0.0


class Load:
    """One load, run once."""

    def __init__(self, spec: Spec) -> None:
        self._scenario: Scenario = SCENARIOS[spec.scenario]
        self._spec = spec
        whole = request(PATH, self._scenario.body(), spec.headers)
        at = whole.index(b"0" * NUMBER)
        self._before, self._after = whole[:at], whole[at + NUMBER :]
        self._request = whole
        self._asked = 0
        # No two loads of one run ask the same: the digits begin with the clock's.
        self._number = time.time_ns() // 1_000_000 % 10**8 * 10_000
        self._open: dict[int, _Connection] = {}
        self._epoll = select.epoll()
        self._latency, self._ttft = array("d"), array("d")
        self._errors: list[str] = []
        self._stop = 0.0
        self._waiting = 0

    def run(self) -> Result:
        """All of it, within `ramp` + `seconds` + `drain`."""
        spec, scenario = self._spec, self._scenario
        start = time.monotonic()
        self._stop = start + spec.seconds
        until = self._stop + spec.drain
        to_open = scenario.connections
        step = scenario.ramp / to_open
        poll, connections = self._epoll.poll, self._open
        while to_open or self._waiting:
            now = time.monotonic()
            while to_open and now >= start + step * (scenario.connections - to_open):
                to_open -= 1
                self._connect()
            wait = max(0.0, min(step if to_open else 1.0, until - now))
            for fd, events in poll(wait):
                connection = connections.get(fd)
                if connection is None:
                    continue
                if events & select.EPOLLOUT and connection.left:
                    self._write_on(connection)
                else:
                    self._read(connection)
            if now > until:
                self._errors.extend(["an answer was not whole in time"] * self._waiting)
                break
        took = time.monotonic() - start
        for connection in list(connections.values()):
            self._close(connection)
        return self._result(took)

    def _connect(self) -> None:
        try:
            sock = socket.create_connection(("127.0.0.1", self._spec.port), CONNECT)
        except OSError as error:
            self._errors.append(f"no connection: {error.strerror}")
            return
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection = self._open[sock.fileno()] = _Connection(sock)
        self._epoll.register(sock, select.EPOLLIN)
        self._ask(connection)

    def _close(self, connection: _Connection) -> None:
        self._epoll.unregister(connection.sock)
        del self._open[connection.sock.fileno()]
        connection.sock.close()

    def _ask(self, connection: _Connection) -> None:
        self._waiting += 1
        self._asked += 1
        if self._scenario.fresh:
            number = (self._number + self._asked) % 10**NUMBER
            data = b"%b%012d%b" % (self._before, number, self._after)
        else:
            data = self._request
        connection.begun = time.perf_counter()
        connection.first = 0.0
        self._send(connection, data)

    def _send(self, connection: _Connection, data: bytes) -> None:
        try:
            sent = connection.sock.send(data)
        except BlockingIOError:
            sent = 0
        except OSError:
            self._failed(connection, "the connection was closed before the request")
            return
        if sent < len(data):
            if not connection.left:
                self._epoll.modify(connection.sock, select.EPOLLIN | select.EPOLLOUT)
            connection.left = data[sent:]
        elif connection.left:
            connection.left = b""
            self._epoll.modify(connection.sock, select.EPOLLIN)

    def _write_on(self, connection: _Connection) -> None:
        self._send(connection, connection.left)

    def _read(self, connection: _Connection) -> None:
        try:
            data = connection.sock.recv(RECEIVE)
        except OSError:
            data = b""
        if not data:
            self._failed(connection, "the connection was closed before the answer was whole")
            return
        now = time.perf_counter()
        parts = connection.parts
        parts.append(data)
        streamed = self._scenario.stream
        if streamed and not connection.first and b"data:" in data:
            connection.first = now
        # A look that rules out nearly all that is not the end; the whole is only put together behind it.
        if len(data) > len(LAST_CHUNK) and not data.endswith(LAST_CHUNK if streamed else (b"}", LAST_CHUNK)):
            return
        raw = data if len(parts) == 1 else b"".join(parts)
        wrong = self._judge(raw, streamed)
        if wrong is None:
            return
        if wrong:
            self._failed(connection, wrong)
            return
        connection.parts = []
        self._waiting -= 1
        self._latency.append(now - connection.begun)
        if streamed:
            self._ttft.append(connection.first - connection.begun)
        if time.monotonic() < self._stop:
            self._ask(connection)
        else:
            self._close(connection)

    def _judge(self, raw: bytes, streamed: bool) -> str | None:
        """What is wrong with an answer, "" if nothing is, None if it is not whole yet."""
        try:
            answer = message(raw)
        except FramingError as error:
            return str(error)
        if answer is None:
            return None
        if answer.status != 200:
            return f"answered {answer.status}: {answer.body[:200].decode(errors='replace')}"
        if streamed:
            events = answer.body.count(b"data: ")
            if events < self._scenario.data_lines - 1 or b"data: [DONE]" not in answer.body[-200:]:
                return f"{events} events, not {self._scenario.data_lines}, or no [DONE]"
        return ""

    def _failed(self, connection: _Connection, wrong: str) -> None:
        """Its connection is left, and no other is made for it."""
        self._waiting -= 1
        self._errors.append(wrong)
        self._close(connection)

    def _result(self, took: float) -> Result:
        latency, ttft = sorted(self._latency), sorted(self._ttft)
        return Result(
            len(latency),
            took,
            percentile(latency, 0.5),
            percentile(latency, 0.9),
            percentile(latency, 0.99),
            percentile(ttft, 0.5),
            percentile(ttft, 0.99),
            len(self._errors),
            self._errors[0] if self._errors else "",
        )


def percentile(values: list[float], part: float) -> float | None:
    """Of sorted seconds, in milliseconds: the nearest rank."""
    return round(values[round(part * (len(values) - 1))] * 1000, 4) if values else None


def main(spec: str) -> None:
    """Run one load and print what came of it."""
    load = Load(Spec(**orjson.loads(spec)))
    gc.freeze()
    gc.disable()
    sys.stdout.write(orjson.dumps(asdict(load.run())).decode() + "\n")


if __name__ == "__main__":
    main(sys.argv[1])
