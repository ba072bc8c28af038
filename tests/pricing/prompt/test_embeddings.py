from typing import Any

import pytest

from proxy.pricing.prompt import Prompt, read


def prompt(value: Any) -> Prompt:
    found = read("embeddings", {"model": "text-embedding-3-small", "input": value})
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("hello world", 2),
        (["hello world", "hello world"], 4),
        ([15339, 1917, 0], 3),
        ([[15339, 1917], [15339]], 3),
        (["hello world", 15339, [1, 2]], 5),
        ("", 0),
        ([], 0),
        (None, 0),
    ],
)
def test_texts_are_counted_and_tokens_are_tokens(value: Any, expected: int) -> None:
    found = prompt(value)
    assert found.count() == expected <= found.bound


def test_nothing_is_written() -> None:
    found = prompt("hello world")
    assert (found.family, found.encoding) == ("embeddings", "cl100k_base")
    assert (found.max_output_tokens, found.choices) == (0, 1)
