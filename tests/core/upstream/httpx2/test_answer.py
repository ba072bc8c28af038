"""What comes back, and what becomes of its connection."""

import asyncio
import gzip

import pytest

from proxy.api.errors import UpstreamError
from proxy.core.upstream import Outgoing
from proxy.core.upstream.httpx2.answer import PIECES
from tests.faults.upstream import (
    Conn,
    RawUpstream,
    answer,
    chunk,
    event,
    head,
    last_chunk,
    planted,
    sse,
    sse_head,
)

from .bench import OK, ask, client, get, opened, post, rest


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


async def test_interim_answers_do_not_pass() -> None:
    async with RawUpstream(answer(head(100) + head(103) * 31 + OK)) as up, client(up.base_url) as c:
        assert await ask(c, get()) == (200, b'{"ok":true}')


async def test_an_answer_may_end_with_its_connection() -> None:
    async with RawUpstream(planted(sse_head(chunked=False) + b"01234")) as up, client(up.base_url) as c:
        assert await ask(c, get()) == (200, b"01234")


async def test_an_answer_in_many_small_pieces_lets_others_have_their_turn() -> None:
    """h11 gives what it holds without waiting: ten thousand pieces of one read, if nobody stops it."""
    turns = 0

    async def another() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    pieces = 5000
    data = sse_head() + chunk(b"x") * pieces + last_chunk
    async with RawUpstream(answer(data)) as up, client(up.base_url) as c:
        answered = await opened(c, get())
        await asyncio.sleep(0.05)
        other = asyncio.create_task(another())
        assert await rest(answered) == b"x" * pieces
        other.cancel()
        await answered.close()
    assert turns >= pieces // PIECES - 1


# -- closing


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
