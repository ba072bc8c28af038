"""How reloads of the configuration went, for `/metrics`."""

from collections.abc import Iterator

from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector


class Reloads(Collector):
    """Told by whoever decides over a reload: the one process, or the parent of several."""

    def __init__(self) -> None:
        self._done = self._failed = 0
        self._well = True

    def done(self) -> None:
        """The new configuration is in use."""
        self._done += 1
        self._well = True

    def failed(self) -> None:
        """The old one stays."""
        self._failed += 1
        self._well = False

    def collect(self) -> Iterator[Metric]:
        """The figures now."""
        count = CounterMetricFamily(
            "weir_config_reloads", "Reloads of the configuration.", labels=["outcome"]
        )
        count.add_metric(["done"], self._done)
        count.add_metric(["failed"], self._failed)
        yield count
        yield GaugeMetricFamily(
            "weir_config_reload_failed",
            "1 while the configuration in use is not the last one that was tried.",
            value=not self._well,
        )
