"""What reaches the upstream is what the SDK sent, and what it answers comes back as it was."""

import asyncio
import gzip
import re
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import orjson
import pytest
import pytest_asyncio

from tests.faults.framing import Request
from tests.faults.process import Process
from tests.faults.upstream import Conn, RawUpstream, chunk, event, head, last_chunk, sse_head

from .either import Client, Kind, all_of, done, opened, play, sdk
from .twins import comparable, untouched

pytestmark = pytest.mark.asyncio(loop_scope="module")

HOPS = {b"host", b"connection", b"content-length"}
"""What each connection has of its own, and may set in its own place."""
ODD = (
    b'{ "id":"x","object": "chat.completion",\n'
    b'"big":18446744073709551616123,"choices":[ ], "new":{"a":[1.0]} }'
)
ANSWER_HEADERS = [
    ("content-type", "application/json; charset=utf-8"),
    ("X-Odd", "\xe9 \xff"),
    ("x-odd", "two"),
    ("set-cookie", "a=1; Path=/"),
    ("set-cookie", "b=2"),
    ("x-ratelimit-remaining-tokens", "39000"),
    ("openai-organization", "org-1"),
    ("cf-ray", "1-FRA"),
]
SMALL = [event({"id": "x", "choices": [], "n": n}) for n in range(5)]


async def script(conn: Conn) -> None:
    """An answer that is odd, compressed or a compressed stream, as the path asks."""
    while True:
        request = await conn.request()
        if b"/gzip" in request.target:
            body, encoding = gzip.compress(ODD), [("content-encoding", "gzip")]
        elif b'"stream":true' in request.body:
            await conn.send(sse_head(headers=[("content-encoding", "gzip")]))
            await conn.send(chunk(gzip.compress(b"".join([*SMALL, event("[DONE]")]))) + last_chunk)
            continue
        else:
            body, encoding = ODD, []
        await conn.send(head(200, [*ANSWER_HEADERS, *encoding, ("content-length", str(len(body)))]) + body)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def up() -> AsyncIterator[RawUpstream]:
    async with RawUpstream(script) as upstream:
        yield upstream


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def weir(up: RawUpstream) -> AsyncIterator[Process]:
    async with Process(up.base_url) as process:
        yield process


class Ways:
    """The same upstream, directly and through Weir."""

    def __init__(self, up: RawUpstream, direct: Client, through: Client) -> None:
        self.up = up
        self.clients = (direct, through)

    async def same(self, scenario: Any) -> tuple[Request, Any]:
        """Play it both ways; the direct request and result, once the others were found equal to them."""
        before = len(self.up.requests)
        async with asyncio.timeout(20):
            direct, through = [await play(scenario, client) for client in self.clients]
        one, two = self.up.requests[before:]
        assert (two.method, two.target) == (one.method, one.target)
        assert _own(two) == _own(one)
        assert two.get("content-length") == one.get("content-length")
        assert _without_boundary(two) == _without_boundary(one)
        assert comparable(through) == comparable(direct)
        return one, direct


def _own(request: Request) -> list[tuple[bytes, bytes]]:
    """Its headers, names in lower case, as HTTP sees them."""
    pairs = [(name.lower(), value) for name, value in request.headers if name.lower() not in HOPS]
    return [(name, re.sub(rb"boundary=\w+", b"boundary=", value)) for name, value in pairs]


def _without_boundary(request: Request) -> bytes:
    """Its body; the boundary of a form is another each time."""
    found = re.search(rb"boundary=(\w+)", request.get("content-type") or b"")
    return request.body.replace(found[1], b"") if found else request.body


@pytest_asyncio.fixture(loop_scope="module")
async def ways(kind: Kind, up: RawUpstream, weir: Process) -> AsyncIterator[Ways]:
    options: dict[str, Any] = {
        "organization": "org-1",
        "project": "proj_2",
        "default_headers": {"X-Mine": "1", "user-agent": "mine/1.0"},
        "default_query": {"api-version": "2030-01-01", "tag": ["a", "b"]},
    }
    async with (
        sdk(kind, up.base_url, **options) as direct,
        sdk(kind, f"http://127.0.0.1:{weir.port}/v1", **options) as through,
    ):
        yield Ways(up, direct, through)


async def test_unknown_fields(ways: Ways) -> None:
    async def scenario(c: Client) -> Any:
        raw = await done(
            c.chat.completions.with_raw_response.create(
                model="gpt-9",
                messages=[{"role": "user", "content": "é\u2028😀\0"}],
                extra_headers={"X-Future": "a, b", "OpenAI-Beta": "thing=v2", "x-request-id": "mine"},
                extra_query={"future": "a&b=c/d é", "n": 1},
                extra_body={"reasoning": {"depth": [1, {"x": None}]}, "temperature": 1e-7, "big": 2**64},
            )
        )
        return [raw.http_response, raw.parse()]

    request, (response, answer) = await ways.same(scenario)
    assert request.target.startswith(b"/v1/chat/completions?")
    assert b"future=a%26b%3Dc" in request.target
    assert request.get("x-future") == b"a, b"
    assert request.get("x-request-id") == b"mine"
    assert request.get("openai-organization") == b"org-1"
    assert request.get("authorization") == b"Bearer sk-client"
    assert b'"big":18446744073709551616' in request.body
    assert orjson.loads(request.body)["reasoning"] == {"depth": [1, {"x": None}]}
    assert response.content == ODD
    assert response.headers.get_list("set-cookie") == ["a=1; Path=/", "b=2"]
    assert answer.model_extra["new"] == {"a": [1.0]}


@pytest.mark.parametrize(
    "path", ["/some/future/endpoint", "/a%2Fb%20c/%C3%A9;x=1//y/", "/files/x?b=%2f+%20&b"]
)
async def test_unknown_paths(ways: Ways, path: str) -> None:
    async def post(c: Client) -> Any:
        return await done(c.post(path, cast_to=httpx2.Response, body={"any": ["thing"]}))

    async def get(c: Client) -> Any:
        return await done(c.get(path, cast_to=object, options={"params": {"q": "é"}}))

    async def delete(c: Client) -> Any:
        return await done(c.delete(path, cast_to=object))

    for method, scenario in ((b"POST", post), (b"GET", get), (b"DELETE", delete)):
        request, _ = await ways.same(scenario)
        assert request.method == method
        assert request.target.startswith(b"/v1" + path.partition("?")[0].encode())


async def test_uploads(ways: Ways) -> None:
    async def scenario(c: Client) -> Any:
        return await done(
            c.files.create(
                file=('mö "1".bin', bytes(range(256)) * 4000, "application/x-odd"),
                purpose="user_data",
                extra_body={"future": "field"},
            )
        )

    request, _ = await ways.same(scenario)
    assert bytes(range(256)) * 4000 in request.body
    assert b'name="future"' in request.body
    assert request.ended == "length"


async def test_compressed_answers(ways: Ways) -> None:
    async def scenario(c: Client) -> Any:
        return await done(c.get("/gzip", cast_to=httpx2.Response))

    request, response = await ways.same(scenario)
    assert b"gzip" in (request.get("accept-encoding") or b"")
    assert response.headers["content-encoding"] == "gzip"
    assert int(response.headers["content-length"]) == len(gzip.compress(ODD))
    assert response.content == ODD


async def test_compressed_streams(ways: Ways) -> None:
    async def scenario(c: Client) -> Any:
        asked = c.chat.completions.with_streaming_response.create(model="x", messages=[], stream=True)
        async with opened(asked) as raw:
            return [untouched(raw.http_response), b"".join(await all_of(raw.iter_bytes()))]

    _, (headers, body) = await ways.same(scenario)
    assert (b"content-encoding", b"gzip") in headers
    assert body == b"".join([*SMALL, event("[DONE]")])
