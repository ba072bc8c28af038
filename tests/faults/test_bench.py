"""The bench tested against itself: what it tells apart, and that nothing it reports passes by silence."""

import asyncio
import os
import signal
import ssl
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest
import trustme
from hypothesis import given, settings
from hypothesis import strategies as st

from .client import NoAnswer, RawClient, chat, get, post, request
from .framing import Deframer, FramingError, parse_request, parse_response
from .process import Process
from .relay import Relay
from .upstream import (
    Conn,
    PeerLeft,
    RawUpstream,
    Script,
    answer,
    chunk,
    event,
    head,
    json_answer,
    last_chunk,
    ok_json,
    planted,
    sse,
    sse_head,
)
from .wire import until

TEN = head(headers=[("content-length", "10")])
End = Callable[[Conn], None]
ASK = get("/v1/models")


# -- how an answer ends


@pytest.mark.parametrize(
    ("data", "end", "ended", "body"),
    [
        (TEN + b"0123456789", Conn.close, "length", b"0123456789"),
        (TEN + b"0123456789", Conn.reset, "length", b"0123456789"),
        (TEN + b"01234", Conn.close, "truncated", b"01234"),
        (TEN + b"01234", Conn.fin, "truncated", b"01234"),
        (TEN + b"01234", Conn.reset, "reset", b"01234"),
        (TEN, Conn.close, "truncated", b""),
        (sse_head() + chunk(b"data: 1\n\n") + last_chunk, Conn.close, "chunked", b"data: 1\n\n"),
        (sse_head() + chunk(b"data: 1\n\n"), Conn.close, "truncated", b"data: 1\n\n"),
        (sse_head() + chunk(b"data: 1\n\n")[:-2], Conn.close, "truncated", b"data: 1\n\n"),
        (sse_head() + chunk(b"data: 1\n\n") + b"0\r\n", Conn.close, "truncated", b"data: 1\n\n"),
        (sse_head() + b"ff\r\ndata", Conn.close, "truncated", b"data"),
        (sse_head() + chunk(b"data: 1\n\n"), Conn.reset, "reset", b"data: 1\n\n"),
        (sse_head(chunked=False) + b"data: 1\n\n", Conn.close, "close", b"data: 1\n\n"),
        (sse_head(chunked=False) + b"data: 1\n\n", Conn.reset, "reset", b"data: 1\n\n"),
    ],
)
async def test_every_ending_is_told_apart(data: bytes, end: End, ended: str, body: bytes) -> None:
    async with RawUpstream(planted(data, end)) as up, RawClient(up.port) as c:
        answer = await c.ask(ASK)
        assert (answer.ended, answer.body, answer.size) == (ended, body, len(body))
        assert answer.raw == data


@pytest.mark.parametrize(("end", "left"), [(Conn.close, "fin"), (Conn.fin, "fin"), (Conn.reset, "reset")])
@pytest.mark.parametrize("data", [b"", b"HTTP/1.1 200 OK\r\ncontent-le"])
async def test_leaving_before_a_whole_head_is_no_answer(data: bytes, end: End, left: str) -> None:
    async with RawUpstream(planted(data, end)) as up, RawClient(up.port) as c:
        with pytest.raises(NoAnswer, match=f"the peer left \\({left}\\)"):
            await c.ask(ASK)
        assert bytes(c.buffer) == data


@pytest.mark.parametrize(("notify", "ended"), [(True, "close"), (False, "truncated")])
async def test_over_tls_a_clean_close_needs_close_notify(notify: bool, ended: str) -> None:
    async def script(conn: Conn) -> None:
        assert (await conn.request()).body == b"{}"
        await conn.send(sse_head(chunked=False) + b"data: 1\n\n")
        conn.close(notify=notify)

    ours, theirs = tls()
    async with RawUpstream(script, tls=ours) as up, RawClient(up.port, tls=theirs) as c:
        assert up.base_url == f"https://127.0.0.1:{up.port}/v1"
        answer = await c.ask(post("/v1/chat/completions", b"{}"))
        assert (answer.ended, answer.body) == (ended, b"data: 1\n\n")


async def test_over_tls_resets_and_big_bodies_come_through() -> None:
    big = os.urandom(3 << 20)

    async def script(conn: Conn) -> None:
        got = await conn.request()
        await conn.send(sse_head() + chunk(got.body))
        assert await conn.read(6) == b"enough"
        conn.reset()

    ours, theirs = tls()
    async with RawUpstream(script, tls=ours) as up, RawClient(up.port, tls=theirs) as c:
        await c.send(post("/v1/files", big))
        got = b""
        while len(got) < len(big):
            got += await c.chunk()
        assert got == big
        await c.send(b"enough")
        assert (await c.response()).ended == "reset"


async def test_a_client_that_distrusts_the_certificate_fails_no_script() -> None:
    ours, _ = tls()
    async with RawUpstream(answer(sse()), tls=ours) as up:
        with pytest.raises(ssl.SSLCertVerificationError):
            await RawClient(up.port, tls=ssl.create_default_context()).__aenter__()
    assert len(up.tls_errors) == 1


async def test_a_send_that_meets_the_reset_does_not_hide_it() -> None:
    async with RawUpstream() as up, RawClient(up.port) as c:
        conn = await up.accept()
        await conn.send(TEN + b"01234")
        conn.reset()
        await until(lambda: not c.peer_open)
        with pytest.raises(ConnectionResetError):
            await c.send(ASK)
        with pytest.raises(BrokenPipeError):
            await c.send(ASK)
        answer = await c.response()
        assert (answer.ended, answer.body) == ("reset", b"01234")


async def test_bytes_after_an_answer_are_not_of_it() -> None:
    async with RawUpstream(planted(TEN + b"0123456789EXTRA")) as up, RawClient(up.port) as c:
        answer = await c.ask(ASK)
        assert (answer.body, answer.ended) == (b"0123456789", "length")
        assert await c.read_until_paused(0.05) == b"EXTRA"
    async with RawUpstream(planted(sse() + b"EXTRA")) as up, RawClient(up.port) as c:
        assert (await c.ask(ASK)).raw == sse()
        assert await c.read_until_paused(0.05) == b"EXTRA"


async def test_an_answer_that_stalls_is_a_failure_in_bounded_time() -> None:
    async def script(conn: Conn) -> None:
        await conn.request()
        await conn.send(TEN + b"012")
        await conn.hang()

    async with RawUpstream(script) as up, RawClient(up.port) as c:
        await c.send(ASK)
        with pytest.raises(AssertionError, match=r"waited 0\.1 s for the end of an answer"):
            await c.response(timeout=0.1)


@pytest.mark.parametrize("status", [204, 304])
async def test_answers_without_a_body(status: int) -> None:
    async with RawUpstream(answer(head(status), ok_json(b"{}"))) as up, RawClient(up.port) as c:
        assert (await c.ask(ASK)).ended == "length"
        assert (await c.ask(ASK)).body == b"{}"


async def test_the_answer_to_head_has_a_length_and_no_body() -> None:
    async with RawUpstream(answer(TEN)) as up, RawClient(up.port) as c:
        await c.send(request("HEAD", "/v1/models"))
        answered = await c.response(bodyless=True)
        assert (answered.get("Content-Length"), answered.ended) == (b"10", "length")
        assert up.requests[0].method == b"HEAD"


# -- framing is strict


@pytest.mark.parametrize(
    "framed",
    [
        b"zz\r\n", b"-1\r\n", b"0x1\r\n", b"+1\r\n", b" 1\r\na\r\n", b"\r\n", b"1_0\r\n", b"1" * 17 + b"\r\n",
        b"1\na\n0\n\n", b"1\r\nab\r\n", b"1\r\na\n", b"1;\n", b"0\r\nbad line\r\n\r\n", b"z", b"1\r\na\rx",
    ],
)  # fmt: skip
async def test_a_bad_chunk_is_a_failure(framed: bytes) -> None:
    async with RawUpstream(planted(sse_head() + framed)) as up, RawClient(up.port) as c:
        with pytest.raises(FramingError):
            await c.ask(ASK)


@pytest.mark.parametrize(
    "lines",
    [
        b"HTTP/1.1 099 Low", b"HTTP/1.1 600 High", b"HTTP/2.0 200 OK", b"HTTP/1.1 200", b"ICY 200 OK",
        b"HTTP/1.1 200 OK\r\na : b", b"HTTP/1.1 200 OK\r\na: b\r\n c", b"HTTP/1.1 200 OK\r\na: b\x00",
        b"HTTP/1.1 200 OK\r\na: b\nc: d", b"HTTP/1.1 200 OK\r\na: b\rc", b"HTTP/1.1 200 OK\r\nno colon",
        b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 1",
        b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ntransfer-encoding: chunked",
        b"HTTP/1.1 200 OK\r\ncontent-length: +1", b"HTTP/1.1 200 OK\r\ncontent-length: 1, 1",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked",
        b"HTTP/1.0 200 OK\r\ntransfer-encoding: chunked",
        b"HTTP/1.1 204 No Content\r\ncontent-length: 0", b"HTTP/1.1 100 Continue\r\ncontent-length: 0",
    ],
)  # fmt: skip
def test_a_bad_response_head_is_a_failure(lines: bytes) -> None:
    with pytest.raises(FramingError):
        parse_response(lines + b"\r\n\r\n")


@pytest.mark.parametrize(
    "lines",
    [b"GET /", b"GET  / HTTP/1.1", b"GET / HTTP/1.2", b"GET /a b HTTP/1.1", b"G\x00T / HTTP/1.1",
     b"POST / HTTP/1.1\r\ncontent-length: 1\r\nTransfer-Encoding: chunked"],
)  # fmt: skip
def test_a_bad_request_head_is_a_failure(lines: bytes) -> None:
    with pytest.raises(FramingError):
        parse_request(lines + b"\r\n\r\n")


def test_headers_stay_as_they_came() -> None:
    got = parse_response(b"HTTP/1.1 200 \r\nX-A:  b c \r\nx-a:\r\nSet-Cookie:\tq=\xe9\r\n\r\n")
    assert got.headers == [(b"X-A", b"b c"), (b"x-a", b""), (b"Set-Cookie", b"q=\xe9")]
    assert (got.reason, got.all("x-A"), got.get("none")) == (b"", [b"b c", b""], None)
    with pytest.raises(AssertionError, match="came 2 times"):
        got.get("x-a")


bodies = st.lists(st.binary(min_size=1, max_size=40), max_size=6)
cuts = st.lists(st.integers(0, 400), max_size=12)


def cut_up(data: bytes, at: list[int]) -> list[bytes]:
    marks = [0, *sorted(n for n in at if n < len(data)), len(data)]
    return [data[a:b] for a, b in pairwise(marks)]


def deframe(pieces: list[bytes]) -> tuple[bytes, bytes, bool] | str:
    """(body, what follows, done), or that it was refused."""
    deframer = Deframer("chunked")
    body, rest = b"", b""
    try:
        for piece in pieces:
            got, unused = deframer.feed(piece)
            body += got
            rest += unused
    except FramingError:
        return "refused"
    return body, rest, deframer.done


@given(bodies, st.sampled_from([b"", b";a=b", b' ; q="1"']), st.sampled_from([b"", b"T: v\r\n"]), cuts)
def test_deframing_does_not_depend_on_the_cuts(
    chunks: list[bytes], extension: bytes, trailer: bytes, at: list[int]
) -> None:
    framed = b"".join(b"%X%b\r\n%b\r\n" % (len(data), extension, data) for data in chunks)
    framed += b"0\r\n" + trailer + b"\r\n"
    assert deframe(cut_up(framed + b"GET /", at)) == (b"".join(chunks), b"GET /", True)
    for end in range(len(framed)):
        short = deframe(cut_up(framed[:end], at))
        assert isinstance(short, tuple)
        assert not short[2]


@given(st.lists(st.sampled_from([b"\r", b"\n", b"\r\n", b"0", b"2", b"g", b";", b" ", b"ab", b"a:b"])), cuts)
def test_what_is_refused_does_not_depend_on_the_cuts(parts: list[bytes], at: list[int]) -> None:
    data = b"".join(parts)
    assert (
        deframe([data]) == deframe(cut_up(data, at)) == deframe([data[n : n + 1] for n in range(len(data))])
    )


@settings(deadline=None, max_examples=20)
@given(bodies, cuts)
async def test_cuts_on_the_wire_change_nothing_either_way(chunks: list[bytes], at: list[int]) -> None:
    framed = b"".join(map(chunk, chunks)) + last_chunk

    async def script(conn: Conn) -> None:
        got = await conn.request()
        assert (got.body, got.ended) == (b"".join(chunks), "chunked")
        for piece in cut_up(sse_head() + framed, at):
            await conn.send_slowly(piece, size=max(1, len(piece)))

    async with RawUpstream(script) as up, RawClient(up.port) as c:
        for piece in cut_up(post("/v1/x", framed, [("transfer-encoding", "chunked")]), at):
            await c.send(piece)
        answer = await c.response()
        assert (answer.body, answer.ended) == (b"".join(chunks), "chunked")


# -- requests


async def test_a_request_arrives_as_it_was_sent() -> None:
    sent = post(
        "/v1/chat/completions?a=%2F", b'{"n": 18446744073709551616}', [("X-Odd", "\xe9"), ("x-odd", "2")]
    )
    async with RawUpstream(answer(json_answer({"ok": True}, 429, [("retry-after", "1")]))) as up:
        async with RawClient(up.port) as c:
            await c.send_slowly(sent, size=7)
            answered = await c.response()
        assert (answered.status, answered.json(), answered.get("Retry-After")) == (429, {"ok": True}, b"1")
        got = up.requests[0]
        assert (got.method, got.target, got.version) == (b"POST", b"/v1/chat/completions?a=%2F", b"HTTP/1.1")
        assert got.raw == sent
        assert got.headers[-2:] == [(b"X-Odd", b"\xe9"), (b"x-odd", b"2")]
        assert (got.body, got.ended) == (b'{"n": 18446744073709551616}', "length")


async def test_a_chunked_upload_keeps_its_framing_in_raw() -> None:
    framed = chunk(b"hello ") + b"5;x=y\r\nworld\r\n0\r\nDigest: z\r\n\r\n"
    sent = post("/v1/files", framed, [("Transfer-Encoding", "chunked")])
    async with RawUpstream(answer(ok_json(b"{}"))) as up, RawClient(up.port) as c:
        assert (await c.ask(sent)).status == 200
        got = up.requests[0]
        assert (got.raw, got.body, got.ended) == (sent, b"hello world", "chunked")
        assert got.trailers == [(b"Digest", b"z")]


async def test_a_body_can_be_asked_for_in_parts() -> None:
    async def script(conn: Conn) -> None:
        got = await conn.head()
        assert (got.get("expect"), got.body) == (b"100-continue", b"")
        await conn.send(b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n")
        assert await conn.body_bytes(4) == b"0123"
        assert await conn.body_bytes(1) == b"4"
        assert await conn.rest_of_body() == b"56789"
        assert got.body == b"0123456789"
        with pytest.raises(AssertionError, match="1 bytes short"):
            await conn.body_bytes(1)
        await conn.send(ok_json(b"{}"))

    async with RawUpstream(script) as up, RawClient(up.port) as c:
        await c.send(post("/v1/files", b"", [("expect", "100-continue"), ("content-length", "10")]))
        assert [(await c.head()).status, (await c.head()).status] == [103, 100]
        await c.send(b"0123456789")
        answered = await c.response()
        assert (answered.status, [i.status for i in answered.interim]) == (200, [100])


@pytest.mark.parametrize(
    ("leave", "ended"),
    [(RawClient.fin, "truncated"), (RawClient.close, "truncated"), (RawClient.reset, "reset")],
)
async def test_a_broken_upload_is_seen_as_one(leave: Callable[[RawClient], None], ended: str) -> None:
    async with RawUpstream(answer(ok_json(b"{}"))) as up, RawClient(up.port) as c:
        await c.send(post("/v1/files", b"half", [("content-length", "8")]))
        got = await up.seen()
        leave(c)
        await up.seen(ended=True)
        assert (got.body, got.ended) == (b"half", ended)


async def test_pipelined_requests_stay_apart() -> None:
    async with RawUpstream(answer(*(ok_json(b"[%d]" % n) for n in range(5)))) as up, RawClient(up.port) as c:
        await c.send(b"".join(chat(n=n) for n in range(5)))
        assert [(await c.response()).json() for _ in range(5)] == [[n] for n in range(5)]
        assert [r.json()["n"] for r in up.requests] == list(range(5))
        assert (up.connections, {r.connection for r in up.requests}) == (1, {0})


async def test_half_close_keeps_the_other_half() -> None:
    async def script(conn: Conn) -> None:
        await conn.request()
        await conn.wait_closed()
        assert conn.left == "fin"
        await conn.send(ok_json(b"{}"))

    async with RawUpstream(script) as up, RawClient(up.port) as c:
        await c.send(ASK)
        c.fin()
        assert (await c.response()).status == 200


# -- streams


async def test_a_stream_reads_like_a_conversation() -> None:
    async with RawUpstream() as up, RawClient(up.port) as c:
        await c.send(chat(stream=True))
        conn = await up.accept()
        assert (await conn.request()).json()["stream"] is True
        await conn.send(sse_head())
        assert (await c.head()).get("content-type") == b"text/event-stream; charset=utf-8"
        await conn.send(chunk(event({"n": 1})))
        assert await c.chunk() == b'data: {"n":1}\n\n'
        await conn.send_slowly(chunk(event("2") + b"id: 3\r\ndata: 3\r\n\r\n: 4\r\rdata: 5"), size=1)
        assert await c.read_events(3) == [b"data: 2\n\n", b"id: 3\r\ndata: 3\r\n\r\n", b": 4\r\r"]
        await conn.send(chunk(b"\n\n") + last_chunk)
        assert await c.read_events(1) == [b"data: 5\n\n"]
        with pytest.raises(AssertionError, match="chunked after 0 of 1 events"):
            await c.read_events(1)
        answered = await c.response()
        assert answered.ended == "chunked"
        assert answered.body.count(b"data") == 4


async def test_backpressure_is_visible_from_both_ends() -> None:
    async with (
        RawUpstream(rcvbuf=4096, sndbuf=8192) as up,
        RawClient(up.port, rcvbuf=4096, sndbuf=8192, keep=False) as c,
    ):
        await c.send(post("/v1/x", b"", [("transfer-encoding", "chunked")]))
        conn = await up.accept()
        await conn.head()
        taken = await c.send_until_paused(chunk(b"u" * 1000), quiet=0.1)
        assert 0 < taken < 1 << 20
        assert len(await conn.read(taken)) == taken
        await conn.send(sse_head())
        flooded = await conn.send_until_paused(chunk(b"d" * 1000), quiet=0.1)
        with pytest.raises(AssertionError, match="bytes unsent"):
            await conn.send(chunk(b"d" * 100_000) + last_chunk, timeout=0.1)
        finish = asyncio.create_task(conn.send(b""))
        answered = await c.response()
        await finish
        assert (answered.ended, answered.body) == ("chunked", b"")
        assert answered.size >= flooded * 1000 // len(chunk(b"d" * 1000)) - 1000


async def test_a_peer_that_takes_everything_never_pauses() -> None:
    async def script(conn: Conn) -> None:
        await conn.hang()

    async with RawUpstream(script) as up, RawClient(up.port) as c:
        with pytest.raises(AssertionError, match="without a pause"):
            await c.send_until_paused(limit=1 << 20)


# -- waits and counts


async def test_wait_closed_tells_when_and_how() -> None:
    async with RawUpstream() as up:
        for end, left in ((Conn.close, "fin"), (Conn.reset, "reset")):
            async with RawClient(up.port) as c:
                conn = await up.accept()
                with pytest.raises(AssertionError, match=r"waited 0\.05 s for the peer to close"):
                    await c.wait_closed(timeout=0.05)
                asyncio.get_running_loop().call_later(0.1, end, conn)
                assert 0.09 < await c.wait_closed(timeout=2) < 1
                assert c.left == left
                assert await c.wait_closed(timeout=0.05) < 0.05


async def test_closing_here_ends_the_waits_here() -> None:
    async with RawUpstream() as up, RawClient(up.port) as c:
        await up.accept()
        waiting = asyncio.create_task(c.chunk())
        await asyncio.sleep(0.01)
        c.close()
        with pytest.raises(ConnectionAbortedError):
            await waiting
        with pytest.raises(ConnectionAbortedError):
            await c.send(b"x")


async def test_connections_are_counted_and_each_has_its_script() -> None:
    scripts = [answer(ok_json(b"1")), planted(b"", Conn.reset), answer(ok_json(b"3"))]
    async with RawUpstream(scripts) as up:
        async with RawClient(up.port) as a, RawClient(up.port) as b:
            assert (await a.ask(ASK)).body == b"1"
            with pytest.raises(NoAnswer):
                await b.ask(ASK)
            for _ in range(2):
                async with RawClient(up.port) as c:
                    assert (await c.ask(ASK)).body == b"3"
            assert [r.connection for r in up.requests] == [0, 1, 2, 3]
            await until(lambda: up.open_connections == 1)
            assert up.connections == 4
            with pytest.raises(AssertionError, match="1 upstream connections to close"):
                await up.closed(timeout=0.05)
        assert await up.closed() < 0.5
    async with RawUpstream() as up:
        with pytest.raises(AssertionError, match="request 1; 0 came"):
            await up.seen(timeout=0.01)
        with pytest.raises(AssertionError, match="a connection to the upstream"):
            await up.accept(timeout=0.01)


async def test_an_ended_script_leaves_its_connection_half_closed() -> None:
    async def script(conn: Conn) -> None:
        await conn.head()
        await conn.send(ok_json(b"{}"))

    async with RawUpstream(script) as up, RawClient(up.port) as c:
        await c.send(post("/v1/x", bytes(100_000), [("content-length", "200000")]))
        assert (await c.response()).ended == "length"
        await c.wait_closed()
        assert c.left == "fin"
        await c.send(bytes(100_000))


async def test_a_unix_socket_will_do(tmp_path: Path) -> None:
    path = str(tmp_path / "up.sock")
    async with RawUpstream(answer(sse("1")), unix=path) as up, RawClient(unix=path) as c:
        assert (await c.ask(ASK)).body == b"data: 1\n\ndata: [DONE]\n\n"
        assert (up.connections, up.open_connections) == (1, 1)


async def test_connecting_can_be_made_to_hang() -> None:
    async with RawUpstream(backlog=1, accepting=False) as up:
        await up.fill_backlog()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2), RawClient(up.port):
                pass
        assert up.connections == 0


# -- what scripts assert counts


async def test_a_script_that_fails_fails_the_test() -> None:
    async def wrong(conn: Conn) -> None:
        assert (await conn.request()).body == b"another", "as planted"

    async def late(conn: Conn) -> None:
        await conn.request()
        await conn.send(ok_json(b"{}"))
        await asyncio.sleep(0.1)
        raise ValueError("late")

    async def play(*scripts: Script) -> None:
        async with RawUpstream(scripts) as up:
            for _ in scripts:
                async with RawClient(up.port) as c:
                    await c.send(chat())
                    await c.wait_closed()

    with pytest.raises(AssertionError, match="as planted"):
        await play(wrong)
    with pytest.raises(ValueError, match="late"):
        await play(late)
    with pytest.raises(ExceptionGroup) as both:
        await play(wrong, late)
    assert {type(e) for e in both.value.exceptions} == {AssertionError, ValueError}
    with pytest.raises(NoAnswer) as noted:
        async with RawUpstream(wrong) as up, RawClient(up.port) as c:
            await c.ask(chat())
    assert "as planted" in noted.value.__notes__[0]


async def test_a_request_that_breaks_http_fails_the_test() -> None:
    async def play() -> None:
        async with RawUpstream(answer(sse())) as up, RawClient(up.port) as c:
            await c.send(post("/v1/x", b"", [("transfer-encoding", "chunked"), ("content-length", "0")]))
            await c.wait_closed()

    with pytest.raises(FramingError, match="more than once"):
        await play()


async def test_a_script_without_end_fails_and_one_that_hangs_does_not() -> None:
    async def endless(conn: Conn) -> None:
        await asyncio.sleep(60)

    async def hanging(conn: Conn) -> None:
        await conn.request()
        await conn.hang()

    with pytest.raises(AssertionError, match="the script of connection 0 did not end"):
        async with RawUpstream(endless, settle=0.05) as up, RawClient(up.port) as c:
            await until(lambda: up.connections)
    async with RawUpstream(hanging) as up:
        c = await RawClient(up.port).__aenter__()
        await c.send(chat())
        await up.seen()
    c.close()


async def test_what_a_script_asserts_after_its_peer_left_counts() -> None:
    async def script(conn: Conn) -> None:
        await conn.request()
        assert await conn.hang() > 60, "left early"

    async def play() -> None:
        async with RawUpstream(script) as up, RawClient(up.port) as c:
            await c.send(chat())
            await up.seen()

    with pytest.raises(AssertionError, match="left early"):
        await play()


async def test_a_peer_that_left_fails_no_script() -> None:
    left: list[str] = []

    async def reading(conn: Conn) -> None:
        await conn.request()
        try:
            await conn.request()
        except PeerLeft as error:
            left.append(str(error))
            raise

    async def writing(conn: Conn) -> None:
        while True:
            await conn.send(bytes(100_000))

    async with RawUpstream([reading, writing]) as up:
        async with RawClient(up.port) as c:
            await c.send(chat() + b"POST /half")
            await up.seen()
        async with RawClient(up.port) as c:
            await c.fill()
            c.reset()
    assert left == ["the peer left (fin) with b'POST /half' sent of a request"]


# -- the relay


async def test_the_relay_freezes_slows_cuts_and_refuses() -> None:
    loop = asyncio.get_running_loop()
    async with RawUpstream(answer(ok_json(b"{}"))) as up, Relay(up.port) as relay:
        async with RawClient(relay.port) as c:
            assert (await c.ask(ASK)).status == 200

            relay.delay(0.1)
            start = loop.time()
            assert (await c.ask(ASK)).status == 200
            assert 0.1 <= loop.time() - start < 2
            relay.delay(0)

            relay.pause()
            async with RawClient(relay.port) as frozen:
                await frozen.send(ASK)
                await c.send(ASK)
                with pytest.raises(AssertionError, match="an answer's head"):
                    await c.head(timeout=0.1)
                assert len(up.requests) == 2
                relay.resume()
                assert (await c.response()).status == (await frozen.response()).status == 200

            relay.refuse()
            with pytest.raises(ConnectionRefusedError):
                await RawClient(relay.port).__aenter__()
            assert (await c.ask(ASK)).status == 200

            relay.cut()
            await c.wait_closed()
            assert (c.left, relay.open_connections) == ("reset", 0)
            await up.closed()
            relay.resume()
        async with RawClient(relay.port) as c:
            assert (await c.ask(ASK)).status == 200
        assert relay.connections == 3


async def test_the_relay_passes_half_closes_resets_and_back_pressure() -> None:
    async with RawUpstream() as up, Relay(up.port) as relay:
        async with RawClient(relay.port) as c:
            conn = await up.accept()
            await c.send(ASK)
            c.fin()
            await conn.request()
            await conn.wait_closed()
            assert conn.left == "fin"
            await conn.send(ok_json(b"{}"))
            assert (await c.response()).status == 200
            conn.close()
            await c.wait_closed()
        async with RawClient(relay.port) as c:
            conn = await up.accept()
            conn.reset()
            await c.wait_closed()
            assert c.left == "reset"
        async with RawClient(relay.port) as c:
            conn = await up.accept()
            relay.pause()
            assert await c.send_until_paused(quiet=0.1) < 64 << 20
            relay.cut()
            await conn.wait_closed()
            assert conn.left == "reset"


async def test_the_relay_to_nobody_resets() -> None:
    async with RawUpstream() as up:
        port = up.port
    async with Relay(port) as relay, RawClient(relay.port) as c:
        await c.wait_closed()
        assert (c.left, relay.connections) == ("reset", 0)


# -- the process, by a stand-in for the server

STAND_IN = r"""
import http.server, os, signal, sys
from ruamel.yaml import YAML
config = YAML(typ="safe", pure=True).load(open(sys.argv[sys.argv.index("--config") + 1]))
assert os.environ["WEIR_LOG_FORMAT"] == "json" and "WEIR_MANAGEMENT_TOKEN" not in os.environ
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = config["upstreams"][0]["base_url"].encode()
        self.send_response(200 if self.path == "/health" else 404)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *args):
        print('{"event": "request", "path": "%s"}' % self.path, file=sys.stderr, flush=True)
signal.signal(signal.SIGTERM, lambda *args: sys.exit(7))
print("not json", file=sys.stderr, flush=True)
host, port = config["listen"].split(":")
http.server.ThreadingHTTPServer((host, int(port)), Handler).serve_forever()
"""


def stand_in(code: str = STAND_IN, start_within: float = 15.0) -> Process:
    command = (sys.executable, "-X", "dev", "-c", code)
    base_url = "http://127.0.0.1:9/v1"
    return Process(base_url, upstream={"api_key": "k"}, command=command, start_within=start_within)


async def test_a_process_runs_answers_logs_and_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEIR_MANAGEMENT_TOKEN", "of the caller")
    async with stand_in() as p:
        async with p.client() as c:
            answered = await c.ask(get("/health"))
            assert answered.body == b"http://127.0.0.1:9/v1"
        assert (await p.get("/elsewhere")).status == 404
        assert (await p.logged(path="/elsewhere"))["event"] == "request"
        with pytest.raises(AssertionError, match="a log line with"):
            await p.logged(timeout=0.05, path="/never")
        assert "not json" in p.stderr
        assert 1 << 20 < p.rss() <= p.peak_rss() < 1 << 30
        assert p.fds() > 3
        assert await p.stop() == 7
    assert not p.folder.exists()


async def test_a_process_that_ends_by_itself_fails_the_test() -> None:
    with pytest.raises(AssertionError, match=r"(?s)the server ended with 3 while starting.*planted"):
        async with stand_in("import sys; print('planted', file=sys.stderr); sys.exit(3)"):
            pass

    async def play() -> None:
        async with stand_in() as p:
            os.kill(p.pid, signal.SIGKILL)
            await until(lambda: not p.alive)

    with pytest.raises(AssertionError, match=r"(?s)ended by itself with -9.*not json"):
        await play()


async def test_a_process_that_never_answers_is_killed() -> None:
    parent = "import subprocess as s, time; print('child', s.Popen(['sleep', '60']).pid); time.sleep(60)"
    p = stand_in(parent, start_within=1.5)
    with pytest.raises(AssertionError, match=r"not 200 within 1\.5 s") as failed:
        await p.__aenter__()
    child = int(str(failed.value).split("child ")[1].split()[0])
    await until(lambda: is_gone(p.pid) and is_gone(child))


def is_gone(pid: int) -> bool:
    """Ended; perhaps not yet waited for by whoever inherited it."""
    try:
        return ") Z " in Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return True


def tls() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """(the upstream's context, a client's that trusts it)."""
    authority = trustme.CA()
    ours = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost", "127.0.0.1").configure_cert(ours)
    theirs = ssl.create_default_context()
    theirs.options &= ~ssl.OP_IGNORE_UNEXPECTED_EOF  # which Python up to 3.11.3 sets
    authority.configure_trust(theirs)
    return ours, theirs
