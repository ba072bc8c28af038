"""What a client is told whom a limit refuses."""

from proxy.api import Reply, WeirError

from .headers import go_duration
from .limit import Limit
from .meter import NEVER
from .money import dollars


def refusal(limit: Limit, amount: int, wait: int) -> Reply:
    """The 429. `wait` is in µs; the request is admitted after it, unless others come first.

    OpenAI's SDKs try a 429 again by themselves: where money has run out, or in vain, they are told not to.
    """
    if wait == NEVER:
        return _in_vain(limit, amount)
    milliseconds = -(-wait // 1000)
    seconds = milliseconds / 1000
    said = f'The limit "{limit.name}" is reached: {limit}. Try again in {go_duration(milliseconds * 1000)}.'
    if limit.kind == "cost":
        reply = Reply.error(429, "insufficient_quota", said, type="insufficient_quota", retry_after=seconds)
        reply.headers["x-should-retry"] = "false"
        return reply
    return Reply.error(429, "rate_limit_exceeded", said, retry_after=seconds)


def ended(limit: Limit) -> WeirError:
    """What the client of a stream is told that has used up a limit: its answer ends here."""
    error = WeirError(
        429,
        "insufficient_quota",
        f'The answer ends here: the limit "{limit.name}" is used up, {limit}.',
        type="insufficient_quota",
    )
    error.retry_after = None
    return error


def unpriced(limit: Limit) -> Reply:
    """The 403 for a model without a price where money is counted: it might cost anything."""
    return Reply.error(
        403,
        "unpriced_model",
        f'The limit "{limit.name}" counts money, and the price of this model is not known.',
        param="model",
    )


def unavailable(limit: Limit) -> Reply:
    """The 503 of a limit that admits nobody while the store that is shared does not answer."""
    return Reply.error(
        503,
        "limiter_unavailable",
        f'The limit "{limit.name}" cannot be looked up now. Try again in a moment.',
        retry_after=1.0,
    )


def unreadable(reason: str) -> Reply:
    """The 500 for limits of a key that cannot be read: who made the key has to correct them."""
    return Reply.error(
        500, "invalid_key_limits", f"The limits of this API key cannot be read: {reason}. Tell who made it."
    )


def not_estimated() -> Reply:
    """The 400 for what would pass by the limits on use: an upstream might understand it all the same."""
    return Reply.error(
        400,
        "not_estimated",
        "A limit counts what requests use, and this one cannot be estimated: send a JSON object, as "
        "application/json, to the endpoint as it is documented, such as /v1/chat/completions.",
    )


def _in_vain(limit: Limit, amount: int) -> Reply:
    if limit.kind == "cost":
        error = WeirError(
            429,
            "insufficient_quota",
            f"This request may cost {dollars(amount)} dollars, more than the limit "
            f'"{limit.name}" ever allows: {limit}. Ask for less output with max_tokens.',
            type="insufficient_quota",
        )
    else:
        error = WeirError(
            429,
            "rate_limit_exceeded",
            f"This request asks for {amount} {limit.kind.replace('_', ' ')}, and the limit "
            f'"{limit.name}" never allows more than {limit.burst} at once: {limit}. '
            "Send less, or ask for less output.",
        )
    error.retry_after = None  # there is no time to name, and so it is told not to try again
    return Reply.of(error)
