"""Limits as JSON: for `GET /rate-limit/status`, `GET /models` and dry runs."""

from collections.abc import Sequence
from typing import Any

import orjson

from proxy.api import Identity

from .limit import Limit
from .meter import Taken
from .money import dollars
from .store import Hold


def status(who: Identity, now: Hold, others: Sequence[Limit]) -> bytes:
    """The state of every limit that may apply to somebody. Of `others` only the terms are known: they count
    by model, and none was named."""
    value = {
        "object": "weir.rate_limits",
        "user": who.user,
        "key_id": who.key_id,
        "team": who.team,
        "end_user": who.end_user,
        "address": who.address,
        "limits": [
            *listed(now),
            *(described(limit, None) for limit in others),
        ],
    }
    return orjson.dumps(value)


def listed(now: Hold) -> list[dict[str, Any]]:
    """The limits of a hold that asked for nothing."""
    return [described(limit, taken) for (limit, _, _), taken in zip(now.asks, now.taken, strict=True)]


def described(limit: Limit, taken: Taken | None) -> dict[str, Any]:
    """One limit. Money is in US dollars, all digits; `reset` is in seconds, until nothing is used again.

    `remaining` is what would pass now, at once; `used` is what is missing from the burst, and more than that
    where more was used than there is.
    """
    _, _, remaining, reset = taken or (None, 0, None, None)
    return {
        **terms(limit),
        "used": None if remaining is None else figure(limit, limit.burst - remaining),
        "remaining": None if remaining is None else figure(limit, max(0, remaining)),
        "reset": None if reset is None else -(-reset // 1000) / 1000,
    }


def terms(limit: Limit) -> dict[str, Any]:
    """What a limit says, whatever is left of it."""
    return {
        "name": limit.name,
        "kind": limit.kind,
        "per": limit.per,
        "on": limit.on or None,
        "models": limit.models or None,
        "limit": figure(limit, limit.amount),
        "window": limit.window or None,
        "burst": figure(limit, limit.burst),
        "shadow": limit.shadow,
    }


def figure(limit: Limit, amount: int) -> int | orjson.Fragment:
    """An amount of this limit as a JSON number."""
    return orjson.Fragment(dollars(amount)) if limit.kind == "cost" else amount
