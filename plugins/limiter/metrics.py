"""What `/metrics` says of limits. Requests only count in plain integers, and are put together here."""

from collections.abc import Iterable, Sequence

from prometheus_client import CollectorRegistry, Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from .limit import Limit
from .memory import MemoryStore


class Metrics(Collector):
    """The figures of a configuration's limits, by name: as many labels as there are limits.

    At a reload the new limiter opens what the old one still has open; the newest one's limits are told.
    """

    def __init__(self) -> None:
        self._open: dict[object, tuple[Sequence[Limit], MemoryStore]] = {}
        self._registry: CollectorRegistry | None = None

    def open(
        self, owner: object, registry: CollectorRegistry, limits: Sequence[Limit], store: MemoryStore
    ) -> None:
        """Tell of these limits. Raises `ValueError` if another limiter tells of its own already."""
        if not self._open:
            registry.register(self)
            self._registry = registry
        self._open[owner] = limits, store

    def close(self, owner: object) -> None:
        """Tell no more of what this owner opened."""
        if self._open.pop(owner, None) is not None and not self._open and self._registry is not None:
            self._registry.unregister(self)

    def describe(self) -> Iterable[Metric]:
        """The names, so that a registry sees when they are there twice."""
        return self._families()

    def collect(self) -> Iterable[Metric]:
        """The figures now."""
        decisions, buckets, forgotten = families = self._families()
        limits, store = [*self._open.values()][-1]
        for limit in limits:
            table = store.tables[limit.id]
            decisions.add_metric([limit.name, "admitted"], table.admitted)
            decisions.add_metric([limit.name, "shadow" if limit.shadow else "refused"], table.refused)
            buckets.add_metric([limit.name], len(table))
            forgotten.add_metric([limit.name], table.forgotten)
        return families

    @staticmethod
    def _families() -> tuple[CounterMetricFamily, GaugeMetricFamily, CounterMetricFamily]:
        return (
            CounterMetricFamily(
                "weir_limiter_decisions",
                "Requests that a limit admitted, refused or, as a shadow, would have refused.",
                labels=["limit", "decision"],
            ),
            GaugeMetricFamily(
                "weir_limiter_buckets", "Buckets that a limit keeps in memory.", labels=["limit"]
            ),
            CounterMetricFamily(
                "weir_limiter_buckets_forgotten",
                "Buckets in use that were given up because there were too many.",
                labels=["limit"],
            ),
        )
