"""What a request may use, before it is sent, and what it has used, at its end; by kind, in units."""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Final

from proxy.api import COST, ESTIMATE, USAGE, ClientError, End, Estimate, Exchange
from proxy.pricing.values import Prices

from .limit import Kind, Limit
from .money import nanodollars


class Demand:
    """What a request may use at most. `cost` is in nanodollars, None: no price; `fields` are its body."""

    __slots__ = ("cost", "fields", "input_tokens", "tokens")

    def __init__(self, input_tokens: int, tokens: int, cost: int | None, fields: Mapping[str, Any]) -> None:
        self.input_tokens = input_tokens
        self.tokens = tokens
        self.cost = cost
        self.fields = fields

    def of(self, limit: Limit) -> int:
        """What this asks of one limit on use.

        A request that does not say how much output it wants takes what a limit on tokens has at most, rather
        than be refused for what its model could give.
        """
        if limit.kind == "cost":
            return self.cost or 0
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
    return model if isinstance(model, str) and model else None


async def expected(ex: Exchange) -> Demand:
    """What the estimate says that a request may use, its input counted or, where that takes long, bounded."""
    estimate = ex.get(ESTIMATE)
    if estimate is None:
        return NOTHING
    tokens = estimate.input_tokens
    return await _demand(ex, estimate, estimate.input_bound if tokens is None else tokens, estimate.max_cost)


async def counted(ex: Exchange, prices: Prices | None) -> Demand | None:
    """The same with the input counted exactly, in a thread. None if it was already, or cannot be."""
    estimate = ex.get(ESTIMATE)
    if estimate is None or estimate.input_tokens is not None or estimate.count is None:
        return None
    tokens = await estimate.exact()
    cost = estimate.max_cost
    if cost is not None and prices is not None:
        fields = await _fields(ex)
        model, tier = fields.get("model"), fields.get("service_tier")
        lower = prices.max_cost(
            model if isinstance(model, str) else "",
            input_tokens=tokens,
            output_tokens=estimate.max_output_tokens,
            service_tier=tier if isinstance(tier, str) else None,
        )
        cost = cost if lower is None else min(cost, lower)
    return await _demand(ex, estimate, tokens, cost)


async def _demand(ex: Exchange, estimate: Estimate, tokens: int, cost: Decimal | None) -> Demand:
    return Demand(
        tokens,
        tokens + (estimate.max_output_tokens or 0),
        None if cost is None else nanodollars(cost),
        await _fields(ex),
    )


async def _fields(ex: Exchange) -> dict[str, Any]:
    """The members of a JSON body; as a rule it was parsed for the estimate already."""
    try:
        body = await ex.request.json()
    except ClientError:
        return {}
    return body if isinstance(body, dict) else {}


def used(ex: Exchange, end: End) -> dict[Kind, int]:
    """What a request has used; a kind that is not named was used as expected.

    What was never sent counts for nothing, not even as a request. What an upstream refused, or failed to
    answer, counts as a request alone, unless it is known what it used. Who leaves before the answer does not
    get anything back: the upstream may have made it, and leaving early must not be free.
    """
    use: dict[Kind, int] = {"in_flight": 0}
    if not ex.attempts:
        return use | {"requests": 0, "input_tokens": 0, "tokens": 0, "cost": 0}
    if not _is_answered(ex.attempts[-1].outcome) and end.reason not in _CUT_OFF:
        use |= {"input_tokens": 0, "tokens": 0, "cost": 0}
    known = [usage for usage in ex.get(USAGE) or () if usage.provenance != "none"]
    if known:
        use["input_tokens"] = sum(usage.input_tokens for usage in known)
        use["tokens"] = sum(usage.input_tokens + usage.output_tokens for usage in known)
    cost = ex.get(COST)
    if cost is not None:
        amount = cost.high if cost.amount is None else cost.amount
        if amount is not None:
            use["cost"] = nanodollars(max(amount, Decimal(0)))
    return use


def _is_answered(outcome: str) -> bool:
    """Whether an upstream took the request up: an outcome is a status or the code of an error."""
    return outcome.isdigit() and int(outcome) < 400
