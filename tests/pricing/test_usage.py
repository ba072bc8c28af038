"""Recorded shapes of usage, and what no upstream would ever send."""

from dataclasses import fields
from decimal import Decimal
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.pricing.table import default
from proxy.pricing.usage import ENDPOINTS, LONGEST_NAME, MOST_DOLLARS, MOST_TOKENS, _usual, read
from proxy.pricing.values import Usage

SHAPES = orjson.loads((Path(__file__).parents[1] / "data" / "usage_shapes.json").read_bytes())["shapes"]

# By place in the file: endpoint, input, output, cached, written, reasoning, reported cost.
EXPECTED: dict[int, tuple[str, int, int, int, int, int, str | None]] = {
    0: ("chat/completions", 70, 12, 69, 0, 0, None),  # Mistral
    1: ("responses", 4020, 5, 4012, 0, 0, "0.002196"),  # OpenRouter
    3: ("chat/completions", 448, 38, 0, 0, 0, None),  # details: null
    6: ("chat/completions", 31, 21, 0, 0, 0, None),
    8: ("responses", 4020, 5, 0, 4012, 0, "0.025265"),
    9: ("chat/completions", 8, 15, 0, 0, 0, None),
    12: ("embeddings", 4, 0, 0, 0, 0, None),
    15: ("chat/completions", 79, 37, 0, 0, 25, None),  # Cerebras
    16: ("chat/completions", 31, 80, 0, 0, 64, "0.00216775"),
    18: ("chat/completions", 156, 561, 0, 0, 512, None),
    20: ("chat/completions", 779, 65, 0, 0, 0, None),  # Groq, with its times
    22: ("chat/completions", 568, 48, 0, 0, 0, None),
    23: ("chat/completions", 42, 8, 0, 0, 0, None),
    25: ("chat/completions", 254, 174, 0, 0, 147, None),
    26: ("chat/completions", 13, 11, 0, 0, 0, None),
    28: ("chat/completions", 19, 29, 0, 0, 0, None),  # Hugging Face: cached_tokens beside the rest
    29: ("chat/completions", 14, 4, 0, 0, 0, "0.000102"),
    30: ("chat/completions", 270, 28, 0, 0, 0, "0.000151"),
    32: ("responses", 4020, 5, 0, 4012, 0, None),
    35: ("chat/completions", 64, 6, 0, 0, 0, None),
    36: ("responses", 45, 1719, 0, 0, 1408, None),
}
# Not OpenAI's shape, and not what an OpenAI-shaped endpoint answers with.
OTHERS = {
    "Anthropic's own: input_tokens leaves out what the cache had": [4, 7, 11, 13, 19, 21, 24, 31, 33, 34, 37],
    "Bedrock's Converse: names in camel case": [2, 5, 17, 27],
    "Cohere's own: counts within `tokens` and `billed_units`": [10, 14],
}


def chat(**usage: Any) -> Usage:
    found = read("chat/completions", {"model": "m", "usage": usage})
    assert found is not None
    return found


# -- recorded ----------------------------------------------------------------------------------------------


def test_every_recorded_shape_is_expected() -> None:
    assert sorted([*EXPECTED, *(place for places in OTHERS.values() for place in places)]) == list(
        range(len(SHAPES))
    )


@pytest.mark.parametrize("place", EXPECTED)
def test_a_recorded_shape(place: int) -> None:
    endpoint, total_in, total_out, cached, written, reasoning, cost = EXPECTED[place]
    shape = SHAPES[place]
    assert read(endpoint, {"model": shape["model"], "usage": shape["usage"]}) == Usage(
        input_tokens=total_in,
        output_tokens=total_out,
        cached_tokens=cached,
        cache_write_tokens=written,
        reasoning_tokens=reasoning,
        model=shape["model"],
        reported_cost=None if cost is None else Decimal(cost),
    )


@pytest.mark.parametrize("place", [place for places in OTHERS.values() for place in places])
def test_another_providers_shape_is_no_usage_rather_than_a_wrong_one(place: int) -> None:
    for endpoint in ENDPOINTS:
        assert read(endpoint, {"usage": SHAPES[place]["usage"]}) is None


# -- each endpoint -----------------------------------------------------------------------------------------


def test_chat_with_every_detail() -> None:
    answer = {
        "model": "gpt-audio-2025-08-28",
        "service_tier": "priority",
        "usage": {
            "prompt_tokens": 1000,
            "completion_tokens": 500,
            "prompt_tokens_details": {
                "cached_tokens": 300,
                "cache_write_tokens": 200,
                "audio_tokens": 90,
                "image_tokens": 80,
                "text_tokens": 830,
                "cached_tokens_details": {"audio_tokens": 20, "image_tokens": 10, "text_tokens": 270},
            },
            "completion_tokens_details": {"reasoning_tokens": 70, "audio_tokens": 60, "image_tokens": 5},
        },
    }
    assert read("chat/completions", answer) == Usage(
        input_tokens=1000,
        output_tokens=500,
        cached_tokens=300,
        cache_write_tokens=200,
        audio_input_tokens=90,
        image_input_tokens=80,
        reasoning_tokens=70,
        audio_output_tokens=60,
        image_output_tokens=5,
        model="gpt-audio-2025-08-28",
        service_tier="priority",
        cached_audio_tokens=20,
        cached_image_tokens=10,
    )


def test_a_response_alone_and_within_the_event_that_ends_its_stream() -> None:
    response = {
        "model": "gpt-5.6-sol",
        "service_tier": "flex",
        "usage": {
            "input_tokens": 10,
            "input_tokens_details": {
                "cached_tokens": 1,
                "cache_write_tokens": 7,
                "cache_write_tokens_details": {"ttl_30m_tokens": 3, "ttl_12h_tokens": 4},
            },
            "output_tokens": 5,
            "output_tokens_details": {"reasoning_tokens": 2},
        },
    }
    expected = Usage(
        input_tokens=10,
        output_tokens=5,
        cached_tokens=1,
        cache_write_tokens=7,
        cache_write_12h_tokens=4,
        reasoning_tokens=2,
        model="gpt-5.6-sol",
        service_tier="flex",
    )
    assert read("responses", response) == expected
    assert read("responses/compact", response) == expected
    for kind in ("completed", "incomplete", "failed"):
        assert read("responses", {"type": f"response.{kind}", "response": response}) == expected
        assert read("responses", {"type": f"response.{kind}", "response": None}) is None
        assert read("responses", {"type": f"response.{kind}", "response": {"usage": None}}) is None
    assert read("responses", {"type": "response.created", "response": response}) is None


def test_hosted_tools_are_billed_besides() -> None:
    usage = {"input_tokens": 1, "output_tokens": 1}
    tools = {
        "web_search": {"num_requests": 3},
        "image_gen": {"input_tokens": 10, "output_tokens": 1056, "total_tokens": 1066},
    }
    found = read("responses", {"usage": usage, "tool_usage": tools})
    assert found is not None
    assert found.other_units == {"web_search": Decimal(3), "image_gen_tokens": Decimal(1066)}
    unused: dict[str, Any] = {
        "web_search": {"num_requests": 0},
        "image_gen": {"input_tokens": 0, "output_tokens": 0},
    }
    nothings: list[Any] = [unused, {}, {"web_search": None, "image_gen": None}, None, []]
    for nothing in nothings:
        assert read("responses", {"usage": usage, "tool_usage": nothing}) == Usage(1, 1)


@pytest.mark.parametrize("details", [{}, {"output_tokens_details": None}])
def test_output_of_images_is_images_unless_it_says_otherwise(details: dict[str, Any]) -> None:
    usage = {"input_tokens": 50, "input_tokens_details": {"text_tokens": 10, "image_tokens": 40}}
    expected = Usage(50, 1056, image_input_tokens=40, image_output_tokens=1056)
    answer = {"usage": {**usage, "output_tokens": 1056, **details}}
    assert read("images/generations", answer) == expected
    assert read("images/edits", {"type": "image_edit.completed", **answer}) == expected
    assert read("images/generations", {"type": "image_generation.completed", **answer}) == expected
    spelled = {
        **usage,
        "output_tokens": 1056,
        "output_tokens_details": {"image_tokens": 1000, "text_tokens": 56},
    }
    found = read("images/generations", {"usage": spelled})
    assert found is not None
    assert (found.output_tokens, found.image_output_tokens) == (1056, 1000)
    spelled["output_tokens_details"] = {"image_tokens": 0, "text_tokens": 0}
    found = read("images/generations", {"usage": spelled})
    assert found is not None
    assert (found.output_tokens, found.image_output_tokens) == (1056, 0)


def test_svg_is_billed_besides() -> None:
    svg = {"model": "gpt-5.6-sol", "input_tokens": 5, "output_tokens": 7, "reasoning_tokens": 2}
    found = read("images/generations", {"usage": {"input_tokens": 1, "output_tokens": 2}, "svg_usage": svg})
    assert found is not None
    assert found.other_units == {"svg_tokens": Decimal(12)}


def test_a_transcription_by_tokens() -> None:
    usage = {
        "type": "tokens",
        "input_tokens": 14,
        "input_token_details": {"text_tokens": 4, "audio_tokens": 10},
        "output_tokens": 45,
        "total_tokens": 59,
    }
    expected = Usage(14, 45, audio_input_tokens=10)
    assert read("audio/transcriptions", {"text": "hi", "usage": usage}) == expected
    assert read("audio/transcriptions", {"type": "transcript.text.done", "usage": usage}) == expected


@pytest.mark.parametrize(
    ("seconds", "exact"), [(9, "9"), (9.5, "9.5"), (0, "0"), (0.1, "0.1"), (1e-7, "1E-7")]
)
def test_a_transcription_by_the_second(seconds: float, exact: str) -> None:
    found = read("audio/transcriptions", {"text": "hi", "usage": {"type": "duration", "seconds": seconds}})
    assert found == Usage(other_units={"seconds": Decimal(exact)})


@pytest.mark.parametrize(
    ("duration", "exact"), [(9.5, "9.5"), ("8.470000267028809", "8.470000267028809"), (7, "7")]
)
def test_a_transcription_without_a_usage_may_say_how_long_it_was(duration: Any, exact: str) -> None:
    for endpoint in ("audio/transcriptions", "audio/translations"):
        found = read(endpoint, {"task": "transcribe", "duration": duration, "text": "hi", "segments": []})
        assert found == Usage(other_units={"seconds": Decimal(exact)})
    assert read("chat/completions", {"duration": duration}) is None


def test_speech_tells_its_usage_in_streams() -> None:
    usage = {"input_tokens": 14, "output_tokens": 101, "total_tokens": 115}
    assert read("audio/speech", {"type": "speech.audio.done", "usage": usage}) == Usage(
        14, 101, audio_output_tokens=101
    )
    assert read("audio/speech", {"type": "speech.audio.delta", "audio": "AAAA"}) is None


def test_a_turn_of_a_realtime_session() -> None:
    usage = {
        "total_tokens": 253,
        "input_tokens": 132,
        "output_tokens": 121,
        "input_token_details": {
            "text_tokens": 119,
            "audio_tokens": 13,
            "image_tokens": 0,
            "cached_tokens": 64,
            "cached_tokens_details": {"text_tokens": 60, "audio_tokens": 4, "image_tokens": 0},
        },
        "output_token_details": {"text_tokens": 30, "audio_tokens": 91},
    }
    expected = Usage(132, 121, 64, audio_input_tokens=13, audio_output_tokens=91, cached_audio_tokens=4)
    assert read("realtime", {"type": "response.done", "response": {"usage": usage}}) == expected
    assert read("realtime", {"type": "response.created", "response": {"usage": None}}) is None
    heard = {
        "type": "conversation.item.input_audio_transcription.completed",
        "transcript": "hi",
        "usage": {"type": "duration", "seconds": 2},
    }
    assert read("realtime", heard) == Usage(other_units={"seconds": Decimal(2)})


def test_a_batch_is_at_the_tier_of_batches() -> None:
    usage = {
        "input_tokens": 100,
        "input_tokens_details": {"cached_tokens": 10},
        "output_tokens": 20,
        "output_tokens_details": {"reasoning_tokens": 5},
        "total_tokens": 120,
    }
    batch = {"id": "batch_1", "object": "batch", "model": "gpt-5", "service_tier": "default", "usage": usage}
    found = read("batches", batch)
    assert found == Usage(100, 20, 10, reasoning_tokens=5, model="gpt-5", service_tier="batch")
    assert default().cost(found).amount == Decimal("0.000156875")
    assert read("batches", {"object": "batch", "usage": None}) is None


def test_predictions_are_in_the_output_already() -> None:
    details = {"accepted_prediction_tokens": 10, "rejected_prediction_tokens": 20, "reasoning_tokens": 0}
    found = read(
        "chat/completions",
        {"usage": {"prompt_tokens": 5, "completion_tokens": 50, "completion_tokens_details": details}},
    )
    assert found == Usage(5, 50)


def test_hosted_tools_are_counted_in_the_output_where_nothing_else_counts_them() -> None:
    def calls(*output: Any, **more: Any) -> dict[str, Decimal]:
        usage = {"input_tokens": 1, "output_tokens": 1}
        found = read("responses", {"usage": usage, "output": list(output), **more})
        assert found is not None
        return found.other_units

    search = {"type": "web_search_call", "action": {"type": "search", "query": "x"}}
    opened = {"type": "web_search_call", "action": {"type": "open_page"}}
    old = {"type": "web_search_call", "status": "completed"}
    filed = {"type": "file_search_call", "queries": ["x"]}
    message = {"type": "message", "content": []}
    assert calls(search, opened, old, filed, filed, message) == {"web_search": 2, "file_search": 2}
    assert calls(search, tools=[{"type": "web_search_preview_2025_03_11"}]) == {"web_search_preview": 1}
    assert calls(search, filed, tool_usage={"web_search": {"num_requests": 5}}) == {
        "web_search": 5,
        "file_search": 1,
    }
    assert calls(search, tool_usage={"web_search": {"num_requests": 0}}) == {}
    assert calls(message, None, 7, {"type": ["web_search_call"]}) == {}


def test_the_final_usage_of_a_stream_may_stand_anywhere() -> None:
    usage = {"prompt_tokens": 5, "completion_tokens": 7}
    for choices in ([], [{"index": 0, "delta": {}, "finish_reason": "stop"}]):
        assert read("chat/completions", {"model": "m", "choices": choices, "usage": usage}) == Usage(
            5, 7, model="m"
        )
    assert read("completions", {"choices": [], "usage": usage}) == Usage(5, 7)


@pytest.mark.parametrize("endpoint", ["models", "messages", "responses/resp_1", "v1/chat/completions", ""])
def test_other_endpoints_have_none(endpoint: str) -> None:
    assert read(endpoint, {"usage": {"prompt_tokens": 5, "completion_tokens": 7}}) is None


# -- compatible upstreams ----------------------------------------------------------------------------------


def test_deepseek_says_it_twice() -> None:
    both = {
        "prompt_tokens": 100,
        "completion_tokens": 1,
        "prompt_cache_hit_tokens": 64,
        "prompt_cache_miss_tokens": 36,
    }
    assert chat(**both).cached_tokens == 64
    assert chat(**both, prompt_tokens_details={"cached_tokens": 64}).cached_tokens == 64
    assert chat(**both).input_tokens == 100


@pytest.mark.parametrize("name", ["num_cached_tokens", "cached_tokens", "prompt_cache_hit_tokens"])
def test_cached_tokens_beside_the_totals(name: str) -> None:
    assert chat(prompt_tokens=10, completion_tokens=1, **{name: 7}).cached_tokens == 7
    details = {"prompt_tokens_details": {"cached_tokens": 3}}
    assert chat(prompt_tokens=10, completion_tokens=1, **{name: 7}, **details).cached_tokens == 3
    nothing = {"prompt_tokens_details": None}
    assert chat(prompt_tokens=10, completion_tokens=1, **{name: 7}, **nothing).cached_tokens == 7


def test_names_of_anthropics_beside_openais_change_nothing() -> None:
    """As gateways write them, whose prompt_tokens has what the cache had."""
    theirs = {"cache_read_input_tokens": 7, "cache_creation_input_tokens": 0}
    found = chat(prompt_tokens=10, completion_tokens=1, prompt_tokens_details={"cached_tokens": 7}, **theirs)
    assert (found.input_tokens, found.cached_tokens) == (10, 7)


def test_reasoning_may_be_beside_the_output() -> None:
    usage = {"prompt_tokens": 10, "completion_tokens": 7, "total_tokens": 117}
    beside = chat(**usage, completion_tokens_details={"reasoning_tokens": 100})  # xAI
    assert (beside.output_tokens, beside.reasoning_tokens, beside.clamped) == (107, 100, False)
    usage["total_tokens"] = 17
    within = chat(**usage, completion_tokens_details={"reasoning_tokens": 6})
    assert (within.output_tokens, within.reasoning_tokens) == (7, 6)


def test_what_is_null_is_nothing() -> None:
    found = chat(
        prompt_tokens=10,
        completion_tokens=None,
        prompt_tokens_details=None,
        completion_tokens_details={"reasoning_tokens": None, "audio_tokens": None},
    )
    assert found == Usage(10, 0, model="m")
    assert read(
        "chat/completions", {"model": "", "service_tier": None, "usage": {"prompt_tokens": 1}}
    ) == Usage(1)


@pytest.mark.parametrize(
    "usage",
    [None, {}, [], 7, "usage", True, {"prompt_tokens": None, "completion_tokens": None}, {"total_tokens": 9}],
)
def test_no_usage_is_not_a_usage_of_nothing(usage: Any) -> None:
    assert read("chat/completions", {"usage": usage}) is None
    assert read("chat/completions", {}) is None


def test_the_price_that_openrouter_charged_is_exact() -> None:
    base = {"prompt_tokens": 1, "completion_tokens": 1}
    assert chat(**base, cost=4.1400000000000003e-05).reported_cost == Decimal("0.000041400000000000003")
    assert chat(**base, cost=0).reported_cost == 0
    assert chat(**base).reported_cost is None
    own = {"is_byok": True, "cost_details": {"upstream_inference_cost": 0.25}}
    assert chat(**base, cost=0, **own).reported_cost == Decimal("0.25")
    assert chat(**base, cost=0.125, **own).reported_cost == Decimal("0.375")
    assert chat(**base, cost=0, is_byok=True, cost_details={}).reported_cost is None


# -- hostile -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "tokens"),
    [
        (-1, 0),
        (12.0, 12),
        (12.9, 12),
        (-0.5, 0),
        (2**70, MOST_TOKENS),
        (float(2**70), MOST_TOKENS),
        (float("inf"), MOST_TOKENS),
        (float("-inf"), 0),
        (float("nan"), None),
        (True, None),
        ("12", None),
        ([12], None),
        ({"tokens": 12}, None),
    ],
)
def test_what_is_no_count(value: Any, tokens: int | None) -> None:
    found = read("chat/completions", {"usage": {"prompt_tokens": value}})
    assert (None if found is None else found.input_tokens) == tokens
    assert chat(prompt_tokens=value, completion_tokens=5).input_tokens == (tokens or 0)


def test_parts_are_cut_to_their_whole() -> None:
    found = chat(
        prompt_tokens=127,
        completion_tokens=10,
        prompt_tokens_details={
            "cached_tokens": 384,
            "cache_write_tokens": 5,
            "audio_tokens": 100,
            "image_tokens": 99,
        },
        completion_tokens_details={"reasoning_tokens": 11, "audio_tokens": 6, "image_tokens": 6},
    )
    assert found == Usage(
        input_tokens=127,
        output_tokens=10,
        cached_tokens=127,
        cache_write_tokens=0,
        audio_input_tokens=100,
        image_input_tokens=27,
        reasoning_tokens=10,
        audio_output_tokens=6,
        image_output_tokens=4,
        model="m",
        clamped=True,
    )


@pytest.mark.parametrize(
    ("usage", "clamped"),
    [
        ({"prompt_tokens": 5, "completion_tokens": 5}, False),
        ({"prompt_tokens": 5, "completion_tokens": None}, False),
        ({"prompt_tokens": 5.0, "completion_tokens": 5, "prompt_tokens_details": None}, False),
        ({"prompt_tokens": 5, "prompt_tokens_details": {"cached_tokens": 5, "audio_tokens": 5}}, False),
        ({"input_tokens": 5, "input_token_details": {"cached_tokens": 5}}, False),
        ({"prompt_tokens": -1, "completion_tokens": 5}, True),
        ({"prompt_tokens": 5, "completion_tokens": -1}, True),
        ({"prompt_tokens": 5, "completion_tokens": 2**70}, True),
        ({"prompt_tokens": 5.5, "completion_tokens": 5}, True),
        ({"prompt_tokens": 5, "prompt_tokens_details": {"cached_tokens": 6}}, True),
        ({"prompt_tokens": 5, "prompt_tokens_details": {"cached_tokens": -6}}, True),
        ({"prompt_tokens": 5, "num_cached_tokens": 6}, True),
        ({"prompt_tokens": 5, "prompt_tokens_details": {"audio_tokens": 6}}, True),
        ({"prompt_tokens": 5, "prompt_tokens_details": {"cached_tokens": 3, "cache_write_tokens": 3}}, True),
        ({"completion_tokens": 5, "completion_tokens_details": {"reasoning_tokens": 6}}, True),
        ({"input_tokens": 127, "input_token_details": {"cached_tokens": 384}}, True),
    ],
)
def test_a_usage_that_was_cut_says_so_and_so_does_its_cost(usage: dict[str, Any], clamped: bool) -> None:
    found = read("chat/completions", {"model": "gpt-4o-audio-preview", "usage": usage})
    assert found is not None
    assert found.clamped is clamped
    assert default().cost(found).flags == (("usage_clamped",) if clamped else ())


@pytest.mark.parametrize("cost", [-1, float("inf"), float("nan"), MOST_DOLLARS + 1, "0.1", True, None, [1]])
def test_what_is_no_price(cost: Any) -> None:
    assert chat(prompt_tokens=1, completion_tokens=1, cost=cost).reported_cost is None


@pytest.mark.parametrize("seconds", [-1, float("inf"), float("nan"), 10**12, "9", True, None])
def test_what_is_no_time(seconds: Any) -> None:
    assert read("audio/transcriptions", {"usage": {"type": "duration", "seconds": seconds}}) is None


@pytest.mark.parametrize(
    "duration", [-1, float("nan"), 10**12, "9s", "1e3", "-9", "9" * 20, "", True, None, [9]]
)
def test_what_is_no_duration(duration: Any) -> None:
    assert read("audio/transcriptions", {"text": "hi", "duration": duration}) is None


def test_a_name_that_is_none() -> None:
    for name in ("", "x" * (LONGEST_NAME + 1), 7, None, ["gpt-4o"]):
        found = read("chat/completions", {"model": name, "service_tier": name, "usage": {"prompt_tokens": 1}})
        assert found == Usage(1)


NAMES = """
    usage prompt_tokens completion_tokens input_tokens output_tokens total_tokens seconds cost is_byok
    cost_details upstream_inference_cost prompt_tokens_details completion_tokens_details
    input_tokens_details input_token_details output_tokens_details cached_tokens num_cached_tokens
    prompt_cache_hit_tokens cache_write_tokens audio_tokens image_tokens reasoning_tokens
    cached_tokens_details cache_write_tokens_details ttl_12h_tokens tool_usage web_search num_requests
    duration output tools action
    image_gen svg_usage type response model service_tier cache_read_input_tokens
"""
names = st.sampled_from(NAMES.split())
numbers = st.one_of(
    st.integers(-3, 300), st.integers(-(2**80), 2**80), st.floats(), st.sampled_from([2**63, 2**64, 10**9])
)
scalars = st.one_of(
    numbers,
    numbers,
    st.none(),
    st.booleans(),
    st.text(max_size=3),
    st.sampled_from(["response.completed", "response.done", "web_search_call", "file_search_call", "12.5"]),
)
anything = st.recursive(
    scalars,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(names, inner, max_size=8)),
    max_leaves=25,
)
likely = st.fixed_dictionaries({"usage": st.dictionaries(names, anything, max_size=12)})


@given(st.sampled_from([*sorted(ENDPOINTS), "realtime", "batches"]), st.one_of(anything, likely))
def test_whatever_comes_is_read_or_not_and_adds_up(endpoint: str, data: Any) -> None:
    found = read(endpoint, data)
    if found is None:
        return
    counts = {field.name: getattr(found, field.name) for field in fields(found) if field.type is int}
    assert len(counts) > 10
    for name, count in counts.items():
        assert type(count) is int, name
        assert 0 <= count <= MOST_TOKENS, name
    assert found.cached_tokens + found.cache_write_tokens <= found.input_tokens
    assert found.audio_input_tokens + found.image_input_tokens <= found.input_tokens
    assert found.cached_audio_tokens + found.cached_image_tokens <= found.cached_tokens
    assert found.cached_audio_tokens <= found.audio_input_tokens
    assert found.cached_image_tokens <= found.image_input_tokens
    assert found.cache_write_12h_tokens <= found.cache_write_tokens
    assert found.reasoning_tokens <= found.output_tokens
    assert found.audio_output_tokens + found.image_output_tokens <= found.output_tokens
    assert found.provenance == "measured"
    for amount in found.other_units.values():
        assert amount.is_finite()
        assert amount >= 0
    if found.reported_cost is not None:
        assert 0 <= found.reported_cost <= 2 * MOST_DOLLARS


# -- the short way of nearly all -----------------------------------------------------------------------------

count = st.one_of(st.sampled_from([0, 1, 5, 7, 12, 10**9]), st.integers(0, 10**9 + 1))
member: st.SearchStrategy[Any] = st.one_of(
    count, count, count, numbers, st.sampled_from([None, True, "7", {}, []])
)
named = st.one_of(st.sampled_from(["gpt-4o", "default", "", None, 7, "x" * 257]))


@st.composite
def chats(draw: st.DrawFn) -> dict[str, Any]:
    """Answers as OpenAI's chat has them, here and there with something that does not belong."""
    total_in, total_out = draw(count), draw(count)
    usage: dict[str, Any] = {
        "prompt_tokens": total_in,
        "completion_tokens": total_out,
        "total_tokens": total_in + total_out,
        "prompt_tokens_details": {
            "cached_tokens": draw(st.integers(0, total_in)),
            "audio_tokens": 0,
        },
        "completion_tokens_details": {"reasoning_tokens": draw(st.integers(0, total_out)), "audio_tokens": 0},
    }
    data: dict[str, Any] = {"model": "gpt-4o", "usage": usage}
    places: list[dict[str, Any]] = [
        data,
        usage,
        usage["prompt_tokens_details"],
        usage["completion_tokens_details"],
    ]
    for _ in range(draw(st.integers(0, 2))):
        place = draw(st.sampled_from(places))
        name = draw(st.one_of(st.sampled_from([*place, "service_tier"]), names))
        if draw(st.integers(0, 4)):
            place[name] = draw(st.one_of(member, named, anything))
        else:
            place.pop(name, None)
    return data


@given(chats())
@settings(max_examples=500)
def test_the_short_way_reads_what_the_long_one_does(data: dict[str, Any]) -> None:
    found = read("chat/completions", data)
    # Nobody knows this member, but with it nothing is as OpenAI has it.
    usage = data.get("usage")
    longer = usage | {"queue_time": 1} if isinstance(usage, dict) else usage
    assert found == read("chat/completions", data | {"usage": longer})


CHAT: dict[str, Any] = {
    "prompt_tokens": 12,
    "completion_tokens": 9,
    "total_tokens": 21,
    "prompt_tokens_details": {"cached_tokens": 5, "audio_tokens": 0},
    "completion_tokens_details": {"reasoning_tokens": 7, "audio_tokens": 0},
}


def test_the_short_way_is_that_of_a_chat() -> None:
    data = {"model": "m", "service_tier": "flex", "usage": CHAT}
    expected = Usage(12, 9, 5, reasoning_tokens=7, model="m", service_tier="flex")
    assert _usual(data) == read("chat/completions", data) == expected


@pytest.mark.parametrize(
    ("usage", "besides"),
    [
        ({"cost": 1}, {}),
        ({"total_tokens": 28}, {}),  # reasoning that the output leaves out
        ({"prompt_tokens": 4}, {}),
        ({"prompt_tokens": 12.0}, {}),
        ({"completion_tokens": 10**9 + 1, "total_tokens": 10**9 + 13}, {}),
        ({"completion_tokens": 6, "total_tokens": 18}, {}),
        ({"prompt_tokens_details": None}, {}),
        ({"prompt_tokens_details": {"cached_tokens": 5, "audio_tokens": 1}}, {}),
        ({"prompt_tokens_details": {"cached_tokens": 5, "audio_tokens": 0, "cache_write_tokens": 2}}, {}),
        ({"completion_tokens_details": {"reasoning_tokens": 7, "audio_tokens": 2}}, {}),
        ({"completion_tokens_details": {"reasoning_tokens": 7, "image_tokens": 2}}, {}),
        ({}, {"output": [{"type": "web_search_call"}]}),
        ({}, {"tool_usage": {"web_search": {"num_requests": 1}}}),
        ({}, {"svg_usage": {"input_tokens": 1}}),
        ({}, {"type": "response.completed"}),
        ({}, {"model": None}),
        ({}, {"service_tier": 7}),
    ],
)
def test_what_the_short_way_is_not_for(usage: dict[str, Any], besides: dict[str, Any]) -> None:
    data = {"model": "m", "usage": CHAT | usage} | besides
    assert _usual(data) is None
    assert _usual({"model": "m", "usage": CHAT}) is not None
