import socket
import time
from collections.abc import Iterator
from typing import Self

import orjson
import pytest

from bench.scenarios import PATH, SHORT, STREAM
from bench.upstream import LARGEST, WHOLE, streamed
from bench.wire import Message, message, request


class Client:
    def __init__(self, port: int) -> None:
        self.sock = socket.create_connection(("127.0.0.1", port), 10)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()

    def ask(self, *pieces: bytes) -> Message:
        for piece in pieces:
            self.sock.sendall(piece)
            time.sleep(0.01 if len(pieces) > 1 else 0)
        return self.answer()

    def answer(self) -> Message:
        got = b""
        while (found := message(got)) is None:
            data = self.sock.recv(65536)
            assert data, f"closed after {got!r}"
            got += data
        return found

    def told(self, query: str = "") -> int:
        return int(orjson.loads(self.ask(request(f"/bench?{query}", b"", {})).body)["chats"])


@pytest.fixture
def client(upstream_port: int) -> Iterator[Client]:
    with Client(upstream_port) as client:
        client.told("events=3&gap=0")
        yield client


CHAT, STREAMED = (request(PATH, scenario.body(), {}) for scenario in (SHORT, STREAM))


def test_a_chat_is_answered_whole_on_a_kept_connection(client: Client) -> None:
    before = client.told()
    assert [client.ask(CHAT).body for _ in range(3)] == [WHOLE] * 3
    assert client.told() - before == 3
    assert orjson.loads(WHOLE)["usage"]["total_tokens"] == 128


def test_a_request_may_come_in_pieces(client: Client) -> None:
    assert client.ask(CHAT[:20], CHAT[20:300], CHAT[300:]).body == WHOLE


def test_a_stream_has_the_events_that_were_asked_for(client: Client) -> None:
    answer = client.ask(STREAMED)
    assert answer.body == streamed(3)
    assert answer.body.count(b"data: ") == 5
    assert answer.body.endswith(b"data: [DONE]\n\n")
    assert b"content-type: text/event-stream" in answer.head
    assert client.ask(CHAT).body == WHOLE  # and the connection goes on


def test_events_are_apart_as_they_should_be(client: Client) -> None:
    client.told("events=5&gap=0.05")
    start = time.monotonic()
    assert client.ask(STREAMED).body == streamed(5)
    assert time.monotonic() - start >= 0.05 * 4


def test_streams_take_turns(upstream_port: int, client: Client) -> None:
    """A short one is not kept waiting by a long one whose client does not read."""
    client.told("events=4000&gap=0")
    with Client(upstream_port) as slow:
        slow.sock.sendall(STREAMED)
        time.sleep(0.05)
        client.told("events=3&gap=0")
        assert client.ask(STREAMED).body == streamed(3)
        assert slow.answer().body == streamed(4000)


def test_other_paths_are_not_found(client: Client) -> None:
    assert client.ask(request("/v1/other", b"{}", {})).status == 404


@pytest.mark.parametrize(
    "raw",
    [CHAT + CHAT, b"POST /x HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\nx\r\n"],
    ids=["pipelined", "no chunk"],
)
def test_who_breaks_the_rules_is_left(client: Client, raw: bytes) -> None:
    client.sock.sendall(raw)
    assert client.sock.recv(1) == b""


def test_a_body_without_end_is_cut_off(client: Client) -> None:
    with pytest.raises((ConnectionResetError, BrokenPipeError)):
        client.sock.sendall(
            b"POST / HTTP/1.1\r\ncontent-length: 99999999\r\n\r\n" + bytes(LARGEST + 9_000_000)
        )
