import pytest

from plugins.limiter.demand import NOTHING
from plugins.limiter.grammar import read
from plugins.limiter.keys import KNOWN, KeyLimits
from proxy.api import Identity

CONFIGURED = read([{"name": "all", "requests": "9/hour", "per": "all"}])
ALICE = Identity("alice", "192.0.2.1", "k1", limits=({"requests": "100/minute"}, {"cost": "20/day"}))


def test_a_keys_own_limits_stand_beside_those_of_the_configuration() -> None:
    plan = KeyLimits(CONFIGURED).scopes(ALICE.limits).plan("chat/completions", True)
    asks = plan.asks(ALICE, None, NOTHING)
    assert [(limit.name, key) for limit, key, _ in asks] == [
        ("all", ""),
        ("key-requests-minute", "k1\nkey-requests-minute"),
        ("key-cost-day", "k1\nkey-cost-day"),
    ]
    assert [str(limit) for limit, _, _ in asks[1:]] == [
        "100 requests a minute per key",
        "20 dollars a day per key",
    ]


def test_they_count_where_they_say() -> None:
    keys = KeyLimits(())
    scopes = keys.scopes(({"requests": "1/hour", "on": "images"},))
    assert not scopes.plan("chat/completions", True).limits
    assert scopes.plan("images/generations", True).limits


def test_two_of_one_kind_are_told_apart() -> None:
    entries = ({"requests": "1/hour", "on": "images"}, {"requests": "2/hour"}, {"requests": "3/hour"})
    names = [limit.name for limit in KeyLimits(()).scopes(entries).limits]
    assert names == ["key-requests-hour", "key-requests-hour-2", "key-requests-hour-3"]


def test_they_are_read_once_and_not_kept_for_ever() -> None:
    keys = KeyLimits(CONFIGURED)
    assert keys.scopes([{"in_flight": 5}]) is keys.scopes(({"in_flight": 5},))
    for number in range(1, 2 * KNOWN):
        keys.scopes(({"in_flight": number},))
        assert len(keys._scopes) <= KNOWN


@pytest.mark.parametrize(
    ("entries", "says"),
    [
        (({"requests": "1/hour", "per": "user"},), "per is not for a key's own limits"),
        (({"requests": "1/hour", "queue": {"max": 1}},), "queue is not for a key's own limits"),
        (({"cost": "1/day", "on_failure": "open"},), "on_failure is not for a key's own limits"),
        (({"requests": "1/year"},), "is not one of second"),
        (({"name": "a", "in_flight": 1}, {"name": "a", "in_flight": 2}), "stands there twice"),
        (("requests=1/hour",), "is not an entry"),
        ({"requests": "1/hour"}, "limits is a list"),
        (({"in_flight": 1},) * 65, "at most 64 limits"),
    ],
)
def test_what_cannot_be_read_is_said(entries: object, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        KeyLimits(CONFIGURED).scopes(entries)  # type: ignore[arg-type]
