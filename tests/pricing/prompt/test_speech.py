from typing import Any

import pytest

from proxy.pricing.prompt import Prompt, read
from proxy.pricing.prompt.speech import SPOKEN


def prompt(**fields: Any) -> Prompt:
    found = read("audio/speech", {"model": "tts-1", "voice": "alloy", **fields})
    assert found is not None
    return found


def test_the_text_is_the_prompt() -> None:
    found = prompt(input="hello world", instructions="gently")
    assert (found.family, found.count(), found.max_output_tokens) == ("speech", 4, 11 * SPOKEN)


@pytest.mark.parametrize(("text", "characters"), [("hello", 5), ("grüße 😀", 7), ("", 0)])
def test_it_may_be_sold_by_the_character(text: str, characters: int) -> None:
    assert prompt(input=text, instructions="gently").units == {"characters": characters}


@pytest.mark.parametrize("nothing", [None, 7, ["hello"]])
def test_without_a_text_there_are_no_characters(nothing: Any) -> None:
    found = prompt(input=nothing)
    assert (found.units, found.max_output_tokens) == ({}, None)
