"""How connections end, and whose turn it is."""

import asyncio
from typing import Any

import anyio
import anyio.abc
import anyio.streams.tls
import httpcore2
import pytest

from proxy.api.errors import UpstreamError
from proxy.core.upstream.httpx2.frames import MOST
from proxy.core.upstream.httpx2.link import Link
from proxy.core.upstream.httpx2.stream import SocketStream
from proxy.core.upstream.httpx2.wire import Wire
from tests.core.proxies import H2Stream
from tests.faults.certificates import Certificates
from tests.faults.upstream import Conn, RawUpstream, sse_head
from tests.faults.wire import until

from .bench import ask, client, get, http2, opened, plain, post, rest


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


class Source(anyio.abc.ByteStream):
    """TLS with HTTP/2 at its other end, as far as a wire sees it; gives these bytes, then its end."""

    def __init__(self, *pieces: bytes) -> None:
        self.pieces = list(pieces)

    @property
    def extra_attributes(self) -> Any:
        return {anyio.streams.tls.TLSAttribute.ssl_object: lambda: self}

    def selected_alpn_protocol(self) -> str:
        return "h2"

    async def receive(self, max_bytes: int = 65536) -> bytes:
        if not self.pieces:
            raise anyio.EndOfStream
        return self.pieces.pop(0)

    async def send(self, item: bytes) -> None: ...

    async def send_eof(self) -> None: ...

    async def aclose(self) -> None: ...


async def test_h2_is_given_few_frames_at_once_and_others_a_turn_in_between() -> None:
    """It takes all that it is given in one go: the thousands of small frames that fit into one read, too."""
    turns = 0

    async def another() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    frame = b"\0\0\1\0\0\0\0\0\1x"
    source = Source(frame * 1000 + frame[:4], frame[4:])
    async with client("https://127.0.0.1:1/v1") as c:
        link = Link(httpcore2.AsyncHTTPConnection(httpcore2.Origin(b"https", b"127.0.0.1", 1)), c)
        wire = Wire(link, SocketStream(memoryview(b"")), source)
        other = asyncio.create_task(another())
        got = []
        while data := await wire.read(65536):
            got.append(data)
        other.cancel()
    assert b"".join(got) == frame * 1001
    assert max(map(len, got)) == MOST * len(frame)
    assert turns >= 1000 // MOST - 1
