"""The client over httpx2's transport: what goes out, what comes back, and what is left, byte by byte."""

import asyncio
import gzip
import os
import random
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import pytest
import trustme

from proxy.api.errors import ClientGone, UpstreamError, WeirError
from proxy.core.config import UpstreamSettings
from proxy.core.upstream import Answer, Late, Outgoing
from proxy.core.upstream.httpx2 import PROXY_FAILED, Httpx2Upstream, _Wire
from tests.core.proxies import H2Script, H2Stream, H2Upstream, HttpProxy, SocksProxy
from tests.faults.upstream import (
    Conn,
    RawUpstream,
    Script,
    answer,
    chunk,
    event,
    head,
    last_chunk,
    ok_json,
    sse,
    sse_head,
)
from tests.faults.wire import until

OK = ok_json(b'{"ok":true}')
TEN = head(headers=[("content-length", "10")])
End = Callable[[Conn], None] | None


class Recorder:
    """A clock that only writes down what it is told."""

    def __init__(self) -> None:
        self.armed: list[tuple[float, str]] = []

    def arm(self, seconds: float, late: Late) -> None:
        self.armed.append((seconds, late().code))

    @property
    def codes(self) -> list[str]:
        return [code for _, code in self.armed]


class Pieces:
    """An upload of these pieces; an exception among them is raised, an event waited for."""

    def __init__(
        self, *pieces: bytes | Exception | asyncio.Event, length: int | None = None, forever: bool = False
    ) -> None:
        self.pieces = pieces
        self.length = length
        self.forever = forever
        self.taken = 0

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self.pieces:
            self.taken += 1
            if isinstance(piece, Exception):
                raise piece
            if isinstance(piece, asyncio.Event):
                await piece.wait()
            else:
                yield piece
        while self.forever:
            await asyncio.sleep(0)
            yield b"x" * 65536


def get(target: bytes = b"/v1/models") -> Outgoing:
    return Outgoing(b"GET", target, [], None)


def post(body: Any = b"{}") -> Outgoing:
    return Outgoing(b"POST", b"/v1/chat/completions", [(b"content-type", b"application/json")], body)


@asynccontextmanager
async def client(base_url: str, **settings: Any) -> AsyncIterator[Httpx2Upstream]:
    """The thing under test; nothing of it is left afterwards."""
    upstream = Httpx2Upstream(UpstreamSettings(base_url=base_url, name="up", **settings))
    try:
        yield upstream
    finally:
        async with asyncio.timeout(5):
            await upstream.aclose()
        assert not upstream.waiting


async def opened(upstream: Httpx2Upstream, request: Outgoing, clock: Recorder | None = None) -> Answer:
    async with asyncio.timeout(10):
        return await upstream.open(request, clock or Recorder())


async def rest(answered: Answer) -> bytes:
    """The body to its end."""
    body = b""
    async with asyncio.timeout(10):
        while not answered.complete:
            body += await answered.read()
    return body


async def ask(
    upstream: Httpx2Upstream, request: Outgoing, clock: Recorder | None = None
) -> tuple[int, bytes]:
    """Status and body of a whole exchange."""
    answered = await opened(upstream, request, clock)
    try:
        return answered.status, await rest(answered)
    finally:
        await answered.close()


async def failing(upstream: Httpx2Upstream, request: Outgoing) -> UpstreamError:
    """What `open` raises."""
    with pytest.raises(UpstreamError) as error:
        await opened(upstream, request)
    return error.value


def planted(data: bytes, end: End = Conn.close) -> Script:
    """One request in, these bytes out, then this ending; None is to hang."""

    async def script(conn: Conn) -> None:
        await conn.request()
        await conn.send(data)
        if end is None:
            await conn.hang()
        else:
            end(conn)

    return script


class Certificates:
    """An authority, a context with what it issued, and its file."""

    def __init__(self, folder: Path, *names: str) -> None:
        self.authority = trustme.CA()
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.authority.issue_cert(*(names or ("127.0.0.1", "localhost"))).configure_cert(self.context)
        self.ca = folder / "ca.pem"
        self.authority.cert_pem.write_to_path(self.ca)
        self.trusted = {"ca": str(self.ca)}


@pytest.fixture
def tls(tmp_path: Path) -> Certificates:
    return Certificates(tmp_path)


# -- what goes out ---------------------------------------------------------------------------------

ODD_TARGETS = [
    b"/v1/a%2Fb/%7Eme/..%2e/;p=1//x?q=%20+%zz&a=1&a=2&",
    b"/v1/x?",
    b"/v1/'\"<>[]{}|^`\\?a[]=<>",
    b"/v1/./../admin?x=http://evil/#frag",
    b"//evil/x",
]


@pytest.mark.parametrize("target", ODD_TARGETS)
async def test_a_request_goes_out_byte_for_byte(target: bytes) -> None:
    headers = [
        (b"b-second", b"1"),
        (b"a-first", b"2"),
        (b"b-second", b"3"),
        (b"x-latin", b"caf\xe9"),
        (b"accept-encoding", b"br"),
        (b"x-empty", b""),
    ]
    async with RawUpstream(answer(OK)) as up, client(up.base_url) as c:
        assert await ask(c, Outgoing(b"GET", target, headers, None)) == (200, b'{"ok":true}')
        lines = b"".join(b"%b: %b\r\n" % pair for pair in headers)
        assert up.requests[0].raw == b"GET %b HTTP/1.1\r\nhost: 127.0.0.1:%d\r\n%b\r\n" % (
            target,
            up.port,
            lines,
        )


BIG = os.urandom(300_000)


@pytest.mark.parametrize(
    ("body", "framing", "sent"),
    [
        (None, b"", b""),
        (b"", b"content-length: 0\r\n", b""),
        (b"{}", b"content-length: 2\r\n", b"{}"),
        (BIG, b"content-length: 300000\r\n", BIG),
        (Pieces(b"ab", b"c", length=3), b"content-length: 3\r\n", b"abc"),
        (Pieces(b"ab", b"c"), b"transfer-encoding: chunked\r\n", b"2\r\nab\r\n1\r\nc\r\n0\r\n\r\n"),
        (Pieces(), b"transfer-encoding: chunked\r\n", b"0\r\n\r\n"),
    ],
    ids=["none", "empty", "small", "large", "sized upload", "upload", "empty upload"],
)
async def test_framing_is_ours(body: Any, framing: bytes, sent: bytes) -> None:
    async with RawUpstream(answer(OK)) as up, client(up.base_url) as c:
        await ask(c, Outgoing(b"POST", b"/v1/x", [], body))
        host = b"host: 127.0.0.1:%d\r\n" % up.port
        assert up.requests[0].raw == b"POST /v1/x HTTP/1.1\r\n" + host + framing + b"\r\n" + sent
        assert (await ask(c, get()))[0] == 200
        assert up.connections == 1, "a connection is kept after any kind of body"


async def test_the_host_is_that_of_the_base_url(tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    async with RawUpstream(answer(OK), unix=path) as up:
        async with client("http://api.example/v1", unix_socket=path) as c:
            await ask(c, get())
        assert up.requests[0].all("host") == [b"api.example"]


async def test_nothing_is_taken_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    async with RawUpstream(answer(OK)) as up, client(up.base_url) as c:
        assert (await ask(c, get()))[0] == 200


async def test_a_field_that_http_does_not_allow_is_the_requests_fault() -> None:
    async with RawUpstream(answer(OK)) as up, client(up.base_url) as c:
        with pytest.raises(WeirError) as error:
            await opened(c, Outgoing(b"GET", b"/v1/x", [(b"x-a", b"b\r\nx-c: d")], None))
        assert (error.value.status, error.value.code) == (400, "invalid_request")
        assert not up.requests


# -- what comes back -------------------------------------------------------------------------------


async def test_an_answer_comes_back_as_it_is() -> None:
    body = gzip.compress(b"hello" * 100)
    lines = [
        ("Content-Encoding", "gzip"),
        ("Set-Cookie", "a=1"),
        ("X-Thing", "caf\xe9"),
        ("set-cookie", "b=2"),
        ("Connection", "x-thing"),
        ("Content-Length", str(len(body))),
    ]
    async with RawUpstream(answer(head(418, lines) + body)) as up, client(up.base_url) as c:
        answered = await opened(c, get())
        assert answered.status == 418
        assert answered.headers == [
            (b"content-encoding", b"gzip"),
            (b"set-cookie", b"a=1"),
            (b"x-thing", b"caf\xe9"),
            (b"set-cookie", b"b=2"),
            (b"connection", b"x-thing"),
            (b"content-length", str(len(body)).encode()),
        ]
        assert not answered.complete
        assert await rest(answered) == body
        assert answered.complete
        assert await answered.read() == b""
        await answered.close()


async def test_redirects_are_answers() -> None:
    moved = head(307, [("location", "http://127.0.0.1:1/"), ("content-length", "0")])
    async with RawUpstream(answer(moved)) as up, client(up.base_url) as c:
        assert await ask(c, post()) == (307, b"")
        assert len(up.requests) == 1


async def test_a_stream_comes_piece_by_piece_and_trailers_do_not() -> None:
    async def script(conn: Conn) -> None:
        await conn.request()
        await conn.send(sse_head())
        for n in range(3):
            await conn.send(chunk(event(n)))
            await heard.get()
        await conn.send(b"0\r\nx-trailer: 1\r\n\r\n")
        await conn.hang()

    heard: asyncio.Queue[None] = asyncio.Queue()
    async with RawUpstream(script) as up, client(up.base_url) as c:
        answered = await opened(c, post())
        for n in range(3):
            async with asyncio.timeout(5):
                assert await answered.read() == event(n)
            assert not answered.complete
            heard.put_nowait(None)
        assert await rest(answered) == b""
        await answered.close()
        assert b"x-trailer" not in dict(answered.headers)


@pytest.mark.parametrize(
    ("method", "data"),
    [
        (b"HEAD", head(200, [("content-length", "5")])),
        (b"GET", head(204)),
        (b"GET", head(304, [("content-length", "5")])),
    ],
)
async def test_an_answer_without_a_body_is_soon_complete(method: bytes, data: bytes) -> None:
    async with RawUpstream(answer(data)) as up, client(up.base_url) as c:
        for _ in range(2):
            assert (await ask(c, Outgoing(method, b"/v1/x", [], None)))[1] == b""
        assert up.connections == 1


async def test_a_length_beside_chunks_does_not_count() -> None:
    both = [("content-length", "3"), ("transfer-encoding", "chunked")]
    async with (
        RawUpstream(answer(head(200, both) + chunk(b"hello") + last_chunk)) as up,
        client(up.base_url) as c,
    ):
        for n in (1, 2):
            answered = await opened(c, get())
            assert answered.headers == [(b"transfer-encoding", b"chunked")]
            assert await rest(answered) == b"hello"
            await answered.close()
            await up.closed()
            assert up.connections == n, "the sender is not to be trusted further"


@pytest.mark.parametrize("extra", [b"EXTRA", OK, b"HTTP/1.1 100 Continue\r\n\r\n"])
async def test_what_follows_an_answer_answers_nobody(extra: bytes) -> None:
    async with RawUpstream([planted(OK + extra, None), answer(OK)]) as up, client(up.base_url) as c:
        assert await ask(c, get()) == (200, b'{"ok":true}')
        assert await ask(c, get()) == (200, b'{"ok":true}')
        assert up.connections == 2


# -- what is left ----------------------------------------------------------------------------------


async def test_a_read_answer_keeps_its_connection_and_an_unread_one_closes_it() -> None:
    async with RawUpstream([answer(OK, sse(1)), answer(OK)]) as up, client(up.base_url) as c:
        await ask(c, get())
        answered = await opened(c, get())
        assert up.connections == 1
        await answered.read()
        await answered.close()
        await up.closed()
        assert (await ask(c, get()))[0] == 200
        assert up.connections == 2


async def test_close_waits_for_nothing_and_raises_nothing() -> None:
    async with RawUpstream(planted(sse_head(), None)) as up, client(up.base_url) as c:
        answered = await opened(c, get())
        reading = asyncio.create_task(answered.read())
        await asyncio.sleep(0)
        loop = asyncio.get_running_loop()
        start = loop.time()
        await answered.close()
        assert loop.time() - start < 0.05
        await up.closed()
        with pytest.raises(UpstreamError):
            await reading


async def test_a_cancelled_read_closes_its_connection() -> None:
    async with RawUpstream(planted(sse_head(), None)) as up, client(up.base_url) as c:
        answered = await opened(c, get())
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await answered.read()
        assert not answered.complete
        with pytest.raises(UpstreamError):
            await answered.read()
        await answered.close()
        await up.closed()


async def test_aclose_closes_what_rests_and_what_runs() -> None:
    async with RawUpstream([answer(OK), planted(sse_head(), None)]) as up, client(up.base_url) as c:
        first, second = await opened(c, get()), await opened(c, get())
        await rest(first)
        await first.close()
        async with asyncio.timeout(2):
            await c.aclose()
        await up.closed()
        with pytest.raises(UpstreamError):
            await second.read()
        await second.close()


async def test_an_idle_connection_is_closed_in_time() -> None:
    async with RawUpstream(answer(OK)) as up, client(up.base_url, pool={"idle": 0.1}) as c:
        await ask(c, get())
        assert up.open_connections == 1
        await up.closed(1)
        await ask(c, get())
        assert up.connections == 2


@pytest.mark.parametrize("end", [Conn.close, Conn.reset])
async def test_an_idle_connection_whose_peer_leaves_is_closed_at_once(end: Callable[[Conn], None]) -> None:
    fds = len(os.listdir("/proc/self/fd"))
    async with RawUpstream() as up, client(up.base_url) as c:
        asking = asyncio.create_task(ask(c, get()))
        conn = await up.accept()
        await conn.request()
        await conn.send(OK)
        await asking
        end(conn)
        await until(lambda: len(os.listdir("/proc/self/fd")) <= fds + 1)  # the listener


# -- what goes wrong -------------------------------------------------------------------------------

CODES: dict[str, tuple[bytes, End, str]] = {
    "closes at once": (b"", Conn.close, "upstream_closed"),
    "resets at once": (b"", Conn.reset, "upstream_reset"),
    "closes in the head": (b"HTTP/1.1 200 OK\r\nx-a", Conn.close, "upstream_closed"),
    "garbage": (b"garbage\r\n\r\n", None, "upstream_bad_response"),
    "another protocol": (b"SSH-2.0-OpenSSH_9.2p1\r\n", None, "upstream_bad_response"),
    "another version": (b"HTTP/1.2 200 OK\r\ncontent-length: 0\r\n\r\n", None, "upstream_bad_response"),
    "101": (head(101, [("connection", "upgrade"), ("upgrade", "x")]), None, "upstream_bad_response"),
    "NUL": (head(200, [("x-a", "b\0")]), None, "upstream_bad_response"),
    "bare CR": (head(200, [("x-a", "b\rc")]), None, "upstream_bad_response"),
    "600": (head(600), None, "upstream_bad_status"),
    "999": (head(999), None, "upstream_bad_status"),
    "099": (b"HTTP/1.1 099 X\r\n\r\n", None, "upstream_bad_status"),
    "two lengths": (
        head(200, [("content-length", "1"), ("content-length", "2")]),
        None,
        "upstream_bad_framing",
    ),
    "a bad length": (head(200, [("content-length", "x")]), None, "upstream_bad_framing"),
    "an unknown coding": (head(200, [("transfer-encoding", "gzip, chunked")]), None, "upstream_bad_framing"),
    "a bad first chunk": (sse_head() + b"zz\r\n", None, "upstream_bad_framing"),
    "a huge field": (head(200, [("x-a", "b" * 200_000)]), None, "upstream_headers_too_large"),
    "201 fields": (head(200, [("x-a", "b")] * 201), None, "upstream_headers_too_large"),
    "33 interim answers": (head(103) * 33 + OK, None, "upstream_bad_response"),
    "interim answers without end": (head(103) * 100, None, "upstream_bad_response"),
    "large interim answers": (head(103, [("x-a", "b" * 60_000)]) * 3, None, "upstream_headers_too_large"),
}


@pytest.mark.parametrize(("data", "end", "code"), CODES.values(), ids=CODES)
async def test_what_is_no_answer(data: bytes, end: End, code: str) -> None:
    async with RawUpstream(planted(data, end)) as up, client(up.base_url) as c:
        error = await failing(c, post())
        assert (error.status, error.code) == (502, code)
        await up.closed()
        assert len(up.requests) == 1


async def test_interim_answers_do_not_pass() -> None:
    async with RawUpstream(answer(head(100) + head(103) * 31 + OK)) as up, client(up.base_url) as c:
        assert await ask(c, get()) == (200, b'{"ok":true}')


@pytest.mark.parametrize(
    ("data", "end", "code"),
    [
        (TEN + b"01234", Conn.close, "upstream_reset"),
        (TEN + b"01234", Conn.reset, "upstream_reset"),
        (sse_head() + chunk(b"01234"), Conn.close, "upstream_reset"),
        (sse_head() + chunk(b"01234"), Conn.reset, "upstream_reset"),
        (sse_head(chunked=False) + b"01234", Conn.reset, "upstream_reset"),
        (sse_head() + chunk(b"01234") + b"zz\r\n", None, "upstream_bad_framing"),
    ],
)
async def test_an_answer_that_breaks(data: bytes, end: End, code: str) -> None:
    async with RawUpstream(planted(data, end)) as up, client(up.base_url) as c:
        answered = await opened(c, post())
        for _ in range(2):
            with pytest.raises(UpstreamError) as error:
                await rest(answered)
            assert error.value.code == code
        assert not answered.complete
        await answered.close()
        await up.closed()


async def test_an_answer_may_end_with_its_connection() -> None:
    async with RawUpstream(planted(sse_head(chunked=False) + b"01234")) as up, client(up.base_url) as c:
        assert await ask(c, get()) == (200, b"01234")


async def test_an_upstream_that_is_not_there() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        async with client(f"http://127.0.0.1:{taken.getsockname()[1]}/v1") as c:
            assert (await failing(c, post())).code == "upstream_connect_failed"


async def test_a_name_that_does_not_resolve(monkeypatch: pytest.MonkeyPatch) -> None:
    async def unknown(*_: Any, **__: Any) -> Any:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", unknown)
    async with client("http://no-such-host.invalid/v1") as c:
        assert (await failing(c, post())).code == "upstream_dns_failed"


# -- replays ---------------------------------------------------------------------------------------


def stale(end: Callable[[Conn], None], sent: bytes = b"") -> Script:
    """Answers once; leaves when the second request has come, after these bytes."""

    async def script(conn: Conn) -> None:
        await conn.request()
        await conn.send(OK)
        await conn.head()
        if sent:
            await conn.send(sent)
        end(conn)

    return script


@pytest.mark.parametrize("end", [Conn.close, Conn.reset])
@pytest.mark.parametrize("body", [None, b"", b"{}", BIG], ids=["none", "empty", "small", "large"])
async def test_a_stale_connection_costs_one_replay(end: Callable[[Conn], None], body: bytes | None) -> None:
    async with RawUpstream([stale(end), answer(OK)]) as up, client(up.base_url) as c:
        await ask(c, get())
        request = Outgoing(b"POST", b"/v1/x", [], body)
        assert await ask(c, request) == (200, b'{"ok":true}')
        assert request.resent
        assert up.connections == 2
        assert up.requests[-1].body == (body or b"")


async def test_what_is_replayed_goes_to_a_fresh_connection_and_only_once() -> None:
    async with (
        RawUpstream([stale(Conn.close), stale(Conn.close), planted(b"")]) as up,
        client(up.base_url) as c,
    ):
        first, second = await opened(c, get()), await opened(c, get())
        for answered in (first, second):
            await rest(answered)
            await answered.close()
        request = post()
        error = await failing(c, request)
        assert error.code == "upstream_closed"
        assert request.resent
        assert [seen.connection for seen in up.requests][3:] == [2]


@pytest.mark.parametrize(
    ("body", "sent"), [(Pieces(b"{}"), b""), (Pieces(b"{}", length=2), b""), (b"{}", b"H")]
)
async def test_nothing_else_is_replayed(body: Any, sent: bytes) -> None:
    async with RawUpstream([stale(Conn.close, sent), answer(OK)]) as up, client(up.base_url) as c:
        await ask(c, get())
        request = post(body)
        assert (await failing(c, request)).code in ("upstream_closed", "upstream_reset")
        assert not request.resent
        assert up.connections == 1


async def test_a_fresh_connection_is_not_tried_again() -> None:
    async with RawUpstream(planted(b"")) as up, client(up.base_url) as c:
        request = get()
        assert (await failing(c, request)).code == "upstream_closed"
        assert not request.resent
        assert up.connections == 1


# -- the clock -------------------------------------------------------------------------------------

TIMEOUTS = {"connect": 1, "first_byte": 2, "idle": 3}


@pytest.mark.parametrize("body", [None, b"{}", BIG], ids=["none", "small", "large"])
async def test_first_the_connection_then_the_head(body: bytes | None) -> None:
    async with RawUpstream(answer(OK)) as up, client(up.base_url, timeouts=TIMEOUTS) as c:
        for _ in range(2):
            clock = Recorder()
            await ask(c, post(body), clock)
            assert clock.armed[0] == (1, "upstream_connect_timeout")
            assert set(clock.armed[1:]) == {(2, "upstream_header_timeout")}


async def test_an_upload_is_timed_by_itself_until_it_has_gone_out() -> None:
    async with RawUpstream(answer(OK)) as up, client(up.base_url, timeouts=TIMEOUTS) as c:
        clock = Recorder()
        more = asyncio.Event()
        asking = asyncio.create_task(ask(c, post(Pieces(b"a", more, b"b")), clock))
        await up.seen()
        await asyncio.sleep(0.05)
        assert clock.codes == ["upstream_connect_timeout", "upstream_write_timeout"]
        more.set()
        await asking
        assert clock.armed[2:] == [(3, "upstream_write_timeout"), (2, "upstream_header_timeout")]


# -- uploads ---------------------------------------------------------------------------------------

REFUSAL = head(413, [("content-length", "0")])


@pytest.mark.parametrize("end", [None, Conn.fin])
@pytest.mark.parametrize("length", [None, 1 << 30])
async def test_an_early_answer_comes_while_the_upload_goes_on(length: int | None, end: End) -> None:
    async def script(conn: Conn) -> None:
        await conn.head()
        await conn.send(REFUSAL)
        if end is not None:
            end(conn)
        await conn.hang()

    async with RawUpstream(script) as up, client(up.base_url) as c:
        assert await ask(c, post(Pieces(forever=True, length=length))) == (413, b"")
        await up.closed()


async def test_an_early_answer_to_a_large_body() -> None:
    async def script(conn: Conn) -> None:
        await conn.head()
        await conn.send(REFUSAL)
        await conn.hang()

    async with RawUpstream(script, rcvbuf=4096) as up, client(up.base_url) as c:
        assert await ask(c, post(bytes(16 << 20))) == (413, b"")
        await up.closed()


async def test_an_answer_may_begin_while_the_upload_goes_on() -> None:
    async def script(conn: Conn) -> None:
        await conn.head()
        await conn.send(sse_head())
        for _ in range(3):
            await conn.send(chunk(await conn.body_bytes(1)))
        await conn.rest_of_body()
        await conn.send(last_chunk)
        await conn.request()
        await conn.send(OK)
        await conn.hang()

    async with RawUpstream(script) as up, client(up.base_url) as c:
        turns = [asyncio.Event() for _ in range(3)]
        answered = await opened(c, post(Pieces(b"a", turns[0], b"b", turns[1], b"c", turns[2])))
        for piece, turn in zip((b"a", b"b", b"c"), turns, strict=True):
            async with asyncio.timeout(5):
                assert await answered.read() == piece
            turn.set()
        assert await rest(answered) == b""
        await answered.close()
        await ask(c, get())
        assert up.connections == 1


@pytest.mark.parametrize("length", [None, 100])
@pytest.mark.parametrize("answering", [False, True])
async def test_an_upload_that_breaks_is_never_made_whole(length: int | None, answering: bool) -> None:
    async def script(conn: Conn) -> None:
        await conn.head()
        if answering:
            await conn.send(sse_head())
        await conn.rest_of_body()

    broken = asyncio.Event()
    body = Pieces(b"half", broken, ClientGone("client_closed_upload"), length=length)
    async with RawUpstream(script) as up, client(up.base_url) as c:

        async def whole() -> None:
            await ask(c, post(body))

        asking = asyncio.create_task(whole())
        await up.seen()
        await until(lambda: up.requests[0].size == 4)
        broken.set()
        with pytest.raises(ClientGone):
            await asking
        seen = await up.seen(ended=True)
        assert seen.ended in ("truncated", "reset")
        assert seen.body == b"half"


async def test_a_cancelled_upload_is_never_made_whole() -> None:
    async def script(conn: Conn) -> None:
        await conn.head()
        await conn.rest_of_body()

    async with RawUpstream(script) as up, client(up.base_url) as c:
        asking = asyncio.create_task(opened(c, post(Pieces(b"half", asyncio.Event()))))
        await until(lambda: up.requests and up.requests[0].size == 4)
        asking.cancel()
        assert (await up.seen(ended=True)).ended in ("truncated", "reset")


async def test_an_upload_that_nobody_wants_is_not_waited_for() -> None:
    async def script(conn: Conn) -> None:
        await conn.head()
        await conn.send(REFUSAL)
        await conn.hang()

    async with RawUpstream(script) as up, client(up.base_url) as c:
        assert await ask(c, post(Pieces(b"a", asyncio.Event()))) == (413, b"")
        await up.closed()
        assert not [task for task in asyncio.all_tasks() if "_Attempt._upload" in repr(task)]


async def test_an_upload_goes_no_faster_than_it_is_taken() -> None:
    async def script(conn: Conn) -> None:
        await conn.head()
        await go_on.wait()
        await conn.send(REFUSAL)

    go_on = asyncio.Event()
    body = Pieces(*[bytes(65536)] * 1000)
    async with RawUpstream(script, rcvbuf=65536) as up, client(up.base_url) as c:
        asking = asyncio.create_task(ask(c, post(body)))
        await asyncio.sleep(0.3)
        assert body.taken < 200
        go_on.set()
        assert (await asking)[0] == 413


# -- the pool --------------------------------------------------------------------------------------


async def test_a_full_pool_serves_in_turn_and_then_says_so() -> None:
    async with RawUpstream() as up, client(up.base_url, pool={"max": 2, "waiting": 2}) as c:
        running = [await _begin(c, up) for _ in range(2)]
        order: list[int] = []

        async def waits(n: int) -> None:
            await ask(c, get(b"/v1/%d" % n))
            order.append(n)

        tasks = []
        for n in range(2):
            tasks.append(asyncio.create_task(waits(n)))
            await asyncio.sleep(0.01)
        assert (await failing(c, get())).code == "upstream_busy"
        conn = running[0][1]
        await conn.send(last_chunk)
        assert await rest(running[0][0]) == b""
        await running[0][0].close()
        for n in range(2):
            assert (await conn.request()).target == b"/v1/%d" % n
            await conn.send(OK)
        await asyncio.gather(*tasks)
        assert order == [0, 1]
        assert up.connections == 2
        await running[1][0].close()


async def _begin(c: Httpx2Upstream, up: RawUpstream) -> tuple[Answer, Conn]:
    opening = asyncio.create_task(opened(c, get()))
    conn = await up.accept()
    await conn.request()
    await conn.send(sse_head())
    return await opening, conn


@dataclass
class Way:
    """How an upstream is reached."""

    up: RawUpstream | H2Upstream
    settings: dict[str, Any]


@asynccontextmanager
async def direct(folder: Path) -> AsyncIterator[Way]:
    async with RawUpstream(_random) as up:
        yield Way(up, {})


@asynccontextmanager
async def over_tls(folder: Path) -> AsyncIterator[Way]:
    certificates = Certificates(folder)
    async with RawUpstream(_random, tls=certificates.context) as up:
        yield Way(up, {"tls": certificates.trusted})


@asynccontextmanager
async def tunnelled(folder: Path) -> AsyncIterator[Way]:
    async with over_tls(folder) as way, HttpProxy() as proxy:
        yield Way(way.up, way.settings | {"proxy": f"http://127.0.0.1:{proxy.port}"})


@asynccontextmanager
async def over_socks(folder: Path) -> AsyncIterator[Way]:
    async with over_tls(folder) as way, SocksProxy() as proxy:
        yield Way(way.up, way.settings | {"proxy": f"socks5://127.0.0.1:{proxy.port}"})


@asynccontextmanager
async def over_http2(folder: Path) -> AsyncIterator[Way]:
    async def script(stream: H2Stream) -> None:
        await stream.whole()
        await asyncio.sleep(random.random() * 0.005)
        await stream.head()
        for _ in range(3):
            await stream.send(b"x" * 100)
            await asyncio.sleep(random.random() * 0.003)
        await stream.send(b"", end=True)

    certificates = Certificates(folder)
    async with H2Upstream(script, certificates.context) as up:
        yield Way(up, {"tls": certificates.trusted, "http2": True})
        left = [stream.id for stream in up.streams if not (stream.over or stream.conn.lost)]
        assert not left, "neither ended nor reset"


@asynccontextmanager
async def tunnelled_http2(folder: Path) -> AsyncIterator[Way]:
    async with over_http2(folder) as way, HttpProxy() as proxy:
        yield Way(way.up, way.settings | {"proxy": f"http://127.0.0.1:{proxy.port}"})


async def _random(conn: Conn) -> None:
    """Answers each request at random moments."""
    while True:
        await conn.request()
        await asyncio.sleep(random.random() * 0.005)
        await conn.send(sse_head())
        for _ in range(3):
            await conn.send(chunk(b"x" * 100))
            await asyncio.sleep(random.random() * 0.003)
        await conn.send(last_chunk)


WAYS = [direct, over_tls, tunnelled, over_socks, over_http2, tunnelled_http2]


@pytest.mark.parametrize("reach", WAYS)
async def test_500_cancellations_leave_nothing_taken(
    reach: Callable[[Path], AbstractAsyncContextManager[Way]], tmp_path: Path
) -> None:
    async with reach(tmp_path) as way:
        fds = len(os.listdir("/proc/self/fd"))
        async with client(way.up.base_url, pool={"max": 5, "idle": 5}, **way.settings) as c:

            async def one(n: int) -> None:
                with suppress(TimeoutError, UpstreamError):
                    async with asyncio.timeout(random.random() * 0.02):
                        body = [None, b"{}", Pieces(b"a", b"b")][n % 3]
                        answered = await c.open(post(body), Recorder())
                        try:
                            await rest(answered)
                        finally:
                            await answered.close()

            for at in range(0, 500, 10):
                await asyncio.gather(*(one(n) for n in range(at, at + 10)))
            for _ in range(3):
                answers = await asyncio.gather(*(opened(c, post()) for _ in range(5)))
                assert [await rest(each) for each in answers] == [b"x" * 300] * 5
                for each in answers:
                    await each.close()
            assert not c.waiting
            await until(
                lambda: way.up.open_connections <= 5,
                what=lambda: f"{way.up.open_connections} of 5 to be left",
            )
        await until(lambda: len(os.listdir("/proc/self/fd")) <= fds, what="every socket to be closed")


# -- TLS -------------------------------------------------------------------------------------------


async def test_tls_is_verified(tls: Certificates, tmp_path: Path) -> None:
    async with RawUpstream(answer(OK), tls=tls.context) as up:
        async with client(up.base_url) as c:
            for _ in range(3):
                error = await failing(c, post())
                assert error.code == "upstream_tls_failed"
                assert "certificate verify" not in error.message
        async with client(up.base_url, tls={**tls.trusted, "server_name": "other.example"}) as c:
            assert (await failing(c, post())).code == "upstream_tls_failed"
        async with client(up.base_url, tls=tls.trusted) as c:
            assert (await ask(c, post()))[0] == 200
        async with client(up.base_url, tls={"verify": False}) as c:
            assert (await ask(c, post()))[0] == 200


@pytest.mark.parametrize("name", [None, "other.example"])
async def test_the_server_name_that_is_asked_for(tmp_path: Path, name: str | None) -> None:
    tls = Certificates(tmp_path, name or "localhost")
    asked: list[str | None] = []
    tls.context.sni_callback = lambda _, asked_for, __: asked.append(asked_for)
    async with RawUpstream(answer(OK), tls=tls.context) as up:
        settings = {**tls.trusted, "server_name": name} if name else tls.trusted
        async with client(f"https://localhost:{up.port}/v1", tls=settings) as c:
            assert (await ask(c, post()))[0] == 200
    assert asked == [name or "localhost"]


async def test_a_client_certificate(tls: Certificates, tmp_path: Path) -> None:
    tls.context.verify_mode = ssl.CERT_REQUIRED
    tls.authority.configure_trust(tls.context)
    ours = tls.authority.issue_cert("weir@example.com")
    ours.private_key_pem.write_to_path(tmp_path / "key.pem")
    ours.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    files = {"cert": str(tmp_path / "cert.pem"), "key": str(tmp_path / "key.pem")}
    async with RawUpstream(answer(OK), tls=tls.context) as up:
        async with client(up.base_url, tls=tls.trusted | files) as c:
            assert (await ask(c, post()))[0] == 200
        async with client(up.base_url, tls=tls.trusted) as c:
            assert (await failing(c, post())).code in ("upstream_tls_failed", "upstream_reset")


async def test_an_upstream_without_tls(tls: Certificates) -> None:
    async with RawUpstream(_not_tls) as up, client(f"https://127.0.0.1:{up.port}/v1", tls=tls.trusted) as c:
        assert (await failing(c, post())).code == "upstream_tls_failed"


async def _not_tls(conn: Conn) -> None:
    await conn.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    await conn.hang()


@pytest.mark.parametrize("notify", [True, False])
async def test_over_tls_only_a_proper_close_ends_an_answer(tls: Certificates, notify: bool) -> None:
    async def script(conn: Conn) -> None:
        await conn.request()
        await conn.send(sse_head(chunked=False) + b"data: 1\n\n")
        conn.close(notify=notify)

    async with RawUpstream(script, tls=tls.context) as up, client(up.base_url, tls=tls.trusted) as c:
        if notify:
            assert await ask(c, get()) == (200, b"data: 1\n\n")
        else:
            with pytest.raises(UpstreamError, match="broke"):
                await ask(c, get())


# -- proxies ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", ODD_TARGETS)
async def test_a_proxy_forwards_http(target: bytes) -> None:
    async with RawUpstream(answer(OK)) as up, HttpProxy(credentials=b"us er:p@ss") as proxy:
        url = f"http://us%20er:p%40ss@127.0.0.1:{proxy.port}"
        async with client(up.base_url, proxy=url) as c:
            for _ in range(2):
                assert await ask(c, Outgoing(b"POST", target, [(b"x-a", b"1")], b"{}")) == (
                    200,
                    b'{"ok":true}',
                )
        (head_seen,) = proxy.heads
        assert head_seen.startswith(b"POST http://127.0.0.1:%d%b HTTP/1.1\r\n" % (up.port, target))
        assert [seen.target for seen in up.requests] == [target, b"http://127.0.0.1:%d%b" % (up.port, target)]
        assert up.requests[0].all("proxy-authorization") == []
        assert up.requests[0].all("host") == [b"127.0.0.1:%d" % up.port]


async def test_a_proxy_tunnels_https(tls: Certificates) -> None:
    async with RawUpstream(answer(OK), tls=tls.context) as up, HttpProxy(credentials=b"user:pass") as proxy:
        url = f"http://user:pass@127.0.0.1:{proxy.port}"
        async with client(up.base_url, proxy=url, tls=tls.trusted) as c:
            for _ in range(2):
                assert await ask(c, post(Pieces(b"{", b"}"))) == (200, b'{"ok":true}')
        assert len(proxy.heads) == 1
        assert proxy.heads[0].startswith(b"CONNECT 127.0.0.1:%d HTTP/1.1\r\n" % up.port)
        assert not [line for seen in up.requests for line in seen.headers if b"proxy" in line[0].lower()]


async def test_a_proxy_over_tls(tls: Certificates, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    theirs = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.authority.issue_cert("localhost").configure_cert(theirs)
    async with RawUpstream(answer(OK), tls=tls.context) as up, HttpProxy(tls=theirs) as proxy:
        url = f"https://localhost:{proxy.port}"
        async with client(up.base_url, proxy=url, tls=tls.trusted) as c:
            error = await failing(c, post())
            assert (error.code, proxy.heads) == (PROXY_FAILED, [])
        monkeypatch.setenv("SSL_CERT_FILE", str(tls.ca))  # what the system trusts
        async with client(up.base_url, proxy=url, tls=tls.trusted) as c:
            assert (await ask(c, post()))[0] == 200


@pytest.mark.parametrize("scheme", ["socks5", "socks5h"])
@pytest.mark.parametrize("credentials", [None, (b"user", b"p:ss")])
@pytest.mark.parametrize("secure", [False, True])
async def test_a_socks_proxy(
    tls: Certificates, scheme: str, credentials: tuple[bytes, bytes] | None, secure: bool
) -> None:
    async with (
        RawUpstream(answer(OK), tls=tls.context if secure else None) as up,
        SocksProxy(credentials=credentials) as proxy,
    ):
        userinfo = "user:p%3Ass@" if credentials else ""
        settings: dict[str, Any] = {"proxy": f"{scheme}://{userinfo}127.0.0.1:{proxy.port}"}
        if secure:
            settings["tls"] = tls.trusted
        async with client(up.base_url.replace("127.0.0.1", "localhost"), **settings) as c:
            for _ in range(2):
                assert await ask(c, post()) == (200, b'{"ok":true}')
        assert proxy.targets == [("localhost", up.port)]
        assert up.requests[0].target == b"/v1/chat/completions"


def _refusing(status: int) -> Callable[[], Any]:
    return lambda: HttpProxy(refuse=head(status, [("content-length", "0")], "p4ss or secret"))


USER = (b"user", b"p4ss")
PROXY_FAILURES: dict[str, tuple[str, Callable[[], Any], bool, str]] = {
    "not there": ("http", SocksProxy, True, "could not be reached"),
    "not there, SOCKS": ("socks5", SocksProxy, True, "could not be reached"),
    "407": ("http", lambda: HttpProxy(credentials=b"a:b"), True, "credentials"),
    "407 to a forwarded request": ("http", lambda: HttpProxy(credentials=b"a:b"), False, "credentials"),
    "403": ("http", _refusing(403), True, "(it answered 403)"),
    "502": ("http", _refusing(502), True, "(it answered 502)"),
    "hangs up": ("http", lambda: HttpProxy(refuse=b""), True, "broke off"),
    "garbage": ("http", lambda: HttpProxy(refuse=b"\5\0\r\n\r\n"), True, "not of the kind"),
    "SOCKS refuses": ("socks5", lambda: SocksProxy(reply=5, credentials=USER), True, "Connection refused"),
    "SOCKS refuses, plain": ("socks5", lambda: SocksProxy(reply=2, credentials=USER), False, "not allowed"),
    "SOCKS credentials": ("socks5", lambda: SocksProxy(credentials=(b"a", b"b")), True, "username/password"),
    "SOCKS hangs up": ("socks5", lambda: SocksProxy(greeting=b""), True, "broke off"),
    "no SOCKS": ("socks5", lambda: SocksProxy(greeting=b"HTTP/1.1 400 Bad\r\n\r\n"), True, "kind"),
    "another SOCKS": ("socks5", lambda: SocksProxy(greeting=b"\0\x5b"), True, "kind"),
}


@pytest.mark.parametrize(("scheme", "make", "secure", "says"), PROXY_FAILURES.values(), ids=PROXY_FAILURES)
async def test_what_a_proxy_does_wrong(
    scheme: str, make: Callable[[], Any], secure: bool, says: str, tls: Certificates
) -> None:
    fds = len(os.listdir("/proc/self/fd"))
    async with make() as proxy, RawUpstream(answer(OK), tls=tls.context if secure else None) as up:
        if says == "could not be reached":
            await proxy.__aexit__(None, None, None)
        url = f"{scheme}://user:p4ss@127.0.0.1:{proxy.port}"
        settings = {"tls": tls.trusted} if secure else {}
        async with client(up.base_url, proxy=url, pool={"max": 1}, **settings) as c:
            for _ in range(3):  # the one place is free each time
                request = post()
                error = await failing(c, request)
                assert (error.status, error.code) == (502, PROXY_FAILED)
                assert says in error.message
                assert "p4ss" not in error.message
                assert "secret" not in error.message
                assert "\n" not in error.message
                assert not request.resent
            assert not up.requests
            await proxy.closed()
    await until(lambda: len(os.listdir("/proc/self/fd")) <= fds, what="every socket to be closed")


@pytest.mark.parametrize("scheme", ["http", "socks5"])
async def test_behind_a_proxy_the_upstream_is_told_from_it(scheme: str, tls: Certificates) -> None:
    make: Callable[[], Any] = HttpProxy if scheme == "http" else SocksProxy
    async with RawUpstream(planted(b""), tls=tls.context) as up, make() as proxy:
        settings = {"proxy": f"{scheme}://127.0.0.1:{proxy.port}", "pool": {"max": 1}}
        async with client(up.base_url, **settings) as c:
            for _ in range(3):  # httpcore2 alone loses the place in the pool
                assert (await failing(c, post())).code == "upstream_tls_failed"
            await proxy.closed()
        async with client(up.base_url, **settings, tls=tls.trusted) as c:
            assert (await failing(c, post())).code == "upstream_closed"


@pytest.mark.parametrize("where", ["http", "socks5", "tls"])
async def test_cancelled_while_connecting_nothing_is_left(where: str, tls: Certificates) -> None:
    async def silent(conn: Conn) -> None:
        await conn.hang()

    async with RawUpstream(silent) as up:
        settings = {} if where == "tls" else {"proxy": f"{where}://127.0.0.1:{up.port}"}
        async with client(f"https://127.0.0.1:{up.port}/v1", pool={"max": 1}, **settings) as c:
            for n in (1, 2, 3):
                opening = asyncio.create_task(opened(c, post()))
                await until(lambda n=n: up.connections == n)  # type: ignore[misc]
                await asyncio.sleep(0.02)
                opening.cancel()
                await asyncio.gather(opening, return_exceptions=True)
                await up.closed()


# -- HTTP/2 ----------------------------------------------------------------------------------------


@asynccontextmanager
async def http2(
    tls: Certificates, script: H2Script, *, max_streams: int = 0, **settings: Any
) -> AsyncIterator[tuple[H2Upstream, Httpx2Upstream]]:
    async with (
        H2Upstream(script, tls.context, max_streams=max_streams) as up,
        client(up.base_url, tls=tls.trusted, http2=True, **settings) as c,
    ):
        yield up, c


async def plain(stream: H2Stream) -> None:
    await stream.whole()
    await stream.answer()


def waits_first(then: Callable[[H2Stream], Awaitable[None]]) -> tuple[H2Script, asyncio.Event]:
    """A script for streams that go on together."""
    go_on = asyncio.Event()

    async def script(stream: H2Stream) -> None:
        await go_on.wait()
        await then(stream)

    return script, go_on


@pytest.mark.parametrize("target", ODD_TARGETS[:2])
@pytest.mark.parametrize(
    ("body", "lengths", "sent"),
    [
        (None, [], b""),
        (b"", [b"0"], b""),
        (b"{}", [b"2"], b"{}"),
        (BIG, [b"300000"], BIG),
        (Pieces(b"ab", b"c", length=3), [b"3"], b"abc"),
        (Pieces(b"ab", b"c"), [], b"abc"),
    ],
    ids=["none", "empty", "small", "large", "sized upload", "upload"],
)
async def test_http2_sends_what_http1_would(
    tls: Certificates, target: bytes, body: Any, lengths: list[bytes], sent: bytes
) -> None:
    async def script(stream: H2Stream) -> None:
        assert await stream.whole() == sent
        await stream.head(103)
        await stream.head(200, [(b"x-a", b"1"), (b"x-b", b"2"), (b"x-a", b"3")])
        await stream.send(gzip.compress(b"hello"))
        stream.conn.h2.send_headers(stream.id, [(b"x-trailer", b"1")], end_stream=True)
        await stream.conn.flush()

    async with http2(tls, script) as (up, c):
        request = Outgoing(b"POST", target, [(b"x-b", b"1"), (b"x-a", b"2"), (b"x-b", b"3")], body)
        answered = await opened(c, request)
        assert (answered.status, answered.headers) == (
            200,
            [(b"x-a", b"1"), (b"x-b", b"2"), (b"x-a", b"3")],
        )
        assert gzip.decompress(await rest(answered)) == b"hello"
        await answered.close()
        (stream,) = up.streams
        assert stream.headers == [
            (b":method", b"POST"),
            (b":authority", b"127.0.0.1:%d" % up.port),
            (b":scheme", b"https"),
            (b":path", target),
            (b"x-b", b"1"),
            (b"x-a", b"2"),
            (b"x-b", b"3"),
            *[(b"content-length", length) for length in lengths],
        ]
        assert stream.ended_with_headers == (body is None)
        assert stream.reset is None


async def test_without_http2_at_the_other_end_it_is_http1(tls: Certificates) -> None:
    async with (
        RawUpstream(answer(OK), tls=tls.context) as up,
        client(up.base_url, tls=tls.trusted, http2=True) as c,
    ):
        answers = await asyncio.gather(*(ask(c, post()) for _ in range(5)))
        assert answers == [(200, b'{"ok":true}')] * 5


async def test_http2_is_not_spoken_unless_asked_for(tls: Certificates) -> None:
    tls.context.set_alpn_protocols(["h2", "http/1.1"])
    async with RawUpstream(answer(OK), tls=tls.context) as up, client(up.base_url, tls=tls.trusted) as c:
        assert (await ask(c, post()))[0] == 200


@pytest.mark.parametrize("scheme", ["http", "socks5"])
async def test_http2_behind_a_proxy(scheme: str, tls: Certificates) -> None:
    make: Callable[[], Any] = HttpProxy if scheme == "http" else SocksProxy
    async with make() as proxy, http2(tls, plain, proxy=f"{scheme}://127.0.0.1:{proxy.port}") as (up, c):
        assert await ask(c, post()) == (200, b"ok")
        assert [await ask(c, post()) for _ in range(3)] == [(200, b"ok")] * 3
        assert up.connections == 1


async def test_streams_share_a_connection_up_to_the_upstreams_limit(tls: Certificates) -> None:
    script, go_on = waits_first(plain)
    async with http2(tls, script, max_streams=2, pool={"max": 2}) as (up, c):
        go_on.set()
        await ask(c, get())
        go_on.clear()
        asking = [asyncio.create_task(ask(c, get())) for _ in range(5)]
        await up.seen(5)
        assert [len(conn.streams) for conn in up.conns] == [3, 2]
        go_on.set()
        assert await asyncio.gather(*asking) == [(200, b"ok")] * 5
        assert up.connections == 2


async def test_an_unread_answer_resets_its_stream_and_no_other(tls: Certificates) -> None:
    async def script(stream: H2Stream) -> None:
        await stream.head()
        with suppress(ConnectionError):
            while True:
                await stream.send(b"x")
                await asyncio.sleep(0.001)

    async with http2(tls, script) as (up, c):
        one, other = await opened(c, get()), await opened(c, get())
        await one.read()
        await one.close()
        assert await up.streams[0].gone() == 8
        async with asyncio.timeout(5):
            for _ in range(20):
                assert await other.read()
        assert up.connections == 1
        await other.close()
        assert await up.streams[1].gone() == 8


@pytest.mark.parametrize("body", [None, b"{}", BIG, Pieces(b"half", asyncio.Event())])
async def test_a_cancelled_request_resets_its_stream(tls: Certificates, body: Any) -> None:
    async def script(stream: H2Stream) -> None:
        await asyncio.Event().wait()

    async with http2(tls, script) as (up, c):
        asking = asyncio.create_task(opened(c, post(body)))
        stream = await up.seen()
        sent = body if isinstance(body, bytes) else b"half" if body else b""
        await until(lambda: stream.body == sent and stream.ended.is_set() == isinstance(body, bytes | None))
        asking.cancel()
        assert await stream.gone() == 8
        assert stream.ended.is_set() == isinstance(body, bytes | None)
        assert up.open_connections == 1


async def test_an_upload_that_breaks_over_http2_is_never_made_whole(tls: Certificates) -> None:
    async def script(stream: H2Stream) -> None:
        await asyncio.Event().wait()

    async with http2(tls, script) as (up, c):
        with pytest.raises(ClientGone):
            await opened(c, post(Pieces(b"half", ClientGone("client_closed_upload"))))
        assert await up.streams[0].gone() == 8
        assert not up.streams[0].ended.is_set()


async def test_what_nobody_reads_does_not_starve_the_connection(tls: Certificates) -> None:
    """httpcore2 gives 16 MiB of flow control to a connection, and forgets what it does not hand on."""

    async def script(stream: H2Stream) -> None:
        await stream.head()
        with suppress(ConnectionError):
            await stream.send(bytes(1 << 20), end=True)

    async with http2(tls, script) as (up, c):
        for _ in range(40):
            answered = await opened(c, get())
            await answered.read()
            await answered.close()
        assert await ask(c, get()) == (200, bytes(1 << 20))
        assert up.connections == 1


async def test_what_was_read_for_nobody_does_not_starve_it_either(tls: Certificates) -> None:
    async def script(stream: H2Stream) -> None:
        await stream.head()
        if stream.path == b"/v1/large":
            await stream.send(bytes(6 << 20), end=True)
        else:
            with suppress(ConnectionError):
                while True:
                    await stream.send(b"x")
                    await asyncio.sleep(0.001)

    async with http2(tls, script) as (up, c):
        for _ in range(4):
            large, drip = await opened(c, get(b"/v1/large")), await opened(c, get(b"/v1/drip"))
            async with asyncio.timeout(10):
                while not up.streams[-2].answered:
                    await drip.read()
            await large.close()
            await drip.close()
        assert await ask(c, get(b"/v1/large")) == (200, bytes(6 << 20))
        assert up.connections == 1


async def test_who_waits_for_a_connection_may_leave(
    tls: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    """httpcore2 takes this for a connection that failed, and forgets to close it."""
    go_on = _gate(monkeypatch, anyio, "connect_tcp")
    async with http2(tls, plain) as (up, c):
        first, second = [asyncio.create_task(ask(c, get())) for _ in range(2)]
        await asyncio.sleep(0.01)
        second.cancel()
        await asyncio.wait([second])
        third = asyncio.create_task(ask(c, get()))
        await asyncio.sleep(0.01)
        go_on.set()
        assert await first == await third == await ask(c, get()) == (200, b"ok")
        await until(lambda: up.open_connections == len(c._pool.connections))


@pytest.mark.parametrize("step", ["connect", "settings"])
async def test_who_makes_a_connection_may_leave(
    tls: Certificates, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    place, name = (anyio, "connect_tcp") if step == "connect" else (_Wire, "write")
    go_on = _gate(monkeypatch, place, name)
    async with http2(tls, plain) as (up, c):
        await _first_leaves(c, go_on)
        await until(lambda: up.open_connections == 1)


async def test_who_makes_a_connection_may_leave_that_turns_out_to_be_http1(
    tls: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on = _gate(monkeypatch, anyio, "connect_tcp")
    async with RawUpstream(answer(OK), tls=tls.context) as up:
        async with client(up.base_url, tls=tls.trusted, http2=True) as c:
            await _first_leaves(c, go_on)
            assert up.open_connections == len(c._pool.connections)
        await up.closed()


async def _first_leaves(c: Httpx2Upstream, go_on: asyncio.Event) -> None:
    first, second, third = [asyncio.create_task(ask(c, get())) for _ in range(3)]
    await asyncio.sleep(0.1)
    first.cancel()
    await asyncio.wait([first])
    go_on.set()
    assert (await second)[0] == (await third)[0] == (await ask(c, get()))[0] == 200


def _gate(monkeypatch: pytest.MonkeyPatch, place: Any, name: str) -> asyncio.Event:
    """Nobody gets through this function before the event is set."""
    go_on = asyncio.Event()
    real = getattr(place, name)

    async def gated(*args: Any, **kwargs: Any) -> Any:
        await go_on.wait()
        return await real(*args, **kwargs)

    monkeypatch.setattr(place, name, gated)
    return go_on


async def test_who_waits_for_a_stream_goes_elsewhere_when_the_connection_breaks(tls: Certificates) -> None:
    async def script(stream: H2Stream) -> None:
        if len(up.conns) > 1:
            await plain(stream)
        elif len(up.streams) == 2:
            stream.conn.writer.transport.abort()

    async with http2(tls, script, max_streams=2) as (up, c):
        asking = [asyncio.create_task(ask(c, post())) for _ in range(3)]
        done = await asyncio.gather(*asking, return_exceptions=True)
        assert done[2] == (200, b"ok")
        assert all(isinstance(each, UpstreamError) for each in done[:2])


async def test_a_graceful_goaway_lets_running_streams_end(tls: Certificates) -> None:
    async def script(stream: H2Stream) -> None:
        if stream.path == b"/v1/long":
            await stream.head()
            await stream.send(b"a")
            await go_on.wait()
            await stream.conn.goaway(2**31 - 1)
            await stream.conn.goaway(stream.id)
            for _ in range(10):
                await asyncio.sleep(0.005)
                await stream.send(b"b")
            await stream.send(b"", end=True)
        else:
            await plain(stream)

    go_on = asyncio.Event()
    async with http2(tls, script) as (up, c):
        answered = await opened(c, get(b"/v1/long"))
        async with asyncio.timeout(5):
            assert await answered.read() == b"a"
            go_on.set()
            assert await answered.read() == b"b"
        assert await ask(c, post()) == (200, b"ok")
        assert up.connections == 2, "one that is leaving takes nothing new"
        assert await rest(answered) == b"b" * 9
        await answered.close()
        await until(lambda: up.open_connections == 1)


@pytest.mark.parametrize("how", ["goaway", "refused", "hard goaway"])
@pytest.mark.parametrize("body", [b"{}", Pieces(b"{}")], ids=["bytes", "upload"])
async def test_what_an_upstream_did_not_process_is_sent_again(tls: Certificates, how: str, body: Any) -> None:
    async def script(stream: H2Stream) -> None:
        await stream.whole()
        if len(up.streams) == 2:
            if how == "refused":
                stream.conn.h2.reset_stream(stream.id, 7)
                await stream.conn.flush()
            else:
                await stream.conn.goaway(1, 0 if how == "goaway" else 11)
        else:
            await stream.answer()

    async with http2(tls, script) as (up, c):
        await ask(c, get())
        request = post(body)
        if isinstance(body, bytes):
            assert await ask(c, request) == (200, b"ok")
            assert request.resent
            assert len(up.streams) == 3
        else:
            assert (await failing(c, request)).code in ("upstream_reset", "upstream_closed")
            assert not request.resent
            assert len(up.streams) == 2


async def test_over_http2_too_a_replay_is_not_replayed(tls: Certificates) -> None:
    async def script(stream: H2Stream) -> None:
        stream.conn.h2.reset_stream(stream.id, 7)
        await stream.conn.flush()

    async with http2(tls, script) as (up, c):
        assert (await failing(c, post())).code == "upstream_reset"
        assert len(up.streams) == 2


@pytest.mark.parametrize("body", [b"{}", Pieces(b"{}")], ids=["bytes", "upload"])
async def test_a_stale_http2_connection_costs_one_replay(tls: Certificates, body: Any) -> None:
    async with http2(tls, plain) as (up, c):
        await ask(c, get())
        (conn,) = up.conns
        conn.server.script = None  # type: ignore[assignment] # it must not answer any more
        request = post(body)
        conn.writer.transport.pause_reading()  # type: ignore[attr-defined]
        asking = asyncio.create_task(ask(c, request))
        await asyncio.sleep(0.05)
        conn.writer.transport.abort()
        up.script = plain
        if isinstance(body, bytes):
            assert await asking == (200, b"ok")
            assert request.resent
        else:
            with pytest.raises(UpstreamError):
                await asking
            assert not request.resent


async def test_an_idle_http2_connection_whose_peer_leaves_is_not_used(tls: Certificates) -> None:
    async with http2(tls, plain) as (up, c):
        for n in (1, 2):
            request = get()
            assert (await ask(c, request))[0] == 200
            assert not request.resent
            assert up.connections == n
            up.conns[-1].writer.close()
            await up.closed()


async def no_answer(stream: H2Stream) -> None:
    stream.conn.writer.transport.abort()


async def reset(stream: H2Stream) -> None:
    stream.conn.h2.reset_stream(stream.id, 2)
    await stream.conn.flush()


async def too_many(stream: H2Stream) -> None:
    await stream.head(200, [(b"x-a", b"b")] * 201)


async def too_large(stream: H2Stream) -> None:
    await stream.head(200, [(b"x-a", os.urandom(5000).hex().encode()) for _ in range(20)])


async def split(stream: H2Stream) -> None:
    await stream.head(200, [(b"x-a", b"b\r\nx-c: d")])


async def bad_status(stream: H2Stream) -> None:
    await stream.head(700)


async def no_frames(stream: H2Stream) -> None:
    await stream.conn.raw(b"\xff" * 100)


@pytest.mark.parametrize(
    ("script", "codes"),
    [
        (no_answer, ("upstream_closed", "upstream_reset")),
        (reset, ("upstream_reset",)),
        (too_many, ("upstream_headers_too_large",)),
        (too_large, ("upstream_headers_too_large",)),
        (split, ("upstream_bad_response",)),
        (bad_status, ("upstream_bad_status",)),
        (no_frames, ("upstream_bad_response",)),
    ],
)
async def test_what_is_no_answer_over_http2(
    tls: Certificates, script: H2Script, codes: tuple[str, ...]
) -> None:
    async with http2(tls, script) as (up, c):
        request = post()
        error = await failing(c, request)
        assert error.status == 502
        assert error.code in codes
        assert not request.resent
        up.script = plain
        assert await ask(c, post()) == (200, b"ok")


@pytest.mark.parametrize("how", ["reset", "close", "garbage"])
async def test_an_answer_that_breaks_over_http2(tls: Certificates, how: str) -> None:
    async def script(stream: H2Stream) -> None:
        await stream.head()
        await stream.send(b"a")
        await heard.wait()
        if how == "reset":
            await reset(stream)
        elif how == "close":
            stream.conn.writer.transport.abort()
        else:
            await no_frames(stream)

    heard = asyncio.Event()
    async with http2(tls, script) as (_, c):
        answered = await opened(c, get())
        assert await answered.read() == b"a"
        heard.set()
        with pytest.raises(UpstreamError) as error:
            await rest(answered)
        assert error.value.code in ("upstream_reset", "upstream_bad_framing")
        await answered.close()


async def test_cancellations_do_not_disturb_other_streams(tls: Certificates) -> None:
    async def script(stream: H2Stream) -> None:
        await stream.head()
        with suppress(ConnectionError):
            for n in range(50):
                await stream.send(b"%03d" % n)
                await asyncio.sleep(0.001)
            await stream.send(b"", end=True)

    async with http2(tls, script) as (up, c):

        async def leaves() -> None:
            with suppress(TimeoutError):
                async with asyncio.timeout(random.random() * 0.01):
                    answered = await c.open(post(os.urandom(2000)), Recorder())
                    try:
                        await rest(answered)
                    finally:
                        await answered.close()

        await ask(c, get())
        steady = [asyncio.create_task(ask(c, get())) for _ in range(5)]
        for _ in range(20):
            await asyncio.gather(*(leaves() for _ in range(10)))
        await asyncio.wait(steady)
        whole = b"".join(b"%03d" % n for n in range(50))
        assert [task.result() for task in steady] == [(200, whole)] * 5
        assert up.connections == 1
