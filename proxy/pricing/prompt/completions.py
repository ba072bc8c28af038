"""POST /completions: a text, several, or tokens; each is completed for itself."""

from typing import Any

from proxy.pricing.prompt.prompt import Prompt
from proxy.pricing.prompt.tally import MOST, Tally, largest, whole
from proxy.pricing.prompt.token_lists import token_lists
from proxy.pricing.values import Model

OUTPUT = 16
"""Tokens of an answer unless the request says otherwise."""


def completions(body: dict[str, Any], known: Model | None) -> Prompt:
    """The prompt of a completion. All candidates are billed, so `best_of` counts like `n`."""
    tally = Tally(body, known)
    prompts = token_lists(tally, body.get("prompt"))
    tally.text(body.get("suffix"))
    return tally.prompt(
        "completions",
        body,
        output=whole(body.get("max_tokens")) or OUTPUT,
        choices=min(MOST, (largest(body.get("n"), body.get("best_of")) or 1) * max(1, prompts)),
    )
