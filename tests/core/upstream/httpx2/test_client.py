"""What goes out, byte by byte, and by which way."""

import asyncio
import gzip
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from proxy.api.errors import UpstreamError
from proxy.core.upstream import Answer, Outgoing
from proxy.core.upstream.httpx2 import PROXY_FAILED, Httpx2Upstream
from tests.core.proxies import H2Stream, HttpProxy, SocksProxy
from tests.faults.certificates import Certificates
from tests.faults.upstream import Conn, RawUpstream, answer, last_chunk, planted, sse_head

from .bench import BIG, OK, Pieces, ask, client, failing, get, http2, opened, plain, post, rest

ODD_TARGETS = [
    b"/v1/a%2Fb/%7Eme/..%2e/;p=1//x?q=%20+%zz&a=1&a=2&",
    b"/v1/x?",
    b"/v1/'\"<>[]{}|^`\\?a[]=<>",
    b"/v1/./../admin?x=http://evil/#frag",
    b"//evil/x",
]


# -- what goes out


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


# -- TLS


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


# -- proxies


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


@pytest.mark.parametrize("scheme", ["http", "socks5"])
async def test_http2_behind_a_proxy(scheme: str, tls: Certificates) -> None:
    make: Callable[[], Any] = HttpProxy if scheme == "http" else SocksProxy
    async with make() as proxy, http2(tls, plain, proxy=f"{scheme}://127.0.0.1:{proxy.port}") as (up, c):
        assert await ask(c, post()) == (200, b"ok")
        assert [await ask(c, post()) for _ in range(3)] == [(200, b"ok")] * 3
        assert up.connections == 1


# -- the pool


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
