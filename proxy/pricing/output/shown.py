"""What of a model is known from its name: whether it shows all that it writes, and in whose tokens."""

import re
from typing import Any, Final

from proxy.pricing.encodings import LONGEST, base_model

_OPENAIS: Final = re.compile(r"gpt|chatgpt-|o\d|text-|davinci|babbage|codex|chat-latest|computer-use")
_SHOWS: Final = re.compile(r"gpt-3|gpt-4|chatgpt-4o|davinci|babbage|text-")


def known_vocabulary(model: str) -> bool:
    """Whether this is a model of OpenAI's, whose tokens are the ones that are counted."""
    return _OPENAIS.match(base_model(model[:LONGEST])) is not None


def hides(model: str, body: dict[str, Any]) -> bool:
    """Whether more may be written and billed than is shown: reasoning, the rest of a prediction, candidates
    that were not the best. `body` is that of the request."""
    if _SHOWS.match(base_model(model[:LONGEST])) is None:
        return True
    return body.get("prediction") is not None or body.get("best_of") is not None
