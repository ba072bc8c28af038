"""The dry run: what a request would cost, without sending it."""

from decimal import Decimal

import orjson

from proxy.api import ClientError, DryRun, Estimate
from proxy.pricing.prompt import Prompt

HEADER = b"x-weir-dry-run"
_WORDS = {b"true": True, b"1": True, b"false": False, b"0": False}


def wanted(value: bytes) -> bool:
    """What the header's value asks for. Anything unclear is refused: sent by mistake, it would cost money."""
    try:
        return _WORDS[value.strip().lower()]
    except KeyError:
        raise ClientError(400, "invalid_dry_run", "The header x-weir-dry-run is true or false.") from None


def impossible() -> ClientError:
    """The answer where there is nothing to estimate."""
    return ClientError(
        400,
        "dry_run_not_possible",
        "A dry run takes a POST of a JSON object to chat/completions, responses, responses/compact, "
        "completions, embeddings, images/generations, images/edits or audio/speech.",
    )


def dry_run(prompt: Prompt, estimate: Estimate, input_cost: Decimal | None) -> DryRun:
    """The answer. Costs are JSON numbers with all their digits, or null for a model without a price.

    `admitted` and `limits` are for the limiter to fill in.
    """
    tokens = estimate.input_bound if estimate.input_tokens is None else estimate.input_tokens
    return DryRun(
        {
            "object": "weir.estimate",
            "model": prompt.model,
            "encoding": prompt.encoding,
            "method": estimate.method,
            "input_tokens": tokens,
            "max_output_tokens": estimate.max_output_tokens,
            "input_cost_usd": _number(input_cost),
            "max_cost_usd": _number(estimate.max_cost),
            "admitted": True,
            "limits": [],
        }
    )


def _number(amount: Decimal | None) -> orjson.Fragment | None:
    return None if amount is None else orjson.Fragment(format(amount, "f"))
