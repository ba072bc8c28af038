"""Many streams at once: an upstream that begins them and ends them when told, and who reads them."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

from sqlalchemy import select, text

from plugins.ledger.table import rows
from proxy.api.database import Database

from .client import RawClient, chat
from .framing import RawResponse
from .upstream import Conn, RawUpstream, chunk, event, last_chunk, sse_head

MODEL = "gpt-4o-2024-08-06"
INPUT, OUTPUT = Decimal("2.5") / 10**6, Decimal(10) / 10**6
"""Dollars a token of that model, by its price list."""
USAGE = {"prompt_tokens": 10, "completion_tokens": 20, "total_tokens": 30}
COST = 10 * INPUT + 20 * OUTPUT
FIRST = event(
    {"object": "chat.completion.chunk", "model": MODEL, "choices": [{"delta": {"content": "A word"}}]}
)
LAST = event({"object": "chat.completion.chunk", "model": MODEL, "choices": [], "usage": USAGE})


class Crowd:
    """The script of an upstream that begins a stream for each request, and ends it once `go` is set."""

    def __init__(self) -> None:
        self.go = asyncio.Event()
        self.begun = 0

    async def __call__(self, conn: Conn) -> None:
        while True:
            await conn.request()
            await conn.send(sse_head() + chunk(FIRST))
            self.begun += 1
            left, told = asyncio.ensure_future(conn.hang()), asyncio.ensure_future(self.go.wait())
            await asyncio.wait((left, told), return_when=asyncio.FIRST_COMPLETED)
            told.cancel()
            if left.done():
                return
            left.cancel()
            await asyncio.wait((left,))
            await conn.send(chunk(LAST) + chunk(event("[DONE]")) + last_chunk)


@asynccontextmanager
async def crowd(up: RawUpstream, port: int, number: int) -> AsyncIterator[Sequence[RawClient]]:
    """So many clients whose streams have begun."""
    async with AsyncExitStack() as stack:
        gate = asyncio.Semaphore(50)  # as many as come at once

        async def one() -> RawClient:
            async with gate:
                client = await stack.enter_async_context(RawClient(port))
                await client.send(chat(stream=True, model=MODEL, stream_options={"include_usage": True}))
                assert (await client.head(timeout=30)).status == 200
                assert await client.read_events(1, timeout=30) == [FIRST]
                return client

        yield await asyncio.gather(*(one() for _ in range(number)))


async def ends(clients: Sequence[RawClient], within: float = 60.0) -> list[RawResponse]:
    """How all of them end."""
    return await asyncio.gather(*(client.response(timeout=within) for client in clients))


def ledger(state: Path) -> list[dict[str, Any]]:
    """The rows that a process has left behind; it has ended."""
    database = Database(f"sqlite:///{state}/weir.db", package="plugins.ledger", name="ledger")
    try:
        with database.read() as connection:
            assert connection.execute(text("PRAGMA integrity_check")).scalar() == "ok"
            return [dict(row) for row in connection.execute(select(rows)).mappings()]
    finally:
        database.dispose()
