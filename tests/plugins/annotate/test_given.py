"""What went in: from the estimate, or counted where nobody has estimated."""

import asyncio
from collections.abc import Iterator
from typing import Any

import orjson
import pytest

from plugins.annotate import given as module
from plugins.annotate.bill import UNKNOWN, Input
from plugins.annotate.counting import Counting
from plugins.annotate.given import given, uses_tools
from proxy.api import ESTIMATE, Estimate, Exchange, Headers
from proxy.api.request import Request
from proxy.pricing import tokens
from proxy.pricing.table import default
from proxy.pricing.values import Model

CHAT: dict[str, Any] = {"model": "gpt-4o", "messages": [{"role": "user", "content": "Hello there"}]}
KNOWN = default().model("gpt-4o")


@pytest.fixture(autouse=True, scope="module")
def _vocabulary() -> None:
    tokens.preload()


@pytest.fixture
def counting() -> Iterator[Counting]:
    made = Counting()
    yield made
    made.close()


async def went_in(
    counting: Counting,
    body: dict[str, Any],
    estimate: Estimate | None = None,
    *,
    endpoint: str = "chat/completions",
    known: Model | None = KNOWN,
    raw: bytes | None = None,
) -> tuple[Input, int | None]:
    request = Request("POST", b"/v1/" + endpoint.encode(), b"", Headers([]), None, "", "")  # type: ignore[arg-type]
    request.endpoint = endpoint
    ex = Exchange("id", request, None)  # type: ignore[arg-type]
    if estimate is not None:
        ex[ESTIMATE] = estimate
    return await given(ex, body, orjson.dumps(body) if raw is None else raw, known, counting)


async def test_a_count_is_there_and_may_be_a_little_off(counting: Counting) -> None:
    found = await went_in(counting, CHAT, Estimate(4000, "tiktoken", 1000, 77))
    assert found == (Input(1000, 950, 1050), 77)
    small, _ = await went_in(counting, CHAT, Estimate(40, "tiktoken", 9))
    assert small == Input(9, 0, 25)


async def test_a_bound_is_counted_now(counting: Counting) -> None:
    async def count() -> int:
        return 1000

    found, _ = await went_in(counting, CHAT, Estimate(4000, "upper_bound", count=count))
    assert found == Input(1000, 950, 1050)


async def test_what_cannot_be_counted_or_not_in_time_stays_a_bound(
    counting: Counting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PATIENCE", 0.01)

    async def count() -> int:
        await asyncio.sleep(60)
        return 1

    for estimate in (Estimate(4000, "upper_bound"), Estimate(4000, "upper_bound", count=count)):
        found, _ = await went_in(counting, CHAT, estimate)
        assert found == Input(4000, 0, 4000, bounded=True)


async def test_without_an_estimate_it_is_made_now(counting: Counting) -> None:
    found, most = await went_in(counting, {**CHAT, "max_tokens": 50, "n": 2})
    assert (found.tokens, found.bounded, most) == (9, False, 100)
    _, most = await went_in(counting, CHAT)
    assert most == 16384  # the model's own
    embedded = {"model": "text-embedding-3-small", "input": "Hello there"}
    found, most = await went_in(counting, embedded, endpoint="embeddings")
    assert (found.tokens, most) == (2, 0)


async def test_what_is_not_counted_is_not_known(counting: Counting) -> None:
    assert await went_in(counting, {}, endpoint="audio/transcriptions") == (UNKNOWN, None)
    assert await went_in(counting, {}) == (UNKNOWN, None)


async def test_a_body_of_many_parts_is_read_in_a_thread(
    counting: Counting, monkeypatch: pytest.MonkeyPatch
) -> None:
    many = {**CHAT, "messages": CHAT["messages"] * 3000}
    found, _ = await went_in(counting, many)
    assert 15_000 < found.tokens < 20_000
    monkeypatch.setattr(module, "PATIENCE", 0.01)
    never = asyncio.get_running_loop().create_future()
    with monkeypatch.context() as patch:
        patch.setattr(counting, "begin", lambda work: never)
        assert await went_in(counting, many) == (UNKNOWN, None)
    counting.close()
    assert await went_in(counting, many) == (UNKNOWN, None)


async def test_without_its_vocabulary_the_input_is_counted_in_a_thread(
    counting: Counting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tokens, "loaded", lambda encoding: False)
    assert (await went_in(counting, CHAT))[0].tokens == 9
    counting.close()
    found, _ = await went_in(counting, CHAT)
    assert found.bounded
    assert found.tokens > 9


@pytest.mark.parametrize(
    "part",
    [
        {"type": "image_url", "image_url": {"url": "https://example.com/x.png"}},
        {"type": "input_image", "image_url": "https://example.com/x.png"},
        {"type": "input_audio", "input_audio": {"data": "AAAA"}},
        {"type": "file", "file": {"file_id": "f"}},
        {"type": "input_file", "file_id": "f"},
    ],
)
async def test_pictures_and_files_count_for_their_most_so_the_least_is_open(
    counting: Counting, part: dict[str, Any]
) -> None:
    body = {"model": "gpt-4o", "messages": [{"role": "user", "content": [part]}]}
    found, _ = await went_in(counting, body, Estimate(4000, "tiktoken", 1000))
    assert found == Input(1000, 0, 1050)


async def test_in_a_large_body_nobody_looks_for_pictures(counting: Counting) -> None:
    found, _ = await went_in(counting, CHAT, Estimate(4000, "tiktoken", 1000), raw=b"x" * 2_000_000)
    assert found.least == 0


@pytest.mark.parametrize("name", ["previous_response_id", "conversation", "prompt"])
async def test_what_only_the_upstream_knows_is_at_most_what_the_model_takes(
    counting: Counting, name: str
) -> None:
    body = {"model": "gpt-4o", "input": "Hello there", name: "x_1"}
    estimate = Estimate(4000, "tiktoken", 1000)
    assert KNOWN is not None
    found, _ = await went_in(counting, body, estimate, endpoint="responses")
    assert found == Input(1000, 950, KNOWN.context_window)
    found, _ = await went_in(counting, body, estimate, endpoint="responses", known=None)
    assert found == Input(1000, 950, None)
    found, _ = await went_in(counting, {**body, name: None}, estimate, endpoint="responses")
    assert found == Input(1000, 950, 1050)


@pytest.mark.parametrize(
    ("body", "uses"),
    [
        ({}, False),
        ({"tools": None}, False),
        ({"tools": [{"type": "function"}, {"name": "f"}, {"type": "custom"}, 7]}, False),
        ({"tools": [{"type": "function"}, {"type": "web_search"}]}, True),
        ({"tools": [{"type": "code_interpreter"}]}, True),
        ({"web_search_options": {}}, True),
    ],
)
async def test_an_upstreams_own_tools_leave_the_most_open(
    counting: Counting, body: dict[str, Any], uses: bool
) -> None:
    assert uses_tools(body) is uses
    found, _ = await went_in(counting, {**CHAT, **body}, Estimate(4000, "tiktoken", 1000))
    assert (found.most is None) is uses
