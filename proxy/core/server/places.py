"""How many clients may be connected at a time: fewer than half as many as the process may have descriptors.

Every one of them may need a connection to an upstream, and health and the ledger need descriptors too: a
process that has none left serves nobody, and is not even seen to live.
"""

import time
from collections.abc import Iterator
from typing import Final

from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector

from proxy.api.errors import WeirError
from proxy.core.log import log
from proxy.core.seal import sealed

OTHERS: Final = 64
"""Descriptors for everything that is neither a client nor an upstream."""
LINGERING: Final = 32
"""Of these, connections that have been told so and are about to close. Beyond them nobody is told."""
ENOUGH: Final = 1 << 16
"""Descriptors that are asked for at the start, where the system allows more than it gives."""
SELDOM: Final = 10.0
"""Seconds between two lines of the log about it, however many come."""


def descriptors() -> int | None:
    """How many this process may have, now that it has asked for more; None where nobody counts."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = ENOUGH if hard == resource.RLIM_INFINITY else min(hard, ENOUGH)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
            soft = wanted
        except (OSError, ValueError):
            pass  # a sandbox may forbid it; what there is has to do
    return None if soft == resource.RLIM_INFINITY else soft


class Places(Collector):
    """The places for clients of one process, what those are told who find none, and how many they were."""

    def __init__(self, descriptors: int | None) -> None:
        self.most = 1 << 30 if descriptors is None else max(1, (descriptors - OTHERS) // 2)
        """Connections at a time."""
        self._turned_away = 0
        self._told_at = -SELDOM

    def turn_away(self, connected: int) -> bytes:
        """What a connection is told for which there is no place, if it can be: a whole answer, or nothing.
        `connected` are all that there are, this one included."""
        self._turned_away += 1
        now = time.monotonic()
        if now - self._told_at >= SELDOM:
            self._told_at = now
            fields = {"places": self.most, "turned_away": self._turned_away}
            log.warning("too many connections: raise the limit of open files", extra={"fields": fields})
        return b"" if connected > self.most + LINGERING else _ANSWER

    def collect(self) -> Iterator[Metric]:
        """For the metrics: how many were turned away, told or not."""
        name, what = "weir_connections_turned_away", "Connections for which there was no place."
        yield CounterMetricFamily(name, what, value=self._turned_away)


def _answer() -> bytes:
    message = "Weir has as many connections as it can take. Try again soon."
    error = WeirError(503, "too_many_connections", message, retry_after=1)
    body = error.body()
    fields = [*sealed(error.headers()), (b"content-length", b"%d" % len(body)), (b"connection", b"close")]
    lines = [b"HTTP/1.1 503 Service Unavailable", *(b": ".join(pair) for pair in fields)]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


_ANSWER: Final = _answer()
