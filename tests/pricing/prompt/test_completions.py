from typing import Any

import pytest

from proxy.pricing.prompt import Prompt, read


def prompt(**fields: Any) -> Prompt:
    found = read("completions", {"model": "gpt-3.5-turbo-instruct", **fields})
    assert found is not None
    return found


def test_nothing_frames_the_text() -> None:
    assert prompt(prompt="hello world").count() == 2
    assert prompt(prompt="hello world", suffix=" hello world").count() == 4
    assert prompt().count() == 0


@pytest.mark.parametrize(
    ("fields", "most", "choices"),
    [
        ({"prompt": "a"}, 16, 1),
        ({"prompt": "a", "max_tokens": None}, 16, 1),
        ({"prompt": "a", "max_tokens": 50}, 50, 1),
        ({"prompt": "a", "n": 2}, 16, 2),
        ({"prompt": "a", "n": 2, "best_of": 5}, 16, 5),
        ({"prompt": "a", "best_of": 5}, 16, 5),
        ({"prompt": ["a", "b", "c"], "n": 2}, 16, 6),
        ({"prompt": [1, 2, 3], "n": 2}, 16, 2),
        ({"prompt": [[1, 2], [3]], "n": 2}, 16, 4),
        ({"prompt": ["a"] * 3, "n": 2**31}, 16, 2**31 - 1),
        ({}, 16, 1),
    ],
)
def test_what_may_come_back(fields: dict[str, Any], most: int, choices: int) -> None:
    found = prompt(**fields)
    assert (found.max_output_tokens, found.choices) == (most, choices)


def test_old_models_have_old_encodings() -> None:
    assert prompt(model="text-davinci-003").encoding == "p50k_base"
    assert prompt(model="davinci").encoding == "r50k_base"
    assert prompt().family == "completions"
