"""POST /audio/speech: a text that is spoken. Some models are sold by the character, some by the token."""

from decimal import Decimal
from typing import Any

from proxy.pricing.prompt.prompt import Prompt
from proxy.pricing.prompt.tally import Tally
from proxy.pricing.values import Model

SPOKEN = 4
"""Tokens of audio for a character: 20 a second, at five characters a second, which is slow."""


def speech(body: dict[str, Any], known: Model | None) -> Prompt:
    """The text and how to speak it."""
    tally = Tally(body, known)
    text = body.get("input")
    tally.text(text)
    tally.text(body.get("instructions"))
    if not isinstance(text, str):
        return tally.prompt("speech", body, output=None)
    units = {"characters": Decimal(len(text))}
    return tally.prompt("speech", body, output=SPOKEN * len(text), units=units)
