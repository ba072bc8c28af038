import pytest
from prometheus_client import CollectorRegistry, generate_latest

from plugins.limiter.grammar import read
from plugins.limiter.limit import Limit
from plugins.limiter.memory import MemoryStore
from plugins.limiter.metrics import Metrics
from plugins.limiter.store import Hold
from tests.plugins.limiter.clock import at_once

LIMITS = read(
    [{"name": "chat", "requests": "2/hour"}, {"name": "watched", "requests": "1/hour", "shadow": True}]
)


def exposed(registry: CollectorRegistry) -> list[str]:
    return [line for line in generate_latest(registry).decode().splitlines() if not line.startswith("#")]


def test_the_figures_of_each_limit() -> None:
    registry, store, metrics = CollectorRegistry(), MemoryStore(LIMITS, 3), Metrics()
    metrics.open(self_ := object(), registry, LIMITS, store)
    for _ in range(3):
        at_once(store.decide(Hold("id", [(limit, "alice", 1) for limit in LIMITS])))
    for user in "bcde":
        at_once(store.decide(Hold("id", [(LIMITS[0], user, 1)])))
    assert exposed(registry) == [
        'weir_limiter_decisions_total{decision="admitted",limit="chat"} 6.0',
        'weir_limiter_decisions_total{decision="refused",limit="chat"} 1.0',
        'weir_limiter_decisions_total{decision="admitted",limit="watched"} 1.0',
        'weir_limiter_decisions_total{decision="shadow",limit="watched"} 2.0',
        'weir_limiter_buckets{limit="chat"} 3.0',
        'weir_limiter_buckets{limit="watched"} 1.0',
        'weir_limiter_buckets_forgotten_total{limit="chat"} 2.0',
        'weir_limiter_buckets_forgotten_total{limit="watched"} 0.0',
        'weir_limiter_mode{mode="memory"} 1.0',
        'weir_limiter_mode{mode="shared"} 0.0',
        'weir_limiter_mode{mode="local"} 0.0',
    ]
    metrics.close(self_)
    assert exposed(registry) == []


def test_a_reload_hands_them_over() -> None:
    registry, metrics = CollectorRegistry(), Metrics()
    old, new = object(), object()
    first, second = MemoryStore(LIMITS), MemoryStore(LIMITS[:1])
    metrics.open(old, registry, LIMITS, first)
    at_once(first.decide(Hold("id", [(LIMITS[0], "alice", 1)])))
    second.adopt(first)
    metrics.open(new, registry, LIMITS[:1], second)
    while_both = exposed(registry)
    metrics.close(old)
    lines = exposed(registry)
    assert lines == while_both
    assert 'weir_limiter_decisions_total{decision="admitted",limit="chat"} 1.0' in lines
    assert not any("watched" in line for line in lines)
    metrics.close(new)
    metrics.close(new)
    assert exposed(registry) == []


def test_a_reload_that_fails_leaves_the_old_figures() -> None:
    registry, metrics = CollectorRegistry(), Metrics()
    old, new = object(), object()
    metrics.open(old, registry, LIMITS, MemoryStore(LIMITS))
    metrics.open(new, registry, LIMITS[:1], MemoryStore(LIMITS[:1]))
    metrics.close(new)
    assert any("watched" in line for line in exposed(registry))


def test_a_second_one_on_the_same_registry_is_noticed() -> None:
    registry = CollectorRegistry()
    Metrics().open(object(), registry, LIMITS, MemoryStore(LIMITS))
    with pytest.raises(ValueError, match="weir_limiter"):
        Metrics().open(object(), registry, LIMITS, MemoryStore(LIMITS))


def test_a_keys_own_limits_are_told_once_there_are_any() -> None:
    registry, store, metrics = CollectorRegistry(), MemoryStore(LIMITS), Metrics()
    metrics.open(object(), registry, LIMITS, store)
    assert not any("keys:" in line for line in exposed(registry))
    for number in range(3):
        own = Limit(f"limit {number}", "requests", 1, "hour", per="key", of_key=True)
        at_once(store.decide(Hold("id", [(own, f"k\n{own.name}", 1)])))
    assert 'weir_limiter_decisions_total{decision="admitted",limit="keys: requests"} 3.0' in exposed(registry)
    assert 'weir_limiter_buckets{limit="keys: requests"} 3.0' in exposed(registry)
