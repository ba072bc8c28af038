"""POST /embeddings: a text, several, or tokens; nothing is written."""

from typing import Any

from proxy.pricing.prompt.prompt import Prompt
from proxy.pricing.prompt.tally import Tally
from proxy.pricing.prompt.token_lists import token_lists
from proxy.pricing.values import Model


def embeddings(body: dict[str, Any], known: Model | None) -> Prompt:
    """The texts or tokens to embed. Nothing frames them."""
    tally = Tally(body, known)
    token_lists(tally, body.get("input"))
    return tally.prompt("embeddings", body, output=0)
