"""What the spans of an exchange say. No prompt, completion, query, header or key is among it.

Text that a client chose (path, model, user agent) is cut, and what looks like a credential is taken out.
Who the user is stays in Weir's log and ledger, found by `weir.request_id`: a collector is often another's.
"""

import re
from collections.abc import Sequence
from dataclasses import replace
from decimal import ROUND_HALF_EVEN, Decimal
from functools import lru_cache

from proxy.api import COST, ESTIMATE, IDENTITY, USAGE, Attempt, End, Exchange, Hop, Usage

from . import names

Value = str | bool | int | float
Attributes = dict[str, Value]

TEXT_LIMIT = 256
"""Characters of one value."""
_SECRET = re.compile(r"Bearer\s+\S+|\bsk-[A-Za-z0-9_-]{8,}")
_NANO = Decimal(10**9)
_OURS = frozenset(("upstream_error", "internal_error", "shutdown"))
"""Endings that are a failure of Weir or of what it stands for; a client that left or was refused is none."""


def text(value: str) -> str:
    """A text as a span may hold it: short, encodable, and with no credential in it."""
    # Filtered before it is cut: half a key no longer looks like one.
    safe = _SECRET.sub("***", value[: 4 * TEXT_LIMIT])
    return safe[:TEXT_LIMIT].encode("utf-8", "replace").decode()


def server(ex: Exchange, end: End, route: str | None) -> Attributes:
    """Of the SERVER span: the request as the client sees it."""
    request = ex.request
    found: Attributes = {
        names.HTTP_METHOD: request.method,
        names.URL_PATH: text(request.path),
        names.URL_SCHEME: "http",
        names.CLIENT_ADDRESS: request.address,
        names.WEIR_REQUEST_ID: ex.id,
        names.WEIR_END_REASON: end.reason,
        names.WEIR_END_CODE: end.code,
    }
    if route is not None:
        found[names.HTTP_ROUTE] = route
    if ex.response.status:
        found[names.HTTP_STATUS] = ex.response.status
    agent = request.headers.get(b"user-agent")
    if agent is not None:
        found[names.USER_AGENT] = text(agent)
    ttfb = ex.timeline.ttfb
    if ttfb is not None:
        found[names.WEIR_TIME_TO_FIRST_BYTE] = ttfb
    identity = ex.get(IDENTITY)
    if identity is not None:
        if identity.key_id is not None:
            found[names.WEIR_KEY_ID] = text(identity.key_id)
        if identity.team is not None:
            found[names.WEIR_TEAM] = text(identity.team)
    if end.reason in _OURS or end.reason == "client_gone":
        found[names.ERROR_TYPE] = end.code
    elif ex.response.status >= 500:
        found[names.ERROR_TYPE] = str(ex.response.status)
    return found


def server_failed(ex: Exchange, end: End) -> bool:
    """Whether the SERVER span is an error: a 5xx, or an answer that broke through no fault of the client."""
    return end.reason in _OURS or ex.response.status >= 500


def client(ex: Exchange, end: End, genai: names.GenAi, operation: names.Operation | None) -> Attributes:
    """Of the CLIENT span: all attempts at the upstream as one operation, and what it used and cost."""
    attempts = ex.attempts
    last = attempts[-1]
    found: Attributes = {
        names.HTTP_METHOD: ex.request.method,
        names.WEIR_UPSTREAM: last.upstream,
        names.WEIR_ATTEMPTS: len(attempts),
    }
    if last.outcome.isdigit():
        found[names.HTTP_STATUS] = int(last.outcome)
    error = client_error(last, end)
    if error is not None:
        found[names.ERROR_TYPE] = error
    if operation is not None:
        _operation(found, ex, genai, operation)
    _usage(found, ex.get(USAGE), genai)
    _money(found, ex)
    return found


def client_error(last: Attempt, end: End) -> str | None:
    """How the operation failed, or None: the upstream's status or the code of what broke or ended it."""
    if not last.outcome.isdigit():
        return last.outcome
    if int(last.outcome) >= 400:
        return last.outcome
    return None if end.reason == "complete" else end.code


def client_failed(last: Attempt, end: End) -> bool:
    """Whether the CLIENT span is an error: one that the upstream is to be asked about, or we are."""
    if last.outcome.isdigit() and int(last.outcome) >= 400:
        return True
    return end.reason in _OURS


def client_name(ex: Exchange, operation: names.Operation | None) -> str:
    """The CLIENT span's: what is done and with which model, or the method where it is no GenAI operation."""
    if operation is None:
        return ex.request.method
    model = _asked_for(ex)
    return operation.name if model is None else f"{operation.name} {model}"


def hop(one: Hop) -> Attributes:
    """Of a plugin's hook."""
    return {names.WEIR_PLUGIN: one.name, names.WEIR_PHASE: one.phase}


def attempt(one: Attempt) -> Attributes:
    """Of one try at an upstream."""
    found: Attributes = {names.WEIR_UPSTREAM: one.upstream, names.WEIR_OUTCOME: one.outcome}
    if one.resent:
        found[names.WEIR_RESENT] = True
    return found


def _asked_for(ex: Exchange) -> str | None:
    """The model that the request names, if a plugin has read it."""
    estimate = ex.get(ESTIMATE)
    return None if estimate is None or estimate.model is None else text(estimate.model)


def _operation(found: Attributes, ex: Exchange, genai: names.GenAi, operation: names.Operation) -> None:
    found[genai.operation] = operation.name
    found[genai.provider] = _provider(ex.attempts[-1].upstream)
    model = _asked_for(ex)
    if model is not None:
        found[genai.request_model] = model
    if operation.output_type is not None:
        found[genai.output_type] = operation.output_type
    if operation.api_type is not None:
        found[genai.api_type] = operation.api_type
    if ex.response.is_stream:
        found[genai.request_stream] = True
        if ex.timeline.first_byte:
            waited = ex.timeline.first_byte - ex.attempts[0].start
            found[genai.time_to_first_chunk] = waited / 1e9


def _usage(found: Attributes, usages: Sequence[Usage] | None, genai: names.GenAi) -> None:
    if not usages:
        return
    usage = _sum(usages)
    found[names.WEIR_USAGE_PROVENANCE] = usage.provenance
    if usage.model is not None:
        found[genai.response_model] = text(usage.model)
    if usage.service_tier is not None:
        found[genai.service_tier] = text(usage.service_tier)
    if usage.provenance != "measured":
        return  # the conventions want what was used, not what may have been
    found[genai.input_tokens] = usage.input_tokens
    found[genai.output_tokens] = usage.output_tokens
    for name, tokens in (
        (genai.cached_tokens, usage.cached_tokens),
        (genai.cache_write_tokens, usage.cache_write_tokens),
        (genai.reasoning_tokens, usage.reasoning_tokens),
        (genai.audio_input_tokens, usage.audio_input_tokens),
        (genai.audio_output_tokens, usage.audio_output_tokens),
        (genai.image_input_tokens, usage.image_input_tokens),
        (genai.image_output_tokens, usage.image_output_tokens),
    ):
        if name is not None and tokens:
            found[name] = tokens


def _sum(usages: Sequence[Usage]) -> Usage:
    """One usage for many, as realtime has them; measured only if all are."""
    total = usages[0]
    for one in usages[1:]:
        total = replace(
            total,
            input_tokens=total.input_tokens + one.input_tokens,
            output_tokens=total.output_tokens + one.output_tokens,
            cached_tokens=total.cached_tokens + one.cached_tokens,
            cache_write_tokens=total.cache_write_tokens + one.cache_write_tokens,
            audio_input_tokens=total.audio_input_tokens + one.audio_input_tokens,
            image_input_tokens=total.image_input_tokens + one.image_input_tokens,
            reasoning_tokens=total.reasoning_tokens + one.reasoning_tokens,
            audio_output_tokens=total.audio_output_tokens + one.audio_output_tokens,
            image_output_tokens=total.image_output_tokens + one.image_output_tokens,
            provenance=total.provenance if one.provenance == "measured" else one.provenance,
        )
    return total


def _money(found: Attributes, ex: Exchange) -> None:
    estimate = ex.get(ESTIMATE)
    if estimate is not None:
        if estimate.input_tokens is not None:
            found[names.WEIR_ESTIMATE_INPUT] = estimate.input_tokens
        if estimate.max_output_tokens is not None:
            found[names.WEIR_ESTIMATE_OUTPUT] = estimate.max_output_tokens
        if estimate.max_cost is not None:
            found[names.WEIR_ESTIMATE_COST] = _nano(estimate.max_cost)
    cost = ex.get(COST)
    if cost is None or cost.amount is None:
        return
    found[names.WEIR_COST] = _nano(cost.amount)
    found[names.WEIR_COST_ESTIMATED] = cost.provenance != "measured"
    if cost.price_version is not None:
        found[names.WEIR_COST_PRICES] = cost.price_version


def _nano(dollars: Decimal) -> int:
    return int((dollars * _NANO).to_integral_value(ROUND_HALF_EVEN))


@lru_cache(maxsize=64)  # as many as there are upstreams
def _provider(upstream: str) -> str:
    words = frozenset(re.split(r"[^a-z0-9]+", upstream.lower()))
    return next((name for word, name in names.PROVIDERS.items() if word in words), names.OPENAI)
