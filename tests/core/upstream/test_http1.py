"""The lean client's pool and framing, on real sockets. What it does within Weir is in tests/faults."""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator
from typing import Any

import httptools
import pytest

from proxy.api import ClientGone, UpstreamError
from proxy.core.config import UpstreamSettings
from proxy.core.deadlines import Deadlines
from proxy.core.upstream import Late, Outgoing
from proxy.core.upstream.http1 import Http1Upstream
from tests.faults.upstream import Conn, RawUpstream, chunk, json_answer, last_chunk, ok_json, sse_head


class Clock:
    def __init__(self) -> None:
        self.armed: list[str] = []

    def arm(self, seconds: float, late: Late) -> None:
        self.armed.append(late().code)


class Pieces:
    """An upload of these pieces; an exception among them is raised."""

    def __init__(self, *pieces: bytes | Exception, length: int | None = None) -> None:
        self.pieces = pieces
        self.length = length

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self.pieces:
            if isinstance(piece, Exception):
                raise piece
            await asyncio.sleep(0)
            yield piece


def outgoing(body: Any = b"{}", method: bytes = b"POST") -> Outgoing:
    return Outgoing(method, b"/v1/x", [(b"x-a", b"1"), (b"x-a", b"2")], body)


@contextlib.asynccontextmanager
async def client(up: RawUpstream, **settings: Any) -> AsyncIterator[Http1Upstream]:
    deadlines = Deadlines()
    upstream = Http1Upstream(UpstreamSettings(base_url=up.base_url, **settings), deadlines)
    try:
        yield upstream
    finally:
        await upstream.aclose()
        deadlines.close()
        assert upstream.pool.taken == 0


async def whole(answer: Any) -> bytes:
    pieces = []
    try:
        while not answer.complete:
            pieces.append(await answer.read())
    finally:
        await answer.close()
    return b"".join(pieces)


async def serve(conn: Conn) -> None:
    while True:
        await conn.request()
        await conn.send(ok_json(b'{"ok":true}'))


# -- requests --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "framing", "sent"),
    [
        (None, None, b""),
        (b"", (b"content-length", b"0"), b""),
        (b"ab", (b"content-length", b"2"), b"ab"),
        (b"x" * 200_000, (b"content-length", b"200000"), b"x" * 200_000),
        (Pieces(b"ab", b"c"), (b"transfer-encoding", b"chunked"), b"abc"),
        (Pieces(b"ab", b"c", length=3), (b"content-length", b"3"), b"abc"),
    ],
)
async def test_framing_is_ours_and_nothing_else_is_added(
    body: Any, framing: tuple[bytes, bytes] | None, sent: bytes
) -> None:
    async with RawUpstream(serve) as up, client(up) as upstream:
        await whole(await upstream.open(outgoing(body), Clock()))
        (request,) = up.requests
        host = (b"host", b"127.0.0.1:%d" % up.port)
        assert request.headers == [host, (b"x-a", b"1"), (b"x-a", b"2"), *([framing] if framing else [])]
        assert request.body == sent
        assert request.target == b"/v1/x"


async def test_connections_are_kept_and_used_again() -> None:
    async with RawUpstream(serve) as up, client(up) as upstream:
        clock = Clock()
        for _ in range(5):
            assert await whole(await upstream.open(outgoing(), clock)) == b'{"ok":true}'
        assert up.connections == 1
        assert clock.armed == ["upstream_connect_timeout", *["upstream_header_timeout"] * 5]


async def test_an_upload_that_breaks_is_never_made_whole() -> None:
    async with RawUpstream() as up, client(up) as upstream:
        gone = ClientGone("client_closed_upload")
        asking = asyncio.create_task(upstream.open(outgoing(Pieces(b"ab", gone)), Clock()))
        conn = await up.accept()
        await conn.head()
        await conn.wait_closed()
        assert last_chunk not in bytes(conn.buffer)
        with pytest.raises(UpstreamError):
            await asking


# -- the pool --------------------------------------------------------------------------------------


async def test_waiters_are_served_in_turn_and_nobody_jumps_the_queue() -> None:
    async with RawUpstream(serve) as up, client(up, pool={"max": 1}) as upstream:
        first = await upstream.open(outgoing(), Clock())
        order: list[int] = []

        async def ask(number: int) -> None:
            answer = await upstream.open(outgoing(), Clock())
            order.append(number)
            await whole(answer)

        waiting = [asyncio.create_task(ask(number)) for number in range(1)]
        await asyncio.sleep(0)
        await whole(first)
        late = asyncio.create_task(ask(1))
        await asyncio.gather(*waiting, late)
        assert order == [0, 1]
        assert up.connections == 1


async def test_the_queue_is_bounded() -> None:
    async with RawUpstream(serve) as up, client(up, pool={"max": 2, "waiting": 3}) as upstream:
        held = [await upstream.open(outgoing(), Clock()) for _ in range(2)]
        waiting = [asyncio.create_task(upstream.open(outgoing(), Clock())) for _ in range(3)]
        await asyncio.sleep(0)
        with pytest.raises(UpstreamError) as found:
            await upstream.open(outgoing(), Clock())
        assert (found.value.status, found.value.code) == (503, "upstream_busy")
        for answer in held:
            await whole(answer)
        for task in waiting:
            await whole(await task)


async def test_an_idle_connection_expires() -> None:
    async with RawUpstream(serve) as up, client(up, pool={"idle": 0.05}) as upstream:
        await whole(await upstream.open(outgoing(), Clock()))
        assert upstream.pool.taken == 1
        await up.closed(timeout=2)
        assert upstream.pool.taken == 0


async def test_a_stale_connection_is_replaced_and_the_request_sent_again_once() -> None:
    async def one_then_close(conn: Conn) -> None:
        await conn.request()
        await conn.send(ok_json(b"{}"))
        await conn.request()
        conn.close()

    async with RawUpstream([one_then_close, serve]) as up, client(up) as upstream:
        await whole(await upstream.open(outgoing(), Clock()))
        again = outgoing()
        assert await whole(await upstream.open(again, Clock())) == b'{"ok":true}'
        assert again.resent
        assert up.connections == 2


async def test_a_fresh_connection_that_closes_is_not_tried_again() -> None:
    async def close(conn: Conn) -> None:
        await conn.request()
        conn.close()

    async with RawUpstream([close, serve]) as up, client(up) as upstream:
        with pytest.raises(UpstreamError) as found:
            await upstream.open(outgoing(), Clock())
        assert found.value.code == "upstream_closed"
        assert up.connections == 1


async def test_a_streamed_upload_is_never_sent_again() -> None:
    async def one_then_close(conn: Conn) -> None:
        await conn.request()
        await conn.send(ok_json(b"{}"))
        await conn.head()
        conn.close()

    async with RawUpstream([one_then_close, serve]) as up, client(up) as upstream:
        await whole(await upstream.open(outgoing(), Clock()))
        with pytest.raises(UpstreamError):
            await upstream.open(outgoing(Pieces(b"a", b"b")), Clock())
        assert up.connections == 1


async def test_bytes_that_nobody_asked_for_end_a_connection() -> None:
    async def chatty(conn: Conn) -> None:
        await conn.request()
        await conn.send(ok_json(b"{}"))
        await conn.send(json_answer({"planted": True}))
        await conn.wait_closed()

    async with RawUpstream([chatty, serve]) as up, client(up) as upstream:
        await whole(await upstream.open(outgoing(), Clock()))
        await up.closed(timeout=2)
        assert await whole(await upstream.open(outgoing(), Clock())) == b'{"ok":true}'


async def test_cancelling_anywhere_takes_no_place_for_good() -> None:
    async def slowly(conn: Conn) -> None:
        while True:
            await conn.request()
            await conn.send(sse_head())
            for number in range(3):
                await conn.send(chunk(b"data: %d\n\n" % number))
                await asyncio.sleep(0.001)
            await conn.send(last_chunk)

    rng = random.Random(7)
    async with RawUpstream(slowly) as up, client(up, pool={"max": 5}) as upstream:

        async def ask() -> None:
            answer = await upstream.open(outgoing(Pieces(b"a", b"b")), Clock())
            try:
                while not answer.complete:
                    await answer.read()
            finally:
                await answer.close()

        async def cancelled() -> None:
            task = asyncio.create_task(ask())
            await asyncio.sleep(rng.random() * 0.01)
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError, UpstreamError):
                await task

        for _ in range(60):
            await asyncio.gather(*(cancelled() for _ in range(8)))
        assert upstream.pool.taken <= 5
        async with asyncio.timeout(10):
            await asyncio.gather(*(ask() for _ in range(10)))


# -- what the parser is trusted with ---------------------------------------------------------------


@pytest.mark.parametrize(
    "line", [b"a: x\0y", b"a: x\ry", b"a: x\r\n y", b"a: x\nb: y", b"a : x", b"a\0: x", b": x", b"a: \x01"]
)
def test_llhttp_refuses_what_must_never_become_a_header(line: bytes) -> None:
    parser = httptools.HttpResponseParser(object())
    with pytest.raises(httptools.HttpParserError):
        parser.feed_data(b"HTTP/1.1 200 OK\r\n" + line + b"\r\ncontent-length: 0\r\n\r\n")
