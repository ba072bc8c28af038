"""Single values; what whole spans hold is in test_recorder.py."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plugins.tracing import attributes, names
from proxy.api import COST, USAGE, Attempt, Cost, End, Exchange, Usage
from proxy.api.testing import json, play, post


async def client(
    usage: list[Usage] | None = None, cost: Cost | None = None, *, path: str = "/v1/chat/completions"
) -> attributes.Attributes:
    played = await play([], post(path, {}), json({}), given={USAGE: usage, COST: cost})
    operation = names.OPERATIONS.get(played.ex.request.endpoint)
    return attributes.client(played.ex, played.end, names.LATEST, operation)


async def test_usage_that_was_not_measured_is_not_told_as_usage() -> None:
    for provenance in ("estimated", "bounded", "none"):
        found = await client([Usage(5, 6, provenance=provenance, model="m")])
        assert found["weir.usage.provenance"] == provenance
        assert found["gen_ai.response.model"] == "m"
        assert "gen_ai.usage.input_tokens" not in found


async def test_usages_are_summed() -> None:
    found = await client([Usage(*range(1, 10)), Usage(*range(10, 19))])
    tokens = {name: value for name, value in found.items() if name.endswith("_tokens")}
    assert tokens == {
        "gen_ai.usage.input_tokens": 11,
        "gen_ai.usage.output_tokens": 13,
        "gen_ai.usage.cache_read.input_tokens": 15,
        "gen_ai.usage.cache_write.input_tokens": 17,
        "gen_ai.usage.audio.input_tokens": 19,
        "gen_ai.usage.image.input_tokens": 21,
        "gen_ai.usage.reasoning.output_tokens": 23,
        "gen_ai.usage.audio.output_tokens": 25,
        "gen_ai.usage.image.output_tokens": 27,
    }
    found = await client([Usage(1, 1), Usage(1, 1, provenance="bounded")])
    assert found["weir.usage.provenance"] == "bounded"
    assert "gen_ai.usage.input_tokens" not in found


async def test_none_is_counted_as_none() -> None:
    found = await client([Usage(0, 0)])
    assert (found["gen_ai.usage.input_tokens"], found["gen_ai.usage.output_tokens"]) == (0, 0)
    assert "gen_ai.usage.cache_read.input_tokens" not in found


async def test_unpriced_is_not_zero() -> None:
    assert not [name for name in await client(cost=Cost(None)) if "cost" in name]
    assert (await client(cost=Cost(Decimal(0))))["weir.cost.nano_usd"] == 0


async def test_an_estimated_cost_says_so() -> None:
    found = await client(cost=Cost(Decimal("1.5"), provenance="bounded", price_version="v"))
    assert found["weir.cost.nano_usd"] == 1_500_000_000
    assert found["weir.cost.estimated"] is True
    assert found["weir.cost.price_version"] == "v"


@pytest.mark.parametrize(
    ("path", "operation", "output", "api"),
    [
        ("/v1/chat/completions", "chat", None, "chat_completions"),
        ("/v1/responses", "chat", None, "responses"),
        ("/v1/completions", "text_completion", None, None),
        ("/embeddings", "embeddings", None, None),
        ("/v1/images/generations", "generate_content", "image", None),
        ("/v1/audio/speech", "generate_content", "speech", None),
        ("/v1/audio/transcriptions", "generate_content", "text", None),
        ("/v1/moderations", None, None, None),
    ],
)
async def test_what_is_done(path: str, operation: str | None, output: str | None, api: str | None) -> None:
    found = await client(path=path)
    assert found.get("gen_ai.operation.name") == operation
    assert found.get("gen_ai.output.type") == output
    assert found.get("openai.api.type") == api


@pytest.mark.parametrize(
    ("upstream", "provider"),
    [
        ("api-openai-com", "openai"),
        ("my-openai-azure-com", "azure.ai.openai"),
        ("Azure_EU", "azure.ai.openai"),
        ("api-groq-com", "groq"),
        ("mistral", "mistral_ai"),
        ("vllm", "openai"),
        ("groqqy", "openai"),
    ],
)
async def test_the_provider_is_in_the_name_of_the_upstream(upstream: str, provider: str) -> None:
    played = await play([], post("/v1/chat/completions", {}), json({}))
    ex: Exchange = played.ex
    ex.attempts[-1] = ex.attempts[-1]._replace(upstream=upstream)
    found = attributes.client(ex, played.end, names.V1_41, names.OPERATIONS["chat/completions"])
    assert found["gen_ai.provider.name"] == provider
    assert found["weir.upstream"] == upstream


def test_an_attempt_that_was_sent_again_says_so() -> None:
    once = Attempt("up", 1, 2, "200")
    assert attributes.attempt(once) == {"weir.upstream": "up", "weir.outcome": "200"}
    assert attributes.attempt(once._replace(resent=True))["weir.resent"] is True


def test_how_an_operation_failed() -> None:
    fine, late = Attempt("up", 1, 2, "200"), Attempt("up", 1, 2, "upstream_timeout")
    whole, broken = End("complete", "completed"), End("upstream_error", "upstream_reset")
    assert attributes.client_error(fine, whole) is None
    assert attributes.client_error(fine, broken) == "upstream_reset"
    assert attributes.client_error(late, broken) == "upstream_timeout"
    assert attributes.client_error(fine._replace(outcome="429"), whole) == "429"
    assert not attributes.client_failed(fine, whole)
    assert not attributes.client_failed(fine, End("client_gone", "client_closed"))
    assert not attributes.client_failed(fine, End("rejected", "enough"))
    assert attributes.client_failed(fine, End("shutdown", "server_shutdown"))


@given(st.text(st.characters(), max_size=2000))
def test_any_text_can_be_sent(value: str) -> None:
    found = attributes.text(value)
    assert len(found) <= attributes.TEXT_LIMIT
    found.encode()


@pytest.mark.parametrize(
    ("value", "safe"),
    [
        ("Bearer abc def", "*** def"),
        ("/x/sk-abcdefgh0123/y", "/x/***/y"),
        ("a" * 250 + " sk-abcdefgh0123", "a" * 250 + " ***"),
        ("task-list-of-mine", "task-list-of-mine"),
    ],
)
def test_what_looks_like_a_credential_is_taken_out(value: str, safe: str) -> None:
    assert attributes.text(value) == safe
