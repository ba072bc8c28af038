import socket
from collections.abc import Iterator

import pytest

from bench import lockstep
from bench.lockstep import Lockstep
from bench.process import BenchError

from .conftest import baseline
from .test_load import serving
from .test_upstream import Client


@pytest.fixture
def listening() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        yield sock


@pytest.fixture
def port(listening: socket.socket, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    yield from baseline(listening.getsockname()[1], tmp_path_factory.mktemp("baseline"))


def test_both_ends_go_on_together(port: int, listening: socket.socket) -> None:
    both = Lockstep(port, listening)
    both.chats(3)
    both.streams(2, 5)
    both.chats(1)
    both.close()
    with Client(port) as client:  # the proxy is as well as before
        assert client.ask(b"GET / HTTP/1.1\r\nhost: h\r\n\r\n").status == 401


def test_a_request_may_come_on_a_new_connection(port: int, listening: socket.socket) -> None:
    both = Lockstep(port, listening)
    both.chats(1)
    assert both._upstream is not None
    both._upstream.close()
    both._upstream = None
    both.chats(1)
    both.close()


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", "answered before the upstream did"),
        (b"HTTP/1.1 429 No\r\ncontent-length: 2\r\n\r\n{}", "answered 429: {}"),
        (b"", r"the request did not come within 0\.1 s"),
    ],
)
def test_a_proxy_that_does_not_pass_it_on_is_told(
    listening: socket.socket, monkeypatch: pytest.MonkeyPatch, answer: bytes, said: str
) -> None:
    monkeypatch.setattr(lockstep, "WITHIN", 0.1)
    with serving(lambda _: answer) as port:
        both = Lockstep(port, listening)
        with pytest.raises(BenchError, match=said):
            both.chats(1)
        both.close()
