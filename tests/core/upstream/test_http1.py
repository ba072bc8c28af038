"""The lean client's pool and framing, on real sockets. What it does within Weir is in tests/faults."""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator
from itertools import cycle
from typing import Any

import httptools
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from proxy.api import ClientGone, UpstreamError
from proxy.core.config import UpstreamSettings
from proxy.core.deadlines import Deadlines
from proxy.core.shape import Shapes
from proxy.core.upstream import Late, Outgoing
from proxy.core.upstream.http1 import Connection, Http1Upstream
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
        assert len(upstream.pool.deadlines) == 0


async def test_a_connection_that_serves_does_not_expire() -> None:
    async def one_then_slow(conn: Conn) -> None:
        await conn.request()
        await conn.send(ok_json(b"{}"))
        await conn.request()
        await asyncio.sleep(0.4)
        await conn.send(ok_json(b"[]"))

    async with RawUpstream([one_then_slow]) as up, client(up, pool={"idle": 0.05}) as upstream:
        await whole(await upstream.open(outgoing(), Clock()))
        assert await whole(await upstream.open(outgoing(), Clock())) == b"[]"
        assert up.connections == 1


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


@pytest.mark.parametrize("rest", [b"H", b"HTTP/1.1 200 OK\r\nx-planted: ", ok_json(b"{}"), b"\r\nx"])
async def test_what_follows_a_whole_answer_is_no_part_of_the_next(rest: bytes) -> None:
    async def more(conn: Conn) -> None:
        await conn.request()
        await conn.send(ok_json(b"{}") + rest)
        with contextlib.suppress(ConnectionError, EOFError):
            await conn.request()

    async with RawUpstream(more) as up, client(up) as upstream:
        for _ in range(3):
            answer = await upstream.open(outgoing(), Clock())
            assert [name for name, _ in answer.headers] == [b"content-type", b"content-length"]
            assert await whole(answer) == b"{}"
        assert up.connections == 3


# -- heads that come again -------------------------------------------------------------------------


class Unlearned(Shapes):
    """Knows no head."""

    def learn(self, *parsed: Any) -> None:
        pass


class Counted(Shapes):
    known = 0

    def read(self, piece: bytes) -> Any:
        read = super().read(piece)
        self.known += read is not None
        return read


class Half:
    """Pool and transport of a connection that is fed by hand."""

    def __init__(self, shapes: Shapes) -> None:
        self.loop = asyncio.get_running_loop()
        self.buffer = memoryview(bytearray(64 * 1024))
        self.shapes = shapes
        self.deadlines = Deadlines()
        self.kept: bool | None = None
        self.aborted = False

    def give_back(self, connection: Connection, keep: bool) -> None:
        self.kept = keep

    def drop(self, connection: Connection) -> None:
        pass

    def write(self, data: bytes) -> None:
        pass

    def abort(self) -> None:
        self.aborted = True

    close = pause_reading = resume_reading = abort

    def is_closing(self) -> bool:
        return self.aborted


async def read_all(answers: list[list[bytes]], shapes: Shapes, methods: list[bytes]) -> list[Any]:
    """What shows of answers that come in such pieces, each to a request; on a new connection where the one
    before was not kept."""
    shown: list[Any] = []
    connection: Any = None
    for method, pieces in zip(cycle(methods), answers):  # one has no end
        if connection is None:
            half: Any = Half(shapes)
            connection = Connection(half)
            connection.connection_made(half)
        else:
            connection.take()
        waiting = connection.send(
            b"", outgoing(method=method), Clock(), UpstreamSettings(base_url="http://h").timeouts
        )
        for piece in pieces:
            if not half.aborted:
                half.buffer[: len(piece)] = piece
                connection.buffer_updated(len(piece))
            shown.append((waiting.done(), connection.ready, connection.complete, connection.untouched))
        if waiting.done():
            error = waiting.exception()
            shown.append(error.code if error else (connection.status, connection.headers))
        shown.append((connection._error and connection._error.code, connection.whole()))
        connection.release()
        shown.append((half.kept, half.aborted))
        if not half.kept:
            connection = None
    return shown


def known(answers: list[list[bytes]], *methods: bytes) -> int:
    """Compare a client that learns heads with one that does not; how many answers were read past the
    parser."""
    counted = Counted()
    asked = list(methods) or [b"POST"]
    told = asyncio.run(read_all(answers, counted, asked))
    assert told == asyncio.run(read_all(answers, Unlearned(), asked))
    return counted.known


ANSWERED = [b"HTTP/1.1 200 OK", b"Date: 1", b"x-a: a", b"Content-Length: 3", b"Connection: keep-alive"]


def answered(lines: list[bytes] = ANSWERED, content: bytes = b"abc") -> bytes:
    return b"\r\n".join([*lines, b"", content])


def test_a_head_that_comes_again_is_not_parsed_again() -> None:
    assert known([[answered()]] * 4) == 3
    later = [[answered([ANSWERED[0], b"Date: %d" % day, *ANSWERED[2:]])] for day in range(5)]
    assert known(later) == 3
    longer = answered([*ANSWERED[:3], b"Content-Length: 10", ANSWERED[4]], b"0123456789")
    assert known([[answered()], [longer], [answered()]]) == 2
    error = answered([b"HTTP/1.1 500 No", *ANSWERED[1:]])
    assert known([[answered()], [error], [answered()], [error]]) == 2


def test_an_answer_that_is_not_all_there_is_parsed() -> None:
    for at in range(1, len(answered())):
        assert known([[answered()], [answered()[:at], answered()[at:]], [answered()]]) == 1
    assert known([[answered()], [answered() + b"\r\n"], [answered()]]) == 1
    assert known([[answered()], [answered() + b"H"], [answered()]]) == 1
    assert known([[answered()[:-1], answered()[-1:]]] * 40 + [[answered()]] * 2) == 1
    assert known([[answered()], [b"HTTP/1.1 100 Continue\r\n\r\n" + answered()]]) == 0


def test_answers_without_a_body_of_their_own_are_parsed() -> None:
    assert known([[answered(content=b"")]] * 3, b"HEAD") == 0
    assert known([[answered()]] * 4, b"POST", b"HEAD") == 1  # the third
    for status in (b"204", b"304"):
        lines = [b"HTTP/1.1 %b x" % status, ANSWERED[1], b"Content-Length: 0"]
        assert known([[answered(lines, b"")]] * 3) == 0
    assert known([[answered([*ANSWERED[:3], b"Content-Length: 0"], b"")]] * 3) == 2


def test_an_answer_that_ends_its_connection_is_parsed() -> None:
    assert known([[answered([*ANSWERED[:4], b"Connection: close"])]] * 3) == 0
    assert known([[answered([b"HTTP/1.0 200 OK", *ANSWERED[1:4]])]] * 3) == 0
    assert known([[answered([b"HTTP/1.0 200 OK", *ANSWERED[1:]])]] * 3) == 2


FIELDS = st.sampled_from(
    b"x-a: b;x-a:b;x-a : b; x-a: b;x-a: b ;Connection: close;Connection: Keep-Alive;Connection: upgrade;"
    b"Transfer-Encoding: chunked;content-length: 3;Content-Length: 4;Content-Length: 03;Content-Length: 3 ;"
    b"Upgrade: h2c;proxy-connection: close;x-a: \xe9;x-a: a\tb;x-a: \x00;x-a: b\n;x-a: b\rc;x-a:;"
    b"x-\xe9: 1".split(b";")
)
STATUSES = st.sampled_from(
    [
        b"HTTP/1.1 200 OK",
        b"HTTP/1.1 404 no",
        b"HTTP/1.1 204 x",
        b"HTTP/1.0 200 OK",
        b"HTTP/1.1 100 x",
        b"HTTP/1.1 700 x",
    ]
)
CONTENTS = st.sampled_from(
    [b"abc"] * 8 + [b"", b"ab", b"abcd", b"abc\r\n", b"abcHTTP/1.1", b"abc" + answered()]
)


@st.composite
def exchanges(draw: Any) -> list[list[bytes]]:
    """Answers most of which are one but for a value, and most of which come in one piece."""
    usual = ANSWERED.copy()
    if draw(st.booleans()):
        usual.insert(draw(st.integers(1, 4)), draw(FIELDS))
    answers = []
    for _ in range(draw(st.integers(3, 8))):
        lines = [usual[0], b"Date: %d" % draw(st.integers(1, 3)), *usual[2:]]
        if draw(st.integers(0, 3)) == 0:
            at = draw(st.integers(0, len(lines) - 1))
            lines[at : at + draw(st.integers(0, 1))] = [draw(FIELDS if at else STATUSES)]
        sent = answered(lines, draw(CONTENTS))
        at = draw(st.integers(0, len(sent))) if draw(st.integers(0, 3)) == 0 else 0
        answers.append([piece for piece in (sent[:at], sent[at:]) if piece])
    return answers


@settings(max_examples=300, deadline=None)
@given(exchanges(), st.lists(st.sampled_from([b"POST"] * 9 + [b"HEAD"]), min_size=8, max_size=8))
@example([[answered()], [answered()], [answered() + b"HTTP/1.1 2"], [answered()]], [b"POST"])
def test_nothing_shows_whether_a_head_was_known(answers: list[list[bytes]], methods: list[bytes]) -> None:
    known(answers, *methods)
