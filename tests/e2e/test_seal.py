"""The security fields: on every answer that Weir makes itself, wherever it makes it, and on no other."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from proxy.core.seal import FIELDS
from tests.faults.client import RawClient, chat, get, request
from tests.faults.framing import RawResponse
from tests.faults.process import Process
from tests.faults.upstream import Conn, RawUpstream, json_answer, sse

pytestmark = pytest.mark.asyncio(loop_scope="module")

KEY = "sk-alice-0123456789"
WHO = ("authorization", f"Bearer {KEY}")
CONFIG: dict[str, Any] = {"plugins": [{"use": "auth", "keys": [{"user": "alice", "key": KEY}]}]}


async def script(conn: Conn) -> None:
    while True:
        asked = await conn.request()
        if b"/closes" in asked.target:
            conn.close()
            return
        if b"/keeps" in asked.target:
            await conn.send(json_answer({}, headers=[("cache-control", "max-age=60")]))
        elif asked.body and asked.json().get("stream"):
            await conn.send(sse({"id": "x", "choices": []}))
        else:
            await conn.send(json_answer({}, 404 if b"/missing" in asked.target else 200))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def weir() -> AsyncIterator[Process]:
    async with RawUpstream(script) as up, Process(up.base_url, config=CONFIG) as process:
        yield process


async def asked(weir: Process, data: bytes, *, management: bool = False) -> RawResponse:
    async with RawClient(weir.management if management else weir.port) as client:
        return await client.ask(data)


def fields(answer: RawResponse) -> list[tuple[bytes, bytes]]:
    names = {name for name, _ in FIELDS}
    return sorted(pair for pair in answer.headers if pair[0] in names)


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (get("/health"), 200),
        (get("/models", [WHO]), 200),
        (get("/models"), 401),
        (chat(), 401),
        (get("/v1/closes", [WHO]), 502),
        (get("/v1/../x", [WHO]), 400),
        (request("TRACE", "/v1/x", [WHO]), 405),
        (get("/v1/x", [WHO, ("transfer-encoding", "gzip")]), 501),
        (b"GET / HTTP/1.1\r\nno header\r\n\r\n", 400),
        (get("/v1/" + "x" * 20_000, [WHO]), 414),
    ],
)
async def test_an_answer_of_our_own_has_them(weir: Process, data: bytes, status: int) -> None:
    answer = await asked(weir, data)
    assert (answer.status, fields(answer)) == (status, FIELDS)


@pytest.mark.parametrize(
    ("path", "status"), [("/healthz", 200), ("/readyz", 200), ("/metrics", 200), ("/nothing", 404)]
)
async def test_the_management_port_has_them(weir: Process, path: str, status: int) -> None:
    answer = await asked(weir, get(path), management=True)
    assert (answer.status, fields(answer)) == (status, FIELDS)


@pytest.mark.parametrize(
    ("data", "status", "found"),
    [
        (chat([WHO]), 200, []),
        (chat([WHO], stream=True), 200, []),
        (get("/v1/models", [WHO]), 200, []),
        (get("/v1/missing", [WHO]), 404, []),
        (get("/v1/keeps", [WHO]), 200, [(b"cache-control", b"max-age=60")]),
    ],
)
async def test_what_is_forwarded_has_none_of_them(
    weir: Process, data: bytes, status: int, found: list[tuple[bytes, bytes]]
) -> None:
    answer = await asked(weir, data)
    assert (answer.status, fields(answer)) == (status, found)
