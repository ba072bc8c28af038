"""Not one byte is changed, added or lost on the way, in either direction, however cut and framed (I4)."""

import gzip
import hashlib
import os
import re
import zlib
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from .client import chat, get, post, request
from .stage import OK, Stage, Traits, all_at_once, meanwhile
from .upstream import Conn, Script, answer, chunk, head, last_chunk, ok_json, sse_head

CHUNKED = [("transfer-encoding", "chunked")]
RANDOM = os.urandom(20 << 20)
SIZES: list[Any] = [0, 1, 2, 1000, 65_535, 65_536, 65_537, 262_144, 262_145, 1 << 20]
BIG = [pytest.param(20 << 20, marks=pytest.mark.slow)]
CUT: list[Any] = [
    *[(size, 1) for size in (*SIZES[:4], 12_000)],
    *[(size, piece) for size in (*SIZES[:4], 65_537, 1 << 20) for piece in (1000, 1 << 20)],
    (4 << 20, 1000),
    pytest.param(20 << 20, 1 << 20, marks=pytest.mark.slow),
]
"""Sizes of bodies, and of the chunks that they come in."""

NASTY = (
    b"\xef\xbb\xbfdata: bom\n\n"
    b"data: lf\n\n"
    b"data: crlf\r\n\r\n"
    b"data: cr\r\r"
    b"data: lf cr\n\r"
    b"data: crlf lf\r\n\n"
    b"data: crlf cr\r\n\r"
    b"data: lf crlf\n\r\n"
    b": a comment\n\n:\n\n"
    b"data: two\ndata: lines\r\ndata:\rdata\n\n"
    b"id: 1\nevent: ping\nretry: 10\ndata: x\n\n"
    b"id\n\n"
    b"unknown: field\nnocolon\n\n"
    b"\n\n\r\n\r\r"
    b"data: \xf0\x9f\x98\x80 \xe2\x80\xa8 \xc2\x85 \xff\xfe\x00\n\n"
    b'data: {"a": 18446744073709551616, "a": 1e400, "b":"\\u00e9\\ud83d"}\n\n'
    b"data: [DONE]\r\n\r\n"
    b"data: after\n\n"
    b": without end\ndata: cut"
)


def is_same(got: bytes, sent: bytes) -> None:
    """Equal; what differs is not printed in megabytes."""
    assert len(got) == len(sent)
    if got != sent:
        at = next(n for n, (a, b) in enumerate(zip(got, sent, strict=True)) if a != b)
        raise AssertionError(f"byte {at}: {got[at - 20 : at + 20]!r} for {sent[at - 20 : at + 20]!r}")


def chunks_of(data: bytes, size: int) -> bytes:
    pieces = (data[at : at + size] for at in range(0, len(data), size))
    return b"".join(map(chunk, pieces)) + last_chunk


def cut_up(data: bytes, at: list[int]) -> list[bytes]:
    marks = [0, *sorted({n for n in at if 0 < n < len(data)}), len(data)]
    return [data[a:b] for a, b in pairwise(marks) if b > a]


# -- requests


@pytest.mark.parametrize("size", SIZES + BIG)
async def test_a_sized_upload(stage: Stage, size: int) -> None:
    body = RANDOM[:size]
    async with stage.plant(answer(OK)) as up, stage.client() as c:
        for _ in range(2):
            assert (await c.ask(post("/v1/files", body), timeout=20)).status == 200
        for got in up.requests:
            is_same(got.body, body)
            assert (got.get("content-length"), got.get("transfer-encoding")) == (b"%d" % size, None)
        assert up.connections == 1


@pytest.mark.parametrize(("size", "piece"), CUT)
async def test_a_chunked_upload(stage: Stage, size: int, piece: int) -> None:
    body = RANDOM[:size]
    async with stage.plant(answer(OK)) as up, stage.client() as c:
        for _ in range(2):
            assert (await c.ask(post("/v1/files", chunks_of(body, piece), CHUNKED), timeout=20)).status == 200
        for got in up.requests:
            is_same(got.body, body)
            assert len(got.all("content-length") + got.all("transfer-encoding")) == 1
        assert up.connections == 1


@pytest.mark.parametrize("size", [1 << 20, *BIG])
async def test_an_upload_to_an_upstream_that_reads_slowly(stage: Stage, size: int) -> None:
    async def script(conn: Conn) -> None:
        asked = await conn.head()
        got = hashlib.sha256()
        while piece := await conn.read_piece(asked):
            got.update(piece)
        await conn.send(ok_json(b'"' + got.hexdigest().encode() + b'"'))

    body = RANDOM[:size]
    async with stage.plant(script, rcvbuf=4096, keep=False), stage.client() as c:
        async with meanwhile(c.send(post("/v1/files", body), timeout=None)):
            answered = await c.response(timeout=30)
        assert answered.json() == hashlib.sha256(body).hexdigest()


async def test_pieces_of_an_upload_arrive_as_they_come(stage: Stage) -> None:
    async with stage.plant() as up, stage.client() as c:
        await c.send(post("/v1/audio/transcriptions", chunk(b"0"), CHUNKED))
        conn = await up.accept()
        await conn.head()
        assert await conn.body_bytes(1) == b"0"
        for n in range(1, 30):
            await c.send(chunk(b"%d" % (n % 10)))
            assert await conn.body_bytes(1) == b"%d" % (n % 10)
        await c.send(last_chunk)
        assert await conn.rest_of_body() == b""
        await conn.send(OK)
        assert (await c.response()).status == 200


@pytest.mark.parametrize(
    ("ask", "framing"),
    [
        (get("/v1/x"), []),
        (request("HEAD", "/v1/x"), []),
        (request("DELETE", "/v1/x"), []),
        (request("OPTIONS", "/v1/x"), []),
        (request("POST", "/v1/x"), [(b"content-length", b"0")]),
        (request("PUT", "/v1/x"), [(b"content-length", b"0")]),
        (request("PATCH", "/v1/x"), [(b"content-length", b"0")]),
        (request("GET", "/v1/x", [], b""), [(b"content-length", b"0")]),
        (request("GET", "/v1/x", [], b"body"), [(b"content-length", b"4")]),
        (request("DELETE", "/v1/x", [], b"body"), [(b"content-length", b"4")]),
        (post("/v1/x", b"body"), [(b"content-length", b"4")]),
        (post("/v1/x", b"body", [("content-length", "0004")]), [(b"content-length", b"4")]),
    ],
)
async def test_framing_upstream(stage: Stage, ask: bytes, framing: list[tuple[bytes, bytes]]) -> None:
    async with stage.plant(answer(head(200, [("content-length", "0")]))) as up, stage.client() as c:
        await c.send(ask)
        assert (await c.response(bodyless=ask.startswith(b"HEAD"))).status == 200
        names = (b"content-length", b"transfer-encoding")
        assert [pair for pair in up.requests[0].headers if pair[0].lower() in names] == framing


@pytest.mark.parametrize("pieces", [1, 2, 7])
@pytest.mark.parametrize("method", ["POST", "GET", "PATCH"])
async def test_a_chunked_request_is_framed_once(stage: Stage, method: str, pieces: int) -> None:
    """In one packet or in several, it never goes out with both framings or with none."""
    data = request(method, "/v1/x", CHUNKED, chunks_of(b"some body", 3))
    async with stage.plant(answer(OK)) as up, stage.client() as c:
        step = -(-len(data) // pieces)
        await c.send_slowly(data, size=step, gap=0.01)
        assert (await c.response()).status == 200
        got = up.requests[0]
        assert got.body == b"some body"
        assert len(got.all("content-length") + got.all("transfer-encoding")) == 1


@pytest.mark.parametrize(
    "body",
    [
        b'{"model":"cheap","model":"dear","n":18446744073709551616,"x":1e400,"y":NaN}',
        b' {\n\t"model" : "m" }\r\n',
        b"\xef\xbb\xbf{}",
        b"\xff\xfe\x00not json",
        b'{"user":"\xed\xa0\x80"}',
        b"[" * 10_000,
        gzip.compress(b"{}"),
        b"",
    ],
)
@pytest.mark.parametrize("kind", ["application/json", "text/plain", "application/x-www-form-urlencoded"])
async def test_bodies_are_not_understood(stage: Stage, body: bytes, kind: str) -> None:
    async with stage.plant(answer(OK)) as up:
        answered = await stage.ask(post("/v1/chat/completions", body, [("content-type", kind)]))
        assert answered.status == 200
        is_same(up.requests[0].body, body)
        assert up.requests[0].get("content-type") == kind.encode()


async def test_a_multipart_upload(stage: Stage) -> None:
    parts = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a\r\n"\r\n\r\n' + RANDOM[:300_000]
    body = parts + b"\r\n--b--\r\n"
    async with stage.plant(answer(OK)) as up:
        lines = [("content-type", "multipart/form-data; boundary=b")]
        assert (await stage.ask(post("/v1/files", body, lines))).status == 200
        is_same(up.requests[0].body, body)


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.binary(max_size=300),
    st.lists(st.integers(1, 300), max_size=6),
    st.lists(st.integers(0, 900), max_size=10),
    st.booleans(),
)
async def test_any_body_in_any_cut(
    stage: Stage, body: bytes, sizes: list[int], cuts: list[int], chunked: bool
) -> None:
    """Both ways: what is sent up comes back, its chunks and packets cut anywhere."""

    async def echo(conn: Conn) -> None:
        while True:
            asked = await conn.request()
            framed = b"".join(map(chunk, cut_up(asked.body, sizes))) + last_chunk
            for piece in cut_up(sse_head() + framed, cuts):
                await conn.send(piece)

    async with stage.plant(echo) as up, stage.client() as c:
        for _ in range(2):
            data = post("/v1/x", body)
            if chunked:
                data = post("/v1/x", b"".join(map(chunk, cut_up(body, sizes))) + last_chunk, CHUNKED)
            for piece in cut_up(data, cuts):
                await c.send(piece)
            answered = await c.response()
            assert (answered.status, answered.body, answered.ended) == (200, body, "chunked")
        assert [r.body for r in up.requests] == [body] * 2
        assert up.connections == 1


# -- answers


@pytest.mark.parametrize("kind", ["application/json", "application/octet-stream", "text/event-stream"])
@pytest.mark.parametrize("size", SIZES + BIG)
async def test_a_sized_answer(stage: Stage, size: int, kind: str) -> None:
    body = RANDOM[:size]
    lines = [("content-type", kind), ("content-length", str(size))]
    async with stage.plant(answer(head(200, lines) + body)) as up, stage.client() as c:
        for _ in range(2):
            answered = await c.ask(chat(), timeout=20)
            is_same(answered.body, body)
            assert (answered.ended, answered.get("content-length")) == ("length", b"%d" % size)
            assert answered.get("transfer-encoding") is None
        assert up.connections == 1


@pytest.mark.parametrize("kind", ["application/json", "text/event-stream"])
@pytest.mark.parametrize(("size", "piece"), CUT)
async def test_a_chunked_answer(stage: Stage, size: int, piece: int, kind: str) -> None:
    body = RANDOM[:size]
    framed = head(200, [("content-type", kind), *CHUNKED]) + chunks_of(body, piece)
    async with stage.plant(answer(framed)) as up, stage.client() as c:
        for _ in range(2):
            answered = await c.ask(chat(), timeout=20)
            is_same(answered.body, body)
            assert (answered.ended, answered.get("content-length")) == ("chunked", None)
        assert up.connections == 1


@pytest.mark.parametrize(
    "first", [b"HTTP/1.1 200 OK\r\n", b"HTTP/1.0 200 OK\r\n", b"HTTP/1.1 200 OK\r\nconnection: close\r\n"]
)
@pytest.mark.parametrize("size", [*SIZES[:4], 65_537, 1 << 20, *BIG])
async def test_an_answer_that_ends_with_its_connection(stage: Stage, size: int, first: bytes) -> None:
    body = RANDOM[:size]

    async def script(conn: Conn) -> None:
        await conn.request()
        await conn.send(first + b"content-type: a/b\r\n\r\n" + body)
        conn.close()

    async with stage.plant(script), stage.client() as c:
        for _ in range(2):
            answered = await c.ask(chat(), timeout=20)
            is_same(answered.body, body)
            assert (answered.ended, answered.get("connection")) == ("chunked", None)


@pytest.mark.parametrize("lines", [[], [("content-length", "1234")], CHUNKED, [("content-length", "0")]])
@pytest.mark.parametrize("status", [200, 404])
async def test_the_answer_to_head(
    stage: Stage, traits: Traits, lines: list[tuple[str, str]], status: int
) -> None:
    async with stage.plant(answer(head(status, [("etag", "1"), *lines]))) as up, stage.client() as c:
        for _ in range(2):
            await c.send(request("HEAD", "/v1/files/1/content"))
            answered = await c.response(bodyless=True)
            assert (answered.status, answered.body, answered.get("etag")) == (status, b"", b"1")
            wanted = [v.encode() for n, v in lines if n == "content-length"]
            assert answered.all("content-length") == wanted
        assert up.connections == (1 if lines or traits.keeps_after_bare_head else 2)


@pytest.mark.parametrize("status", [204, 304])
async def test_answers_that_have_no_body(stage: Stage, status: int) -> None:
    async with stage.plant(answer(head(status, [("etag", "1")]))) as up, stage.client() as c:
        for _ in range(3):
            answered = await c.ask(get("/v1/x"))
            assert (answered.status, answered.body, answered.get("etag")) == (status, b"", b"1")
            assert answered.all("content-length") + answered.all("transfer-encoding") == []
        assert up.connections == 1


async def test_a_304_says_how_long_it_would_have_been(stage: Stage) -> None:
    async with stage.plant(answer(head(304, [("content-length", "1234")]))), stage.client() as c:
        for _ in range(2):
            answered = await c.ask(get("/v1/x"))
            assert (answered.status, answered.get("content-length")) == (304, b"1234")


CODED = {
    "gzip": gzip.compress(NASTY * 50),
    "deflate": zlib.compress(NASTY * 50),
    "br": b"\x0b\x02\x80hello\x03",
    "gzip, of nothing": b"rubbish",
    "identity": NASTY,
}


@pytest.mark.fault("A34")
@pytest.mark.parametrize("kind", ["application/json", "text/event-stream"])
@pytest.mark.parametrize(("coding", "body"), CODED.items(), ids=CODED)
async def test_a_coded_answer_stays_coded(stage: Stage, coding: str, body: bytes, kind: str) -> None:
    lines = [
        ("content-type", kind),
        ("content-encoding", coding.partition(",")[0]),
        ("vary", "accept-encoding"),
    ]
    async with stage.plant(answer(head(200, [*lines, *CHUNKED]) + chunks_of(body, 37))):
        answered = await stage.ask(chat([("accept-encoding", "gzip, br")], stream=True))
        is_same(answered.body, body)
        assert (answered.get("content-encoding"), answered.ended) == (lines[1][1].encode(), "chunked")


# -- streams


def stream_in_pieces() -> Script:
    """Each request is answered by the nasty stream, cut where the request says, two packets apart."""

    async def script(conn: Conn) -> None:
        while True:
            at = [int(n) for n in re.findall(rb"[0-9]+", (await conn.request()).target.partition(b"?")[2])]
            await conn.send(sse_head())
            for piece in cut_up(NASTY, at):
                await conn.send(chunk(piece))
            await conn.send(last_chunk)

    return script


@pytest.mark.fault("A39")
async def test_a_stream_cut_at_every_position(stage: Stage) -> None:
    async with stage.plant(stream_in_pieces()) as up, stage.client() as c:
        for at in range(len(NASTY) + 1):
            answered = await c.ask(get(f"/v1/x?{at}"))
            assert (at, answered.body, answered.ended) == (at, NASTY, "chunked")
        assert up.connections == 1


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.integers(1, len(NASTY)), min_size=2, max_size=12))
async def test_a_stream_cut_at_many_positions(stage: Stage, at: list[int]) -> None:
    async with stage.plant(stream_in_pieces()), stage.client() as c:
        answered = await c.ask(get("/v1/x?" + ",".join(map(str, at))))
        assert (answered.body, answered.ended) == (NASTY, "chunked")


@pytest.mark.parametrize("wire", ["sized", "chunked", "close"])
async def test_a_stream_byte_by_byte(stage: Stage, wire: str) -> None:
    """Byte by byte through the framing too; each way of framing it."""

    async def script(conn: Conn) -> None:
        await conn.request()
        if wire == "sized":
            lines = [("content-type", "text/event-stream"), ("content-length", str(len(NASTY)))]
            await conn.send_slowly(head(200, lines) + NASTY)
        elif wire == "chunked":
            await conn.send_slowly(sse_head() + chunks_of(NASTY, 3))
        else:
            await conn.send_slowly(sse_head(chunked=False) + NASTY)
        conn.close()

    async with stage.plant(script):
        answered = await stage.ask(chat(stream=True))
        assert answered.body == NASTY
        assert answered.ended == ("length" if wire == "sized" else "chunked")


async def test_each_piece_of_a_stream_goes_out_before_the_next_comes_in(stage: Stage) -> None:
    async with stage.plant() as up, stage.client() as c:
        await c.send(chat(stream=True))
        conn = await up.accept()
        await conn.request()
        await conn.send(sse_head())
        await c.head()
        for at in range(0, len(NASTY), 5):
            await conn.send(chunk(NASTY[at : at + 5]))
            assert await c.chunk() == NASTY[at : at + 5]
        await conn.send(last_chunk)
        assert (await c.response()).body == NASTY


@pytest.mark.parametrize(
    ("lines", "body"), [([("content-length", "2")], b"ok"), (CHUNKED, chunk(b"ok") + last_chunk)]
)
async def test_a_head_goes_out_before_the_body_comes(
    stage: Stage, lines: list[tuple[str, str]], body: bytes
) -> None:
    async with stage.plant() as up, stage.client() as c:
        await c.send(chat())
        conn = await up.accept()
        await conn.request()
        await conn.send(head(200, lines))
        assert (await c.head(timeout=1)).status == 200
        await conn.send(body)
        assert (await c.response()).body == b"ok"


@pytest.mark.parametrize("size", [1 << 20, *BIG])
@pytest.mark.parametrize("piece", [1000, 65_536, 20 << 20])
async def test_an_event_of_any_size(stage: Stage, size: int, piece: int) -> None:
    body = b"data: " + RANDOM[:size].replace(b"\n", b"x").replace(b"\r", b"y") + b"\n\ndata: [DONE]\n\n"
    async with stage.plant(answer(sse_head() + chunks_of(body, piece))), stage.client() as c:
        answered = await c.ask(chat(stream=True), timeout=30)
        is_same(answered.body, body)
        assert answered.ended == "chunked"


@pytest.mark.slow
async def test_a_hundred_streams_at_once_keep_apart(stage: Stage) -> None:
    async def script(conn: Conn) -> None:
        while True:
            n = (await conn.request()).json()["n"]
            await conn.send(sse_head() + chunks_of(body(n), 500 + n))

    def body(n: int) -> bytes:
        return b"".join(b"data: %d %d\n\n" % (n, m) for m in range(2000))

    async def stream(n: int) -> None:
        async with stage.client() as c:
            for _ in range(3):
                answered = await c.ask(chat(stream=True, n=n), timeout=20)
                is_same(answered.body, body(n))

    async with stage.plant(script):
        await all_at_once([stream(n) for n in range(100)])
