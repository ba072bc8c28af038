from prometheus_client import CollectorRegistry, generate_latest

from proxy.api.errors import UpstreamError
from proxy.core.config import UpstreamSettings
from proxy.core.upstream.breaker import Breaker
from proxy.core.upstream.breakers import Breakers


def breaker(name: str) -> Breaker:
    """One that opens at the first failure, by a clock that stands still."""
    settings = UpstreamSettings(name=name, base_url="http://up", breaker={"failures": 1})  # type: ignore[arg-type]
    return Breaker(settings, lambda: 0.0)


def opened(one: Breaker, refusals: int = 0) -> Breaker:
    one.trial().failed()
    for _ in range(refusals):
        try:
            one.trial()
        except UpstreamError:
            continue
        raise AssertionError("it is not open")
    return one


def figures(of: Breakers) -> dict[str, float]:
    registry = CollectorRegistry()
    registry.register(of)
    lines = generate_latest(registry).decode().splitlines()
    return {key: float(value) for key, _, value in (each.rpartition(" ") for each in lines) if key[0] != "#"}


OPEN = 'weir_breaker_open{upstream="%s"}'
REFUSED = 'weir_breaker_refused_requests_total{upstream="%s"}'


def test_each_upstream_has_its_state_and_its_refusals() -> None:
    breakers = Breakers()
    breakers.watch(opened(breaker("down"), 3))
    breakers.watch(breaker("up"))
    breakers.watch(None)
    assert figures(breakers) == {OPEN % "down": 1, OPEN % "up": 0, REFUSED % "down": 3, REFUSED % "up": 0}


def test_one_that_goes_on_serving_is_counted_once() -> None:
    breakers, one = Breakers(), opened(breaker("up"), 2)
    for _ in range(3):
        breakers.watch(one)
    assert figures(breakers) == {OPEN % "up": 1, REFUSED % "up": 2}


def test_what_a_replaced_one_refused_stays_in_the_sum_and_its_state_does_not() -> None:
    breakers, old, new = Breakers(), opened(breaker("up"), 2), breaker("up")
    breakers.watch(old)
    breakers.watch(new)
    assert figures(breakers) == {OPEN % "up": 0, REFUSED % "up": 2}
    breakers.forget(old)
    breakers.forget(None)
    assert figures(breakers) == {OPEN % "up": 0, REFUSED % "up": 2}
    opened(new, 5)
    assert figures(breakers) == {OPEN % "up": 1, REFUSED % "up": 7}
    breakers.forget(new)
    assert figures(breakers) == {REFUSED % "up": 7}
