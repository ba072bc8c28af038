"""The upstream's own count, as the demo upstream makes it: four bytes are a token."""

from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest
import pytest_asyncio

from tests.faults.process import Process

DENSE: dict[str, Any] = {"model": "gpt-4o-mini", "input": "a b c d e f g " * 2000}
"""Some 14,000 tokens by the model's vocabulary, and 7000 by the demo."""
LIMIT = {"name": "in", "input_tokens": "10000/minute", "per": "all"}
DRY = {"x-weir-dry-run": "true"}
NAMES = ("x-weir-estimated-input-tokens", "x-weir-estimate-method")


@pytest_asyncio.fixture(params=[True, False], ids=["asked", "not asked"])
async def weir(request: pytest.FixtureRequest, demos: tuple[str, str]) -> AsyncIterator[Process]:
    precost = {"use": "precost", "ask_upstream": request.param, "ask_timeout": "5s"}
    chain = ["auth", precost, {"use": "limiter", "limits": [LIMIT]}]
    async with Process(demos[1], config={"plugins": chain}) as process:
        yield process


@pytest_asyncio.fixture
async def client(weir: Process) -> AsyncIterator[httpx2.AsyncClient]:
    base = f"http://127.0.0.1:{weir.port}/v1"
    async with httpx2.AsyncClient(base_url=base, trust_env=False, timeout=30) as client:
        yield client


async def test_limits_and_dry_runs_go_by_the_upstreams_count(
    client: httpx2.AsyncClient, request: pytest.FixtureRequest
) -> None:
    is_asked = "not asked" not in request.node.name
    dry = (await client.post("/responses", json=DENSE, headers=DRY)).json()
    assert dry["method"] == ("upstream" if is_asked else "tiktoken")
    assert (dry["input_tokens"] == 7000) is is_asked
    assert dry["admitted"] is is_asked
    # What is forwarded is bounded at once; only because that is too much for the limit it is counted.
    first = await client.post("/responses", json=DENSE)
    assert first.status_code == (200 if is_asked else 429)
    assert first.headers["x-weir-estimate-method"] == "upper_bound"
    if is_asked:
        assert first.json()["usage"]["input_tokens"] == 7000
        assert (await client.post("/responses", json=DENSE)).status_code == 429


async def test_what_the_upstream_alone_knows_is_counted_by_it(
    client: httpx2.AsyncClient, request: pytest.FixtureRequest
) -> None:
    is_asked = "not asked" not in request.node.name
    body = {"model": "gpt-4o-mini", "input": "Tell me about weirs.", "previous_response_id": "resp_1"}
    answer = await client.post("/responses", json=body)
    counted = tuple(answer.headers[name] for name in NAMES)
    assert (counted == ("5", "upstream")) is is_asked
    assert (counted[1] == "tiktoken") is not is_asked
