"""What is kept of a request that went wrong: its row, its cost, and what limits charge (A, B).

After each test the ledger and the limits are compared, to the nanodollar: see stage.py.
"""

import asyncio
import gzip
from collections.abc import Awaitable, Callable
from decimal import Decimal
from typing import Any, NamedTuple

import pytest

from .client import RawClient, chat
from .stage import OK, TEN, Stage, broke_off, is_error
from .upstream import (
    Conn,
    RawUpstream,
    Script,
    answer,
    chunk,
    event,
    head,
    json_answer,
    last_chunk,
    planted,
    sse_head,
)

FISH = event({"model": "gpt-4o-mini", "choices": [{"index": 0, "delta": {"content": " fish"}}]})
DONE = chunk(event("[DONE]")) + last_chunk
USAGE = {"prompt_tokens": 9, "completion_tokens": 20, "total_tokens": 29}
STREAM = chat(stream=True, max_tokens=50)
WHOLE = chat(max_tokens=50)
NOTHING = Decimal(0)
MOST = Decimal("0.0000339")
"""Dollars: the bound of the input, and 50 tokens."""
SEEN = Decimal("0.0000033")
"""Dollars: 10 tokens of input as counted, and three of output."""


class Kept(NamedTuple):
    """Of a row: reason and code of the end, how its usage is known, its tokens, its cost and the most."""

    reason: str
    code: str
    provenance: str
    tokens: tuple[int | None, int | None]
    cost: Decimal
    most: Decimal


async def kept(books: Stage) -> Kept:
    row: dict[str, Any] = await books.row()
    assert Decimal(row["cost_low_usd"]) == 0
    return Kept(
        row["end_reason"],
        row["end_code"],
        row["usage_provenance"],
        (row["input_tokens"], row["output_tokens"]),
        Decimal(row["cost_usd"]),
        Decimal(row["cost_high_usd"]),
    )


@pytest.mark.fault("A1")
async def test_what_reached_no_upstream_has_a_row_and_costs_nothing(books: Stage) -> None:
    answered = await books.ask(WHOLE)
    is_error(answered, 502, "upstream_connect_failed")
    assert answered.get("retry-after") == b"1"
    found = await kept(books)
    assert found == Kept("upstream_error", "upstream_connect_failed", "none", (0, 0), NOTHING, NOTHING)


@pytest.mark.fault("A2")
async def test_what_was_never_accepted_costs_nothing(books: Stage) -> None:
    async with books.plant(backlog=1, accepting=False) as up:
        await up.fill_backlog()
        is_error(await books.ask(WHOLE), 504, "upstream_connect_timeout")
    found = await kept(books)
    assert found == Kept("upstream_error", "upstream_connect_timeout", "none", (0, 0), NOTHING, NOTHING)


@pytest.mark.parametrize(
    ("script", "code", "status"),
    [
        pytest.param(planted(b"", Conn.reset), "upstream_reset", 502, marks=pytest.mark.fault("A4")),
        pytest.param(planted(b""), "upstream_closed", 502, marks=pytest.mark.fault("A5")),
        pytest.param(planted(b"", None), "upstream_header_timeout", 504, marks=pytest.mark.fault("A7")),
        pytest.param(
            planted(b"rubbish\r\n\r\n"), "upstream_bad_response", 502, marks=pytest.mark.fault("A15")
        ),
    ],
)
async def test_what_was_not_answered_is_given_back_though_it_may_have_cost(
    books: Stage, script: Script, code: str, status: int
) -> None:
    async with books.plant(script) as up:
        is_error(await books.ask(WHOLE), status, code)
        assert len(up.requests) == 1
    found = await kept(books)
    assert found == Kept("upstream_error", code, "estimated", (None, None), NOTHING, MOST)


@pytest.mark.fault("A8")
async def test_an_answer_that_is_held_for_its_cost_and_hangs_is_a_clean_error(books: Stage) -> None:
    async with books.plant(planted(TEN + b"01234", None)):
        is_error(await books.ask(WHOLE), 504, "upstream_idle_timeout")
    found = await kept(books)
    assert found == Kept("upstream_error", "upstream_idle_timeout", "bounded", (26, 50), MOST, MOST)


@pytest.mark.parametrize(
    ("end", "code"),
    [
        pytest.param(None, "upstream_idle_timeout", marks=pytest.mark.fault("A9")),
        pytest.param(Conn.close, "upstream_reset", marks=pytest.mark.fault("A10")),
        pytest.param(Conn.reset, "upstream_reset", marks=pytest.mark.fault("A13")),
    ],
)
async def test_a_stream_that_breaks_costs_what_was_streamed(
    books: Stage, end: Callable[[Conn], None] | None, code: str
) -> None:
    async def script(conn: Conn) -> None:
        await conn.request()
        await conn.send(sse_head() + chunk(FISH) * 3)
        await read.wait()
        await conn.hang() if end is None else end(conn)

    read = asyncio.Event()
    async with books.plant(script), books.client() as c:
        await c.send(STREAM)
        assert await c.read_events(3) == [FISH] * 3
        read.set()
        broke_off(await c.response(), FISH * 3, code)
    found = await kept(books)
    assert found == Kept("upstream_error", code, "estimated", (10, 3), SEEN, MOST)


@pytest.mark.parametrize(
    ("end", "code"),
    [
        pytest.param(last_chunk, "completed_no_done", marks=pytest.mark.fault("A12")),
        pytest.param(DONE, "completed", marks=pytest.mark.fault("A40")),
    ],
)
async def test_a_stream_without_the_usage_that_was_asked_for_is_estimated(
    books: Stage, end: bytes, code: str
) -> None:
    async with books.plant(planted(sse_head() + chunk(FISH) * 3 + end)) as up:
        answered = await books.ask(STREAM)
        assert answered.ended == "chunked"
        assert answered.body.startswith(FISH * 3)
        assert up.requests[0].json()["stream_options"] == {"include_usage": True}
    found = await kept(books)
    assert found == Kept("complete", code, "estimated", (10, 3), SEEN, MOST)


@pytest.mark.fault("A32")
@pytest.mark.parametrize("status", [401, 403, 429, 500])
async def test_what_the_upstream_refuses_costs_nothing(books: Stage, status: int) -> None:
    refused = json_answer({"error": {"message": "no"}}, status, [("retry-after", "7")])
    async with books.plant(answer(refused)):
        answered = await books.ask(WHOLE)
        assert (answered.status, answered.get("retry-after")) == (status, b"7")
        assert answered.body == refused.partition(b"\r\n\r\n")[2]
    assert (await books.row())["status"] == status
    found = await kept(books)
    assert found == Kept("complete", "completed", "none", (0, 0), NOTHING, NOTHING)


@pytest.mark.fault("A34")
@pytest.mark.parametrize("stream", [False, True])
async def test_the_usage_of_a_compressed_answer_is_read(books: Stage, stream: bool) -> None:
    told = {"model": "gpt-4o-mini", "choices": [], "usage": USAGE}
    plain = event(told) + event("[DONE]") if stream else json_answer(told).partition(b"\r\n\r\n")[2]
    coded = gzip.compress(plain)
    kind = "text/event-stream" if stream else "application/json"
    lines = [("content-type", kind), ("content-encoding", "gzip"), ("content-length", str(len(coded)))]
    async with books.plant(answer(head(headers=lines) + coded)):
        ask = chat([("accept-encoding", "gzip")], stream=stream, stream_options={"include_usage": True})
        assert (await books.ask(ask if stream else WHOLE)).body == coded
    row = await books.row()
    assert (row["usage_provenance"], row["input_tokens"], row["output_tokens"]) == ("measured", 9, 20)


@pytest.mark.fault("A35")
async def test_what_decompresses_to_100_mb_is_not_read_to_its_end(books: Stage) -> None:
    long = b'{"model":"gpt-4o-mini","pad":"' + b"x" * (100 << 20) + b'","usage":{"prompt_tokens":9}}'
    bomb = gzip.compress(long, 9)
    lines = [("content-type", "application/json"), ("content-encoding", "gzip")]
    before = books.p.peak_rss()
    async with books.plant(answer(head(headers=[*lines, ("content-length", str(len(bomb)))]) + bomb)):
        assert (await books.ask(WHOLE, timeout=20)).body == bomb
    assert books.p.peak_rss() - before < 40 << 20
    found = await kept(books)
    assert found == Kept("complete", "completed", "bounded", (26, 50), MOST, MOST)


@pytest.mark.fault("A38")
async def test_an_event_of_20_mb_is_not_kept_and_its_stream_is_accounted_for(books: Stage) -> None:
    async def script(conn: Conn) -> None:
        await conn.request()
        await conn.send(sse_head() + chunk(FISH) + chunk(b"data: "))
        for _ in range(320):
            await conn.send(chunk(b"x" * 65_000))
        await conn.send(chunk(b"\n\n") + DONE)
        await conn.hang()

    before = books.p.peak_rss()
    async with books.plant(script), books.client(keep=False) as c:
        answered = await c.ask(STREAM, timeout=30)
        assert answered.ended == "chunked"
        assert answered.size > 320 * 65_000
    assert books.p.peak_rss() - before < 20 << 20
    row = await books.row()
    assert (row["end_code"], row["usage_provenance"]) == ("completed", "estimated")


@pytest.mark.fault("A39")
async def test_the_usage_is_found_in_a_stream_with_every_kind_of_line_end(books: Stage) -> None:
    usage = (
        b'{"model":"gpt-4o-mini","choices":[],',
        b'"usage":{"prompt_tokens":9,"completion_tokens":20,"total_tokens":29}}',
    )
    sent = (
        b"\xef\xbb\xbf: comment\r\rdata: {\"choices\":[]}\r\n\r\nid: 7\r\n"
        b"data: " + usage[0] + b"\ndata: " + usage[1] + b"\r\n\ndata: [DONE]\r\r"
    )  # fmt: skip
    ask = chat(stream=True, stream_options={"include_usage": True})
    framed = b"".join(chunk(sent[at : at + 7]) for at in range(0, len(sent), 7))
    async with books.plant(planted(sse_head() + framed + last_chunk)):
        assert (await books.ask(ask)).ended == "chunked"
    row = await books.row()
    assert (row["usage_provenance"], row["input_tokens"], row["output_tokens"]) == ("measured", 9, 20)


# -- clients that leave

Leave = Callable[[RawClient, RawUpstream], Awaitable[None]]


async def leaves(books: Stage, ask: bytes, script: Script, when: Leave) -> int:
    """How many requests came to the upstream from a client that leaves then."""
    async with books.plant(script) as up, books.client() as c:
        await c.send(ask)
        await when(c, up)
        c.close()
        await up.closed(1.5)
        await books.ends()
        return len(up.requests)


async def when_asked(c: RawClient, up: RawUpstream) -> None:
    await up.seen(ended=True)


async def when_begun(c: RawClient, up: RawUpstream) -> None:
    assert await c.read_events(3) == [FISH] * 3


@pytest.mark.fault("B1")
async def test_half_a_request_that_has_to_be_read_goes_nowhere(books: Stage) -> None:
    async def half(c: RawClient, up: RawUpstream) -> None:
        await asyncio.sleep(0.05)

    assert await leaves(books, WHOLE[:-5], answer(OK), half) == 0
    assert await books.end() == ("client_gone", "client_closed_upload")


@pytest.mark.fault("B2")
@pytest.mark.parametrize(
    ("ask", "provenance", "tokens", "cost"),
    [(WHOLE, "bounded", (26, 50), MOST), (STREAM, "estimated", (10, 0), Decimal("0.0000015"))],
    ids=["whole", "stream"],
)
async def test_who_leaves_before_the_answer_is_charged_what_it_may_have_cost(
    books: Stage, ask: bytes, provenance: str, tokens: tuple[int, int], cost: Decimal
) -> None:
    assert await leaves(books, ask, planted(b"", None), when_asked) == 1
    found = await kept(books)
    assert found == Kept("client_gone", "client_closed", provenance, tokens, cost, MOST)


@pytest.mark.fault("B3")
async def test_who_leaves_a_stream_is_charged_what_was_streamed(books: Stage) -> None:
    script = planted(sse_head() + chunk(FISH) * 3, None)
    assert await leaves(books, STREAM, script, when_begun) == 1
    found = await kept(books)
    assert found == Kept("client_gone", "client_closed", "estimated", (10, 3), SEEN, MOST)
