"""The baseline is not Weir, but what is compared must be a proxy: framing, keys, and ends that are told."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.scenarios import CLIENT_KEY, UPSTREAM_KEY
from bench.targets import Target, ask, verify
from bench.upstream import CHAT, STREAM_EVENT, STREAM_HEAD, WHOLE
from bench.wire import chunk, message

from .conftest import baseline
from .test_load import serving
from .test_upstream import CHAT as CHAT_REQUEST
from .test_upstream import Client

HEAD = f"POST /v1/x?a=b HTTP/1.1\r\nhost: h\r\nauthorization: Bearer {CLIENT_KEY}\r\n".encode()


def test_it_answers_as_the_upstream_does(upstream_port: int, baseline_port: int) -> None:
    with Client(upstream_port) as upstream:
        upstream.told("events=100&gap=0")
    verify("lean", Target("", [], ""), baseline_port)


@contextmanager
def before(answer: bytes | None, asked: list[bytes], folder: Path) -> Iterator[Client]:
    """A client of a baseline whose upstream answers each request with these bytes; None: by leaving."""

    def heard(raw: bytes) -> bytes | None:
        asked.append(raw)
        return answer

    with serving(heard) as upstream:
        running = baseline(upstream, folder)
        try:
            with Client(next(running)) as client:
                yield client
        finally:
            next(running, None)


def test_what_goes_on_is_framed_anew_and_has_the_other_key(tmp_path: Path) -> None:
    asked: list[bytes] = []
    with before(CHAT, asked, tmp_path) as client:
        chunked = (
            HEAD + b"transfer-encoding: chunked\r\nconnection: x-mine\r\nx-mine: 1\r\nx-other: 2\r\n\r\n"
        )
        assert client.ask(chunked + chunk(b"one") + chunk(b"two") + b"0\r\n\r\n").body == WHOLE
        assert client.ask(HEAD + b"content-length: 2\r\n\r\n{}").body == WHOLE
        assert client.ask(HEAD + b"\r\n").body == WHOLE
    first, second, third = map(message, asked)
    assert first is not None
    assert first.body == b"onetwo"
    lines = first.head.split(b"\r\n")
    assert lines[0] == b"POST /v1/x?a=b HTTP/1.1"
    assert b"content-length: 6" in lines
    assert b"x-other: 2" in lines
    assert f"authorization: Bearer {UPSTREAM_KEY}".encode() in lines
    assert not [line for line in lines if line.startswith((b"transfer-encoding", b"x-mine", b"connection"))]
    assert CLIENT_KEY.encode() not in first.head
    assert second is not None
    assert second.body == b"{}"
    assert third is not None
    assert b"content-length: 0\r\n" in third.head


def test_connections_are_kept(upstream_port: int, tmp_path: Path) -> None:
    made: list[int] = []

    class Counting:
        def __call__(self, raw: bytes) -> bytes:
            made.append(len(raw))
            return CHAT

    with serving(Counting()) as port:
        running = baseline(port, tmp_path)
        with Client(next(running)) as client:
            for _ in range(5):
                assert client.ask(CHAT_REQUEST.replace(b"host:", _KEY + b"host:")).status == 200
            assert len(connections_to(port)) == 1
        next(running, None)
    assert len(made) == 5


_KEY = f"authorization: Bearer {CLIENT_KEY}\r\n".encode()


def connections_to(port: int) -> list[str]:
    """Established ones, as the kernel lists them."""
    remote = f"0100007F:{port:04X}"
    lines = Path("/proc/net/tcp").read_text().splitlines()
    return [line for line in lines if line.split()[2] == remote and line.split()[3] == "01"]


def test_an_answer_that_breaks_off_breaks_off(tmp_path: Path) -> None:
    with before(STREAM_HEAD + STREAM_EVENT + b"0\r", [], tmp_path) as client:
        client.sock.sendall(HEAD + b"content-length: 0\r\n\r\n")
        client.sock.settimeout(0.5)
        got = b""
        try:
            while data := client.sock.recv(65536):
                got += data
        except TimeoutError:
            pass
    assert STREAM_EVENT in got
    assert message(got) is None


def test_an_upstream_that_leaves_is_no_answer(tmp_path: Path) -> None:
    with before(None, [], tmp_path) as client:
        assert client.ask(HEAD + b"content-length: 0\r\n\r\n").status == 500


def test_a_client_that_leaves_is_left_upstream_too(upstream_port: int, baseline_port: int) -> None:
    with Client(upstream_port) as upstream:
        upstream.told("events=100000&gap=0.01")
        held = len(connections_to(upstream_port))
        with socket.create_connection(("127.0.0.1", baseline_port), 10) as sock:
            body = b'{"stream":true}'
            head = HEAD.replace(b"/v1/x?a=b", b"/v1/chat/completions")
            sock.sendall(head + b"content-length: %d\r\n\r\n" % len(body) + body)
            assert b"200 OK" in sock.recv(65536)
        for _ in range(200):
            if len(connections_to(upstream_port)) <= held:
                break
            upstream.told("")
        else:
            raise AssertionError("the upstream's stream goes on")
        upstream.told("events=3&gap=0")


def test_methods_that_it_does_not_know_are_refused(baseline_port: int) -> None:
    with Client(baseline_port) as client:
        head = HEAD.replace(b"POST", b"DELETE")
        assert client.ask(head + b"content-length: 0\r\n\r\n").status == 405


def test_another_key_is_refused(baseline_port: int) -> None:
    assert ask(baseline_port, b"{}", key="other")[0] == 401
