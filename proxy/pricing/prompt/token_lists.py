"""The four shapes of a `prompt` and of an embeddings' `input`: a text, texts, tokens, or lists of tokens."""

from typing import Any

from proxy.pricing.prompt.tally import Tally, loose


def token_lists(tally: Tally, value: Any) -> int:
    """Count any of them, mixed if need be; how many there are, where a list of tokens is one."""
    if isinstance(value, str):
        tally.text(value)
        return 1
    if not isinstance(value, list):
        return 0
    several = 0
    for each in value:
        if isinstance(each, str):
            tally.text(each)
            several += 1
        elif isinstance(each, list):
            loose(tally, each)
            several += 1
        elif isinstance(each, dict):
            loose(tally, each)
        else:
            tally.fixed += 1
    return max(1, several) if value else 0
