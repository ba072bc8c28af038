"""Each table against requests that the API takes, and against ones that it refuses."""

from typing import Any

import pytest

from plugins.validate.checks import check
from plugins.validate.fields import CHAT, EMBEDDINGS, ENDPOINTS, IMAGES
from proxy.api import ClientError
from tests.plugins.validate.test_checks import outcome

ASK: dict[str, Any] = {"model": "gpt-4o", "messages": [{"role": "user", "content": "Hello!"}]}
EMBED: dict[str, Any] = {"model": "text-embedding-3-small", "input": "Hello!"}
DRAW: dict[str, Any] = {"prompt": "A weir."}

GOOD: list[tuple[Any, dict[str, Any]]] = [
    (CHAT, ASK),
    (CHAT, {"model": "anything/at:all", "messages": [{"role": "new", "content": None}]}),
    (CHAT, {**ASK, "messages": [{"role": "user", "content": [{"type": "text", "text": "x"}], "name": 7}]}),
    (CHAT, {**ASK, **dict.fromkeys(set(CHAT) - {"model", "messages"})}),
    (
        CHAT,
        {**ASK, "temperature": 0, "top_p": 0.1, "n": 3, "max_tokens": -1, "max_completion_tokens": 10**18},
    ),
    (CHAT, {**ASK, "temperature": 2, "top_p": 1, "seed": 2.0**64, "n": 1000}),
    (CHAT, {**ASK, "stop": "x"}),
    (CHAT, {**ASK, "stop": ["x", "y", "z", "1", "2"]}),
    (CHAT, {**ASK, "tools": [{"type": "function", "function": {"name": "f"}}], "tool_choice": "auto"}),
    (CHAT, {**ASK, "tools": [], "tool_choice": {"type": "function"}, "response_format": {"type": "other"}}),
    (CHAT, {**ASK, "stream": True, "stream_options": {"include_usage": True}, "new": [1]}),
    (CHAT, {**ASK, "logit_bias": {"50256": -100}, "service_tier": "odd", "reasoning_effort": "odd"}),
    (CHAT, {**ASK, "logit_bias": [[15043, 1.0]]}),
    (EMBEDDINGS, EMBED),
    (EMBEDDINGS, {**EMBED, "input": ["a"] * 2048, "dimensions": 256, "encoding_format": "odd"}),
    (EMBEDDINGS, {**EMBED, "input": [1, 2, 3]}),
    (EMBEDDINGS, {**EMBED, "input": [1] * 8191}),
    (EMBEDDINGS, {**EMBED, "input": [[1, 2], [3]]}),
    (IMAGES, DRAW),
    (IMAGES, {**DRAW, "size": "1x1", "quality": "odd", "n": 10, "model": "mine", "style": "odd"}),
    (IMAGES, {**DRAW, **dict.fromkeys(set(IMAGES) - {"prompt"})}),
]
BAD: list[tuple[Any, dict[str, Any], str, str]] = [
    (CHAT, {}, "model", "missing_required_parameter"),
    (CHAT, {"model": "x"}, "messages", "missing_required_parameter"),
    (CHAT, {**ASK, "model": None}, "model", "invalid_type"),
    (CHAT, {**ASK, "model": ["x"]}, "model", "invalid_type"),
    (CHAT, {**ASK, "model": ""}, "model", "empty_string"),
    (CHAT, {**ASK, "messages": None}, "messages", "invalid_type"),
    (CHAT, {**ASK, "messages": "Hello!"}, "messages", "invalid_type"),
    (CHAT, {**ASK, "messages": {"role": "user"}}, "messages", "invalid_type"),
    (CHAT, {**ASK, "messages": ["Hello!"]}, "messages", "invalid_type"),
    (CHAT, {**ASK, "messages": []}, "messages", "empty_array"),
    (CHAT, {**ASK, "messages": [{"content": "x"}]}, "messages[0].role", "missing_required_parameter"),
    (CHAT, {**ASK, "messages": [{"role": "user"}, {"role": None}]}, "messages[1].role", "invalid_type"),
    (CHAT, {**ASK, "temperature": "0.7"}, "temperature", "invalid_type"),
    (CHAT, {**ASK, "temperature": True}, "temperature", "invalid_type"),
    (CHAT, {**ASK, "temperature": 2.1}, "temperature", "decimal_above_max_value"),
    (CHAT, {**ASK, "temperature": -1}, "temperature", "decimal_below_min_value"),
    (CHAT, {**ASK, "top_p": 1.5}, "top_p", "decimal_above_max_value"),
    (CHAT, {**ASK, "n": 0}, "n", "integer_below_min_value"),
    (CHAT, {**ASK, "n": 1.5}, "n", "invalid_type"),
    (CHAT, {**ASK, "stream": "true"}, "stream", "invalid_type"),
    (CHAT, {**ASK, "max_tokens": "5"}, "max_tokens", "invalid_type"),
    (CHAT, {**ASK, "max_completion_tokens": 0.5}, "max_completion_tokens", "invalid_type"),
    (CHAT, {**ASK, "stop": [1]}, "stop", "invalid_type"),
    (CHAT, {**ASK, "tools": {}}, "tools", "invalid_type"),
    (CHAT, {**ASK, "response_format": "json"}, "response_format", "invalid_type"),
    (EMBEDDINGS, {"input": "x"}, "model", "missing_required_parameter"),
    (EMBEDDINGS, {"model": "x"}, "input", "missing_required_parameter"),
    (EMBEDDINGS, {**EMBED, "input": None}, "input", "invalid_type"),
    (EMBEDDINGS, {**EMBED, "input": 7}, "input", "invalid_type"),
    (EMBEDDINGS, {**EMBED, "input": ["a", 1]}, "input", "invalid_type"),
    (EMBEDDINGS, {**EMBED, "input": [1, "a"]}, "input", "invalid_type"),
    (EMBEDDINGS, {**EMBED, "input": [[1], "a"]}, "input", "invalid_type"),
    (EMBEDDINGS, {**EMBED, "input": ""}, "input", "empty_string"),
    (EMBEDDINGS, {**EMBED, "input": []}, "input", "empty_array"),
    (EMBEDDINGS, {**EMBED, "input": ["a"] * 2049}, "input", "array_above_max_length"),
    (EMBEDDINGS, {**EMBED, "input": [[1]] * 2049}, "input", "array_above_max_length"),
    (EMBEDDINGS, {**EMBED, "dimensions": 0}, "dimensions", "integer_below_min_value"),
    (IMAGES, {}, "prompt", "missing_required_parameter"),
    (IMAGES, {"prompt": ["x"]}, "prompt", "invalid_type"),
    (IMAGES, {"prompt": ""}, "prompt", "empty_string"),
    (IMAGES, {**DRAW, "n": 0}, "n", "integer_below_min_value"),
    (IMAGES, {**DRAW, "n": 11}, "n", "integer_above_max_value"),
    (IMAGES, {**DRAW, "size": 1024}, "size", "invalid_type"),
    (IMAGES, {**DRAW, "quality": 1}, "quality", "invalid_type"),
    (IMAGES, {**DRAW, "model": 4}, "model", "invalid_type"),
]


@pytest.mark.parametrize(("fields", "values"), GOOD)
def test_what_the_api_takes(fields: Any, values: dict[str, Any]) -> None:
    check(values, fields)


@pytest.mark.parametrize(("fields", "values", "param", "code"), BAD)
def test_what_the_api_refuses(fields: Any, values: dict[str, Any], param: str, code: str) -> None:
    with pytest.raises(ClientError) as caught:
        check(values, fields)
    assert (caught.value.param, caught.value.code) == (param, code)


def test_each_field_refuses_something() -> None:
    for fields, least in ((CHAT, ASK), (EMBEDDINGS, EMBED), (IMAGES, DRAW)):
        for name in fields:
            tried = [outcome({**least, name: wrong}, fields) for wrong in (True, 0.5, "x", {"x": 1}, [0.5])]
            refused = [error for error in tried if error is not None]
            assert len(refused) >= 3, name
            assert {error.param for error in refused} == {name}


def test_the_endpoints_are_three() -> None:
    assert set(ENDPOINTS) == {"chat/completions", "embeddings", "images/generations"}
