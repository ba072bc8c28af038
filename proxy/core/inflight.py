"""What is in flight, for `GET /inflight` on the management port: who waits for what since when.

Nothing is kept for it while requests run: it is read off them when somebody asks. No header, body or query is
told, and no credential.
"""

from collections.abc import Collection
from heapq import nlargest
from time import monotonic_ns
from typing import Any

from proxy.api.slots import ESTIMATE, IDENTITY
from proxy.api.timeline import Phase
from proxy.core.forward import Trip
from proxy.core.log import safe
from proxy.core.routing import Route

LIMIT = 1000
"""Exchanges that are told of, the oldest; `total` counts all."""


def page(trips: Collection[Trip]) -> dict[str, Any]:
    """The answer to `GET /inflight`, as JSON's values."""
    now = monotonic_ns()
    oldest = nlargest(LIMIT, trips, key=lambda trip: now - trip.ex.timeline.received)
    return {
        "object": "weir.in_flight",
        "total": len(trips),
        "requests": [_entry(trip, now) for trip in oldest],
    }


def _is_in(trip: Trip, method: Any) -> bool:
    """Whether the task of this exchange is in this method: nothing is noted for it while requests run."""
    task = trip.flight.task
    waits: Any = None if task is None else task.get_coro()
    while waits is not None:
        frame = getattr(waits, "cr_frame", None)
        if frame is not None and frame.f_code is method.__code__:
            return True
        waits = getattr(waits, "cr_await", None)
    return False


def _entry(trip: Trip, now: int) -> dict[str, Any]:
    ex = trip.ex
    request, timeline = ex.request, ex.timeline
    identity, estimate = ex.get(IDENTITY), ex.get(ESTIMATE)
    client = trip._scope.get("weir.client")
    phase = _phase(trip)
    return {
        "id": ex.id,
        "age": round((now - timeline.received) / 1e9, 3),
        "phase": phase,
        "method": request.method,
        "endpoint": safe(request.endpoint),
        "model": None if estimate is None else safe(estimate.model),
        "user": None if identity is None else safe(identity.user),
        "key_id": None if identity is None else safe(identity.key_id),
        "address": request.address,
        "upstream": ex.upstream if ex.attempts or phase == "upstream" else None,
        "attempts": len(ex.attempts),
        "status": ex.response.status or None,
        "stream": ex.response.is_stream,
        "received_bytes": None if client is None else client.taken,
        "sent_bytes": None if client is None else client.sent,
    }


def _phase(trip: Trip) -> Phase:
    """Before the upstream; waiting for it; on the way to the client; being settled."""
    ex = trip.ex
    if ex.timeline.finished:
        return "end"
    if ex.timeline.response:
        return "response"
    return "upstream" if _is_in(trip, Route.attempt) else "request"
