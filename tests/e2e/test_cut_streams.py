"""Streams cut at every event there is, by everybody who can: what they cost lies within what is said of it.

The upstream knows what it has written, and bills that; it never tells.
"""

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import ROUND_CEILING, Decimal
from pathlib import Path
from typing import Any, NamedTuple

import orjson
import pytest
import pytest_asyncio

from tests.faults.client import post
from tests.faults.process import Process
from tests.faults.upstream import Conn, RawUpstream, chunk, event, ok_json, sse_head
from tests.pricing.output.scripted import STREAMS

pytestmark = [pytest.mark.slow, pytest.mark.asyncio(loop_scope="module")]

ROOT = Path(__file__).parents[2]
TEXT = 'Größe: 3.14 "fish"\n\n```py\nx_1 = f(2)\n``` 東京 and doesn\'t it 👩‍👩‍👧 end.'
INPUT, OUTPUT = Decimal("0.0000025"), Decimal("0.00001")
"""Dollars for a token of gpt-4o."""
NANO = Decimal("0.000000001")
"""Money is counted in these, rounded up."""
MOST = 400
AHEAD = 100
"""Tokens that an upstream may have written and billed before it finds out that nobody reads."""
BODIES: dict[str, tuple[str, int, dict[str, Any]]] = {
    "chat/completions": (
        "/v1/chat/completions",
        9,
        {"messages": [{"role": "user", "content": "Hello there"}], "max_tokens": MOST},
    ),
    "completions": ("/v1/completions", 2, {"prompt": "Hello there", "max_tokens": MOST}),
    "responses": ("/v1/responses", 27, {"input": "Hello there", "max_output_tokens": MOST}),
}
"""Path, tokens of input as the upstream counts them, and the request's fields."""


class Bill(NamedTuple):
    low: Decimal
    amount: Decimal
    high: Decimal
    input: int
    output: int


USAGE = {"prompt_tokens": 9, "completion_tokens": 77, "total_tokens": 86}


class Meeting:
    """Of a client that leaves with an upstream that answers only then."""

    def __init__(self) -> None:
        self.asked, self.left = asyncio.Event(), asyncio.Event()


MEETINGS: dict[bytes, Meeting] = {}
"""By the id that the client gives its request."""


async def upstream(conn: Conn) -> None:
    """Does what the header says: so many events, and then this."""
    while True:
        request = await conn.request()
        endpoint, events, ending = (request.get("x-play") or b"").decode().split(" ")
        if ending == "answer":
            meeting = MEETINGS[request.get("x-request-id") or b""]
            meeting.asked.set()
            await meeting.left.wait()
            await conn.send(ok_json(orjson.dumps({"model": "gpt-4o", "choices": [], "usage": USAGE})))
            continue
        sent = [raw for raw, _ in STREAMS[endpoint](TEXT)][: int(events)]
        await conn.send(sse_head() + b"".join(map(chunk, sent)))
        if ending == "hang":
            await conn.hang()
            return
        if ending == "go-on":
            for raw, _ in list(STREAMS[endpoint](TEXT))[int(events) :]:
                await asyncio.sleep(0.01)
                await conn.send(chunk(raw))
            await conn.send(chunk(event({"model": "gpt-4o", "choices": [], "usage": USAGE})))
            await conn.send(chunk(b"data: [DONE]\n\n"))
        if ending == "reset":
            await asyncio.sleep(0.02)  # what was sent must not be lost on the way
            conn.reset()
            return
        if ending == "close":
            conn.close()
            return
        await conn.send(b"0\r\n\r\n")


@asynccontextmanager
async def weir(*more: Any, **upstream_settings: Any) -> AsyncIterator[Process]:
    plugins = [{"use": "tests.e2e.bills:Bills"}, "auth", *more, "annotate"]
    async with (
        RawUpstream(upstream) as up,
        Process(
            up.base_url,
            upstream=upstream_settings,
            config={"plugins": plugins},
            env={"PYTHONPATH": str(ROOT)},
        ) as process,
    ):
        yield process


@pytest_asyncio.fixture(
    scope="module", loop_scope="module", params=[("precost",), ()], ids=["precost", "alone"]
)
async def process(request: pytest.FixtureRequest) -> AsyncIterator[Process]:
    """With somebody who estimates in the chain, and without."""
    async with weir(*request.param) as running:
        await billed(running, "chat/completions", 1, "end", warm=True)
        yield running


async def billed(process: Process, endpoint: str, events: int, ending: str, *, warm: bool = False) -> Bill:
    """Ask, and leave after the last event if the upstream is to hang. `warm`: only so that the vocabulary is
    loaded, which on a busy machine may take longer than anybody waits."""
    path, _, fields = BODIES[endpoint]
    name = str(uuid.uuid4())
    headers = [("x-request-id", name), ("x-play", f"{endpoint} {events} {ending}")]
    body = orjson.dumps({"model": "gpt-4o", "stream": True, **fields})
    async with process.client() as client:
        await client.send(post(path, body, headers))
        if ending == "hang":
            await client.head()
            await client.read_events(events)
        else:
            await client.response()
    line = await process.logged(timeout=10, event="bill", client_request_id=name)
    ((provenance, input_tokens, output_tokens, _),) = line["usages"]
    assert warm or provenance == line["provenance"] == "estimated"
    reasons = {"hang": "client_gone", "reset": "upstream_error", "close": "upstream_error", "end": "complete"}
    assert line["end_reason"] == reasons[ending]
    low, amount, high = (Decimal(each) for each in line["cost"])
    return Bill(low, amount, high, input_tokens, output_tokens)


def holds(bill: Bill, endpoint: str, written: int, ahead: int = 0) -> None:
    """`ahead`: tokens that were written and billed besides, and never sent."""
    _, true_input, _ = BODIES[endpoint]
    assert abs(bill.output - written) <= max(3, written / 50)
    assert abs(bill.input - true_input) <= 3
    assert bill.low <= bill.amount <= bill.high
    for more in (0, ahead):
        assert bill.low <= true_input * INPUT + (written + more) * OUTPUT <= bill.high


@pytest.mark.parametrize("ending", ["hang", "reset", "close"])
@pytest.mark.parametrize("endpoint", BODIES)
async def test_wherever_a_stream_is_cut_its_cost_lies_within_the_bounds(
    process: Process, endpoint: str, ending: str
) -> None:
    script = list(STREAMS[endpoint](TEXT))
    last = len(script) if endpoint == "chat/completions" else -1  # it says that no more is to come
    cuts = range(len(script) + 1)
    for begin in range(0, len(cuts), 8):
        some = cuts[begin : begin + 8]
        bills = await asyncio.gather(*(billed(process, endpoint, cut, ending) for cut in some))
        for cut, bill in zip(some, bills, strict=True):
            holds(bill, endpoint, script[cut - 1][1] if cut else 0, AHEAD if cut != last else 0)


async def test_a_whole_answer_without_a_usage_is_billed_by_what_it_shows(process: Process) -> None:
    script = list(STREAMS["chat/completions"](TEXT))
    bill = await billed(process, "chat/completions", len(script), "end")
    holds(bill, "chat/completions", script[-1][1])
    assert bill.high < 30 * INPUT + (len(TEXT.encode()) + 50) * OUTPUT  # no more can be in so many bytes


@pytest.mark.parametrize("ending", ["go on", "answer"])
async def test_an_upstream_that_is_drained_tells_the_true_usage(ending: str) -> None:
    """Of a stream that is left in the middle, and of an answer that nobody waits for."""
    async with weir("precost", on_disconnect="drain") as draining:
        await billed(draining, "chat/completions", 1, "end", warm=True)  # who is not asked is not drained
        name = str(uuid.uuid4())
        headers = [("x-request-id", name), ("x-play", f"chat/completions 2 {ending.replace(' ', '-')}")]
        meeting = MEETINGS[name.encode()] = Meeting()
        path, _, fields = BODIES["chat/completions"]
        body = orjson.dumps({"model": "gpt-4o", "stream": ending == "go on", **fields})
        async with draining.client() as client:
            await client.send(post(path, body, headers))
            if ending == "go on":
                await client.head()
                await client.read_events(2)
            else:
                await asyncio.wait_for(meeting.asked.wait(), 10)
        await asyncio.sleep(0.5)  # until Weir has seen it leave, of which nothing tells
        meeting.left.set()
        line = await draining.logged(timeout=10, event="bill", client_request_id=name)
        assert line["usages"] == [["measured", 9, 77, "gpt-4o"]]
        assert Decimal(line["cost"][1]) == 9 * INPUT + 77 * OUTPUT
        assert (line["end_reason"], line["end_code"]) == ("client_gone", "client_closed")


async def test_an_upstream_that_does_not_end_is_drained_no_longer_than_it_may() -> None:
    async with weir("precost", on_disconnect="drain", timeouts={"drain": "300ms"}) as draining:
        await billed(draining, "chat/completions", 1, "end", warm=True)
        bill = await billed(draining, "chat/completions", 5, "hang")
    holds(bill, "chat/completions", 4, AHEAD)


async def test_a_limit_on_money_is_settled_by_the_bill() -> None:
    async with weir("precost", {"use": "limiter", "limits": [{"name": "money", "cost": "1/day"}]}) as limited:
        await billed(limited, "chat/completions", 1, "end", warm=True)
        before = await left(limited)
        bill = await billed(limited, "chat/completions", 11, "hang")
        after = await left(limited)
    paid = before["money"] - after["money"]
    assert bill.amount > 0
    assert paid == bill.amount.quantize(NANO, ROUND_CEILING)


async def left(process: Process) -> dict[str, Decimal]:
    """What is left of each limit."""
    limits = (await process.get("/rate-limit/status")).json()["limits"]
    return {limit["name"]: Decimal(str(limit["remaining"])) for limit in limits}
