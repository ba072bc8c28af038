"""What a request may use, before it is sent, and what it has used, at its end; by kind, in units."""

from collections.abc import Mapping
from decimal import Decimal
from functools import lru_cache
from typing import Any, Final

from proxy.api import COST, ESTIMATE, USAGE, ClientError, End, Estimate, Exchange
from proxy.pricing.endpoints import operation
from proxy.pricing.values import Prices

from .limit import Kind, Limit
from .money import nanodollars


class Demand:
    """What a request may use at most. `cost` is in nanodollars, None: no price; `fields` are its body.

    `input_cost` is the part of it that is charged before a stream begins, where the rest can be charged as it
    streams; None where it cannot.
    """

    __slots__ = ("cost", "fields", "input_cost", "input_tokens", "tokens")

    def __init__(
        self,
        input_tokens: int,
        tokens: int,
        cost: int | None,
        fields: Mapping[str, Any],
        input_cost: int | None = None,
    ) -> None:
        self.input_tokens = input_tokens
        self.tokens = tokens
        self.cost = cost
        self.fields = fields
        self.input_cost = input_cost

    def of(self, limit: Limit) -> int:
        """What this asks of one limit on use.

        A request that does not say how much output it wants takes what a limit on tokens has at most, rather
        than be refused for what its model could give.
        """
        if limit.kind == "cost":
            return (self.cost if limit.fuse == "off" or self.input_cost is None else self.input_cost) or 0
        if limit.kind == "input_tokens":
            return self.input_tokens
        if self.input_tokens <= limit.burst < self.tokens and not self._says_how_much():
            return limit.burst
        return self.tokens

    def _says_how_much(self) -> bool:
        return any(self.fields.get(name) is not None for name in _OUTPUT_LIMITS)


NOTHING: Final = Demand(0, 0, None, {})
"""Of a request that nobody can estimate: it is charged when it is known what it used."""
_JSON: Final = frozenset(
    (
        "chat/completions",
        "responses",
        "completions",
        "embeddings",
        "images/generations",
        "audio/speech",
        "moderations",
    )
)
"""Endpoints that take JSON, whatever a client declares it to be."""
NOTHING_USED: Final[Mapping[Kind, int]] = {
    "in_flight": 0,
    "requests": 0,
    "input_tokens": 0,
    "tokens": 0,
    "cost": 0,
}
_CHARGED_AS_IT_STREAMS: Final = frozenset(("chat/completions", "responses", "completions"))
_CUT_OFF: Final = frozenset(("client_gone", "shutdown"))
_OUTPUT_LIMITS: Final = ("max_tokens", "max_completion_tokens", "max_output_tokens")


async def model_of(ex: Exchange, endpoint: str) -> str | None:
    """The model that a request names, or None if it has none to name, or is an upload, which is not read.

    Raises `ClientError` for what should be JSON and cannot be read: an upstream might be able to.
    """
    request = ex.request
    if request.method != "POST":
        return None
    if endpoint not in _JSON and "json" not in (request.headers.get(b"content-type") or "").lower():
        return None
    if not await request.read():
        return None
    body = await request.json()
    model = body.get("model") if isinstance(body, dict) else None
    return model if isinstance(model, str) and model else operation(request.endpoint)[1]


async def expected(ex: Exchange, prices: Prices | None = None) -> Demand:
    """What the estimate says that a request may use, its input counted or, where that takes long, bounded.
    `prices` are needed where a fuse may burn."""
    estimate = ex.get(ESTIMATE)
    if estimate is None:
        return NOTHING
    tokens = estimate.input_tokens
    tokens = estimate.input_bound if tokens is None else tokens
    return _demand(ex, estimate, tokens, estimate.max_cost, prices, await _fields(ex))


async def counted(ex: Exchange, prices: Prices | None) -> Demand | None:
    """The same with the input counted exactly, in a thread. None if it was already, or cannot be."""
    estimate = ex.get(ESTIMATE)
    if estimate is None or estimate.input_tokens is not None or estimate.count is None:
        return None
    tokens = await estimate.exact()
    cost = estimate.max_cost
    fields = await _fields(ex)
    if cost is not None and prices is not None:
        model, tier = _priced_as(estimate, fields)
        lower = prices.max_cost(
            model,
            input_tokens=tokens,
            output_tokens=estimate.max_output_tokens,
            service_tier=tier,
            upstream=ex.upstream,
        )
        cost = cost if lower is None else min(cost, lower)
    return _demand(ex, estimate, tokens, cost, prices, fields)


def _demand(
    ex: Exchange,
    estimate: Estimate,
    tokens: int,
    cost: Decimal | None,
    prices: Prices | None,
    fields: Mapping[str, Any],
) -> Demand:
    input_cost = None
    if cost is not None and prices is not None and fields.get("stream") is True and _streams(ex):
        model, tier = _priced_as(estimate, fields)
        input_cost = prices.input_cost(model, input_tokens=tokens, service_tier=tier, upstream=ex.upstream)
    return Demand(
        tokens,
        tokens + (estimate.max_output_tokens or 0),
        None if cost is None else nanodollars(cost),
        fields,
        None if input_cost is None else nanodollars(input_cost),
    )


def _streams(ex: Exchange) -> bool:
    """Whether what this endpoint streams is charged as it comes; images come in few large parts."""
    return operation(ex.request.endpoint)[0] in _CHARGED_AS_IT_STREAMS


def _priced_as(estimate: Estimate, fields: Mapping[str, Any]) -> tuple[str, str | None]:
    """The model, which a path may name in place of the body, and the tier."""
    model, tier = estimate.model or fields.get("model"), fields.get("service_tier")
    return model if isinstance(model, str) else "", tier if isinstance(tier, str) else None


async def _fields(ex: Exchange) -> dict[str, Any]:
    """The members of a JSON body; as a rule it was parsed for the estimate already."""
    try:
        body = await ex.request.json()
    except ClientError:
        return {}
    return body if isinstance(body, dict) else {}


def used(ex: Exchange, end: End) -> Mapping[Kind, int]:
    """What a request has used; a kind that is not named was used as expected.

    What was never sent counts for nothing, not even as a request. What an upstream refused, or failed to
    answer, counts as a request alone, unless it is known what it used. Use that is estimated counts as that;
    where not even that can be, the most that it may cost. Who leaves before the answer gets nothing back and
    pays the most that it may cost: the upstream may have made it, and leaving early must not be free.
    """
    if not ex.attempts:
        return NOTHING_USED
    use: dict[Kind, int] = {"in_flight": 0}
    answered = _is_answered(ex.attempts[-1].outcome)
    left_early = not answered and end.reason in _CUT_OFF
    refused = not answered and not left_early
    if refused:
        use = {"in_flight": 0, "input_tokens": 0, "tokens": 0, "cost": 0}
    known = False
    counts = True
    came_in = went_out = 0
    for usage in ex.get(USAGE) or ():  # one, as a rule
        if usage.provenance == "none":
            continue
        known = True
        counts = counts and (answered or usage.provenance == "measured")
        came_in += usage.input_tokens
        went_out += usage.output_tokens
    if known and counts:
        use["input_tokens"] = came_in
        use["tokens"] = came_in + went_out
    cost = ex.get(COST)
    if cost is not None:
        amount = cost.amount
        if amount is None or (left_early and cost.provenance in ("estimated", "bounded")):
            amount = None if refused else cost.high
        if amount is not None:
            use["cost"] = max(nanodollars(amount), 0)
    return use


@lru_cache(maxsize=256)
def _is_answered(outcome: str) -> bool:
    """Whether an upstream took the request up: an outcome is a status or the code of an error."""
    return outcome.isdigit() and int(outcome) < 400
