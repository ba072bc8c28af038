"""What `/metrics` says of the ledger, put together from plain integers when it is asked."""

from collections.abc import Callable, Iterable

from prometheus_client import CollectorRegistry, Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from .journal import Journal
from .writer import Writer

_COUNTERS: dict[str, tuple[str, Callable[[Writer, Journal | None], float]]] = {
    "weir_ledger_rows_written": (
        "Rows that this process has handed to the database.",
        lambda writer, _: writer.written,
    ),
    "weir_ledger_rows_lost": (
        "Rows that could be kept nowhere; their requests were answered all the same.",
        lambda writer, _: writer.lost,
    ),
    "weir_ledger_journal_failures": (
        "Records that the journal did not take.",
        lambda _, journal: 0 if journal is None else journal.failures,
    ),
    "weir_ledger_journal_slow_writes": (
        "Records that took the journal longer than 10 ms.",
        lambda _, journal: 0 if journal is None else journal.slow_writes,
    ),
}
_GAUGES: dict[str, tuple[str, Callable[[Writer, Journal | None], float]]] = {
    "weir_ledger_journal_bytes": (
        "Bytes of disk that this process's journal takes.",
        lambda _, journal: 0 if journal is None else journal.size,
    ),
    "weir_ledger_rows_in_memory": (
        "Rows that the journal did not take and that wait in memory.",
        lambda writer, _: writer.waiting,
    ),
    "weir_ledger_lag_seconds": (
        "How long rows have been waiting for the database; 0 while none does.",
        lambda writer, _: writer.lag,
    ),
    "weir_ledger_database_up": (
        "1 while the database takes rows, else 0.",
        lambda writer, _: float(writer.down is None),
    ),
}


class Metrics(Collector):
    """The figures of one process's journal and writer."""

    def __init__(self, registry: CollectorRegistry, writer: Writer, journal: Journal | None) -> None:
        """Raises `ValueError` if another ledger tells of its own already."""
        self._writer = writer
        self._journal = journal
        self._registry = registry
        registry.register(self)

    def close(self) -> None:
        """Tell no more."""
        self._registry.unregister(self)

    def describe(self) -> Iterable[Metric]:
        """The names, so that a registry sees when they are there twice."""
        yield from (CounterMetricFamily(name, told) for name, (told, _) in _COUNTERS.items())
        yield from (GaugeMetricFamily(name, told) for name, (told, _) in _GAUGES.items())

    def collect(self) -> Iterable[Metric]:
        """The figures now."""
        for name, (told, figure) in _COUNTERS.items():
            yield CounterMetricFamily(name, told, value=figure(self._writer, self._journal))
        for name, (told, figure) in _GAUGES.items():
            yield GaugeMetricFamily(name, told, value=figure(self._writer, self._journal))
