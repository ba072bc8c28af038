from typing import Any

import orjson

from plugins.limiter.limit import Limit
from plugins.limiter.memory import MemoryStore
from plugins.limiter.status import described, figure, status
from plugins.limiter.store import Hold
from proxy.api import Identity
from tests.plugins.limiter.clock import Clock, at_once

ALICE = Identity("alice", "192.0.2.1", "k1", "red", "customer-7")


def shown(*asks: tuple[Limit, int], others: tuple[Limit, ...] = ()) -> Any:
    """The state after so much was taken."""
    clock = Clock()
    store = MemoryStore([limit for limit, _ in asks], monotonic=clock.monotonic, wall=clock.wall)
    for limit, amount in asks:
        at_once(store.decide(Hold("id", [(limit, "k", amount)])))
    now = Hold("", [(limit, "k", 0) for limit, _ in asks])
    at_once(store.peek(now))
    return orjson.loads(status(ALICE, now, others))


def test_who_is_asking() -> None:
    assert shown() == {
        "object": "weir.rate_limits",
        "user": "alice",
        "key_id": "k1",
        "team": "red",
        "end_user": "customer-7",
        "address": "192.0.2.1",
        "limits": [],
    }


def test_each_limit_with_what_is_used_and_left() -> None:
    (limit,) = shown((Limit("chat", "requests", 100, "minute", on=("chat",)), 3))["limits"]
    assert limit == {
        "name": "chat",
        "kind": "requests",
        "per": "user",
        "on": ["chat"],
        "models": None,
        "limit": 100,
        "window": "minute",
        "burst": 100,
        "used": 3,
        "remaining": 97,
        "reset": 1.8,
        "shadow": False,
    }


def test_what_is_used_is_missing_from_the_burst() -> None:
    (limit,) = shown((Limit("chat", "requests", 100, "minute", burst=10), 3))["limits"]
    assert (limit["limit"], limit["burst"], limit["used"], limit["remaining"]) == (100, 10, 3, 7)


def test_money_is_in_dollars_with_all_its_digits() -> None:
    limit = Limit("m", "cost", 9_007_199_254_740_992, "day")
    taken = (None, 0, 9_007_199_254_740_991, 3_600_000_000)
    raw = orjson.dumps(described(limit, taken))
    assert b'"limit":9007199.254740992,' in raw
    assert b'"remaining":9007199.254740991,' in raw
    assert b'"used":0.000000001,' in raw
    assert b'"reset":3600.0' in raw
    assert orjson.dumps(figure(limit, 10)) == b"0.00000001"
    assert figure(Limit("r", "requests", 1, "day"), 10) == 10


def test_what_is_in_flight_has_no_window() -> None:
    (limit,) = shown((Limit("f", "in_flight", 5), 1))["limits"]
    assert (limit["limit"], limit["window"], limit["used"], limit["remaining"]) == (5, None, 1, 4)


def test_a_limit_by_model_shows_its_terms_alone() -> None:
    (limit,) = shown(others=(Limit("m", "requests", 5, "hour", per="model", models=("gpt-5*",)),))["limits"]
    assert (limit["name"], limit["limit"], limit["models"]) == ("m", 5, ["gpt-5*"])
    assert (limit["used"], limit["remaining"], limit["reset"]) == (None, None, None)


def test_more_than_there_is_shows_as_used() -> None:
    clock = Clock()
    limits = [Limit("r", "tokens", 100, "hour"), Limit("m", "cost", 100, "day"), Limit("f", "in_flight", 1)]
    store = MemoryStore(limits, monotonic=clock.monotonic, wall=clock.wall)
    hold = Hold("id", [(limit, "k", 1) for limit in limits])
    at_once(store.decide(hold))
    at_once(store.settle(hold, {"tokens": 250, "cost": 130, "in_flight": 1}))
    now = Hold("", [(limit, "k", 0) for limit in limits])
    at_once(store.peek(now))
    seen = orjson.loads(status(ALICE, now, ()))["limits"]
    assert [(limit["used"], limit["remaining"]) for limit in seen] == [(250, 0), (1.3e-07, 0), (1, 0)]
