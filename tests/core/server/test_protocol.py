"""Raw sockets against a toy ASGI app behind the real protocol class, and bytes compared to the last."""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import orjson
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from proxy.api.errors import ClientError
from proxy.core.config import Address, HttpLimits
from proxy.core.deadlines import Deadlines
from proxy.core.forward import ResponseAborted
from proxy.core.gate import check_framing
from proxy.core.server import protocol
from proxy.core.server.protocol import HIGH_WATER, bound
from proxy.core.server.run import Listener, listen, listener, protocol_of
from proxy.core.shape import DIGITS, MOST
from tests.faults.client import NoAnswer, RawClient, get, post, request
from tests.faults.framing import RawResponse
from tests.faults.wire import until, within

App = Callable[[Any, Any, Any], Awaitable[None]]
QUICK = HttpLimits(header_time=0.3, write_idle=0.5)


class Served:
    """A running server."""

    def __init__(self, port: int, server: Listener) -> None:
        self.port = port
        self.server = server

    def client(self, **options: Any) -> RawClient:
        return RawClient(self.port, **options)


@asynccontextmanager
async def serving(app: App, limits: HttpLimits | None = None) -> AsyncIterator[Served]:
    deadlines = Deadlines()
    sock = listen(Address("127.0.0.1", 0))
    server = listener(app, bound(limits or HttpLimits(), deadlines))
    task = asyncio.get_running_loop().create_task(server.serve(sockets=[sock]))
    try:
        await until(lambda: server.started)
        yield Served(sock.getsockname()[1], server)
    finally:
        # Its own shutdown looks around every 100 ms, which is much for a test.
        task.cancel()
        await asyncio.wait([task], timeout=5)
        for accepting in server.servers:
            accepting.close()
        for connection in list(server.server_state.connections):
            connection.transport.abort()
        await until(lambda: not server.server_state.connections)
        sock.close()
        deadlines.close()


async def read_body(receive: Any) -> tuple[bytes, bool]:
    """The request's body, and whether it came whole."""
    body = b""
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return body, False
        body += message["body"]
        if not message["more_body"]:
            return body, True


async def start(send: Any, status: int = 200, headers: Iterable[tuple[bytes, bytes]] = ()) -> None:
    await send({"type": "http.response.start", "status": status, "headers": list(headers)})


async def body(send: Any, piece: bytes, more: bool = True) -> None:
    await send({"type": "http.response.body", "body": piece, "more_body": more})


async def echo(scope: Any, receive: Any, send: Any) -> None:
    """Answers with what it was asked."""
    content, whole = await read_body(receive)
    said = {
        "method": scope["method"],
        "raw_path": scope["raw_path"].decode("latin-1"),
        "path": scope["path"],
        "query": scope["query_string"].decode("latin-1"),
        "headers": [[name.decode("latin-1"), value.decode("latin-1")] for name, value in scope["headers"]],
        "version": scope["http_version"],
        "body": content.decode("latin-1"),
        "whole": whole,
    }
    out = orjson.dumps(said)
    await start(send, 200, [(b"content-length", b"%d" % len(out))])
    await body(send, out, more=False)


def streams(*pieces: bytes, status: int = 200) -> App:
    """An app that sends these pieces without a length."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await read_body(receive)
        await start(send, status)
        for piece in pieces:
            await body(send, piece)
        await body(send, b"", more=False)

    return app


def is_error(answer: RawResponse, status: int, code: str) -> None:
    """An OpenAI-shaped refusal, after which the connection ends."""
    assert answer.status == status
    error = answer.json()["error"]
    assert error["code"] == code
    assert set(error) == {"message", "type", "param", "code"}
    assert answer.get("content-type") == b"application/json"
    assert answer.get("connection") == b"close"
    assert answer.ended == "length"
    if status == 408:
        assert answer.get("retry-after") == b"1"
    else:
        assert answer.get("x-should-retry") == b"false"


# -- what the app is told ------------------------------------------------------------------------------


async def test_a_request_as_it_came() -> None:
    async with serving(echo) as served, served.client() as client:
        answer = await client.ask(
            request(
                "POST", "/v1/a%2Fb%20c?x=%31&y", [("X-One", "1"), ("x-one", "\xe9"), ("HOST", "h")], b"{}"
            )
        )
    said = answer.json()
    assert (said["method"], said["raw_path"], said["path"]) == ("POST", "/v1/a%2Fb%20c", "/v1/a/b c")
    assert (said["query"], said["version"]) == ("x=%31&y", "1.1")
    assert (said["body"], said["whole"]) == ("{}", True)
    assert [pair for pair in said["headers"] if pair[0] in ("x-one", "host")] == [
        ["x-one", "1"],
        ["x-one", "\xe9"],
        ["host", "h"],
    ]


async def test_the_scope_says_who_and_where() -> None:
    scopes: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        scopes.append(scope)
        await echo(scope, receive, send)

    async with serving(app) as served, served.client() as client:
        await client.ask(get("/"))
        ours = client.sock.getsockname()
    [scope] = scopes
    assert scope["type"] == "http"
    assert scope["client"] == ours
    assert scope["server"] == ("127.0.0.1", served.port)
    assert scope["scheme"] == "http"
    assert scope["query_string"] == b""


@pytest.mark.parametrize(
    ("target", "raw_path", "query"),
    [
        ("http://weir.test/v1/x?a=1", "/v1/x", "a=1"),
        ("HTTPS://Weir.test/v1/x", "/v1/x", ""),
        ("http://weir.test", "/", ""),
        ("http://weir.test?a=1", "/", "a=1"),
        ("/http://other.test/x", "/http://other.test/x", ""),
        ("/a?b=http://c/d?e", "/a", "b=http://c/d?e"),
        ("ftp://other.test/x", "ftp://other.test/x", ""),  # for the gate to refuse
    ],
)
async def test_an_absolute_target_is_its_path(target: str, raw_path: str, query: str) -> None:
    async with serving(echo) as served, served.client() as client:
        said = (await client.ask(get(target, [("host", "weir.test")]))).json()
    assert (said["raw_path"], said["query"]) == (raw_path, query)


@pytest.mark.parametrize("target", ["http://other.test/v1/x", "http://weir.test@other.test/", "http:///x"])
async def test_an_absolute_target_that_names_another_host_is_refused(target: str) -> None:
    is_error(await refused(get(target, [("host", "weir.test")])), 400, "invalid_host")


async def test_options_with_an_asterisk_is_the_apps_to_judge() -> None:
    async with serving(echo) as served, served.client() as client:
        assert (await client.ask(request("OPTIONS", "*"))).json()["raw_path"] == "*"


@pytest.mark.parametrize("size", [1, 7, 1 << 16])
async def test_a_chunked_body_arrives_unframed_however_it_is_cut(size: int) -> None:
    data = b"5;ext=1\r\nhello\r\nA\r\n0123456789\r\n0\r\n\r\n"
    whole = request("POST", "/", [("transfer-encoding", "chunked")], data)
    async with serving(echo) as served, served.client() as client:
        await client.send_slowly(whole, size)
        answer = await client.response()
    assert (answer.json()["body"], answer.json()["whole"]) == ("hello0123456789", True)


@pytest.mark.parametrize("cut", [False, True])
async def test_trailers_never_become_headers(cut: bool) -> None:
    """Neither when they come with the rest in one packet, nor later."""
    data = b"5\r\nhello\r\n0\r\nx-user-id: admin\r\nauthorization: Bearer k\r\n\r\n"
    whole = request("POST", "/", [("transfer-encoding", "chunked")], data)
    async with serving(echo) as served, served.client() as client:
        await client.send_slowly(whole, 10 if cut else len(whole), 0.001)
        said = (await client.response()).json()
    assert said["body"] == "hello"
    assert {name for name, _ in said["headers"]} == {"host", "content-type", "transfer-encoding"}


async def test_no_number_of_trailers_matters() -> None:
    trailers = b"x-user-id: admin\r\n" * 5000
    async with serving(echo) as served, served.client() as client:
        for _ in range(2):
            await client.send(
                request("POST", "/", [("transfer-encoding", "chunked")], b"5\r\nhello\r\n0\r\n")
            )
            await client.send(trailers + b"\r\n")
            said = (await client.response()).json()
            assert {name for name, _ in said["headers"]} == {"host", "content-type", "transfer-encoding"}


async def test_an_upload_that_breaks_off_is_not_whole() -> None:
    seen: asyncio.Queue[tuple[bytes, bool]] = asyncio.Queue()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.put_nowait(await read_body(receive))

    async with serving(app) as served:
        async with served.client() as client:
            await client.send(post("/", b"x" * 10)[:-3])
        assert await asyncio.wait_for(seen.get(), 5) == (b"x" * 7, False)


async def test_an_upload_whose_framing_breaks_is_not_whole() -> None:
    seen: asyncio.Queue[tuple[bytes, bool]] = asyncio.Queue()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        try:
            seen.put_nowait(await read_body(receive))
        except ClientError as error:
            seen.put_nowait((error.code.encode(), False))
            await start(send, error.status, error.headers())
            await body(send, error.body(), more=False)

    async with serving(app) as served, served.client() as client:
        await client.send(
            request("POST", "/", [("transfer-encoding", "chunked")], b"5\r\nhello\r\nnonsense\r\n")
        )
        answer = await client.response()
        assert (answer.status, answer.json()["error"]["code"]) == (400, "invalid_http")
        await client.wait_closed()
        _, whole = await asyncio.wait_for(seen.get(), 5)
        assert not whole


async def test_an_upload_that_nobody_reads_is_held_back() -> None:
    go = asyncio.Event()
    got: asyncio.Queue[int] = asyncio.Queue()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await go.wait()
        size, more = 0, True
        while more:
            message = await receive()
            size += len(message["body"])
            more = message["more_body"]
        got.put_nowait(size)
        await start(send, 204)
        await body(send, b"", more=False)

    size = 64 << 20
    async with serving(app) as served, served.client(sndbuf=1 << 16) as client:
        await client.send(request("POST", "/", [("content-length", str(size))]))
        sent = await client.send_until_paused(quiet=0.3, limit=size // 2)
        assert sent < HIGH_WATER + (16 << 20)
        go.set()
        await client.send(bytes(size - sent - len(client._unsent)))
        assert (await client.response(timeout=10)).status == 204
    assert got.get_nowait() == size


# -- how answers are framed ----------------------------------------------------------------------------


async def test_an_answer_with_a_length() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await start(send, 201, [(b"content-length", b"5"), (b"X-Case", b"kept")])
        await body(send, b"he")
        await body(send, b"llo", more=False)

    async with serving(app) as served, served.client() as client:
        answer = await client.ask(get("/"))
    assert answer.raw == b"HTTP/1.1 201 Created\r\ncontent-length: 5\r\nX-Case: kept\r\n\r\nhello"


async def test_an_answer_without_one_is_chunked_piece_by_piece() -> None:
    async with serving(streams(b"hello", b"", b"x" * 20)) as served, served.client() as client:
        answer = await client.ask(get("/"))
    head, _, rest = answer.raw.partition(b"\r\n\r\n")
    assert head == b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked"
    assert rest == b"5\r\nhello\r\n14\r\n" + b"x" * 20 + b"\r\n0\r\n\r\n"


@pytest.mark.parametrize("size", [65_535, 65_536, 65_537, 1_000_000])
async def test_large_pieces_are_chunks_too(size: int) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await start(send)
        await body(send, b"x" * size)
        await body(send, b"y" * size, more=False)

    async with serving(app) as served, served.client() as client:
        answer = await client.ask(get("/"))
    assert (answer.body, answer.ended) == (b"x" * size + b"y" * size, "chunked")


async def test_an_unknown_status_has_no_reason() -> None:
    async with serving(streams(status=299)) as served, served.client() as client:
        assert (await client.ask(get("/"))).head.startswith(b"HTTP/1.1 299 \r\n")


@pytest.mark.parametrize("headers", [[(b"content-length", b"5")], []])
async def test_the_answer_to_head_has_no_body(headers: list[tuple[bytes, bytes]]) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await start(send, 200, headers)
        await body(send, b"hello", more=False)

    async with serving(app) as served, served.client() as client:
        for _ in range(2):
            await client.send(request("HEAD", "/"))
            answer = await client.response(bodyless=True)
            assert answer.get("content-length") == (b"5" if headers else None)
            assert answer.get("transfer-encoding") is None
            assert client.at_rest


@pytest.mark.parametrize("status", [204, 304])
async def test_neither_do_204_and_304(status: int) -> None:
    async with serving(streams(status=status)) as served, served.client() as client:
        for _ in range(2):
            answer = await client.ask(get("/"))
            assert (answer.status, answer.body) == (status, b"")
            assert answer.get("transfer-encoding") is None
            assert client.at_rest


@pytest.mark.parametrize("promised", [4, 6])
async def test_a_wrong_length_breaks_the_answer_off(promised: int) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await start(send, 200, [(b"content-length", b"%d" % promised)])
        await body(send, b"hel")
        await body(send, b"lo", more=False)

    async with serving(app) as served, served.client() as client:
        answer = await client.ask(get("/"))
        assert answer.ended in ("truncated", "reset")


@pytest.mark.parametrize("value", [b"a\r\nx: y", b"a\nb", b"a\0b", b"a\rb"])
async def test_a_header_cannot_bring_a_line_of_its_own(value: bytes) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await start(send, 200, [(b"x-evil", value)])
        await body(send, b"never", more=False)

    async with serving(app) as served, served.client() as client:
        answer = await client.ask(get("/"))
    assert answer.status == 500
    assert answer.json()["error"]["code"] == "internal_error"
    assert answer.get("x-evil") is None


async def test_an_app_that_fails_before_its_answer_is_a_500() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise KeyError("a secret")

    async with serving(app) as served, served.client() as client:
        answer = await client.ask(get("/"))
        assert answer.json()["error"]["code"] == "internal_error"
        assert b"secret" not in answer.raw
        assert (await client.ask(get("/"))).status == 500  # the connection serves on


@pytest.mark.parametrize("error", [KeyError("x"), ResponseAborted()])
async def test_an_answer_that_is_broken_off_never_looks_whole(error: Exception) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await start(send)
        await body(send, b"hello")
        raise error

    async with serving(app) as served, served.client() as client:
        answer = await client.ask(get("/"))
        assert (answer.body, answer.ended) == (b"hello", "truncated")


async def test_one_that_is_broken_off_before_its_body_still_shows_its_head() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await start(send, 200)
        raise ResponseAborted

    async with serving(app) as served, served.client() as client:
        answer = await client.ask(get("/"))
        assert (answer.status, answer.ended) == (200, "truncated")


async def test_an_app_that_answers_nothing_is_a_closed_connection() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        return

    async with serving(app) as served, served.client() as client:
        await client.send(get("/"))
        with pytest.raises(NoAnswer):
            await client.response()


# -- connections ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fields",
    [
        [(b"x", b"content-length: 2"), (b"x-content-length", b"3"), (b"x", b"connection: close")],
        [(b"content-lengths", b"4"), (b"connections", b"close")],
    ],
)
async def test_only_a_field_of_that_name_frames_an_answer(fields: list[tuple[bytes, bytes]]) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await start(send, 200, fields)
        await body(send, b"hello", more=False)

    async with serving(app) as served, served.client() as client:
        for _ in range(2):  # the connection goes on
            await client.send(get("/"))
            answer = await client.response()
            assert (answer.get("transfer-encoding"), answer.body) == (b"chunked", b"hello")
            assert answer.get("connection") is None


async def test_an_app_may_end_the_connection_whatever_else_it_says() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await start(
            send, 200, [(b"content-length", b"2"), (b"connection", b"Close"), (b"connection", b"x-a")]
        )
        await body(send, b"ok", more=False)

    async with serving(app) as served, served.client() as client:
        await client.send(get("/"))
        assert (await client.response()).body == b"ok"
        with pytest.raises(NoAnswer):
            await client.ask(get("/"))


async def test_a_connection_serves_many_requests() -> None:
    async with serving(echo) as served, served.client() as client:
        for n in range(5):
            answer = await client.ask(post(f"/{n}", b"x" * n))
            assert (answer.json()["raw_path"], answer.json()["body"]) == (f"/{n}", "x" * n)
            assert answer.get("connection") is None
        assert client.at_rest


async def test_pipelined_requests_are_answered_in_turn_one_at_a_time() -> None:
    running = 0

    async def app(scope: Any, receive: Any, send: Any) -> None:
        nonlocal running
        running += 1
        assert running == 1
        await asyncio.sleep(0)
        await echo(scope, receive, send)
        running -= 1

    async with serving(app) as served, served.client() as client:
        await client.send(b"".join(post(f"/{n}", b"y" * n) for n in range(20)))
        for n in range(20):
            said = (await client.response()).json()
            assert (said["raw_path"], said["body"]) == (f"/{n}", "y" * n)
        assert client.at_rest


async def test_a_pipelined_client_that_leaves_takes_what_waits_along() -> None:
    served_paths: list[bytes] = []
    first = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        served_paths.append(scope["raw_path"])
        first.set()
        while (await receive())["type"] != "http.disconnect":
            pass

    async with serving(app) as served:
        async with served.client() as client:
            await client.send(get("/1") + get("/2"))
            await asyncio.wait_for(first.wait(), 5)
        await until(lambda: not served.server.server_state.tasks)
    assert served_paths == [b"/1"]


@pytest.mark.parametrize("by", ["client", "app"])
async def test_who_asks_to_close_gets_a_close(by: str) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await start(
            send, 200, [(b"content-length", b"2"), *([(b"connection", b"close")] if by == "app" else [])]
        )
        await body(send, b"ok", more=False)

    async with serving(app) as served, served.client() as client:
        answer = await client.ask(get("/", [("connection", "close")] if by == "client" else []))
        assert (answer.body, answer.all("connection")) == (b"ok", [b"close"])
        await client.wait_closed()
        assert client.left == "fin"


async def test_what_follows_a_close_is_dropped() -> None:
    paths: list[bytes] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        paths.append(scope["raw_path"])
        await echo(scope, receive, send)

    async with serving(app) as served, served.client() as client:
        answer = await client.ask(get("/1", [("connection", "close")]) + get("/2"))
        assert answer.status == 200
        await client.wait_closed()
    assert paths == [b"/1"]


async def test_http_1_0_is_served_and_closed() -> None:
    async with serving(streams(b"hel", b"lo")) as served, served.client() as client:
        answer = await client.ask(b"GET / HTTP/1.0\r\nconnection: keep-alive\r\n\r\n")
        assert (answer.body, answer.ended) == (b"hello", "close")
        assert answer.get("transfer-encoding") is None
        assert answer.get("connection") == b"close"


async def test_http_1_0_with_a_length() -> None:
    async with serving(echo) as served, served.client() as client:
        answer = await client.ask(b"POST /x HTTP/1.0\r\ncontent-length: 2\r\n\r\nhi")
        assert (answer.json()["version"], answer.json()["body"], answer.ended) == ("1.0", "hi", "length")
        await client.wait_closed()


async def test_to_http_1_0_a_broken_answer_is_a_reset() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await start(send)
        await body(send, b"hello")
        await asyncio.sleep(0)
        raise ResponseAborted

    async with serving(app) as served, served.client() as client:
        await client.send(b"GET / HTTP/1.0\r\n\r\n")
        try:
            answer = await client.response()
        except NoAnswer:
            assert client.left == "reset"
        else:
            assert answer.ended == "reset"


@pytest.mark.parametrize("follows", [b"", b"\x81\x05hello", b"GET /2 HTTP/1.1\r\nhost: a\r\n\r\n"])
async def test_after_a_refused_upgrade_the_connection_ends_or_goes_on(follows: bytes) -> None:
    """What follows could be of another protocol. It is not read, so nobody may wait for it to be answered."""
    paths: list[bytes] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        paths.append(scope["raw_path"])
        await start(send, 501, [(b"content-length", b"0")])
        await body(send, b"", more=False)

    async with serving(app) as served, served.client() as client:
        upgrade = get("/1", [("connection", "upgrade"), ("upgrade", "websocket")])
        assert (await client.ask(upgrade + follows)).status == 501
        try:
            await client.send(get("/3"))
            await client.response(timeout=2)
        except (NoAnswer, ConnectionError):
            assert client.left is not None
        else:
            assert paths[-1] == b"/3"
    assert b"/2" not in paths


async def test_an_idle_connection_is_closed_in_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "KEEP_ALIVE", 0.3)
    async with serving(echo) as served, served.client() as client:
        await client.ask(get("/"))
        assert 0.2 < await client.wait_closed() < 3
        assert client.left == "fin"
        assert not client.buffer


async def test_a_connection_that_never_says_a_word_is_closed() -> None:
    async with serving(echo, QUICK) as served, served.client() as client:
        assert 0.2 < await client.wait_closed() < 3
        assert client.left == "fin"
        assert not client.buffer


async def test_a_shutdown_closes_what_is_idle_and_lets_finish_what_runs() -> None:
    go = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["raw_path"] == b"/slow":
            await go.wait()
        await echo(scope, receive, send)

    async with serving(app) as served, served.client() as idle, served.client() as busy:
        await idle.ask(get("/"))
        await busy.send(get("/slow"))
        await until(lambda: served.server.server_state.tasks)
        served.server.should_exit = True
        await idle.wait_closed()
        assert busy.peer_open
        go.set()
        answer = await busy.response()
        assert (answer.status, answer.get("connection")) == (200, b"close")
        await busy.wait_closed()


# -- what is refused before the app --------------------------------------------------------------------


async def refused(data: bytes, limits: HttpLimits | None = None, slowly: int = 0) -> RawResponse:
    calls: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        calls.append(scope)
        await echo(scope, receive, send)

    async with serving(app, limits) as served, served.client() as client:
        try:
            await client.send_slowly(data, slowly or len(data))
        except ConnectionError:
            pass  # what it had not read yet
        answer = await client.response()
        assert calls == []
        await client.wait_closed()
    return answer


NO_HTTP = [
    b"nonsense\r\n\r\n",
    b"GET / HTTP/1.1\r\nhost a\r\n\r\n",
    b"GET / HTTP/1.1\r\nhost: a\r\nx y: 1\r\n\r\n",
    b"GET / HTTP/1.1\r\nhost : a\r\n\r\n",
    b"GET / HTTP/1.1\r\nhost: a\r\n folded: 1\r\n\r\n",
    b"GET / HTTP/1.1\r\nx: a\0b\r\n\r\n",
    b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: x\r\n\r\n",
    b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n",
    b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n",
    b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\ntransfer-encoding: gzip\r\n\r\n",
    b"GET / HTTP/2.7\r\nhost: a\r\n\r\n",
    b"GET /a b HTTP/1.1\r\nhost: a\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"GET / RTSP/1.0\r\nhost: a\r\n\r\n",
    b"GET / ICE/1.0\r\nhost: a\r\n\r\n",
    b"GET  / HTTP/1.1\r\nhost: a\r\n\r\n",
    b"GET / HTTP/1.1\nhost: a\n\n",
]


@pytest.mark.parametrize("data", NO_HTTP)
@pytest.mark.parametrize("slowly", [0, 1])
async def test_what_is_no_http_is_refused(data: bytes, slowly: int) -> None:
    answer = await refused(data, slowly=slowly)
    assert answer.status in (400, 505)
    is_error(answer, answer.status, answer.json()["error"]["code"])


SMALL = HttpLimits(header_bytes=2000, headers=10, uri=500)


def fields(count: int, size: int = 1) -> list[tuple[str, str]]:
    return [(f"x-{n}", "v" * size) for n in range(count)]


@pytest.mark.parametrize("slowly", [0, 100])
async def test_too_many_headers(slowly: int) -> None:
    is_error(await refused(get("/", fields(10)), SMALL, slowly), 431, "headers_too_large")


@pytest.mark.parametrize("slowly", [0, 100])
async def test_too_large_headers(slowly: int) -> None:
    is_error(await refused(get("/", fields(3, 900)), SMALL, slowly), 431, "headers_too_large")


async def test_a_head_without_an_end() -> None:
    data = b"GET / HTTP/1.1\r\nhost: a\r\n" + b"x: " + b"v" * 10_000
    is_error(await refused(data, SMALL), 431, "headers_too_large")
    is_error(await refused(data, SMALL, 500), 431, "headers_too_large")


@pytest.mark.parametrize("slowly", [0, 100])
async def test_too_long_a_target(slowly: int) -> None:
    is_error(await refused(get("/" + "u" * 600), SMALL, slowly), 414, "uri_too_long")
    is_error(await refused(get("/?" + "u" * 600), SMALL, slowly), 414, "uri_too_long")


async def test_a_target_without_an_end() -> None:
    is_error(await refused(b"GET /" + b"u" * 5000, SMALL), 414, "uri_too_long")


BEFORE = [
    b"",
    b"\r\n",
    get("/"),
    get("/") * 2,
    post("/", b"GET /else HTTP/1.1\r\n"),
    post("/", b"3\r\nabc\r\n0\r\nx: y\r\n\r\n", [("transfer-encoding", "chunked")]),
]
"""What may come in front of a request, on one connection."""
REFUSED = [
    *NO_HTTP,
    b"POST / RTSP/1.0\r\nhost: a\r\n\r\n",
    b"SOURCE / ICE/1.0\r\nhost: a\r\n\r\n",
    b"GET /  HTTP/1.1\r\nhost: a\r\n\r\n",
    b"GET /\r\nhost: a\r\n\r\n",
    get("/", fields(10)),
    get("/", fields(3, 900)),
    get("/" + "u" * 600),
    b"GET http://b/ HTTP/1.1\r\nhost: a\r\n\r\n",
]


class Unwired(asyncio.Transport):
    """The other side of a connection without sockets: thousands of them take a second."""

    def __init__(self) -> None:
        super().__init__({"peername": ("192.0.2.1", 5000), "sockname": ("192.0.2.2", 3006)})
        self.written = b""

    def write(self, data: Any) -> None:
        self.written += data

    def is_closing(self) -> bool:
        return False

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        """Nothing is written any more."""

    def pause_reading(self) -> None:
        """What comes is to be kept all the same."""

    def resume_reading(self) -> None:
        """See `pause_reading`."""


async def played(protocol: Callable[[], Any], pieces: Iterable[bytes]) -> list[int]:
    """The statuses of what a connection answers that reads these pieces, cut just so."""
    connection, wire = protocol(), Unwired()
    connection.connection_made(wire)
    for piece in pieces:
        connection.get_buffer(-1)[: len(piece)] = piece
        connection.buffer_updated(len(piece))
        await asyncio.sleep(0)
    while connection.tasks:
        await asyncio.sleep(0)
    connection.connection_lost(None)
    return [int(answer[:3]) for answer in wire.written.split(b"HTTP/1.1 ")[1:]]


@asynccontextmanager
async def wired() -> AsyncIterator[Callable[[], Any]]:
    """Makes connections with SMALL limits to an app that answers 200 to what it has read."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert (await read_body(receive))[1]
        await start(send, 200, [(b"content-length", b"0")])
        await body(send, b"", more=False)

    deadlines = Deadlines()
    server = listener(app, bound(SMALL, deadlines))
    server.config.load()
    yield protocol_of(server)
    deadlines.close()


@pytest.mark.parametrize("before", BEFORE)
async def test_what_is_refused_is_refused_wherever_it_begins_and_however_it_is_cut(before: bytes) -> None:
    """In one piece with what is before, in two, cut at each place of its beginning, and byte by byte."""
    good = [200] * before.count(b"host: ")
    async with wired() as protocol:
        for data in REFUSED:
            whole = before + data
            first, last = max(1, len(before) - 3), min(len(before) + 60, len(whole))
            ways = [[whole[:cut], whole[cut:]] for cut in range(first, last)]
            for pieces in ([whole], *ways, [whole[at : at + 1] for at in range(len(whole))]):
                statuses = await played(protocol, pieces)
                assert statuses[:-1] == good, pieces
                assert statuses[-1] in (400, 414, 431, 505), pieces


async def test_what_is_good_passes_wherever_it_begins_and_however_it_is_cut() -> None:
    chance = random.Random(5)
    requests = [get("/a?b=c"), *BEFORE[2:], post("/" + "u" * 400, b"GET / HTTP/1.1\r\n"), b"\r\n" + get("/b")]
    async with wired() as protocol:
        for _ in range(2000):
            whole = b"".join(chance.choices(requests, k=chance.randrange(2, 6)))
            cuts = sorted(chance.sample(range(1, len(whole)), chance.randrange(5)))
            pieces = [whole[at:end] for at, end in pairwise([0, *cuts, len(whole)])]
            assert await played(protocol, pieces) == [200] * whole.count(b"\r\nhost: "), pieces


async def test_what_is_just_within_the_limits_passes() -> None:
    async with serving(echo, SMALL) as served, served.client() as client:
        assert (await client.ask(get("/" + "u" * 499, fields(9, 200)))).status == 200
        # A large body in the same packet is no head.
        answer = await client.ask(post("/", b"x" * 20_000))
        assert len(answer.json()["body"]) == 20_000
        pipelined = get("/", fields(8, 150))
        await client.send(pipelined * 5)
        for _ in range(5):
            assert (await client.response()).status == 200


async def test_a_head_that_takes_too_long() -> None:
    async with serving(echo, QUICK) as served, served.client() as client:
        await client.send(b"GET / HTTP/1.1\r\n")
        answer = await client.response()
        is_error(answer, 408, "request_timeout")
        await client.wait_closed()


async def test_dripping_does_not_buy_more_time() -> None:
    async with serving(echo, QUICK) as served, served.client() as client:
        await client.send(b"GET /")
        async with within(5.0, "the refusal"):
            while client.at_rest:
                await client.send(b"x")
                await asyncio.sleep(0.02)
        is_error(await client.response(), 408, "request_timeout")


async def test_the_next_head_has_its_time_too() -> None:
    async with serving(echo, QUICK) as served, served.client() as client:
        await client.ask(get("/"))
        await client.send(b"GET /")
        is_error(await client.response(), 408, "request_timeout")


async def test_a_slow_exchange_is_not_bounded_by_the_heads_time() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await asyncio.sleep(QUICK.header_time * 2)
        await echo(scope, receive, send)

    async with serving(app, QUICK) as served, served.client() as client:
        assert (await client.ask(get("/"))).status == 200


async def test_a_broken_request_behind_a_good_one_is_refused_in_its_turn() -> None:
    async with serving(echo) as served, served.client() as client:
        await client.send(get("/1") + b"nonsense\r\n\r\n")
        assert (await client.response()).json()["raw_path"] == "/1"
        is_error(await client.response(), 400, "invalid_http")
        await client.wait_closed()


# -- early answers, and clients that do not read -------------------------------------------------------


@pytest.mark.parametrize("whole", [True, False])
async def test_an_early_answer_to_an_upload_reaches_the_client(whole: bool) -> None:
    """However long it uploads on without a look: a reset could take the answer with it."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await start(send, 413, [(b"content-length", b"5")])
        await body(send, b"large" if whole else b"la", more=not whole)
        if not whole:
            raise ResponseAborted

    async with serving(app) as served, served.client() as client:
        await client.send(request("POST", "/", [("content-length", "10000000")]))
        await until(lambda: not client.at_rest)
        for _ in range(60):
            await client.send(bytes(1 << 16))
            await asyncio.sleep(0.001)
        answer = await client.response()
        assert (answer.status, answer.body) == (413, b"large" if whole else b"la")
        assert answer.get("connection") == b"close"
        assert answer.ended == ("length" if whole else "truncated")


async def test_an_upload_after_an_early_answer_is_not_read_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "LINGER", 0.3)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await start(send, 413, [(b"content-length", b"5")])
        await body(send, b"large", more=False)

    async with serving(app) as served, served.client() as client:
        await client.send(request("POST", "/", [("content-length", "1000000000")]))
        async with within(5.0, "the end of it"):
            with suppress(ConnectionError):
                while True:
                    await client.send(b"x" * 100)
                    await asyncio.sleep(0.01)


async def test_a_client_that_does_not_read_is_left_after_a_while() -> None:
    told: asyncio.Queue[str] = asyncio.Queue()
    ended: asyncio.Queue[str] = asyncio.Queue()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        scope["weir.client"].watch(told.put_nowait)
        await start(send)
        for _ in range(1000):
            await body(send, bytes(1 << 20))
        message = await receive()
        while message["type"] == "http.request":
            message = await receive()
        ended.put_nowait(message["type"])

    async with serving(app, QUICK) as served, served.client(rcvbuf=4096) as client:
        await client.send(get("/"))
        assert await asyncio.wait_for(told.get(), 5) == "client_stalled"
        assert await asyncio.wait_for(ended.get(), 5) == "http.disconnect"
        assert (await client.response(timeout=10)).ended in ("truncated", "reset")


async def test_a_client_that_reads_slowly_is_not() -> None:
    size = 8 << 20

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await start(send, 200, [(b"content-length", b"%d" % size)])
        for n in range(8):
            await body(send, bytes(1 << 20), more=n < 7)

    async with serving(app, QUICK) as served, served.client(rcvbuf=1 << 16) as client:
        await client.send(get("/"))
        answer = await client.head()
        while answer.ended is None:
            await client.chunk()
            await asyncio.sleep(0.003)
        assert (answer.size, answer.ended) == (size, "length")


# -- the client leaving --------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["close", "reset", "fin"])
async def test_who_watches_hears_of_it_at_once(how: str) -> None:
    told: asyncio.Queue[str] = asyncio.Queue()
    here = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        scope["weir.client"].watch(told.put_nowait)
        await receive()
        here.set()
        assert (await receive())["type"] == "http.disconnect"
        await start(send)  # silence, as with every server
        await body(send, b"for nobody", more=False)
        told.put_nowait("sent")

    async with serving(app) as served, served.client() as client:
        await client.send(get("/"))
        await asyncio.wait_for(here.wait(), 5)
        getattr(client, how)()
        assert await asyncio.wait_for(told.get(), 1) == "client_closed"
        assert await asyncio.wait_for(told.get(), 1) == "sent"


async def test_who_has_stopped_watching_hears_nothing() -> None:
    told: list[str] = []
    ended = asyncio.Event()
    here = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        scope["weir.client"].watch(told.append)
        scope["weir.client"].unwatch()
        await receive()
        here.set()
        await receive()
        ended.set()

    async with serving(app) as served:
        async with served.client() as client:
            await client.send(get("/"))
            await asyncio.wait_for(here.wait(), 5)
        await asyncio.wait_for(ended.wait(), 5)
    assert told == []


async def test_who_watches_late_hears_it_all_the_same_but_not_within_the_call() -> None:
    told: asyncio.Queue[str] = asyncio.Queue()
    here = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        here.set()
        await receive()  # gone
        scope["weir.client"].watch(told.put_nowait)
        assert told.empty()

    async with serving(app) as served:
        async with served.client() as client:
            await client.send(get("/"))
            await asyncio.wait_for(here.wait(), 5)
        assert await asyncio.wait_for(told.get(), 5) == "client_closed"


async def test_it_is_known_whether_somebody_watches() -> None:
    found: list[bool] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        client = scope["weir.client"]
        found.append(client.watched)
        client.watch(found.append)
        found.append(client.watched)
        client.unwatch()
        found.append(client.watched)
        await start(send)
        await body(send, b"", more=False)

    async with serving(app) as served, served.client() as client:
        await client.ask(get("/"))
    assert found == [False, True, False]


# -- Expect --------------------------------------------------------------------------------------------

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
EXPECTING = request("POST", "/", [("expect", "100-Continue"), ("content-length", "2")])


async def test_a_client_that_waits_is_told_to_go_on_when_its_body_is_asked_for() -> None:
    go = asyncio.Event()
    begun = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        begun.set()
        await go.wait()
        await echo(scope, receive, send)

    async with serving(app) as served, served.client() as client:
        await client.send(EXPECTING)
        await asyncio.wait_for(begun.wait(), 5)
        assert client.at_rest
        go.set()
        assert await client.read(len(CONTINUE)) == CONTINUE
        answer = await client.ask(b"hi")
        assert answer.json()["body"] == "hi"
        await client.send(EXPECTING)
        assert await client.read(len(CONTINUE)) == CONTINUE  # each request anew
        assert (await client.ask(b"ho")).json()["body"] == "ho"


async def test_it_is_not_told_so_when_it_is_refused() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await start(send, 401, [(b"content-length", b"2")])
        await body(send, b"no", more=False)
        assert (await receive())["type"] == "http.disconnect"

    async with serving(app) as served, served.client() as client:
        answer = await client.ask(EXPECTING)
        assert (answer.status, answer.interim) == (401, [])
        assert answer.get("connection") == b"close"


async def test_an_http_1_0_client_does_not_know_of_it() -> None:
    """RFC 9110, 10.1.1: a server that gets 100-continue in an HTTP/1.0 request MUST ignore it."""
    async with serving(echo) as served, served.client() as client:
        await client.send(b"POST / HTTP/1.0\r\nexpect: 100-continue\r\ncontent-length: 2\r\n\r\nhi")
        answer = await client.response()
        assert (answer.status, answer.interim) == (200, [])


# -- what is written at once ---------------------------------------------------------------------------


class Wire(asyncio.Transport):
    """A transport that keeps each write apart."""

    def __init__(self) -> None:
        super().__init__()
        self.writes: list[bytes] = []
        self.closed = False

    def write(self, data: Any) -> None:
        self.writes.append(bytes(data))

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return ("127.0.0.1", 1) if name in ("sockname", "peername") else default

    def get_write_buffer_size(self) -> int:
        return 0

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        pass


async def writes(app: App, data: bytes = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n") -> list[bytes]:
    deadlines = Deadlines()
    wire = Wire()
    state = SimpleNamespace(connections=set(), tasks=set())
    config = SimpleNamespace(loaded=True, loaded_app=app)
    made = bound(HttpLimits(), deadlines)(config, state, {})
    made.connection_made(wire)
    made.get_buffer(-1)[: len(data)] = data
    made.buffer_updated(len(data))
    await until(lambda: not state.tasks)
    made.connection_lost(None)
    deadlines.close()
    return wire.writes


def prompt(*pieces: bytes, headers: Iterable[tuple[bytes, bytes]] = (), keeps: bool = True) -> App:
    """An app that promises with the head that its first piece comes at once; the last piece ends it."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        head = {"type": "http.response.start", "status": 200, "headers": list(headers)}
        await send({**head, "weir.body_follows": True})
        for piece in pieces[:-1]:
            await body(send, piece)
        if not keeps:
            raise ResponseAborted
        await body(send, pieces[-1], more=False)

    return app


CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"


async def test_the_head_and_the_first_piece_are_one_write() -> None:
    found = await writes(prompt(b"hello", b"again", b""))
    assert found == [CHUNKED + b"5\r\nhello\r\n", b"5\r\nagain\r\n", b"0\r\n\r\n"]


async def test_a_whole_answer_is_one_write() -> None:
    length = [(b"content-length", b"2")]
    assert await writes(prompt(b"ok", headers=length)) == [b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"]


async def test_the_last_piece_and_the_terminal_chunk_are_one_write() -> None:
    assert await writes(prompt(b"ok")) == [CHUNKED + b"2\r\nok\r\n0\r\n\r\n"]
    assert await writes(prompt(b"")) == [CHUNKED + b"0\r\n\r\n"]


async def test_a_promise_that_is_not_kept_does_not_keep_the_head() -> None:
    assert await writes(prompt(b"", keeps=False)) == [CHUNKED]


async def test_without_the_promise_the_head_goes_out_by_itself_at_the_latest_when_the_turn_ends() -> None:
    found = await writes(streams(b"hello"))
    assert b"".join(found) == CHUNKED + b"5\r\nhello\r\n0\r\n\r\n"


async def test_a_head_does_not_wait_for_a_body_that_takes_its_time() -> None:
    go = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await start(send)
        await go.wait()
        await body(send, b"ok", more=False)

    async with serving(app) as served, served.client() as client:
        await client.send(get("/"))
        assert (await client.head()).status == 200
        go.set()
        assert (await client.response()).body == b"ok"


async def test_a_large_piece_is_not_copied_to_be_joined() -> None:
    large = bytes(1 << 17)
    found = await writes(streams(large))
    assert large in found
    assert b"".join(found).endswith(b"\r\n0\r\n\r\n")


# -- trailers ----------------------------------------------------------------------------------------------


def trails(
    *trailers: tuple[bytes, bytes],
    names: Iterable[bytes] = (b"x-a", b"x-b"),
    last: bytes = b"",
    headers: Iterable[tuple[bytes, bytes]] = (),
    status: int = 200,
) -> App:
    """An app that announces trailers and sends them after its body."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        head = {"type": "http.response.start", "status": status, "headers": list(headers)}
        await send({**head, "weir.trailers": list(names)})
        await body(send, b"one")
        await send({"type": "http.response.body", "body": last, "weir.trailers": list(trailers)})

    return app


@pytest.mark.parametrize("last", [b"", b"two", bytes(100_000)])
async def test_trailers_come_after_the_last_chunk(last: bytes) -> None:
    app = trails((b"x-a", b"1"), (b"x-b", b"two words"), last=last)
    async with serving(app) as served, served.client() as client:
        for _ in range(2):
            answer = await client.ask(get("/"))
            assert (answer.body, answer.ended) == (b"one" + last, "chunked")
            assert answer.get("trailer") == b"x-a, x-b"
            assert answer.raw.endswith(b"\r\n0\r\nx-a: 1\r\nx-b: two words\r\n\r\n")


async def test_trailers_may_be_none_in_the_end() -> None:
    async with serving(trails()) as served, served.client() as client:
        answer = await client.ask(get("/"))
        assert answer.raw.endswith(b"\r\none\r\n0\r\n\r\n")


@pytest.mark.parametrize(
    ("request_", "app"),
    [
        (get("/").replace(b"HTTP/1.1", b"HTTP/1.0"), trails((b"x-a", b"1"))),
        (get("/"), trails((b"x-a", b"1"), headers=[(b"content-length", b"3")])),
        (get("/"), trails((b"x-a", b"1"), names=())),
    ],
    ids=["old", "sized", "not announced"],
)
async def test_a_body_that_cannot_have_trailers_has_none(request_: bytes, app: App) -> None:
    async with serving(app) as served, served.client() as client:
        answer = await client.ask(request_)
        assert answer.body == b"one"
        assert answer.get("trailer") is None
        assert b"x-a" not in answer.raw


@pytest.mark.parametrize("bad", [b"1\r\nset-cookie: a=b", b"1\n", b"\0", b"1\r"])
async def test_a_trailer_brings_no_line_of_its_own(bad: bytes) -> None:
    async with serving(trails((b"x-a", bad))) as served, served.client() as client:
        answer = await client.ask(get("/"))
        assert answer.ended not in ("chunked", "length")
        assert bad not in answer.raw
    async with serving(trails((b"x-a", b"1"), names=[b"x-a" + bad])) as served, served.client() as client:
        answer = await client.ask(get("/"))
        assert answer.status == 500
        assert bad not in answer.raw


async def test_an_empty_line_behind_a_request_may_be_cut_in_two() -> None:
    # RFC 9112, 2.2: some clients send one behind a body.
    async with serving(echo) as served, served.client() as client:
        first = await client.ask(post("/first", b"{}") + b"\r")
        second = await client.ask(b"\n" + get("/second"))
        assert (first.status, second.status) == (200, 200)


# -- heads that come again -----------------------------------------------------------------------------


class Overheard:
    """A transport that keeps what was written, and how the connection stands."""

    def __init__(self) -> None:
        self.out = b""
        self.closed = False
        self.reading = True

    def get_extra_info(self, name: str) -> Any:
        return ("127.0.0.1", 1) if name in ("sockname", "peername") else None

    def write(self, data: bytes) -> None:
        self.out += data

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True

    abort = write_eof = close

    def can_write_eof(self) -> bool:
        return True

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True


async def talk(pieces: list[bytes], limits: HttpLimits, *, learns: bool) -> tuple[list[Any], int]:
    """What shows after each of the pieces, and how many requests were read past the parser."""
    shown: list[Any] = []
    past = 0

    async def app(scope: Any, receive: Any, send: Any) -> None:
        framing = scope.pop("weir.framing", None)
        assert framing in (None, check_framing(scope["http_version"], scope["headers"]))
        known = {name: said for name, said in scope.items() if name != "weir.client"}
        known["headers"] = list(known["headers"])
        scope["headers"].append((b"planted", b"1"))
        scope["weir.planted"] = True
        shown.append((known, list(scope), scope["weir.client"].keep_alive, server.deadline))
        try:
            if scope["path"] != "/early":
                shown.append(await read_body(receive))
        except ClientError as error:
            shown.append(error.code)
        await start(send, 200, [(b"content-length", b"2")])
        await body(send, b"ok", more=False)

    class Server(bound(limits, Deadlines())):  # type: ignore[misc] # a class made at run time
        def _learn(self, cycle: Any) -> None:
            if learns:
                super()._learn(cycle)

        def _again(self, *known: Any) -> None:
            nonlocal past
            past += 1
            super()._again(*known)

    state = SimpleNamespace(connections=set(), tasks=set())
    server = Server(SimpleNamespace(loaded=True, loaded_app=app), state, {"a": 1})
    wire = Overheard()
    server.connection_made(wire)
    for piece in pieces:
        server.get_buffer(-1)[: len(piece)] = piece
        server.buffer_updated(len(piece))
        for _ in range(30):
            await asyncio.sleep(0)
        waits = server.deadline < float("inf"), server.cycle is None, server.closing, server._in_head
        refusal = server._refusal and server._refusal.code
        out = wire.out.partition(b"\r\ndate: ")[0]  # from there on no two refusals are alike
        shown.append((out, wire.closed, wire.reading, waits, refusal, len(state.tasks)))
    server.deadlines.discard(server)
    server.deadlines.close()
    return shown, past


def both(pieces: list[bytes], limits: HttpLimits | None = None) -> int:
    """Compare a server that learns heads with one that does not; how many requests were read past the
    parser."""
    limits = limits or HttpLimits()
    told, past = asyncio.run(talk(pieces, limits, learns=True))
    plain, never = asyncio.run(talk(pieces, limits, learns=False))
    assert told == plain
    assert not never
    return past


ASKED = [b"POST /v1/a?b=c HTTP/1.1", b"Host: h", b"x-a: 1", b"Content-Length: 3", b"Connection: keep-alive"]


def asked(lines: list[bytes] = ASKED, content: bytes = b"abc") -> bytes:
    return b"\r\n".join([*lines, b"", content])


def test_a_head_that_comes_again_is_not_parsed_again() -> None:
    assert both([asked()] * 6) == 4  # not the first, and the second is learnt from
    longer = asked([*ASKED[:3], b"Content-Length: 10", ASKED[4]], b"0123456789")
    empty = asked([*ASKED[:3], b"Content-Length: 0", ASKED[4]], b"")
    assert both([asked(), asked(), longer, empty, asked()]) == 3
    assert both([empty, empty, empty]) == 1


def test_a_head_that_differs_in_more_than_its_length_is_parsed() -> None:
    others = [
        asked([b"POST /v1/b HTTP/1.1", *ASKED[1:]]),
        asked([*ASKED[:2], b"x-a: 2", *ASKED[3:]]),
        asked([*ASKED[:2], b"X-a: 1", *ASKED[3:]]),
        asked([*ASKED, b"x-b: 1"]),
        asked(ASKED[:4]),
        asked([*ASKED[:4], b"Connection: close"]),
        asked(content=b"abcd"),
        asked(content=b"ab"),
        asked([*ASKED[:3], b"Content-Length: 03", ASKED[4]]),
        asked([*ASKED[:3], b"Content-Length: +3", ASKED[4]]),
        asked([*ASKED[:3], b"Content-Length: 3, 3", ASKED[4]]),
        asked() + asked(),
        b"\r\n" + asked(),
    ]
    for other in others:
        assert both([asked(), asked(), other]) == 0
    for at in range(1, len(asked())):
        assert both([asked(), asked(), asked()[:at], asked()[at:], asked()]) == 1


def test_a_body_that_looks_like_a_known_request_is_a_body() -> None:
    early = asked([b"POST /early HTTP/1.1", b"Host: h", b"Content-Length: %d" % len(asked())], b"")
    assert both([asked(), asked(), early, asked(), asked()]) == 1
    late = asked([ASKED[0], b"Host: h", b"Content-Length: %d" % len(asked())], b"")
    assert both([asked(), asked(), late, asked(), asked()]) == 1
    assert both([asked(), asked(), b"\r\n", asked(), asked()]) == 1


def test_a_client_whose_heads_differ_is_soon_learnt_from_no_more() -> None:
    heads = [asked([ASKED[0], ASKED[1], b"x-a: %d" % number, *ASKED[3:]]) for number in range(6)]
    assert both([*heads, heads[5]]) == 0
    assert both([*heads[:3], heads[2], *heads[3:], heads[2], heads[5]]) == 2


@pytest.mark.parametrize(
    "lines",
    [
        [b"GET / HTTP/1.1", b"Host: h"],
        [b"POST / HTTP/1.0", b"Host: h", b"Connection: keep-alive", b"Content-Length: 3"],
        [b"POST / HTTP/1.1", b"Host: h", b"Connection: close", b"Content-Length: 3"],
        [b"POST / HTTP/1.1", b"Host: h", b"Upgrade: h2c", b"Content-Length: 3"],
        [b"POST / HTTP/1.1", b"Host: h", b"Content-Length: 3", b"x-long: " + b"x" * 4096],
        [b"POST / HTTP/1.1", b"Host:h", b"Content-Length: 3"],
        [b"POST / HTTP/1.1", b"Host: h", b"Expect: nothing", b"Content-Length: 3"],
        [b"POST / HTTP/1.1", b"Content-Length: 3"],
    ],
)
def test_only_plain_heads_are_learnt(lines: list[bytes]) -> None:
    content = b"" if lines[0].startswith(b"GET") else b"abc"
    assert both([asked(lines, content)] * 4) == 0


def test_large_requests_and_those_near_a_limit_are_parsed() -> None:
    size = MOST - len(asked(content=b"")) - 4
    for more, past in ((0, 1), (1, 0)):
        lines = [*ASKED[:3], b"Content-Length: %d" % (size + more), ASKED[4]]
        assert both([asked(), asked(), asked(lines, b"x" * (size + more))]) == past
        assert both([asked(lines, b"x" * (size + more))] * 3) == past
    total = sum(len(line) + 2 for line in ASKED[1:])
    for room, past in ((DIGITS, 2), (DIGITS - 1, 0)):
        limits = HttpLimits.model_construct(**{**HttpLimits().model_dump(), "header_bytes": total + room})
        assert both([asked()] * 4, limits) == past


REQUEST_LINES = st.sampled_from(
    [
        b"POST /v1/a?b=c HTTP/1.1",
        b"GET / HTTP/1.1",
        b"POST http://h/ HTTP/1.1",
        b"POST  / HTTP/1.1",
        b"POST / RTSP/1.0",
    ]
)
FIELDS = st.sampled_from(
    b"x-a: 1;x-a: 2;x-a:1;x-a : 1; x-a: 1;x-a: 1 ;Host: g;Connection: close;Connection: keep-alive;"
    b"Expect: x;Expect: 100-continue;Connection: upgrade;Upgrade: h2c;Transfer-Encoding: chunked;x-\xe9: 1;"
    b"Content-Length: 3;content-length: 4;Content-Length: 03;Content-Length: 3 ;Content-Length:  3;x-a:;"
    b"x-a: \xe9;x-a: a\tb;x-a: \x00;proxy-connection: close;x-a: b\n;x-a: b\rc;x-a: b\r\n c".split(b";")
)
CONTENTS = st.sampled_from(
    [b"abc"] * 6 + [b"", b"ab", b"abcd", b"abc\r", b"abc\r\n", b"abc\r\n\r\n", asked()]
)


@st.composite
def conversations(draw: Any) -> list[bytes]:
    """Requests most of which are one, in pieces most of which are requests."""
    usual = ASKED.copy()
    if draw(st.booleans()):
        usual.insert(draw(st.integers(1, 4)), draw(FIELDS))
    pieces = []
    for _ in range(draw(st.integers(3, 7))):
        lines = usual.copy()
        if draw(st.integers(0, 2)) == 0:
            at = draw(st.integers(0, len(lines) - 1))
            lines[at : at + draw(st.integers(0, 1))] = [draw(FIELDS if at else REQUEST_LINES)]
        sent = asked(lines, draw(CONTENTS))
        cut = draw(st.sampled_from([0, 0, 0, 1]))
        at = draw(st.integers(0, len(sent))) if cut else 0
        pieces += [piece for piece in (sent[:at], sent[at:]) if piece]
        if len(pieces) > 1 and draw(st.integers(0, 9)) == 0:
            pieces[-2:] = [pieces[-2] + pieces[-1]]
    return pieces


@settings(max_examples=300, deadline=None)
@given(conversations())
@example([asked(), asked(), asked(content=b"abc\r"), asked(), b"\n" + asked(), asked()])
@example([asked(), asked(), asked([*ASKED[:4], b"Connection: upgrade", b"Upgrade: h2c"]), asked()])
@example([asked(), asked(), asked() + asked()[:20], asked()[20:], asked()])
def test_nothing_shows_whether_a_head_was_known(pieces: list[bytes]) -> None:
    both(pieces)
