"""Errors are the upstream's: the same exceptions, from the same number of tries."""

from time import monotonic
from typing import Any

import httpx2
import openai
import pytest

from .either import Client, all_of, done
from .twins import Twins

HELLO = [{"role": "user", "content": "Hello!"}]


def tries(sent: list[httpx2.Request]) -> list[str | None]:
    """Which retry each request says it is."""
    return [request.headers.get("x-stainless-retry-count") for request in sent]


@pytest.mark.parametrize("stream", [False, True])
async def test_missing_model(twins: Twins, stream: bool) -> None:
    async def scenario(c: Client) -> Any:
        return await done(c.chat.completions.create(model="missing-1", messages=HELLO, stream=stream))

    error = await twins.same_error(scenario)
    assert isinstance(error, openai.NotFoundError)
    assert (error.status_code, error.code) == (404, "model_not_found")
    assert error.request_id


@pytest.mark.parametrize(
    ("options", "param"),
    [
        ({"messages": []}, "messages"),
        ({"n": 0}, "n"),
        ({"model": ""}, "model"),
        ({"extra_body": {"messages": [{}]}}, "messages[0].role"),
    ],
)
async def test_bad_request(twins: Twins, options: dict[str, Any], param: str) -> None:
    async def scenario(c: Client) -> Any:
        given: dict[str, Any] = {"model": "gpt-4o", "messages": HELLO, **options}
        return await done(c.chat.completions.create(**given))

    error = await twins.same_error(scenario)
    assert isinstance(error, openai.BadRequestError)
    assert (error.type, error.param) == ("invalid_request_error", param)
    assert isinstance(error.body, dict)
    assert error.body["param"] == param


async def test_rate_limit(twins: Twins) -> None:
    async def scenario(c: Client) -> Any:
        start = monotonic()
        try:
            await done(c.chat.completions.create(model="rate-limited", messages=HELLO))
        finally:
            took.append(monotonic() - start)

    took: list[float] = []
    twins.direct, twins.weir = (c.with_options(max_retries=2) for c in (twins.direct, twins.weir))
    error = await twins.same_error(scenario)
    assert isinstance(error, openai.RateLimitError)
    assert (error.code, error.type) == ("rate_limit_exceeded", "requests")
    assert error.response.headers["x-ratelimit-limit-tokens"] == "40000"
    assert tries(twins.weir_sent) == tries(twins.direct_sent) == ["0", "1", "2"]
    # Twice the 20 ms that the upstream asks for; without them the SDK waits at least 375 and 750.
    assert all(0.04 <= each < 1.1 for each in took), took


async def test_error_then_success(twins: Twins, request: pytest.FixtureRequest) -> None:
    """Weir does not try again by itself, and lets the SDK do it."""
    first = request.node.name  # the demo fails who is new to it

    async def once(c: Client) -> Any:
        return await done(c.chat.completions.create(model="flaky", messages=HELLO, user=f"once {first}"))

    async def retried(c: Client) -> Any:
        raw = await done(
            c.with_options(max_retries=2).chat.completions.with_raw_response.create(
                model="flaky", messages=HELLO, user=f"retried {first}"
            )
        )
        return [raw.http_response, raw.parse(), raw.retries_taken]

    error = await twins.same_error(once)
    assert isinstance(error, openai.InternalServerError)
    assert (error.status_code, error.type) == (500, "server_error")
    assert (await twins.same(once)).choices
    assert (await twins.same(retried))[2] == 1
    assert tries(twins.weir_sent) == tries(twins.direct_sent) == ["0", "0", "0", "1"]


async def test_status_of_a_deleted_file(twins: Twins) -> None:
    async def scenario(c: Client) -> Any:
        return await done(c.files.content("file-nope"))

    assert isinstance(await twins.same_error(scenario), openai.NotFoundError)


async def test_timeouts_of_the_sdk(twins: Twins) -> None:
    """Between two pieces of the slow model's stream pass 30 ms."""

    async def scenario(c: Client) -> Any:
        patience = httpx2.Timeout(5, read=0.005)
        stream = await done(
            c.chat.completions.create(model="slow", messages=HELLO, stream=True, timeout=patience)
        )
        return await all_of(stream)

    assert isinstance(await twins.same_error(scenario), openai.APITimeoutError)
