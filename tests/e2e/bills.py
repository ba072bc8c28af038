"""A plugin that tells what a request was billed, for tests to read in the log."""

import logging
from decimal import Decimal

from proxy.api import COST, USAGE, End, Exchange, Plugin

log = logging.getLogger("weir.bills")


class Bills(Plugin):
    """One line for each exchange. First in the chain, it is told last."""

    async def on_end(self, ex: Exchange, end: End) -> None:
        usages, cost = ex.get(USAGE) or [], ex.get(COST)
        fields = {
            "client_request_id": ex.request.headers.get("x-request-id"),
            "end_reason": end.reason,
            "end_code": end.code,
            "usages": [
                [usage.provenance, usage.input_tokens, usage.output_tokens, usage.model] for usage in usages
            ],
            "cost": None if cost is None else [_text(cost.low), _text(cost.amount), _text(cost.high)],
            "provenance": None if cost is None else cost.provenance,
        }
        log.info("bill", extra={"fields": fields})


def _text(amount: Decimal | None) -> str | None:
    return None if amount is None else format(amount, "f")
