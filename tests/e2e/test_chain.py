"""The built-in chain as `make run` starts it: price and limits on every answer, streams included."""

from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any

import httpx2
import orjson
import pytest_asyncio

from proxy.core.app import DEFAULT_CHAIN
from proxy.pricing.table import default
from proxy.pricing.usage import read
from tests.faults.process import Process

CHAT = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Hello!"}]}
URL = "/v1/chat/completions"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def weir(demos: tuple[str, str]) -> AsyncIterator[Process]:
    async with Process(demos[1], config={"plugins": [*DEFAULT_CHAIN]}) as process:
        yield process


@pytest_asyncio.fixture
async def client(weir: Process) -> AsyncIterator[httpx2.AsyncClient]:
    async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{weir.port}", trust_env=False) as client:
        yield client


def cost_of(body: Any) -> str:
    usage = read("chat/completions", body)
    assert usage is not None
    amount = default().cost(usage, "gpt-4o-mini").amount
    assert amount is not None
    assert amount > 0
    return format(amount, "f")


async def test_an_answer_says_what_it_cost_and_what_it_might_have(client: httpx2.AsyncClient) -> None:
    answer = await client.post(URL, json=CHAT)
    told = answer.headers
    assert told["x-weir-cost-usd"] == cost_of(answer.json())
    assert told["x-weir-input-tokens"] == str(answer.json()["usage"]["prompt_tokens"])
    assert told["x-weir-estimate-method"] == "tiktoken"
    assert Decimal(told["x-weir-estimated-cost-usd"]) >= Decimal(told["x-weir-cost-usd"])
    assert told["x-ratelimit-limit-requests"] == "100"


async def test_a_stream_says_it_before_its_end(client: httpx2.AsyncClient) -> None:
    answer = await client.post(URL, json={**CHAT, "stream": True})
    *events, comment, done, rest = answer.text.split("\n\n")
    assert (done, rest) == ("data: [DONE]", "")
    assert "x-ratelimit-remaining-requests" in answer.headers
    assert not any("usage" in event for event in events)
    asked = await client.post(URL, json={**CHAT, "stream": True, "stream_options": {"include_usage": True}})
    usage = orjson.loads(asked.text.split("\n\n")[-4].removeprefix("data: "))
    assert comment.startswith(": weir ")
    assert orjson.loads(comment.removeprefix(": weir "))["cost_usd"] == cost_of(usage)


async def test_a_dry_run_is_priced_judged_and_not_sent(weir: Process, client: httpx2.AsyncClient) -> None:
    async def left() -> int:
        status = (await client.get("/rate-limit/status", headers={"x-user-id": "careful"})).json()
        remaining: int = next(limit["remaining"] for limit in status["limits"] if limit["name"] == "chat")
        return remaining

    headers = {"x-weir-dry-run": "true", "x-user-id": "careful"}
    answer = await client.post(URL, json={**CHAT, "max_tokens": 10}, headers=headers)
    told = answer.json()
    assert (told["object"], told["admitted"], told["max_output_tokens"]) == ("weir.estimate", True, 10)
    assert told["input_tokens"] == 9  # 3 for the message, 1 for its role, 2 for its text, 3 for the reply
    rates = default().model("gpt-4o-mini")
    assert rates is not None
    price = rates.prices["standard"]
    most = (9 * price["input"] + 10 * price["output"]) / 1_000_000
    assert Decimal(str(told["max_cost_usd"])) == most
    assert await left() == 100
    assert (await weir.logged(id=answer.headers["x-weir-request-id"]))["attempts"] == 0
    await client.post(URL, json=CHAT, headers={"x-user-id": "careful"})
    assert await left() == 99


async def test_what_is_above_a_limit_is_told_when_to_come_again(client: httpx2.AsyncClient) -> None:
    headers = {"x-user-id": "greedy"}
    statuses = [(await client.post(URL, json=CHAT, headers=headers)).status_code for _ in range(100)]
    assert set(statuses) <= {200, 429}
    for _ in range(200):  # while they are asked some come back, on a slow machine one after the other
        refused = await client.post(URL, json=CHAT, headers=headers)
        if refused.status_code == 429:
            break
    assert refused.status_code == 429
    assert refused.json()["error"]["code"] == "rate_limit_exceeded"
    assert refused.headers["x-ratelimit-remaining-requests"] == "0"
    assert 0 < int(refused.headers["retry-after-ms"]) <= 600
    assert (await client.post(URL, json=CHAT, headers={"x-user-id": "modest"})).status_code == 200
