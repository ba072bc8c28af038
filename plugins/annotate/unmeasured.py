"""The end of an exchange whose answer has told no usage, or not the last one: what it may have cost."""

from typing import Any, Final, Protocol

from proxy.api import ESTIMATE, Cost, End, Exchange, Usage
from proxy.pricing.encodings import encoding_for, ordinary
from proxy.pricing.output import Output, Streamed
from proxy.pricing.output.shown import hides, known_vocabulary
from proxy.pricing.prompt import used
from proxy.pricing.values import Model, Prices

from . import bill
from .bill import Asked, Input
from .counting import Counting, Running
from .given import given

NOT_SENT: Final = frozenset(
    (
        "upstream_connect_timeout",
        "upstream_connect_failed",
        "upstream_dns_failed",
        "upstream_tls_failed",
        "upstream_busy",
    )
)
"""Outcomes of an attempt after which the upstream knows nothing of the request."""
_CHOICES_MOST: Final = 1_000_000


class Call(Protocol):
    """What is known of the exchange.

    `shown`: its answer could be read, so that `batch` has all of it, or what was not counted yet in
    `running`. `so_far` is a usage that was told on the way. `answer` is the JSON that pictures came in.
    """

    endpoint: str
    model: str | None
    shown: bool
    batch: list[bytes]
    running: Running | None
    so_far: Usage | None
    answer: Any


async def unmeasured(
    ex: Exchange, end: End, call: Call, body: dict[str, Any], prices: Prices | None, counting: Counting
) -> tuple[Usage | None, Cost] | None:
    """The usage and the cost, None where there can be none. `body` is the request's JSON, or empty."""
    if not ex.attempts:
        return None
    outcome = ex.attempts[-1].outcome
    answered = outcome.isdigit()
    if outcome in NOT_SENT or (answered and not 200 <= int(outcome) < 300):
        return None
    if answered and end.reason == "complete" and (bought := _bought(ex, call, prices)) is not None:
        return bought
    known = model_of(call, prices, ex.upstream)
    if call.so_far is not None:
        told = call.so_far
        found = Input(told.input_tokens, told.input_tokens, told.input_tokens, cached=told.cached_tokens)
        most = None if known is None else known.max_output_tokens
    else:
        found, most = await given(ex, body, await ex.request.read() if body else b"", known, counting)
    tier = body.get("service_tier")
    asked = Asked(call.model, ex.upstream, tier if isinstance(tier, str) else None, most)
    if not answered and end.reason == "upstream_error":
        return None, bill.failed(prices, asked, found)
    if answered and call.shown:
        return bill.estimated(prices, asked, found, await _written(call, body, known, counting))
    if not answered and body.get("stream") is True:
        return bill.estimated(prices, asked, found, Output(), accepted=False)
    return bill.bounded(prices, asked, found)


def _bought(ex: Exchange, call: Call, prices: Prices | None) -> tuple[Usage, Cost] | None:
    """The bill of a whole answer whose model is sold by what was asked for: pictures, characters, seconds."""
    estimate = ex.get(ESTIMATE)
    usage = None if estimate is None or prices is None else used(estimate.units, call.answer)
    if usage is None or prices is None:
        return None
    cost = prices.cost(usage, call.model, upstream=ex.upstream)
    return None if cost.amount is None else (usage, cost)


async def _written(call: Call, body: dict[str, Any], known: Model | None, counting: Counting) -> Output:
    running = call.running or begin(call, known, counting)
    choices = body.get("n")
    out = await running.output(
        choices if type(choices) is int and 0 < choices < _CHOICES_MOST else 1,
        hidden=isinstance(body.get("prompt"), list) or hides(_name(call, known), body),
    )
    told = call.so_far
    if told is None:
        return out
    return out._replace(
        tokens=out.tokens + told.output_tokens,
        least=out.least + told.output_tokens,
        most=None,
        reasoning_tokens=out.reasoning_tokens + told.reasoning_tokens,
        audio_tokens=out.audio_tokens + told.audio_output_tokens,
        model=told.model or out.model,
        service_tier=told.service_tier or out.service_tier,
    )


def begin(call: Call, known: Model | None, counting: Counting) -> Running:
    """Count this call's stream from here on."""
    known_tokens = known_vocabulary(_name(call, known))
    streamed = Streamed(call.endpoint, encoding_of(call, known), known=known_tokens, batch=call.batch)
    running = call.running = Running(streamed, counting)
    return running


def encoding_of(call: Call, known: Model | None) -> str:
    """The encoding that this call's answer is counted in."""
    return encoding_for(_name(call, known)) if known is None else ordinary(known.encoding)


def model_of(call: Call, prices: Prices | None, upstream: str | None) -> Model | None:
    """What the price table knows of the model that was asked for."""
    if prices is None or call.model is None:
        return None
    return prices.model(call.model, upstream=upstream)


def _name(call: Call, known: Model | None) -> str:
    """An alias says nothing of a model."""
    return (call.model or "") if known is None else known.id
