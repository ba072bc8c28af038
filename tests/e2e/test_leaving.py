"""A client that leaves, however its SDK does that: the upstream is let go at once, and the log says so."""

import asyncio
import gc
import time
import uuid
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import httpx2
import openai
import pytest
import pytest_asyncio

from tests.faults.process import Process
from tests.faults.upstream import RawUpstream, chunk, event, sse_head

from .either import Client, Kind, done, opened, play, sdk

pytestmark = pytest.mark.asyncio(loop_scope="module")

Leave = Callable[[Client, dict[str, Any]], Coroutine[Any, Any, float]]
"""Asks, and leaves in the middle of the answer; when that was."""


WITHIN = 2.0
"""Seconds: Weir needs one at most, and a busy machine some of its own."""


def piece(number: int) -> bytes:
    choice = {"index": 0, "delta": {"content": str(number)}, "finish_reason": None}
    return chunk(event({"id": "chatcmpl-1", "object": "chat.completion.chunk", "choices": [choice]}))


async def next_of(stream: Any) -> Any:
    return await anext(stream) if hasattr(stream, "__anext__") else next(stream)


async def read_on(stream: Any) -> None:
    while True:
        await next_of(stream)


# In the middle of a stream


async def leave_the_block(c: Client, options: dict[str, Any]) -> float:
    async with opened(await done(c.chat.completions.create(**options))) as stream:
        await next_of(stream)
        return time.monotonic()


async def close_it(c: Client, options: dict[str, Any]) -> float:
    stream = await done(c.chat.completions.create(**options))
    await next_of(stream)
    now = time.monotonic()
    await done(stream.close())
    return now


async def break_off(c: Client, options: dict[str, Any]) -> float:
    """As in most examples: the loop is left, and the stream forgotten.

    The SDK's stream is part of a reference cycle: it is the garbage collector that closes it, Weir or not.
    """
    if isinstance(c, openai.OpenAI):
        for _ in c.chat.completions.create(**options):
            break
    else:
        async for _ in await c.chat.completions.create(**options):
            break
    now = time.monotonic()
    await asyncio.sleep(0.05)
    gc.collect()
    return now


async def leave_the_helper(c: Client, options: dict[str, Any]) -> float:
    asked = {name: value for name, value in options.items() if name != "stream"}
    async with opened(c.chat.completions.stream(**asked)) as stream:
        await next_of(stream)
        return time.monotonic()


async def lose_patience(c: Client, options: dict[str, Any]) -> float:
    stream = await done(c.chat.completions.create(**options, timeout=httpx2.Timeout(5, read=0.2)))
    with pytest.raises(openai.APITimeoutError):
        await read_on(stream)
    return time.monotonic()


async def time_out(c: Client, options: dict[str, Any]) -> float:
    async def read() -> None:
        async with asyncio.timeout(0.2):
            await read_on(await c.chat.completions.create(**options))

    with pytest.raises(TimeoutError):
        await read()
    return time.monotonic()


async def be_cancelled(c: Client, options: dict[str, Any]) -> float:
    async def read() -> None:
        async for _ in await c.chat.completions.create(**options):
            begun.set()

    begun = asyncio.Event()
    reading = asyncio.create_task(read())
    await begun.wait()
    now = time.monotonic()
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    return now


# Before any answer


async def lose_patience_at_once(c: Client, options: dict[str, Any]) -> float:
    with pytest.raises(openai.APITimeoutError):
        await done(c.chat.completions.create(**options, timeout=0.2))
    return time.monotonic()


async def time_out_at_once(c: Client, options: dict[str, Any]) -> float:
    async def ask() -> None:
        async with asyncio.timeout(0.2):
            await c.chat.completions.create(**options)

    with pytest.raises(TimeoutError):
        await ask()
    return time.monotonic()


MIDDLE: list[Any] = [leave_the_block, close_it, break_off, leave_the_helper, lose_patience]
ASYNC_MIDDLE: list[Any] = [time_out, be_cancelled]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def up() -> AsyncIterator[RawUpstream]:
    async with RawUpstream() as upstream:
        yield upstream


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def before_raw(up: RawUpstream) -> AsyncIterator[Process]:
    async with Process(up.base_url) as process:
        yield process


@pytest.mark.parametrize(
    ("kind", "leave", "streaming"),
    [
        *((kind, leave, True) for kind in ("sync", "async") for leave in MIDDLE),
        *(("async", leave, True) for leave in ASYNC_MIDDLE),
        ("sync", lose_patience_at_once, False),
        ("async", lose_patience_at_once, False),
        ("async", time_out_at_once, False),
    ],
)
async def test_upstream_is_let_go(
    up: RawUpstream, before_raw: Process, kind: Kind, leave: Leave, streaming: bool
) -> None:
    name = str(uuid.uuid4())
    requests = len(up.requests)
    options: dict[str, Any] = {
        "model": "gpt-4o",
        "messages": [{"role": "user", "content": "Hello!"}],
        "stream": True,
        "extra_headers": {"x-request-id": name},
    }
    async with sdk(kind, f"http://127.0.0.1:{before_raw.port}/v1") as client, asyncio.timeout(15):
        leaving = asyncio.create_task(play(lambda c: leave(c, options), client))
        try:
            conn = await up.accept()
            await conn.request()
            if streaming:
                await conn.send(sse_head() + piece(0))
                await conn.send(piece(1))
            await conn.wait_closed()
            closed = time.monotonic()
            assert closed - await leaving < WITHIN
        finally:
            leaving.cancel()
            await asyncio.gather(leaving, return_exceptions=True)
        conn.close()
        line = await before_raw.logged(client_request_id=name)
    assert (line["end_reason"], line["stream"]) == ("client_gone", streaming)
    assert line["status"] == (200 if streaming else None)
    assert len(up.requests) == requests + 1


async def test_demo_is_let_go(kind: Kind, weir: Process) -> None:
    """Its slow answer would go on for seconds."""
    name = str(uuid.uuid4())
    async with sdk(kind, f"http://127.0.0.1:{weir.port}/v1") as client:
        left = await leave_the_block(
            client,
            {
                "model": "slow",
                "messages": [{"role": "user", "content": "Hello!"}],
                "stream": True,
                "extra_headers": {"x-request-id": name},
            },
        )
        line = await weir.logged(client_request_id=name)
        assert time.monotonic() - left < WITHIN
        assert (line["end_reason"], line["status"]) == ("client_gone", 200)
        assert (await done(client.models.retrieve("gpt-4o"))).id == "gpt-4o"
