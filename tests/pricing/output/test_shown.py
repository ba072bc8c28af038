from typing import Any

import pytest

from proxy.pricing.output.shown import hides, known_vocabulary


@pytest.mark.parametrize(
    "model", ["gpt-4o", "openai/GPT-5", "ft:gpt-4.1:acme::7", "o3-mini", "gpt-oss-20b", "chatgpt-4o-latest"]
)
def test_openais_tokens_are_known(model: str) -> None:
    assert known_vocabulary(model)


@pytest.mark.parametrize(
    "model", ["mistral-large", "claude-opus-5", "llama3", "deepseek-r1", "", "x" * 10_000]
)
def test_others_are_guessed(model: str) -> None:
    assert not known_vocabulary(model)
    assert hides(model, {})


@pytest.mark.parametrize("model", ["gpt-4o", "azure/gpt-4.1-mini", "gpt-3.5-turbo-instruct", "davinci-002"])
def test_models_that_show_all_they_write(model: str) -> None:
    assert not hides(model, {"n": 2, "prediction": None})


@pytest.mark.parametrize("model", ["o1", "o4-mini", "gpt-5", "gpt-5.4-nano", "gpt-6.1-sol", "gpt-oss-120b"])
def test_models_that_reason(model: str) -> None:
    assert hides(model, {})


@pytest.mark.parametrize("body", [{"prediction": {"type": "content", "content": "x"}}, {"best_of": 3}])
def test_requests_that_make_a_model_write_more_than_it_shows(body: dict[str, Any]) -> None:
    assert hides("gpt-4o", body)
