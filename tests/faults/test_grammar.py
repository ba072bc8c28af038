"""What is HTTP and what is not: refused before anything goes upstream, or passed on as it came (C1-C20).

Raw bytes throughout. What is refused opens no upstream connection; what is passed is one request upstream
for each request that came, byte by byte what it was but for the documented differences.
"""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from .client import NoAnswer, RawClient, chat, get, post, request
from .framing import Headers, RawResponse
from .stage import BEARER, KEY, OK, ONE, Stage, is_error, once
from .upstream import answer, chunk, event, head, json_answer, last_chunk, ok_json, sse_head

HOST = b"host: x\r\n"
CHUNKED = [("transfer-encoding", "chunked")]


async def is_refused(stage: Stage, data: bytes, status: int, code: str | None = None) -> RawResponse:
    """One OpenAI-shaped error, a connection that ends if it says so, and nothing upstream."""
    async with stage.plant(answer(OK)) as up, stage.client() as c:
        answered = await c.ask(data)
        is_error(answered, status, code or answered.json()["error"]["code"])
        if answered.get("connection") == b"close":
            await c.wait_closed(4)
            assert (c.left, bytes(c.buffer)) == ("fin", b"")
        assert (up.connections, up.requests) == (0, [])
    (line,) = await stage.ends()
    assert (line["status"], line["end_reason"]) == (status, "rejected")
    return answered


def raw(lines: bytes, body: bytes = b"", first: bytes = b"POST /v1/x HTTP/1.1") -> bytes:
    return first + b"\r\n" + lines + b"\r\n" + body


# -- framing that two could read differently: C1, C2, C3, C4

FIVE = b"content-length: 5\r\n"
TE = b"transfer-encoding: chunked\r\n"
AMBIGUOUS = {
    "length then chunks": raw(HOST + FIVE + TE, b"0\r\n\r\n"),
    "chunks then length": raw(HOST + TE + FIVE, b"0\r\n\r\n"),
    "chunks and length 0": raw(HOST + TE + b"content-length: 0\r\n", b"0\r\n\r\n"),
    "same length twice": raw(HOST + FIVE + FIVE, b"01234"),
    "two lengths": raw(HOST + FIVE + b"content-length: 6\r\n", b"012345"),
    "list of one length": raw(HOST + b"content-length: 5, 5\r\n", b"01234"),
    "list of lengths": raw(HOST + b"content-length: 1, 1\r\n", b"0"),
    "plus": raw(HOST + b"content-length: +1\r\n", b"0"),
    "minus": raw(HOST + b"content-length: -1\r\n", b"0"),
    "hexadecimal": raw(HOST + b"content-length: 0x10\r\n", b"0" * 16),
    "letters": raw(HOST + b"content-length: abc\r\n", b"0"),
    "two numbers": raw(HOST + b"content-length: 1 1\r\n", b"0"),
    "fraction": raw(HOST + b"content-length: 1.0\r\n", b"0"),
    "underscore": raw(HOST + b"content-length: 1_0\r\n", b"0123456789"),
    "empty length": raw(HOST + b"content-length:\r\n", b"0"),
    "beyond 64 bits": raw(HOST + b"content-length: 1" + b"0" * 23 + b"\r\n", b"0"),
    "wrapping around": raw(HOST + b"content-length: 18446744073709551617\r\n", b"0"),
    "full-width digits": raw(HOST + b"content-length: \xef\xbc\x95\r\n", b"01234"),
    "chunks in HTTP/1.0": raw(HOST + TE, b"0\r\n\r\n", b"POST /v1/x HTTP/1.0"),
}


@pytest.mark.fault("C1", "C2", "C4")
@once
@pytest.mark.parametrize("data", AMBIGUOUS.values(), ids=AMBIGUOUS)
async def test_ambiguous_framing(stage: Stage, data: bytes) -> None:
    await is_refused(stage, data, 400)


CODINGS = [
    b"transfer-encoding: gzip, chunked",
    b"transfer-encoding: chunked, gzip",
    b"transfer-encoding: ,chunked",
    b"transfer-encoding: chunked,",
    b"transfer-encoding: identity",
    b"transfer-encoding: xchunked",
    b"transfer-encoding: chunkedx",
    b"transfer-encoding: \x0bchunked",
    b"transfer-encoding: \"chunked\"",
    b"transfer-encoding: chunked; a=b",
    b"transfer-encoding: chunked, chunked",
    b"transfer-encoding:",
    b"transfer-encoding: chunked\r\ntransfer-encoding: chunked",
    b"transfer-encoding: chunked\r\ntransfer-encoding: identity",
    b"transfer-encoding: gzip\r\ntransfer-encoding: chunked",
    b"transfer-encoding: identity\r\ntransfer-encoding: chunked",
]  # fmt: skip


@pytest.mark.fault("C3")
@once
@pytest.mark.parametrize("line", CODINGS)
async def test_codings_other_than_chunked(stage: Stage, line: bytes) -> None:
    async with stage.plant(answer(OK)) as up, stage.client() as c:
        answered = await c.ask(raw(HOST + line + b"\r\n", b"0\r\n\r\n"))
        assert answered.status in (400, 501)
        is_error(answered, answered.status, answered.json()["error"]["code"])
        await c.wait_closed(4)
        assert up.connections == 0


@pytest.mark.parametrize(
    "line", [b"Transfer-Encoding: Chunked", b"TRANSFER-ENCODING:CHUNKED", b"transfer-encoding: \tchunked  "]
)
async def test_chunked_in_other_letters(stage: Stage, line: bytes) -> None:
    async with stage.plant(answer(OK)) as up:
        assert (await stage.ask(raw(HOST + line + b"\r\n", chunk(b"ab") + last_chunk))).status == 200
        assert up.requests[0].body == b"ab"


SMUGGLED = get("/v1/smuggled")


@pytest.mark.fault("C8")
@pytest.mark.parametrize(
    "data",
    [
        raw(HOST + b"content-length: %d\r\n" % (5 + len(SMUGGLED)) + TE, b"0\r\n\r\n" + SMUGGLED),
        raw(HOST + FIVE + b"transfer-encoding: xchunked\r\n", b"01234" + SMUGGLED),
        raw(HOST + b"content-length: 0\r\ncontent-length: 44\r\n", SMUGGLED),
        raw(HOST + TE, b"0\n\r\n" + SMUGGLED),
        raw(HOST + TE, b"0;\n\r\n\r\n" + SMUGGLED),
        raw(HOST + TE, b"1\r\nZ0\r\n\r\n" + SMUGGLED),
        raw(HOST + TE, b"0x0\r\n\r\n" + SMUGGLED),
        raw(HOST + TE, b"2\r\nab\n0\r\n\r\n" + SMUGGLED),
        raw(HOST + b"transfer-encoding : chunked\r\ncontent-length: 5\r\n", b"0\r\n\r\n" + SMUGGLED),
        raw(HOST + b"x: y\rtransfer-encoding: chunked\r\ncontent-length: 5\r\n", b"0\r\n\r\n" + SMUGGLED),
        raw(HOST + b"x: y\ntransfer-encoding: chunked\r\ncontent-length: 5\r\n", b"0\r\n\r\n" + SMUGGLED),
        raw(HOST + b"content-length: 5\r\n content-length: 50\r\n", b"01234" + SMUGGLED),
        raw(HOST + FIVE + b"connection: content-length\r\n", b"01234" + SMUGGLED),
        b"GET /v1/x HTTP/1.1\r\n" + HOST + b"\r\n\r\n\r\n" + b"RUBBISH" + SMUGGLED,
        b"CONNECT x:80 HTTP/1.1\r\n" + HOST + b"\r\n" + SMUGGLED,
    ],
)  # fmt: skip
async def test_never_more_requests_upstream_than_answers(stage: Stage, data: bytes) -> None:
    """What is smuggled is either a request of its own, answered and logged, or not there."""
    async with stage.plant(answer(OK)) as up, stage.client() as c:
        await c.send(data)
        answers = []
        try:
            while True:
                answers.append(await c.response(timeout=2))
        except AssertionError:
            pass
        passed = sum(a.status == 200 for a in answers)
        assert [r.target for r in up.requests] == [b"/v1/x", b"/v1/smuggled"][:passed]
    await stage.at_rest()
    assert sum(line["status"] == 200 for line in stage.lines if "status" in line) == passed


# -- lines: C5

LINES = {
    "folded": b"x-a: b\r\n c\r\n",
    "folded by a tab": b"x-a: b\r\n\tc\r\n",
    "folded at first": b" x-a: b\r\n",
    "blank before the colon": b"x-a : b\r\n",
    "tab before the colon": b"x-a\t: b\r\n",
    "no colon": b"x-a\r\n",
    "no name": b": b\r\n",
    "vertical tab in a name": b"x\x0ba: b\r\n",
    "vertical tab in a value": b"x-a: b\x0bc\r\n",
    "NUL in a name": b"x\0a: b\r\n",
    "NUL in a value": b"x-a: b\0c\r\n",
    "bell in a value": b"x-a: b\x07c\r\n",
    "DEL in a value": b"x-a: b\x7fc\r\n",
    "bare CR in a value": b"x-a: b\rc\r\n",
    "bare CR and a line": b"x-a: b\rx-c: d\r\n",
    "bare LF": b"x-a: b\nx-c: d\r\n",
    "bare LF at the end": b"x-a: b\n",
    "8-bit name": b"x-\xe9: b\r\n",
    "bracket in a name": b"x[a]: b\r\n",
    "slash in a name": b"x/a: b\r\n",
    "quote in a name": b'x"a: b\r\n',
}


@pytest.mark.fault("C5")
@once
@pytest.mark.parametrize("lines", LINES.values(), ids=LINES)
@pytest.mark.parametrize("first", [True, False])
async def test_lines_that_are_none(stage: Stage, lines: bytes, first: bool) -> None:
    data = raw((lines + HOST) if first else (HOST + lines), first=b"GET /v1/x HTTP/1.1")
    await is_refused(stage, data, 400)


@pytest.mark.fault("C5")
@once
@pytest.mark.parametrize("end", [b"\n\n", b"\n\r\n", b"\r\n\n", b"\r\r", b"\r\n\r"])
async def test_heads_that_end_badly(stage: Stage, end: bytes) -> None:
    async with stage.plant(answer(OK)) as up, stage.client() as c:
        await c.send(b"GET /v1/x HTTP/1.1\r\nhost: x" + end + b"x")
        await c.read_until_paused(0.15)
        assert up.connections == 0


FIRST_LINES = {
    "HTTP/0.9": b"GET /v1/x\r\n",
    "HTTP/0.9 with a version": b"GET /v1/x HTTP/0.9",
    "HTTP/1.2": b"GET /v1/x HTTP/1.2",
    "HTTP/2.0": b"GET /v1/x HTTP/2.0",
    "HTTP/3": b"GET /v1/x HTTP/3",
    "HTTP/11": b"GET /v1/x HTTP/11",
    "HTTP/1.10": b"GET /v1/x HTTP/1.10",
    "HTTP/ 1.1": b"GET /v1/x HTTP/ 1.1",
    "http/1.1": b"GET /v1/x http/1.1",
    "ICE/1.0": b"SOURCE /v1/x ICE/1.0",
    "RTSP": b"GET /v1/x RTSP/1.0",
    "a tab": b"GET\t/v1/x HTTP/1.1",
    "a blank in the path": b"GET /v1/x y HTTP/1.1",
    "a blank at the end": b"GET /v1/x HTTP/1.1 ",
    "a blank at first": b" GET /v1/x HTTP/1.1",
    "no method": b"/v1/x HTTP/1.1",
    "no path": b"GET HTTP/1.1",
    "NUL": b"GET /v1/x\0 HTTP/1.1",
    "CR": b"GET /v1/\rx HTTP/1.1",
    "the HTTP/2 preface": b"PRI * HTTP/2.0\r\n\r\nSM",
}


@pytest.mark.fault("C20")
@once
@pytest.mark.parametrize("first", FIRST_LINES.values(), ids=FIRST_LINES)
async def test_first_lines_that_are_none(stage: Stage, first: bytes) -> None:
    async with stage.plant(answer(OK)) as up, stage.client() as c:
        answered = await c.ask(raw(HOST, first=first))
        assert answered.status in (400, 405, 505)
        is_error(answered, answered.status, answered.json()["error"]["code"])
        await c.wait_closed(4)
        assert up.connections == 0


@once
@pytest.mark.parametrize(
    "data",
    [b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"\x00" * 100, b"*1\r\n$4\r\nPING\r\n", b"\xff" * 50],
)
async def test_another_protocol(stage: Stage, data: bytes) -> None:
    await is_refused(stage, data + b"\r\n\r\n", 400, "invalid_http")


async def test_empty_lines_before_a_request_do_no_harm(stage: Stage) -> None:
    async with stage.plant(answer(OK)) as up, stage.client() as c:
        for _ in range(2):
            assert (await c.ask(b"\r\n\r\n" + chat())).status == 200
        assert len(up.requests) == 2


# -- chunks and trailers: C6, C7

CHUNKS = {
    "minus": b"-1\r\n",
    "hexadecimal mark": b"0x1\r\na\r\n0\r\n\r\n",
    "underscore": b"0_2e\r\n",
    "17 digits": b"1" * 17 + b"\r\n",
    "blank before": b" 1\r\na\r\n0\r\n\r\n",
    "letters": b"zz\r\n",
    "empty": b"\r\na\r\n",
    "LF after an extension": b"1;\na\r\n0\r\n\r\n",
    "LF after the size": b"1\na\r\n0\r\n\r\n",
    "CR after the size": b"1\ra\r\n0\r\n\r\n",
    "longer than its size": b"1\r\nab\r\n0\r\n\r\n",
    "no CRLF after the data": b"1\r\na0\r\n\r\n",
    "NUL in an extension": b"1;a=\0\r\na\r\n0\r\n\r\n",
}


@pytest.mark.fault("C6")
@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("framed", CHUNKS.values(), ids=CHUNKS)
async def test_bad_chunks(stage: Stage, framed: bytes, late: bool) -> None:
    """Refused with 400, whether the upstream has heard of the request or not; it never gets it whole."""
    async with stage.plant(answer(OK)) as up, stage.client() as c:
        await c.send(post("/v1/x", chunk(b"good") if late else framed, CHUNKED))
        if late:
            await up.seen()
            await c.send(framed)
        answered = await c.response()
        is_error(answered, 400, answered.json()["error"]["code"])
        await c.wait_closed(4)
        await up.closed(1)
        assert [r for r in up.requests if r.ended in ("length", "chunked")] == []
        (line,) = await stage.ends()
        assert line["end_reason"] == "rejected"


@pytest.mark.parametrize(
    "framed",
    [
        b'4;a=b;c="d"\r\nabcd\r\n0;x\r\n\r\n',
        b"0004\r\nabcd\r\n000\r\n\r\n",
        b"2\r\nab\r\n2\r\ncd\r\n0\r\n\r\n",
    ],
)
async def test_odd_but_good_chunks(stage: Stage, framed: bytes) -> None:
    async with stage.plant(answer(OK)) as up:
        assert (await stage.ask(post("/v1/x", framed, CHUNKED))).status == 200
        assert up.requests[0].body == b"abcd"


TRAILERS = [
    b"content-length: 3",
    b"transfer-encoding: chunked",
    b"authorization: Bearer " + KEY.encode(),
    b"api-key: " + KEY.encode(),
    b"host: evil",
    b"x-user-id: eve",
    b"x-checksum: 1",
    b"connection: authorization",
]


@pytest.mark.fault("C7")
@pytest.mark.parametrize("split", [False, True])
@pytest.mark.parametrize("line", TRAILERS)
async def test_trailers_of_a_request_never_become_headers(stage: Stage, line: bytes, split: bool) -> None:
    name = line.partition(b":")[0].decode()
    data = post("/v1/x", chunk(b"ab") + b"0\r\n" + line + b"\r\n\r\n", CHUNKED)
    async with stage.plant(answer(OK)) as up, stage.client() as c:
        if split:
            await c.send_slowly(data, size=len(data) - len(line) - 7)
        else:
            await c.send(data)
        answered = await c.response()
        assert answered.status in (200, 400)
        if answered.status == 400:
            is_error(answered, 400, answered.json()["error"]["code"])
            assert [r for r in up.requests if r.ended in ("length", "chunked")] == []
        else:
            got = up.requests[0]
            assert (got.body, got.trailers) == (b"ab", [])
            assert got.all(name) == {"host": [stage.host], "content-length": got.all("content-length")}.get(
                name, got.all("transfer-encoding") if name == "transfer-encoding" else []
            )
        (request_line,) = await stage.ends()
        assert request_line.get("user", "127.0.0.1") == "127.0.0.1"


@pytest.mark.fault("C7")
@once
@pytest.mark.parametrize("line", TRAILERS[2:4])
async def test_a_key_in_a_trailer_opens_nothing(keyed: Stage, line: bytes) -> None:
    data = post("/v1/x", chunk(b"ab") + b"0\r\n" + line + b"\r\n\r\n", CHUNKED)
    async with keyed.plant(answer(OK)) as up, keyed.client() as c:
        assert (await c.ask(data)).status in (400, 401)
        assert up.connections == 0


# -- Host and target: C10, C11, C12


@pytest.mark.fault("C10")
@once
@pytest.mark.parametrize(
    "lines", [b"", HOST + HOST, HOST + b"Host: y\r\n", b"hosT: a\r\nx: y\r\nHOST: a\r\n"]
)
async def test_exactly_one_host(stage: Stage, lines: bytes) -> None:
    await is_refused(stage, raw(lines, first=b"GET /v1/x HTTP/1.1"), 400)


@pytest.mark.fault("C10")
@once
async def test_two_hosts_in_http_1_0(stage: Stage) -> None:
    await is_refused(stage, raw(HOST + HOST, first=b"GET /v1/x HTTP/1.0"), 400, "invalid_host")


@pytest.mark.parametrize(
    "host", [b"evil.example", b"127.0.0.1:1", b"[::1]:80", b"", b"a b", b"user@x", b"\xff"]
)
async def test_a_host_is_rewritten_whatever_it_says(stage: Stage, host: bytes) -> None:
    async with stage.plant(answer(OK)) as up:
        answered = await stage.ask(raw(b"host: " + host + b"\r\n", first=b"GET /v1/x HTTP/1.1"))
        if answered.status == 200:
            assert up.requests[0].all("host") == [stage.host]
        else:
            is_error(answered, 400, answered.json()["error"]["code"])


@pytest.mark.fault("C10")
@once
@pytest.mark.parametrize(
    "target", [b"http://evil.example/v1/x", b"https://evil.example:8443/v1/x", b"HTTP://evil.example/v1/x"]
)
async def test_an_authority_other_than_the_host(stage: Stage, target: bytes) -> None:
    """C10: two readers could take it for two places."""
    await is_refused(stage, raw(HOST, first=b"GET " + target + b" HTTP/1.1"), 400)


@pytest.mark.fault("C11")
@pytest.mark.parametrize(
    ("target", "passed"),
    [
        (b"http://x/v1/models", b"/v1/models"),
        (b"http://x/v1/models?a=b", b"/v1/models?a=b"),
        (b"HTTPS://x/v1/models", b"/v1/models"),
        (b"http://x", b"/v1/"),
        (b"http://x/", b"/v1/"),
        (b"http://x?a=b", b"/v1/?a=b"),
    ],
)
async def test_absolute_form_goes_nowhere_else(stage: Stage, target: bytes, passed: bytes) -> None:
    async with stage.plant(answer(OK)) as up:
        answered = await stage.ask(raw(HOST, first=b"GET " + target + b" HTTP/1.1"))
        if answered.status == 200:
            assert [r.target for r in up.requests] == [passed]
            assert up.requests[0].all("host") == [stage.host]
        else:
            assert answered.status in (400, 405)
            assert up.requests == []


@once
@pytest.mark.parametrize(
    "target",
    [
        b"http://x/v1/../admin",
        b"http://x//evil/x",
        b"http://x/v1/%2e%2e/admin",
        b"http:///v1/x",
        b"http://x\\y/v1",
    ],
)
async def test_absolute_form_opens_no_other_paths(stage: Stage, target: bytes) -> None:
    await is_refused(stage, raw(HOST, first=b"GET " + target + b" HTTP/1.1"), 400)


@pytest.mark.fault("C11")
@once
@pytest.mark.parametrize(
    "first",
    [
        b"OPTIONS * HTTP/1.1",
        b"GET * HTTP/1.1",
        b"GET evil.example:443 HTTP/1.1",
        b"GET evil.example HTTP/1.1",
        b"GET ftp://evil.example/x HTTP/1.1",
        b"GET file:///etc/passwd HTTP/1.1",
        b"GET v1/models HTTP/1.1",
        b"GET ?a=b HTTP/1.1",
        b"GET #a HTTP/1.1",
    ],
)
async def test_targets_that_are_no_path(stage: Stage, first: bytes) -> None:
    await is_refused(stage, raw(HOST, first=first), 400)


@pytest.mark.fault("C11")
@once
@pytest.mark.parametrize(
    "first",
    [b"CONNECT evil.example:443", b"CONNECT /v1/x", b"TRACE /v1/x", b"TRACE http://x/v1/x", b"TRACE *"],
)
async def test_methods_that_are_not_for_a_reverse_proxy(stage: Stage, first: bytes) -> None:
    async with stage.plant(answer(OK)) as up, stage.client() as c:
        answered = await c.ask(raw(HOST, first=first + b" HTTP/1.1"))
        assert answered.status in (400, 405)
        is_error(answered, answered.status, answered.json()["error"]["code"])
        assert up.connections == 0


@once
async def test_after_a_refused_connect_the_connection_serves_or_ends(stage: Stage) -> None:
    async with stage.plant(answer(OK)), stage.client() as c:
        refused = await c.ask(raw(HOST, first=b"CONNECT evil.example:443 HTTP/1.1"))
        if refused.get("connection") == b"close":
            await c.wait_closed(4)
        else:
            assert (await c.ask(chat())).status == 200


BAD_PATHS = [
    b"/v1/../admin", b"/v1/..", b"/..", b"/.", b"/./v1/x", b"/v1/.", b"/v1/./x", b"/v1/x/..", b"/v1/x/../y",
    b"/v1/%2e%2e/admin", b"/v1/%2E%2E/admin", b"/v1/.%2e/admin", b"/v1/%2e./admin", b"/v1/%2e/x", b"/v1/%2E",
    b"/v1/..;/admin", b"/v1/..;a=b/admin", b"/v1/.;/x", b"/v1/%2e%2e;/x",
    b"//evil.example/x", b"//v1/x", b"///v1/x", b"//",
    b"/v1\\..\\admin", b"/\\evil.example/x", b"/v1/x\\", b"/v1/%5c..%5cadmin", b"/v1/%5C",
    b"/v1/x%00", b"/v1/%00/x", b"/v1/x%00.json",
    b"/v1/\xe9", b"/v1/\xc3\xa9", b"/\xff", b"/v1/\x80x", b"/v1/x\x7f",
]  # fmt: skip


@pytest.mark.fault("C12")
@once
@pytest.mark.parametrize("path", BAD_PATHS)
@pytest.mark.parametrize("query", [b"", b"?a=b"])
async def test_paths_that_are_refused(stage: Stage, path: bytes, query: bytes) -> None:
    answered = await is_refused(stage, raw(HOST, first=b"GET " + path + query + b" HTTP/1.1"), 400)
    assert answered.json()["error"]["code"] in ("invalid_path", "invalid_http")


GOOD_PATHS = [
    b"/v1/models", b"/v1/unknown/thing", b"/v1/files/a%2Fb", b"/v1/files/a%2fb/content", b"/v1/a;b=c/d;e",
    b"/v1/a//b", b"/v1/a///b//", b"/v1/a/", b"/v1/...", b"/v1/.../x", b"/v1/.well-known", b"/v1/a..b",
    b"/v1/..a", b"/v1/a..", b"/v1/%252e%252e/x", b"/v1/%20", b"/v1/%0d%0aX-Evil:%201",
    b"/v1/%e9", b"/v1/%C3%A9", b"/v1/a:b@c", b"/v1/!$&'()*+,=~_-", b"/v1/[a]|{b}", b"/v1/\"<>^`",
    b"/v1/models/ft:gpt-4o:org::id",
    b"/v1/v1/v1", b"/v1/V1", b"/v1/" + b"a" * 8000,
]  # fmt: skip


@pytest.mark.fault("C12")
@pytest.mark.parametrize("path", GOOD_PATHS)
async def test_paths_that_pass_untouched(stage: Stage, path: bytes) -> None:
    async with stage.plant(answer(OK)) as up, stage.client() as c:
        for _ in range(2):  # the second time from the cache of known paths
            assert (await c.ask(raw(HOST, first=b"GET " + path + b" HTTP/1.1"))).status == 200
        assert [r.target for r in up.requests] == [path] * 2
        for line in await stage.ends(2):
            assert line["path"] == path.decode()[:256]


@pytest.mark.parametrize(
    "path",
    [b"/v1/%zz", b"/v1/%", b"/v1/%2", b"/v1/..%2fadmin", b"/v1/%2e%2e%2fadmin", b"/v1/x#frag", b"/v1/#/../x"],
)
async def test_paths_that_nobody_has_ruled_on_pass_untouched_or_not_at_all(stage: Stage, path: bytes) -> None:
    async with stage.plant(answer(OK)) as up:
        answered = await stage.ask(raw(HOST, first=b"GET " + path + b" HTTP/1.1"))
        if answered.status == 200:
            assert [r.target for r in up.requests] == [path]
        else:
            is_error(answered, 400, "invalid_path")
            assert up.connections == 0


@pytest.mark.parametrize(
    ("came", "went"),
    [
        (b"/v1/chat/completions", b"/v1/chat/completions"),
        (b"/chat/completions", b"/v1/chat/completions"),
        (b"/v1", b"/v1"),
        (b"/v1/", b"/v1/"),
        (b"/", b"/v1/"),
        (b"/v1x", b"/v1/v1x"),
        (b"/V1/models", b"/v1/V1/models"),
        (b"/v1?a=b", b"/v1?a=b"),
        (b"/v1/models?", b"/v1/models?"),
        (b"/v1/models?a=b?c=/../d&e=%00&f=//g;h#i", b"/v1/models?a=b?c=/../d&e=%00&f=//g;h#i"),
        (b"/v1/models", b"/v1/models"),
        (b"/v1/health", b"/v1/health"),
        (b"/health/x", b"/v1/health/x"),
        (b"/v1?/../x", b"/v1?/../x"),
    ],
)
async def test_where_a_path_goes(stage: Stage, came: bytes, went: bytes) -> None:
    async with stage.plant(answer(OK)) as up:
        assert (await stage.ask(raw(HOST, first=b"GET " + came + b" HTTP/1.1"))).status == 200
        assert [r.target for r in up.requests] == [went]


@once
async def test_our_own_endpoint_stays_here(stage: Stage) -> None:
    async with stage.plant(answer(OK)) as up:
        for path in ("/health", "/health?a=b"):
            answered = await stage.ask(get(path))
            assert (answered.status, answered.json()["status"]) == (200, "ok")
        assert up.connections == 0


# -- methods: C14


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"])
@pytest.mark.parametrize("body", [None, b"", b"{}"])
async def test_methods_that_pass(stage: Stage, method: str, body: bytes | None) -> None:
    async with stage.plant(answer(head(200, [("content-length", "0"), ("allow", "GET, POST")]))) as up:
        async with stage.client() as c:
            await c.send(request(method, "/v1/x", [], body))
            answered = await c.response(bodyless=method == "HEAD")
        assert (answered.status, answered.get("allow")) == (200, b"GET, POST")
        got = up.requests[0]
        assert (got.method, got.body) == (method.encode(), body or b"")
        if body is not None or method in ("POST", "PUT", "PATCH"):
            assert got.get("content-length") == b"%d" % len(body or b"")
        else:
            assert (got.all("content-length"), got.all("transfer-encoding")) == ([], [])


@pytest.mark.fault("C14")
@once
@pytest.mark.parametrize(
    "method", ["PROPFIND", "MKCOL", "PURGE", "LOCK", "SEARCH", "M-SEARCH", "LINK", "QUERY", "REPORT"]
)
async def test_methods_of_others(stage: Stage, method: str) -> None:
    """405 for what the parser knows, and 400 for what it does not, is what C14 allows."""
    async with stage.plant(answer(OK)) as up:
        answered = await stage.ask(request(method, "/v1/x"))
        assert answered.status in (400, 405)
        is_error(answered, answered.status, answered.json()["error"]["code"])
        assert up.connections == 0


@pytest.mark.fault("C14")
@once
@pytest.mark.parametrize("method", ["get", "Post", "FOO", "GETT", "G", "GE\tT", "GET,POST", "é", "X" * 5000])
async def test_methods_of_nobody(stage: Stage, method: str) -> None:
    async with stage.plant(answer(OK)) as up:
        answered = await stage.ask(request(method, "/v1/x"))
        assert answered.status in (400, 405)
        is_error(answered, answered.status, answered.json()["error"]["code"])
        assert up.connections == 0


# -- paths that nobody knows: C13


@pytest.mark.fault("C13")
async def test_an_unknown_path_is_forwarded_to_who_is_let_in(keyed: Stage) -> None:
    async with keyed.plant(answer(json_answer({"error": "no such path"}, 404))) as up:
        is_error(await keyed.ask(get("/v1/unknown/thing")), 401, "missing_api_key")
        assert up.connections == 0
        answered = await keyed.ask(get("/v1/unknown/thing", [BEARER]))
        assert (answered.status, answered.json()) == (404, {"error": "no such path"})
        assert [asked.target for asked in up.requests] == [b"/v1/unknown/thing"]


@once
@pytest.mark.fault("C13")
async def test_an_unknown_path_has_its_row_and_is_counted(books: Stage) -> None:
    async with books.plant(answer(OK)):
        assert (await books.ask(post("/v1/unknown/thing", b"{}"))).status == 200
    row = await books.row()
    assert (row["path"], row["end_code"], row["attempts"]) == ("/v1/unknown/thing", "completed", 1)


# -- line ends in what is written down: C15

INJECTED = "m\r\nset-cookie: planted=1\r\n\r\n\x1b[31m\u2028\x85{"


@pytest.mark.fault("C15")
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("model", "status"), [("gpt-4o-mini", 200), (INJECTED, 403)])
async def test_line_ends_in_a_model_or_a_user_make_no_header_and_no_line(
    books: Stage, model: str, status: int, stream: bool
) -> None:
    """Of the client, whose model then has no price, or of the upstream's answer."""
    said = {"model": INJECTED, "choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": 9}}
    whole = sse_head() + chunk(event(said)) + chunk(event("[DONE]")) + last_chunk
    async with books.plant(answer(whole if stream else json_answer(said))) as up:
        ask = chat([("x-user-id", "u%0d%0aset-cookie:%201")], model=model, user=INJECTED, stream=stream)
        answered = await books.ask(ask)
        assert answered.status == status
        assert answered.get("set-cookie") is None
        assert b"\nset-cookie" not in answered.head
        assert len(up.requests) == (answered.status == 200)
    await books.ends()  # each line of the log is JSON, or this would find one that is none


@once
@pytest.mark.fault("C15")
@pytest.mark.parametrize("name", ["x-request-id", "x-user-id"])
@pytest.mark.parametrize("end", ["\r\n", "\n", "\r"])
async def test_line_ends_in_a_header_are_no_request(stage: Stage, name: str, end: str) -> None:
    """A CRLF begins another header, which is the client's own; by itself neither half is anything."""
    ask = get("/v1/x", [(name, f"a{end}x-weir-user: planted")])
    if end != "\r\n":
        await is_refused(stage, ask, 400)
        return
    assert await sent_upstream(stage, [], ask) == [(b"host", stage.host), (name.encode(), b"a")]


# -- sizes: C17


def fields(total: int, each: int = 1000) -> Headers:
    """Header fields of about `total` bytes."""
    return [(b"x-%03d" % n, b"v" * (each - 9)) for n in range(total // each)]


@pytest.mark.parametrize("each", [1000, 30_000])
async def test_headers_up_to_the_bound_pass(stage: Stage, each: int) -> None:
    async with stage.plant(answer(OK)) as up:
        assert (await stage.ask(get("/v1/x", fields(62_000, each)))).status == 200
        assert sum(len(value) for name, value in up.requests[0].headers if name.startswith(b"x-")) > 58_000


@pytest.mark.fault("C17")
@once
@pytest.mark.parametrize("total", [68_000, 78_000, 90_000, 300_000, 1_000_000])
@pytest.mark.parametrize("each", [1000, 66_000])
async def test_headers_beyond_the_bound(stage: Stage, total: int, each: int) -> None:
    answered = await is_refused(stage, get("/v1/x", fields(max(total, each), each)), 431, "headers_too_large")
    assert answered.get("connection") == b"close"


@pytest.mark.fault("C17")
@pytest.mark.parametrize(("count", "status"), [(99, 200), (100, 431), (101, 431), (5000, 431)])
async def test_a_bound_on_the_number_of_headers(stage: Stage, count: int, status: int) -> None:
    """100, Host included."""
    ask = get("/v1/x", [("a", "b")] * count)
    if status == 200:
        async with stage.plant(answer(OK)) as up:
            assert (await stage.ask(ask)).status == 200
            assert len(up.requests[0].all("a")) == count
    else:
        await is_refused(stage, ask, 431, "headers_too_large")


@pytest.mark.fault("C17")
@pytest.mark.parametrize(
    ("size", "status"), [(16_000, 200), (16_385, 414), (17_000, 414), (65_536, 414), (200_000, 414)]
)
async def test_a_bound_on_the_target(stage: Stage, size: int, status: int) -> None:
    target = "/v1/x?" + "a" * (size - 6)
    if status == 200:
        async with stage.plant(answer(OK)) as up:
            assert (await stage.ask(get(target))).status == 200
            assert len(up.requests[0].target) == size
    else:
        await is_refused(stage, get(target), 414, "uri_too_long")


@pytest.mark.fault("C17")
@once
@pytest.mark.parametrize(
    "part", [b"GET /v1/x HTTP/1.1\r\nhost: x\r\nx-a: ", b"GET /v1/", b"GET /v1/x HTTP/1.1\r\nx", b"G"]
)
async def test_a_head_without_end_takes_no_memory(stage: Stage, part: bytes) -> None:
    before = stage.p.rss()
    async with stage.client() as c:
        await c.send(part)
        try:
            await c.send_until_paused(b"a" * 60_000, limit=50 << 20)
        except ConnectionError:
            pass
        except AssertionError:  # it reads for two seconds on, and keeps nothing
            pass
    assert stage.p.rss() - before < 6 << 20
    (line,) = await stage.ends()
    assert line["status"] in (400, 414, 431)


@once
async def test_every_refusal_names_its_request(stage: Stage) -> None:
    """Reliability 1.3: an error has an x-request-id to ask about, wherever it was made."""
    for data in (
        request("TRACE", "/v1/x"),
        get("/v1/../x"),
        chat(),
        b"RUBBISH\r\n\r\n",
        get("/v1/x?" + "a" * 20_000),
        get("/v1/x", fields(200_000)),
    ):
        answered = await stage.ask(data)
        assert answered.get("x-request-id"), (answered.status, answered.headers)


# -- headers upstream: C15, C16, C18, C19


async def sent_upstream(stage: Stage, lines: list[tuple[str, str]], ask: bytes | None = None) -> Headers:
    """What the upstream gets of a GET with these headers."""
    async with stage.plant(answer(OK)) as up:
        assert (await stage.ask(ask or get("/v1/x", lines))).status == 200
        assert len(up.requests) == 1
        return up.requests[0].headers


@pytest.mark.fault("C16")
async def test_headers_pass_in_their_order_with_their_duplicates(stage: Stage) -> None:
    lines = [
        ("accept", "text/event-stream"),
        ("x-b", "2"),
        ("x-a", "1"),
        ("x-b", "1"),
        ("cookie", "a=b"),
        ("cookie", "c=d"),
        ("x_under_score", "1"),
        ("user-agent", "OpenAI/Python 3.0"),
        ("x-stainless-lang", "python"),
        ("accept-encoding", "gzip, br"),
        ("openai-organization", "org"),
        ("openai-beta", "assistants=v2"),
        ("idempotency-key", "k"),
        ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
        ("x-request-id", "mine"),
        ("x-user-id", "alice"),
        ("content-type", "application/json"),
        ("range", "bytes=0-1"),
        ("if-none-match", '"a"'),
        ("via", "1.1 other"),
        ("x-empty", ""),
        ("x-latin", "\xe9\xff"),
        ("x-long", "v" * 5000),
        ("x-b", "3"),
    ]
    got = await sent_upstream(stage, lines)
    assert got == [(b"host", stage.host), *((n.encode(), v.encode("latin-1")) for n, v in lines)]


async def test_nothing_is_added_upstream(stage: Stage) -> None:
    assert await sent_upstream(stage, []) == [(b"host", stage.host)]
    posted = await sent_upstream(stage, [], post("/v1/x", b"{}"))
    assert posted == [
        (b"host", stage.host),
        (b"content-type", b"application/json"),
        (b"content-length", b"2"),
    ]


async def test_only_the_key_is_added_upstream(keyed: Stage) -> None:
    got = await sent_upstream(keyed, [BEARER])
    assert got == [(b"host", keyed.host), (b"authorization", b"Bearer sk-of-the-upstream")]


@pytest.mark.parametrize("name", ["authorization", "api-key", "Authorization", "API-Key", "x-api-key"])
async def test_a_credential_passes_as_it_came(stage: Stage, name: str) -> None:
    got = await sent_upstream(stage, [(name, "Bearer sk-mine")])
    assert got[1:] == [(name.lower().encode(), b"Bearer sk-mine")]


@pytest.mark.fault("C16")
@once
@pytest.mark.parametrize(
    "lines",
    [
        [],
        [("authorization", "Bearer wrong")],
        [BEARER, BEARER],
        [BEARER, ("api-key", KEY)],
        [BEARER, ("api-key", "other")],
        [("api_key", KEY)],
        [("x-weir-key", KEY)],
    ],
)
async def test_who_has_no_one_key_is_turned_away(keyed: Stage, lines: list[tuple[str, str]]) -> None:
    answered = await is_refused(keyed, chat(lines), 401)
    assert answered.get("www-authenticate") == b"Bearer"
    assert KEY.encode() not in answered.raw


@pytest.mark.parametrize("name", ["authorization", "api-key"])
async def test_the_clients_key_goes_no_further(keyed: Stage, name: str) -> None:
    value = KEY if name == "api-key" else f"Bearer {KEY}"
    got = await sent_upstream(keyed, [(name, value), ("x-api-key", "other"), ("x-a", KEY[:5])])
    assert got == [
        (b"host", keyed.host),
        (b"x-a", KEY[:5].encode()),
        (b"authorization", b"Bearer sk-of-the-upstream"),
    ]
    assert KEY not in keyed.p.stderr


@pytest.mark.fault("C19")
async def test_connection_cannot_take_the_key_away(keyed: Stage) -> None:
    lines = [BEARER, ("connection", "authorization, x-a"), ("x-a", "1")]
    got = await sent_upstream(keyed, lines)
    assert got == [(b"host", keyed.host), (b"authorization", b"Bearer sk-of-the-upstream")]


HOP_BY_HOP = [
    ("keep-alive", "timeout=5"),
    ("proxy-authenticate", "Basic"),
    ("proxy-authorization", "Basic eA=="),
    ("proxy-connection", "keep-alive"),
    ("te", "trailers"),
    ("trailer", "x-t"),
    ("upgrade", "h2c"),
]


@pytest.mark.parametrize("line", [*HOP_BY_HOP, ("connection", "keep-alive"), ("connection", "close")])
async def test_hop_by_hop_headers_stay_behind(stage: Stage, line: tuple[str, str]) -> None:
    name, value = line
    got = await sent_upstream(stage, [("x-a", "1"), (name.title(), value), ("x-b", "2")])
    assert got == [(b"host", stage.host), (b"x-a", b"1"), (b"x-b", b"2")]


@pytest.mark.parametrize(
    "connection",
    [
        ["x-secret"],
        ["X-Secret"],
        ["keep-alive, x-secret"],
        ["close", "x-secret"],
        ["x-secret,"],
        [" ,x-secret ,x-none"],
    ],
)
async def test_what_connection_names_stays_behind(stage: Stage, connection: list[str]) -> None:
    lines = [
        ("x-secret", "1"),
        *(("connection", value) for value in connection),
        ("X-Secret", "2"),
        ("x-b", "2"),
    ]
    assert await sent_upstream(stage, lines) == [(b"host", stage.host), (b"x-b", b"2")]


@pytest.mark.parametrize(
    "named", ["content-length", "host", "transfer-encoding", "content-type, content-length"]
)
async def test_connection_cannot_take_framing_away(stage: Stage, named: str) -> None:
    got = dict(await sent_upstream(stage, [], post("/v1/x", b"{}", [("connection", named)])))
    assert (got[b"host"], got[b"content-length"]) == (stage.host, b"2")


@pytest.mark.fault("C18")
@pytest.mark.parametrize("name", ["x-weir-request-id", "X-Weir-User", "x-weir-", "X-WEIR-ANYTHING"])
async def test_our_own_headers_cannot_be_planted(stage: Stage, name: str) -> None:
    assert await sent_upstream(stage, [(name, "planted"), ("x-weir", "1")]) == [
        (b"host", stage.host),
        (b"x-weir", b"1"),
    ]
    async with stage.plant(answer(head(200, [(name, "planted"), ("content-length", "0")]))):
        answered = await stage.ask(get("/v1/x"))
        assert b"planted" not in answered.raw
        assert len(answered.all("x-weir-request-id")) == 1


@pytest.mark.fault("C18")
@pytest.mark.parametrize(
    "lines", [[("x-forwarded-for", "6.6.6.6")], [("x-real-ip", "6.6.6.6"), ("forwarded", "for=6.6.6.6")]]
)
async def test_nobody_gives_himself_an_address(stage: Stage, lines: list[tuple[str, str]]) -> None:
    assert (await sent_upstream(stage, lines))[1:] == [(n.encode(), v.encode()) for n, v in lines]
    assert [(line["address"], line["user"]) for line in await stage.ends()] == [("127.0.0.1", "127.0.0.1")]


@pytest.mark.fault("C18")
@pytest.mark.parametrize(
    "value", ["a" * 5000, "\xe9\xff", 'quote " and \\', "sk-0123456789abcdef", "Bearer abc"]
)
async def test_odd_request_ids_break_no_log(stage: Stage, value: str) -> None:
    await sent_upstream(stage, [("x-request-id", value), ("x-user-id", value)])
    (line,) = await stage.ends()
    assert len(line["client_request_id"]) <= 256
    assert "sk-0123456789abcdef" not in stage.p.stderr


@pytest.mark.fault("C18")
async def test_each_answer_has_an_id_of_its_own(stage: Stage) -> None:
    async with stage.plant(answer(ok_json(b"1"))):
        ids = [
            (await stage.ask(chat([("x-weir-request-id", "mine")]))).get("x-weir-request-id")
            for _ in range(3)
        ]
    assert len(set(ids)) == 3
    assert [line["id"].encode() for line in await stage.ends(3)] == ids


# -- headers downstream: A29, A30


@pytest.mark.fault("A30")
async def test_headers_come_back_in_their_order_with_their_duplicates(stage: Stage) -> None:
    lines = [
        (b"date", b"Sun, 06 Nov 1994 08:49:37 GMT"),
        (b"server", b"planted/1"),
        (b"set-cookie", b"a=b; Path=/"),
        (b"x-b", b"2"),
        (b"set-cookie", b"c=d"),
        (b"x-b", b"1"),
        (b"content-type", b"application/json"),
        (b"vary", b"a"),
        (b"vary", b"b"),
        (b"x_under_score", b"1"),
        (b"x-request-id", b"req_1"),
        (b"openai-processing-ms", b"1"),
        (b"x-empty", b""),
        (b"x-latin", b"\xe9"),
        (b"cache-control", b"no-cache"),
        (b"alt-svc", b'h3=":443"'),
        (b"strict-transport-security", b"max-age=1"),
        (b"content-length", b"2"),
    ]
    async with stage.plant(answer(head(200, lines) + b"{}")):
        answered = await stage.ask(chat())
    own = (b"x-weir-request-id", b"server-timing")
    assert [pair for pair in answered.headers if pair[0] not in own] == lines
    assert sorted(name for name, _ in answered.headers if name in own) == sorted(own)


@pytest.mark.fault("A29")
@pytest.mark.parametrize("line", [line for line in HOP_BY_HOP if line[0] != "upgrade"])
async def test_hop_by_hop_headers_of_an_answer_stay_behind(stage: Stage, line: tuple[str, str]) -> None:
    async with stage.plant(answer(head(200, [line, ("content-length", "0")]))):
        answered = await stage.ask(chat())
        assert (answered.status, answered.get(line[0])) == (200, None)


@pytest.mark.fault("A29")
@pytest.mark.parametrize("connection", ["x-secret", "close, X-Secret", "keep-alive,x-secret ,x-none"])
async def test_what_connection_names_in_an_answer_stays_behind(stage: Stage, connection: str) -> None:
    lines = [
        ("x-secret", "1"),
        ("connection", connection),
        ("x-secret", "2"),
        ("content-length", "0"),
        ("x-b", "2"),
    ]
    async with stage.plant(answer(head(200, lines))), stage.client() as c:
        for _ in range(2):  # what the upstream says of its connection is not said of ours
            answered = await c.ask(chat())
            assert (answered.status, answered.all("x-secret"), answered.get("x-b")) == (200, [], b"2")
            assert answered.get("connection") is None


async def test_an_answer_that_names_its_framing_keeps_it(stage: Stage) -> None:
    lines = [("connection", "content-length, content-type"), ("content-type", "a/b"), ("content-length", "2")]
    async with stage.plant(answer(head(200, lines) + b"ok")), stage.client() as c:
        for _ in range(2):
            answered = await c.ask(chat())
            assert (answered.body, answered.get("content-length")) == (b"ok", b"2")


async def test_a_stream_is_not_named_otherwise(stage: Stage) -> None:
    lines = [("cache-control", "no-cache, must-revalidate"), ("x-accel-buffering", "no")]
    async with stage.plant(answer(sse_head(headers=lines) + chunk(ONE) + last_chunk)):
        answered = await stage.ask(chat(stream=True))
    assert answered.get("content-type") == b"text/event-stream; charset=utf-8"
    assert [
        (n.decode(), v.decode()) for n, v in answered.headers if n in (b"cache-control", b"x-accel-buffering")
    ] == lines


# -- anything at all: C8

TOKENS = [
    b"GET", b"POST", b" ", b"/v1/x", b"*", b"HTTP/1.1", b"HTTP/1.0", b"\r\n", b"\n", b"\r", b"host: x\r\n",
    b"content-length: 3\r\n", b"content-length: 0\r\n", b"transfer-encoding: chunked\r\n",
    b"transfer-encoding: x\r\n", b"connection: close\r\n", b"connection: upgrade\r\nupgrade: h2c\r\n",
    b"expect: 100-continue\r\n", b"x: y\r\n", b"abc", b"0\r\n\r\n", b"3\r\nabc\r\n", b":", b"\0",
    b"\xff", b";", b"\t", b"GET /v1/x HTTP/1.1\r\nhost: x\r\n\r\n",
    b"POST /v1/x HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\n\r\nabc",
    b"POST /v1/x HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
]  # fmt: skip


@pytest.mark.fault("C8")
@settings(deadline=None, max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.sampled_from(TOKENS), min_size=1, max_size=14), st.integers(0, 40))
async def test_any_bytes_end_well(stage: Stage, parts: list[bytes], cut: int) -> None:
    """Good answers of ours for what is whole, one request upstream for each 200, an end for the rest."""
    data = b"".join(parts)
    async with stage.plant(answer(OK)) as up, stage.client() as c:
        await all_of(c, data, cut)
        answers: list[RawResponse] = []
        try:
            while True:
                answers.append(await c.response(timeout=2))
        except NoAnswer:
            pass
        assert bytes(c.buffer) == b""
        passed = [a for a in answers if a.status == 200]
        assert len([r for r in up.requests if r.ended in ("length", "chunked")]) == len(passed)
        for a in answers:
            assert a.status in (200, 400, 405, 417, 501, 505)
            if a.status != 200:
                is_error(a, a.status, a.json()["error"]["code"])


async def all_of(c: RawClient, data: bytes, cut: int) -> None:
    """Send it in two pieces, then what makes any server end: rubbish."""
    try:
        await c.send(data[:cut])
        await c.send(data[cut:] + b"\r\n\r\n\r\n\r\n\0RUBBISH\r\n\r\n")
    except ConnectionError:
        pass
