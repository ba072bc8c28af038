"""What breaks upstream is told as what it is, with a message of ours, and is never a clean end."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx2
import openai
import pytest
import pytest_asyncio

from tests.faults.process import Process
from tests.faults.upstream import (
    Conn,
    RawUpstream,
    answer,
    chunk,
    event,
    head,
    json_answer,
    last_chunk,
    sse_head,
)
from tests.ports import free_ports

from .either import Client, Kind, all_of, done, opened, play, sdk

pytestmark = pytest.mark.asyncio(loop_scope="module")

HELLO = [{"role": "user", "content": "Hello!"}]
BROKE = "The upstream broke the connection."
CLOSED = "The upstream closed the connection before its answer ended."
End = Callable[[Conn], None]


def piece(number: int) -> bytes:
    choice = {"index": 0, "delta": {"content": str(number)}, "finish_reason": None}
    return chunk(event({"id": "chatcmpl-1", "object": "chat.completion.chunk", "choices": [choice]}))


def response_event(number: int) -> bytes:
    data = {"type": "response.output_text.delta", "delta": str(number), "sequence_number": number}
    return chunk(b"event: response.output_text.delta\n" + event(data))


async def chat(c: Client, got: list[Any]) -> None:
    stream = await done(c.chat.completions.create(model="gpt-4o", messages=HELLO, stream=True))
    await collect(stream, got)


async def helper(c: Client, got: list[Any]) -> None:
    async with opened(c.chat.completions.stream(model="gpt-4o", messages=HELLO)) as stream:
        events: list[Any] = []
        try:
            await collect(stream, events)
        finally:
            got += [event for event in events if event.type == "chunk"]


async def responses(c: Client, got: list[Any]) -> None:
    await collect(await done(c.responses.create(model="gpt-4o", input="Hello!", stream=True)), got)


async def collect(stream: Any, got: list[Any]) -> None:
    if hasattr(stream, "__aiter__"):
        async for item in stream:
            got.append(item)  # noqa: PERF401 - what came before the error counts
    else:
        for item in stream:
            got.append(item)  # noqa: PERF402


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def up() -> AsyncIterator[RawUpstream]:
    async with RawUpstream() as upstream:
        yield upstream


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def before_raw(up: RawUpstream) -> AsyncIterator[Process]:
    timeouts = {"first_byte": "600ms", "idle": "600ms"}
    async with Process(up.base_url, upstream={"timeouts": timeouts}) as process:
        yield process


@pytest_asyncio.fixture(loop_scope="module")
async def client(kind: Kind, before_raw: Process) -> AsyncIterator[Client]:
    async with sdk(kind, f"http://127.0.0.1:{before_raw.port}/v1") as made, asyncio.timeout(20):
        yield made


async def breaks(client: Client, up: RawUpstream, asked: Any, data: bytes, end: End) -> openai.APIError:
    """Ask; the upstream answers with this much and then this ending."""
    asking = asyncio.create_task(play(asked, client))
    try:
        conn = await up.accept()
        await conn.request()
        await conn.send(data)
        end(conn)
        with pytest.raises(openai.APIError) as error:
            await asking
        conn.close()
        return error.value
    finally:
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)


def wait(conn: Conn) -> None:
    """Neither a byte nor an end."""


def reset_later(conn: Conn) -> None:
    """An RST takes with it what the other kernel has not handed over: it waits until that is read."""
    asyncio.get_running_loop().call_later(0.1, conn.reset)


# Before an answer


@pytest.mark.parametrize("stream", [False, True])
async def test_upstream_down(kind: Kind, stream: bool) -> None:
    async def scenario(c: Client) -> Any:
        return await done(c.chat.completions.create(model="gpt-4o", messages=HELLO, stream=stream))

    sent: list[httpx2.Request] = []
    (port,) = free_ports(1)
    async with (
        Process(f"http://127.0.0.1:{port}/v1") as weir,
        sdk(kind, f"http://127.0.0.1:{weir.port}/v1", sent=sent, max_retries=0) as client,
    ):
        with pytest.raises(openai.InternalServerError) as error:
            await play(scenario, client)
        line = await weir.logged(status=502)
    found = error.value
    message = "The upstream could not be reached. Is it running, and is its base_url right?"
    assert (found.status_code, found.code, found.type) == (502, "upstream_connect_failed", "upstream_error")
    assert message in found.message
    assert isinstance(found.body, dict)
    assert found.body["message"] == message
    assert found.request_id == found.response.headers["x-weir-request-id"] == line["id"]
    assert found.response.headers["retry-after"] == "1"
    assert (line["end_reason"], line["end_code"]) == ("upstream_error", "upstream_connect_failed")
    assert len(sent) == 1


async def test_sdk_waits_as_told_and_tries_again(kind: Kind) -> None:
    """With the second time the upstream answers."""

    async def scenario(c: Client) -> Any:
        return await done(c.models.with_raw_response.list())

    async def breaks_off(conn: Conn) -> None:
        await conn.request()
        conn.reset()

    loop = asyncio.get_running_loop()
    async with (
        RawUpstream([breaks_off, answer(json_answer({"object": "list", "data": []}))]) as up,
        Process(up.base_url) as weir,
        sdk(kind, f"http://127.0.0.1:{weir.port}/v1", max_retries=1) as client,
    ):
        start = loop.time()
        raw = await play(scenario, client)
        # Weir asks for a second; without that the SDK waits half of one at most.
        assert 1.0 <= loop.time() - start < 5.0
        assert raw.retries_taken == 1
        await weir.logged(event="request", status=502, end_code="upstream_reset")
        await weir.logged(event="request", status=200, id=raw.headers["x-weir-request-id"])


@pytest.mark.parametrize(
    ("data", "end", "code", "status"),
    [
        (b"", Conn.reset, "upstream_reset", 502),
        (b"", Conn.close, "upstream_closed", 502),
        (b"HTTP/1.1 200 OK\r\ncontent-ty", Conn.close, "upstream_closed", 502),
        (b"SSH-2.0-OpenSSH_9.6\r\n", Conn.close, "upstream_bad_response", 502),
        (b"", wait, "upstream_header_timeout", 504),
    ],
)
async def test_no_answer(
    client: Client, up: RawUpstream, data: bytes, end: End, code: str, status: int
) -> None:
    async def scenario(c: Client) -> Any:
        return await done(c.chat.completions.create(model="gpt-4o", messages=HELLO))

    error = await breaks(client, up, scenario, data, end)
    assert isinstance(error, openai.InternalServerError)
    assert (error.status_code, error.code) == (status, code)
    assert isinstance(error.body, dict)
    assert error.body["message"].startswith("The upstream")


# After its beginning


@pytest.mark.parametrize("asked", [chat, helper, responses])
@pytest.mark.parametrize(
    ("end", "code", "message"),
    [
        (reset_later, "upstream_reset", BROKE),
        (Conn.close, "upstream_reset", CLOSED),
        (wait, "upstream_idle_timeout", "The upstream sent nothing for too long (timeouts.idle)."),
    ],
    ids=["reset", "closed", "silent"],
)
async def test_stream_breaks_between_events(
    client: Client, up: RawUpstream, asked: Any, end: End, code: str, message: str
) -> None:
    got: list[Any] = []
    one = response_event if asked is responses else piece
    data = sse_head() + one(0) + one(1)
    error = await breaks(client, up, lambda c: asked(c, got), data, end)
    assert type(error) is openai.APIError
    assert (error.message, error.code, error.type) == (
        message,
        code,
        "upstream_timeout" if end is wait else "upstream_error",
    )
    assert len(got) == 2


@pytest.mark.parametrize("end", [Conn.close, wait], ids=["closed", "silent"])
async def test_stream_breaks_within_an_event(
    client: Client, up: RawUpstream, before_raw: Process, end: End
) -> None:
    """Nothing can follow half an event: the connection ends as visibly as the upstream's."""
    got: list[Any] = []
    data = sse_head() + piece(0) + chunk(b'data: {"id": "chatcmpl-1", "cho')
    error = await breaks(client, up, lambda c: chat(c, got), data, end)
    assert isinstance(error, openai.APIConnectionError)
    assert not isinstance(error, openai.APITimeoutError)
    assert len(got) == 1
    line = before_raw.logs[-1]
    assert line["end_reason"] == "upstream_error"


@pytest.mark.parametrize(
    "framing",
    [[("content-length", "100")], [("transfer-encoding", "chunked")]],
    ids=["length", "chunked"],
)
@pytest.mark.parametrize("end", [Conn.close, Conn.fin], ids=["closed", "half-closed"])
async def test_half_a_json_answer(client: Client, up: RawUpstream, framing: Any, end: End) -> None:
    async def scenario(c: Client) -> Any:
        return await done(c.chat.completions.create(model="gpt-4o", messages=HELLO))

    body = b'{"id": "x", "object": "chat.completion", "choices": []}'
    framed = chunk(body) if framing[0][0] == "transfer-encoding" else body
    data = head(200, [("content-type", "application/json"), *framing]) + framed
    error = await breaks(client, up, scenario, data, end)
    assert isinstance(error, openai.APIConnectionError)
    assert not isinstance(error, openai.APITimeoutError)


async def test_stream_without_done_ends_cleanly(client: Client, up: RawUpstream, before_raw: Process) -> None:
    """The counterpart: here the upstream's own framing says that all has come."""

    async def scenario(c: Client) -> Any:
        return await all_of(await done(c.chat.completions.create(model="x", messages=HELLO, stream=True)))

    asking = asyncio.create_task(play(scenario, client))
    conn = await up.accept()
    await conn.request()
    await conn.send(sse_head() + piece(0) + last_chunk)
    assert len(await asking) == 1
    conn.close()
    await before_raw.logged(end_code="completed_no_done")
