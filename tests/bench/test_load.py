import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import orjson
import pytest

from bench.load import Load, Result, Spec, percentile
from bench.upstream import CHAT, STREAM_EVENT, STREAM_HEAD
from bench.wire import LAST_CHUNK, chunk, message

from .test_upstream import Client


@contextmanager
def serving(answer: Callable[[bytes], bytes | None]) -> Iterator[int]:
    """Answers each whole request with these bytes, and leaves on None; the port."""

    def connection(sock: socket.socket) -> None:
        got = b""
        with sock, suppress(ConnectionError):
            while data := sock.recv(1 << 20):
                got += data
                if message(got) is not None:
                    said = answer(got)
                    if said is None:
                        return
                    sock.sendall(said)
                    got = b""

    def accept() -> None:
        with ExitStack() as stack, suppress(OSError):
            while True:
                thread = threading.Thread(target=connection, args=(listening.accept()[0],))
                thread.start()
                stack.callback(thread.join)

    with socket.create_server(("127.0.0.1", 0), backlog=256) as listening:
        accepting = threading.Thread(target=accept)
        accepting.start()
        try:
            yield int(listening.getsockname()[1])
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            accepting.join()


def ran(scenario: str, port: int, seconds: float = 0.2, drain: float = 5) -> Result:
    return Load(Spec(scenario, port, seconds, drain)).run()


@pytest.mark.parametrize("scenario", ["short", "fresh", "long", "one"])
def test_chats_are_counted_and_timed(upstream_port: int, scenario: str) -> None:
    with Client(upstream_port) as client:
        before = client.told()
        result = ran(scenario, upstream_port)
        assert (result.errors, result.first_error) == (0, "")
        assert result.requests == client.told() - before > 0
    assert result.p50 is not None
    assert result.p99 is not None
    assert 0 < result.p50 <= result.p99 < 1000 * result.seconds
    assert result.ttft_p50 is None


def test_streams_are_counted_and_their_first_event_is_timed(upstream_port: int) -> None:
    with Client(upstream_port) as client:
        client.told("events=100&gap=0.001")
    result = ran("stream", upstream_port)
    assert (result.errors, result.first_error) == (0, "")
    assert result.requests >= 32
    assert result.p50 is not None
    assert result.ttft_p50 is not None
    assert result.ttft_p50 < result.p50
    assert result.p50 >= 99


def test_prompts_are_fresh_only_where_they_should_be() -> None:
    asked: list[bytes] = []

    def answer(raw: bytes) -> bytes:
        asked.append(raw)
        return CHAT

    with serving(answer) as port:
        result = ran("fresh", port, 0.05)
        assert len(set(asked)) == len(asked) == result.requests >= 64
        asked.clear()
        ran("short", port, 0.05)
        assert len(set(asked)) == 1


@pytest.mark.parametrize(
    ("scenario", "answer", "wrong"),
    [
        ("short", b"HTTP/1.1 503 Busy\r\ncontent-length: 2\r\n\r\n{}", "answered 503: {}"),
        ("short", None, "the connection was closed before the answer was whole"),
        ("short", CHAT + b"}", "1 bytes after the end of a message"),
        ("stream", STREAM_HEAD + STREAM_EVENT + LAST_CHUNK, "1 events, not 102, or no [DONE]"),
        ("stream", STREAM_HEAD + STREAM_EVENT * 102 + LAST_CHUNK, "102 events, not 102, or no [DONE]"),
        ("stream", STREAM_HEAD + chunk(b"data: [DONE]\n\n") + LAST_CHUNK, "1 events, not 102, or no [DONE]"),
    ],
)
def test_an_answer_that_is_not_right_does_not_count(scenario: str, answer: bytes | None, wrong: str) -> None:
    with serving(lambda _: answer) as port:
        result = ran(scenario, port)
    assert result.requests == 0
    assert result.errors >= 32
    assert result.first_error == wrong
    assert result.p50 is None


def test_a_load_without_an_answer_ends() -> None:
    with serving(lambda _: CHAT[:-1]) as port:
        result = ran("one", port, 0.1, 0.2)
    assert (result.requests, result.errors) == (0, 1)
    assert result.first_error == "an answer was not whole in time"


def test_a_load_without_a_server_ends() -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        result = ran("one", sock.getsockname()[1])
    assert (result.requests, result.errors) == (0, 1)
    assert result.first_error.startswith("no connection")


def test_connections_begin_within_the_ramp(upstream_port: int) -> None:
    with Client(upstream_port) as client:
        client.told("events=100&gap=0")
    result = ran("slow", upstream_port, 1e-9)
    assert (result.errors, result.first_error) == (0, "")
    assert result.requests == 200  # each connection begins once, though the time is over
    assert result.seconds > 0.9


def test_percentiles_are_of_the_nearest_rank() -> None:
    values = [number / 1000 for number in range(101)]
    assert [percentile(values, part) for part in (0.5, 0.99, 1)] == [50, 99, 100]
    assert percentile([0.002], 0.99) == 2
    assert percentile([], 0.5) is None


def test_the_command_prints_one_line(upstream_port: int) -> None:
    spec = orjson.dumps({"scenario": "one", "port": upstream_port, "seconds": 0.05}).decode()
    root = Path(__file__).parents[2]
    said = subprocess.run(
        [sys.executable, "-m", "bench.load", spec], cwd=root, capture_output=True, check=True
    )
    assert Result(**orjson.loads(said.stdout)).errors == 0
