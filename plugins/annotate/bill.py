"""What an answer may have cost that does not tell its usage: an estimate, and bounds that hold the truth."""

from dataclasses import replace
from decimal import Decimal
from typing import Final, NamedTuple

from proxy.api import Cost, Usage
from proxy.pricing.output import Output
from proxy.pricing.values import Prices, Provenance

NOTHING: Final = Decimal(0)
NO_USAGE: Final = "no_usage"


class Input(NamedTuple):
    """Tokens of input: the count, or a bound if that is all there is, and what encloses the truth.

    `most` is None where nobody can tell, such as what an upstream's own tools add. `cached` is the part that
    is known to be from a cache. `known`: whether there is any figure at all.
    """

    tokens: int = 0
    least: int = 0
    most: int | None = None
    bounded: bool = False
    known: bool = True
    cached: int = 0


UNKNOWN: Final = Input(known=False)


class Asked(NamedTuple):
    """What the bill goes by besides tokens. `most_output` is what the request, or else the model, allows."""

    model: str | None
    upstream: str | None
    service_tier: str | None = None
    most_output: int | None = None


def estimated(
    prices: Prices | None, asked: Asked, given: Input, written: Output, *, accepted: bool = True
) -> tuple[Usage, Cost]:
    """The bill of what was shown. `accepted`: the upstream had begun to answer; else it may cost nothing."""
    most = asked.most_output if written.most is None else written.most
    usage = Usage(
        input_tokens=given.tokens,
        output_tokens=written.tokens,
        cached_tokens=given.cached,
        reasoning_tokens=min(written.reasoning_tokens, written.tokens),
        audio_output_tokens=min(written.audio_tokens, written.tokens),
        provenance=_provenance(given),
        model=written.model,
        service_tier=written.service_tier or asked.service_tier,
    )
    if prices is None:
        return usage, Cost(None)
    cost = _cost(prices, usage, asked)
    least = replace(
        usage,
        input_tokens=given.least,
        output_tokens=written.least,
        reasoning_tokens=0,
        audio_output_tokens=0,
        provenance="estimated",
    )
    low = _cost(prices, least, asked).low if accepted else NOTHING
    high = _high(prices, usage, asked, cost, given, None if most is None else max(most, written.tokens))
    return usage, _enclosed(cost, low, high)


def bounded(prices: Prices | None, asked: Asked, given: Input) -> tuple[Usage, Cost]:
    """The bill of an answer that was written out of sight: no more than this, and perhaps nothing."""
    most = given.tokens if given.most is None else given.most
    known = given.known and asked.most_output is not None
    usage = Usage(
        input_tokens=most,
        output_tokens=asked.most_output or 0,
        provenance="bounded" if known else "none",
        service_tier=asked.service_tier,
    )
    if prices is None:
        return usage, Cost(None)
    cost = _cost(prices, usage, asked)
    return usage, _enclosed(cost, NOTHING, _high(prices, usage, asked, cost, given, asked.most_output))


def failed(prices: Prices | None, asked: Asked, given: Input) -> Cost:
    """What a request may have cost that an upstream got and did not answer: nothing, as a rule."""
    cost = bounded(prices, asked, given)[1]
    if cost.amount is None:
        return cost
    return replace(cost, amount=NOTHING, low=NOTHING, provenance="estimated")


def _cost(prices: Prices, usage: Usage, asked: Asked) -> Cost:
    return prices.cost(usage, asked.model, upstream=asked.upstream)


def _provenance(given: Input) -> Provenance:
    if not given.known:
        return "none"  # half a usage is none: there is no cost of it
    return "bounded" if given.bounded else "estimated"


def _high(
    prices: Prices, usage: Usage, asked: Asked, cost: Cost, given: Input, output: int | None
) -> Decimal | None:
    name = cost.model or usage.model or asked.model
    if not given.known or given.most is None or output is None or name is None:
        return None
    return prices.max_cost(
        name,
        input_tokens=given.most,
        output_tokens=output,
        service_tier=usage.service_tier,
        upstream=asked.upstream,
    )


def _enclosed(cost: Cost, low: Decimal | None, high: Decimal | None) -> Cost:
    """This cost within its bounds; rounding, or rates that cannot be, put nothing outside of them. Without a
    price there are none."""
    amount = cost.amount
    if amount is None and NO_USAGE not in cost.flags:
        return cost
    if amount is not None:
        low = amount if low is None else min(low, amount)
        high = None if high is None else max(high, amount)
    return replace(cost, low=low, high=high)
