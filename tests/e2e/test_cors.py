"""What a browser sees: preflights, answers whole and streamed, errors, on the real server."""

from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest
import pytest_asyncio

from tests.faults.client import RawClient, chat, get, request
from tests.faults.framing import RawResponse
from tests.faults.process import Process
from tests.faults.upstream import Conn, RawUpstream, head, sse

pytestmark = pytest.mark.asyncio(loop_scope="module")

KEY = "sk-alice-0123456789"
PAGE, ALLOWED = ("origin", "https://app.example"), b"https://app.example"
WHO = ("authorization", f"Bearer {KEY}")
CONFIG: dict[str, Any] = {
    "cors": {"origins": ["https://app.example"]},
    "plugins": [{"use": "auth", "keys": [{"user": "alice", "key": KEY}]}],
}


async def script(conn: Conn) -> None:
    """Like some upstreams, it lets every page read its answers."""
    while True:
        asked = await conn.request()
        if b"/hangs" in asked.target:
            await conn.hang()
            return
        if asked.body and asked.json().get("stream"):
            await conn.send(sse({"id": "x", "choices": []}))
        else:
            body = orjson.dumps({"object": "list", "data": []})
            fields = [
                ("content-type", "application/json"),
                ("content-length", str(len(body))),
                ("access-control-allow-origin", "*"),
                ("x-request-id", "req_1"),
                ("x-ratelimit-remaining-tokens", "7"),
            ]
            await conn.send(head(200, fields) + body)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def up() -> AsyncIterator[RawUpstream]:
    async with RawUpstream(script) as upstream:
        yield upstream


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def weir(up: RawUpstream) -> AsyncIterator[Process]:
    async with Process(up.base_url, upstream={"api_key": "sk-upstream-0123456789"}, config=CONFIG) as process:
        yield process


def allowed(answer: RawResponse) -> list[bytes]:
    return answer.all("access-control-allow-origin")


async def asked(weir: Process, data: bytes) -> RawResponse:
    async with RawClient(weir.port) as client:
        return await client.ask(data)


async def test_a_preflight_needs_no_key_and_goes_no_further(up: RawUpstream, weir: Process) -> None:
    seen = len(up.requests)
    wants = [
        PAGE,
        ("access-control-request-method", "POST"),
        ("access-control-request-headers", "authorization,content-type,x-user-id"),
    ]
    async with RawClient(weir.port) as client:
        answer = await client.ask(request("OPTIONS", "/v1/chat/completions", wants))
        assert (answer.status, answer.body, allowed(answer)) == (204, b"", [ALLOWED])
        assert answer.get("access-control-allow-headers") == b"authorization,content-type,x-user-id"
        assert b"POST" in (answer.get("access-control-allow-methods") or b"")
        assert answer.get("x-content-type-options") == b"nosniff"
        evil = [("origin", "https://evil.example"), *wants[1:]]
        refused = await client.ask(request("OPTIONS", "/v1/chat/completions", evil))
        assert (refused.status, refused.json()["error"]["code"]) == (403, "origin_not_allowed")
        assert allowed(refused) == []
        # and the connection goes on
        assert (await client.ask(chat([PAGE, WHO]))).status == 200
    assert len(up.requests) == seen + 1


@pytest.mark.parametrize("stream", [False, True])
async def test_an_answer_may_be_read_by_the_page(weir: Process, stream: bool) -> None:
    answer = await asked(weir, chat([PAGE, WHO], stream=stream))
    assert (answer.status, allowed(answer), answer.get("vary")) == (200, [ALLOWED], b"origin")
    exposed = (answer.get("access-control-expose-headers") or b"").split(b", ")
    assert b"x-weir-request-id" in exposed
    if not stream:
        assert {b"x-request-id", b"x-ratelimit-remaining-tokens"} < set(exposed)
    assert answer.get("x-frame-options") is None


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("headers", [[], [("origin", "https://evil.example")]])
@pytest.mark.fault("G11")
async def test_and_by_no_other(weir: Process, stream: bool, headers: list[tuple[str, str]]) -> None:
    answer = await asked(weir, chat([WHO, *headers], stream=stream))
    assert (answer.status, allowed(answer), answer.get("vary")) == (200, [], b"origin")


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/models", "/v1/../x"])
async def test_an_error_may_be_read_too(weir: Process, path: str) -> None:
    answer = await asked(weir, get(path, [PAGE]))
    assert answer.status in (400, 401)
    assert allowed(answer) == [ALLOWED]


@pytest.mark.parametrize("path", ["/health", "/models"])
async def test_our_own_endpoints_too(weir: Process, path: str) -> None:
    answer = await asked(weir, get(path, [PAGE, WHO]))
    assert (answer.status, allowed(answer)) == (200, [ALLOWED])


async def test_a_page_that_is_closed_ends_its_request(up: RawUpstream, weir: Process) -> None:
    async with RawClient(weir.port) as client:
        await client.send(get("/v1/hangs", [PAGE, WHO]))
        await up.seen(len(up.requests) + 1)
    line = await weir.logged(path="/v1/hangs")
    assert line["end_reason"] == "client_gone"
