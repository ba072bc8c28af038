from typing import Any

import pytest

from plugins.precost.unknown import SHOWN, unknown_model


def test_the_refusal_names_the_model_and_what_to_do() -> None:
    error = unknown_model("gpt-9")
    assert (error.status, error.code, error.type, error.param) == (
        404,
        "model_not_found",
        "invalid_request_error",
        "model",
    )
    assert error.message == (
        "The model 'gpt-9' has no price here, and is refused for that: "
        "ask for one of GET /models, or have it added to the price table."
    )
    assert error.retry_after is None


@pytest.mark.parametrize("model", [None, "", 7, ["gpt-4o"]])
def test_a_request_without_a_model(model: Any) -> None:
    assert unknown_model(model).message.startswith("The request names no model")


def test_a_name_is_shown_on_one_line_and_cut() -> None:
    assert "a?b" in unknown_model("a\nb").message
    assert len(unknown_model("x" * 10_000).message) < SHOWN + 150
