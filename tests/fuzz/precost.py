"""Any bytes as a body, through the real engine and the `precost` plugin: an answer, and no bug of ours."""

import asyncio
import atexit
from typing import Final

from prometheus_client import CollectorRegistry

from plugins.precost import PreCost
from proxy.api import ESTIMATE, Server
from proxy.api.testing import Sent, json, play
from proxy.pricing.table import default

from .metering import NAMES

KINDS: Final = (
    "application/json",
    "multipart/form-data; boundary=b",
    "text/plain",
    'multipart/form-data; boundary="\xff"',
)
_LOOP: Final = asyncio.new_event_loop()
atexit.register(_LOOP.close)


def target(data: bytes) -> None:
    """The first byte says which endpoint, the second how it is sent; the rest is the body."""
    which, how = (*data[:2], 0, 0)[:2]
    headers = [("content-type", KINDS[how % len(KINDS)])]
    if how & 16:
        headers.append(("x-weir-dry-run", "true"))
    if how & 32:
        headers.append(("content-encoding", "gzip"))
    folder = "/v1" if which < 128 else "/openai/deployments/gpt-4o"
    path = f"{folder}/{NAMES[which % len(NAMES)]}"
    _LOOP.run_until_complete(_play(path, headers, data[2:]))


async def _play(path: str, headers: list[tuple[str, str]], body: bytes) -> None:
    server = Server(metrics=CollectorRegistry(), prices=default())
    sent = Sent("POST", path, headers=headers, pieces=[body])
    played = await play([PreCost()], sent, json({}), server=server)
    assert played.status == 200 or 400 <= played.status < 500, played.body
    assert played.ended == 1
    estimate = played.ex.get(ESTIMATE)
    if played.forwarded is not None:
        assert played.forwarded.body == body, "bytes were changed"
    if estimate is not None:
        assert estimate.input_bound >= 0
        assert estimate.input_tokens is None or 0 <= estimate.input_tokens <= estimate.input_bound
        assert estimate.max_cost is None or (estimate.max_cost.is_finite() and estimate.max_cost >= 0)
