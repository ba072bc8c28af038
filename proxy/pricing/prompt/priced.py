"""What a prompt may cost at most, and what it did cost where the answer does not say what it used."""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from proxy.pricing.prompt.prompt import Prompt
from proxy.pricing.values import Model, Prices, Usage


def max_output(prompt: Prompt, known: Model | None) -> int | None:
    """Tokens of all choices together; None if neither the request nor the price table has a limit."""
    output = prompt.max_output_tokens
    if output is None and known is not None:
        output = known.max_output_tokens
    return None if output is None else output * prompt.choices


def max_cost(
    prompt: Prompt,
    prices: Prices,
    *,
    input_tokens: int,
    output_tokens: int | None,
    upstream: str | None = None,
) -> Decimal | None:
    """No less than it can cost with so many tokens, in US dollars; None where there is no price for it.

    A model that has no price by the token may have one by what is asked for: pictures, characters, seconds.
    """
    model, tier = prompt.model, prompt.service_tier
    if model is None:
        return None
    cost = prices.max_cost(
        model, input_tokens=input_tokens, output_tokens=output_tokens, service_tier=tier, upstream=upstream
    )
    if cost is None and prompt.units:
        asked = Usage(other_units=dict(prompt.units), service_tier=tier, provenance="bounded")
        cost = prices.cost(asked, model, upstream=upstream).amount
    return cost


def used(units: Mapping[str, Decimal] | None, answer: Any = None) -> Usage | None:
    """What an answer without a usage used, by what was asked for; None where that does not tell.

    `units` are those of the prompt, or the estimate. `answer` is the JSON that came, if it was JSON: as many
    pictures count as are in it. Such a usage has a price only with a model that is sold so.
    """
    if not units:
        return None
    pictures = answer.get("data") if isinstance(answer, dict) else None
    many = Decimal(len(pictures)) if isinstance(pictures, list) else None
    counted = {
        unit: many if many is not None and unit.startswith("image:") else count
        for unit, count in units.items()
    }
    return Usage(other_units=counted, provenance="estimated")
