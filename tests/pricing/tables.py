"""Small price tables for tests."""

from collections.abc import Mapping
from typing import Any

from proxy.pricing.table import Table, parse
from proxy.pricing.values import Usage


def table(models: Mapping[str, Any], **more: Any) -> Table:
    """A table of these models; one that is only a row has that as its standard price."""
    whole = {
        name: entry if "prices" in entry else {"prices": [{"standard": entry}]}
        for name, entry in models.items()
    }
    return parse({"version": 1, "updated": "2026-11-22", "models": whole, **more})


def million(model: str | None = None, tier: str | None = None, **counts: int) -> Usage:
    """A usage in millions of tokens, so that its cost is the sum of the prices."""
    tokens: dict[str, Any] = {name: count * 1_000_000 for name, count in counts.items()}
    return Usage(model=model, service_tier=tier, **tokens)
