"""What is sent again, what the clock is told, and uploads that are answered early or break."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from proxy.api.errors import ClientGone, UpstreamError
from proxy.core.upstream import Outgoing
from tests.core.proxies import H2Stream
from tests.faults.certificates import Certificates
from tests.faults.upstream import (
    Conn,
    RawUpstream,
    Script,
    answer,
    chunk,
    head,
    last_chunk,
    planted,
    sse_head,
)
from tests.faults.wire import until

from .bench import BIG, OK, End, Pieces, Recorder, ask, client, failing, get, http2, opened, plain, post, rest

# -- replays


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


# -- the clock


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


# -- uploads


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


async def test_an_upload_that_breaks_over_http2_is_never_made_whole(tls: Certificates) -> None:
    async def script(stream: H2Stream) -> None:
        await asyncio.Event().wait()

    async with http2(tls, script) as (up, c):
        with pytest.raises(ClientGone):
            await opened(c, post(Pieces(b"half", ClientGone("client_closed_upload"))))
        assert await up.streams[0].gone() == 8
        assert not up.streams[0].ended.is_set()


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
