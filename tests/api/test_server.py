import dataclasses

import pytest
from prometheus_client import CollectorRegistry

from proxy.api.server import Server


def test_what_is_not_configured_is_none() -> None:
    registry = CollectorRegistry()
    server = Server(metrics=registry)
    assert server.metrics is registry
    assert (server.workers, server.replicas) == (1, 1)
    assert [server.state_dir, server.database_url, server.redis_url, server.prices] == [None] * 4


def test_a_plugin_cannot_change_it_for_the_others() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Server(metrics=CollectorRegistry()).workers = 2  # type: ignore[misc] # that is the point
