"""What a plugin asks the upstream itself, shown by the upstream's own count of a prompt (`ask_upstream`).

It counts, does not know how, says nothing, too much or half of it, or cannot be reached; clients leave."""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest
import pytest_asyncio

from .client import post
from .framing import RawResponse
from .stage import BEARER, CANARIES, KEY, KEYS, OK, UPSTREAM_KEY, Stage, a_test
from .upstream import Conn, Script, chunk, json_answer, last_chunk, ok_json, sse_head
from .wire import until

PATIENCE = "400ms"
COUNTED = ok_json(b'{"object":"response.input_tokens","input_tokens":4321}')
UNKNOWN = json_answer({"error": {"message": "Unknown path."}}, 404)
CHAIN = [*KEYS, {"use": "precost", "ask_upstream": True, "ask_timeout": PATIENCE}]
STORED = {"previous_response_id": "resp_1"}
DRY = ("x-weir-dry-run", "true")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared_asking(upstream_client: str) -> AsyncIterator[Stage]:
    settings = {"client": upstream_client, "api_key": UPSTREAM_KEY, "pool": {"max": 2}}
    async with Stage(upstream=settings, config={"plugins": CHAIN}) as stage:
        async with stage.plant(answer_by_path(COUNTED)):
            assert (await stage.ask(responses(DRY))).status == 200  # the vocabulary is loaded
        yield stage


@pytest_asyncio.fixture
async def asking(shared_asking: Stage) -> AsyncIterator[Stage]:
    """A process that has the upstream count, with a key of its own and two connections at most."""
    async with a_test(shared_asking):
        yield shared_asking


@pytest_asyncio.fixture
async def failing(shared_asking: Stage) -> AsyncIterator[Stage]:
    """The same, whose log may say that the upstream does not count, once a minute."""
    stage = shared_asking
    await stage.begin()
    fds = stage.p.fds()
    yield stage
    await until(lambda: stage.p.fds() <= fds, 3.0, lambda: f"{stage.p.fds() - fds} sockets to be closed")
    assert await stage.in_flight() == []
    grave = [line for line in stage.lines if line["level"] not in ("debug", "info")]
    assert {line["event"] for line in grave} <= {"the upstream does not count: estimates are ours"}
    assert len(grave) <= 1
    assert [canary for canary in CANARIES if canary in str(stage.lines)] == []


def responses(*headers: tuple[str, str], **fields: object) -> bytes:
    body = orjson.dumps({"model": "gpt-4o", "input": "Say hi.", "stream": False, **fields})
    return post("/v1/responses", body, [BEARER, ("content-type", "application/json"), *headers])


def answer_by_path(count: bytes, other: bytes = OK) -> Script:
    """Answers what is asked with `count`, and all else with `other`."""

    async def script(conn: Conn) -> None:
        while True:
            request = await conn.request()
            await conn.send(count if request.target.endswith(b"/input_tokens") else other)

    return script


def told(answered: RawResponse) -> tuple[bytes | None, bytes | None]:
    return answered.get("x-weir-estimated-input-tokens"), answered.get("x-weir-estimate-method")


async def test_an_upstream_that_counts_is_asked_before_the_request_and_on_the_same_connection(
    asking: Stage,
) -> None:
    async with asking.plant(answer_by_path(COUNTED)) as up:
        answered = await asking.ask(responses(("accept-encoding", "br"), ("cookie", "a=b"), **STORED))
        assert (answered.status, answered.body) == (200, b'{"ok":true}')
        assert told(answered) == (b"4321", b"upstream")
        question, request = up.requests
        assert (question.method, question.target) == (b"POST", b"/v1/responses/input_tokens")
        assert question.body == b'{"model":"gpt-4o","input":"Say hi.","previous_response_id":"resp_1"}'
        assert request.target == b"/v1/responses"
        assert up.connections == 1
    (line,) = await asking.ends()
    assert (line["status"], line["attempts"]) == (200, 1)
    timing = (answered.get("server-timing") or b"").decode()
    assert [hop.partition(";")[0] for hop in timing.split(", ")].count("ask") == 1


async def test_the_question_has_the_upstreams_key_and_nothing_of_the_clients_but_its_account(
    asking: Stage,
) -> None:
    account = ("openai-organization", "org-1")
    async with asking.plant(answer_by_path(COUNTED)) as up:
        await asking.ask(responses(account, ("x-secret", "s"), **STORED))
        question, request = up.requests
    assert sorted(question.headers) == sorted(
        [
            (b"host", asking.host),
            (b"openai-organization", b"org-1"),
            (b"authorization", f"Bearer {UPSTREAM_KEY}".encode()),
            (b"content-type", b"application/json"),
            (b"accept", b"application/json"),
            (b"accept-encoding", b"identity"),
            (b"content-length", b"%d" % len(question.body)),
        ]
    )
    assert KEY.encode() not in b"".join(value for _, value in [*question.headers, *request.headers])


async def test_a_dry_run_asks_and_forwards_nothing(asking: Stage) -> None:
    async with asking.plant(answer_by_path(COUNTED)) as up:
        answered = await asking.ask(responses(DRY))
        assert (answered.json()["input_tokens"], answered.json()["method"]) == (4321, "upstream")
        assert [request.target for request in up.requests] == [b"/v1/responses/input_tokens"]
    (line,) = await asking.ends()
    assert line["attempts"] == 0


# Whoever answers a question badly: what of it can be seen is in tests/plugins/precost/test_upstream.py.


async def floods(conn: Conn) -> None:
    await conn.send(sse_head())
    try:
        while True:
            await conn.send(chunk(b"4321 " * 4096))
    except ConnectionError:
        pass


async def stalls(conn: Conn) -> None:
    await conn.send(sse_head() + chunk(b'{"input_tokens":'))
    await conn.hang()


async def hangs(conn: Conn) -> None:
    await conn.hang()


async def breaks_off(conn: Conn) -> None:
    await conn.send(COUNTED[:-5])
    conn.close()


async def resets(conn: Conn) -> None:
    conn.reset()


async def lies(conn: Conn) -> None:
    await conn.send(sse_head() + chunk(b'{"input_tokens":-4321}') + last_chunk)
    conn.fin()
    await conn.hang()


async def is_no_http(conn: Conn) -> None:
    await conn.send(b"4321\r\n\r\n")
    await conn.hang()


@pytest.mark.parametrize(
    "bad", [floods, stalls, hangs, breaks_off, resets, lies, is_no_http], ids=lambda bad: bad.__name__
)
async def test_an_upstream_that_does_not_tell_costs_the_patience_at_most(failing: Stage, bad: Any) -> None:
    async def script(conn: Conn) -> None:
        while True:
            if (await conn.request()).target.endswith(b"/input_tokens"):
                await bad(conn)
                return
            await conn.send(OK)

    async with failing.plant(script) as up:
        start = time.monotonic()
        answered = await failing.ask(responses(**STORED))
        took = time.monotonic() - start
        assert (answered.status, answered.body) == (200, b'{"ok":true}')
        assert told(answered)[1] == b"tiktoken"
        assert took < 5
        assert len(up.requests) == 2
        assert up.connections == 2  # what was cut off is not used again
    (line,) = await failing.ends()
    assert (line["attempts"], line["end_code"]) == (1, "completed")


async def test_an_upstream_that_cannot_count_costs_a_round_trip(failing: Stage) -> None:
    async with failing.plant(answer_by_path(UNKNOWN)) as up:
        for _ in range(3):
            answered = await failing.ask(responses(**STORED))
            assert (answered.body, told(answered)[1]) == (b'{"ok":true}', b"tiktoken")
        assert up.connections == 1
        assert len(up.requests) == 6


async def test_an_upstream_that_is_not_there_fails_the_request_as_ever(failing: Stage) -> None:
    answered = await failing.ask(responses(**STORED))
    assert (answered.status, answered.json()["error"]["code"]) == (502, "upstream_connect_failed")
    assert told(answered)[1] == b"tiktoken"


async def test_a_client_that_leaves_takes_the_question_with_it(asking: Stage) -> None:
    async def script(conn: Conn) -> None:
        await conn.request()
        await conn.hang()

    async with asking.plant(script) as up:
        async with asking.client() as c:
            await c.send(responses(**STORED))
            await up.seen(1, ended=True)
        await up.closed(0.3)  # sooner than the patience
        assert len(up.requests) == 1
        assert await asking.end() == ("client_gone", "client_closed")


async def test_questions_wait_for_a_connection_no_longer_than_the_patience(failing: Stage) -> None:
    """Both connections are taken by answers that have not ended."""
    held = asyncio.Event()

    async def script(conn: Conn) -> None:
        while True:
            if (await conn.request()).target.endswith(b"/input_tokens"):
                await conn.send(UNKNOWN)
                continue
            await conn.send(sse_head() + chunk(b"data: 1\n\n"))
            await held.wait()
            await conn.send(last_chunk)

    async with failing.plant(script) as up:
        async with failing.client() as one, failing.client() as other:
            for c in (one, other):
                await c.send(responses(stream=True))
                await c.head()
            answered = await failing.ask(responses(DRY))
            assert answered.json()["method"] == "tiktoken"
            assert len(up.requests) == 2
            held.set()
            for c in (one, other):
                assert (await c.response()).ended == "chunked"
        await failing.ends(3)
