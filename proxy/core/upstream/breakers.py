"""What the breakers say in the metrics, by upstream, over reloads."""

from collections.abc import Iterator

from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from proxy.core.upstream.breaker import Breaker


class Breakers(Collector):
    """All that serve. A reload may replace one by another of the same name: what it has refused stays in the
    sum, one number for each name that there ever was."""

    def __init__(self) -> None:
        self._watched: list[Breaker] = []
        self._before: dict[str, int] = {}

    def watch(self, breaker: Breaker | None) -> None:
        """This one serves from now on; again or None is nothing new."""
        if breaker is not None and breaker not in self._watched:
            self._watched.append(breaker)

    def forget(self, breaker: Breaker | None) -> None:
        """This one serves no longer."""
        if breaker is not None:
            self._watched.remove(breaker)
            self._before[breaker.name] = self._before.get(breaker.name, 0) + breaker.refused

    def collect(self) -> Iterator[Metric]:
        """For the metrics: the state of the last one of each name, and the sum of all that had it."""
        suspended: dict[str, bool] = {}
        refused = dict(self._before)
        for breaker in self._watched:
            suspended[breaker.name] = breaker.suspended
            refused[breaker.name] = refused.get(breaker.name, 0) + breaker.refused
        state = GaugeMetricFamily(
            "weir_breaker_open", "Whether connecting to it is suspended.", labels=["upstream"]
        )
        for name, is_open in suspended.items():
            state.add_metric([name], is_open)
        count = CounterMetricFamily(
            "weir_breaker_refused_requests",
            "Requests refused since connecting was suspended.",
            labels=["upstream"],
        )
        for name, number in refused.items():
            count.add_metric([name], number)
        yield from (state, count)
