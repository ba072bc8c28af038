from typing import Any

import pytest

from proxy.pricing.prompt import Prompt, read


def prompt(**fields: Any) -> Prompt:
    found = read("images/generations", {"model": "gpt-image-1", **fields})
    assert found is not None
    return found


def test_the_text_is_the_prompt() -> None:
    found = prompt(prompt="hello world", n=3)
    assert found.count() == 2
    assert (found.family, found.choices, found.encoding) == ("images", 3, "o200k_base")


@pytest.mark.parametrize(
    ("fields", "most"),
    [
        ({"quality": "low", "size": "1024x1024"}, 272),
        ({"quality": "low", "size": "auto"}, 408),
        ({"quality": "low"}, 408),
        ({"size": "1536x1024"}, 6208),
        ({"quality": "auto", "size": "1024x1024"}, 4160),
        ({"quality": "high"}, 6240),
        ({}, 6240),
        ({"quality": ["low"], "size": ["auto"]}, None),
        ({"size": "4096x4096"}, None),
        ({"model": "gpt-image-1-mini", "quality": "medium", "size": "1024x1536"}, 1584),
        ({"model": "openai/gpt-image-1.5"}, 6240),
        ({"model": "gpt-image-2"}, None),
        ({"model": "dall-e-3"}, None),
        ({"model": None}, None),
    ],
)
def test_what_one_picture_may_have(fields: dict[str, Any], most: int | None) -> None:
    assert prompt(prompt="a cat", **fields).max_output_tokens == most
