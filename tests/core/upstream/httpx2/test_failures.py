"""Each way to fail, and what it is called."""

import asyncio
import os
import socket
from collections.abc import Callable
from typing import Any

import pytest

from proxy.api.errors import UpstreamError, WeirError
from proxy.core.upstream import Outgoing
from proxy.core.upstream.httpx2 import PROXY_FAILED
from tests.core.proxies import H2Script, H2Stream, HttpProxy, SocksProxy
from tests.faults.certificates import Certificates
from tests.faults.upstream import Conn, RawUpstream, answer, chunk, head, planted, sse_head
from tests.faults.wire import until

from .bench import OK, End, ask, client, failing, get, http2, opened, plain, post, rest

TEN = head(headers=[("content-length", "10")])
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


async def test_a_field_that_http_does_not_allow_is_the_requests_fault() -> None:
    async with RawUpstream(answer(OK)) as up, client(up.base_url) as c:
        with pytest.raises(WeirError) as error:
            await opened(c, Outgoing(b"GET", b"/v1/x", [(b"x-a", b"b\r\nx-c: d")], None))
        assert (error.value.status, error.value.code) == (400, "invalid_request")
        assert not up.requests


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


# -- connecting


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


async def test_an_upstream_without_tls(tls: Certificates) -> None:
    async with RawUpstream(_not_tls) as up, client(f"https://127.0.0.1:{up.port}/v1", tls=tls.trusted) as c:
        assert (await failing(c, post())).code == "upstream_tls_failed"


async def _not_tls(conn: Conn) -> None:
    await conn.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    await conn.hang()


# -- proxies


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


# -- HTTP/2


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
