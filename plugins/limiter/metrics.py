"""What `/metrics` says of limits. Requests only count in plain integers, and are put together here."""

from collections.abc import Iterable, Sequence
from typing import Final

from prometheus_client import CollectorRegistry, Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from .limit import OF_KEYS, Limit
from .store import Store

_MODES: Final = ("memory", "shared", "local")


class Metrics(Collector):
    """The figures of a configuration's limits, by name: as many labels as there are limits.

    At a reload the new limiter opens what the old one still has open; the newest one's limits are told.
    """

    def __init__(self) -> None:
        self._open: dict[object, tuple[Sequence[Limit], Store]] = {}
        self._registry: CollectorRegistry | None = None

    def open(self, owner: object, registry: CollectorRegistry, limits: Sequence[Limit], store: Store) -> None:
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
        decisions, buckets, forgotten, mode, calls, made, lost = families = self._families()
        limits, store = [*self._open.values()][-1]
        for limit in (*limits, *OF_KEYS):
            table = store.tables[limit.id]
            if limit.of_key and not (table.admitted or table.refused):
                continue  # no key has such a limit
            decisions.add_metric([limit.name, "admitted"], table.admitted)
            decisions.add_metric([limit.name, "shadow" if limit.shadow else "refused"], table.refused)
            buckets.add_metric([limit.name], len(table))
            forgotten.add_metric([limit.name], table.forgotten)
        for name in _MODES:
            mode.add_metric([name], store.mode == name)
        figures = store.figures
        if not figures:
            return families[:4]
        for family, name in ((calls, "calls"), (made, "decisions"), (lost, "lost")):
            family.add_metric([], figures[name])
        return families

    @staticmethod
    def _families() -> tuple[CounterMetricFamily | GaugeMetricFamily, ...]:
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
            GaugeMetricFamily(
                "weir_limiter_mode",
                "1 for where limits are counted now: memory, shared, or local while Redis does not answer.",
                labels=["mode"],
            ),
            CounterMetricFamily("weir_limiter_redis_calls", "Calls that Redis answered.", labels=[]),
            CounterMetricFamily(
                "weir_limiter_redis_decisions", "Requests that were decided by those calls.", labels=[]
            ),
            CounterMetricFamily(
                "weir_limiter_settlements_lost",
                "Settlements that Redis was never told: too many waited for it, or Weir stopped.",
                labels=[],
            ),
        )
