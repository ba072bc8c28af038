from plugins.limiter.limit import Limit
from plugins.limiter.memory import MemoryStore
from plugins.limiter.redis.call import Give
from plugins.limiter.redis.fallback import Fallback
from plugins.limiter.store import Hold
from tests.plugins.limiter.clock import NOON, Clock, at_once

RATE = Limit("rate", "tokens", 100, "hour")
FLYING = Limit("flying", "in_flight", 5)
OPEN = Limit("open", "requests", 1, "hour", on_failure="open")
CLOSED = Limit("closed", "cost", 100, "day", on_failure="closed")
SPENT = Limit("spent", "cost", 100, "hour")
WATCHED = Limit("watched", "cost", 100, "day", on_failure="closed", shadow=True)
LIMITS = (RATE, FLYING, OPEN, CLOSED, SPENT, WATCHED)


def fallback(clock: Clock, shares: int = 1) -> Fallback:
    made = Fallback(LIMITS, MemoryStore(LIMITS, monotonic=clock.monotonic, wall=clock.wall))
    made.shares = shares
    return made


def ask(local: Fallback, *asks: tuple[Limit, int], id: str = "id") -> Hold:
    hold = Hold(id, [(limit, "k", amount) for limit, amount in asks])
    at_once(local.decide(hold))
    return hold


def test_each_process_admits_its_share_and_at_least_one() -> None:
    local = fallback(Clock(), shares=4)
    assert [ask(local, (RATE, 5)).held for _ in range(6)] == [True] * 5 + [False]
    assert [ask(local, (FLYING, 1)).held for _ in range(2)] == [True, False]


def test_who_asks_for_more_than_a_share_takes_all_of_it() -> None:
    local = fallback(Clock(), shares=4)
    hold = ask(local, (RATE, 90))
    assert hold.held
    assert hold.taken[0][2] == 0
    refused = ask(local, (RATE, 90))
    assert (refused.held, refused.taken[0][1] < 3_600_000_001) == (False, True)


def test_open_lets_pass_and_closed_refuses() -> None:
    local = fallback(Clock())
    assert all(ask(local, (OPEN, 1)).held for _ in range(3))
    hold = ask(local, (RATE, 1), (CLOSED, 1))
    assert (hold.held, hold.unavailable) == (False, CLOSED)
    assert ask(local, (WATCHED, 1)).held
    assert [*local.hand_over()] == []


def test_what_would_be_refused_for_want_of_redis_is_seen() -> None:
    hold = Hold("", [(RATE, "k", 1), (CLOSED, "k", 1), (OPEN, "k", 1)])
    at_once(fallback(Clock()).peek(hold))
    assert hold.refused_by == 1
    assert [taken[1:3] for taken in hold.taken] == [(0, 99), (1_000_000, 0), (0, 1)]


def test_what_is_not_used_up_is_handed_over_once() -> None:
    clock = Clock()
    local = fallback(clock, shares=2)
    ask(local, (RATE, 30), (SPENT, 20), (FLYING, 1))
    at_once_gives = at_once(local.settle(ask(local, (RATE, 10)).local, {"tokens": 4}))
    assert at_once_gives == []
    clock.pass_by(36_000_000)  # half a token's time in this share, which has 50 an hour
    assert local.counted
    ends = NOON + 3_600_000_000
    assert [*local.hand_over()] == [
        Give(RATE, "k", 4 - 34, 4, 0),  # 33.5 are in use, and 3.5 of them for good
        Give(SPENT, "k", 0, 20, ends),
    ]
    assert not local.counted
    assert [*local.hand_over()] == []


def test_what_streams_charge_is_kept_here_until_it_is_handed_over() -> None:
    local = fallback(Clock(), shares=2)
    hold = ask(local, (OPEN, 1), (SPENT, 20))
    held = hold.local
    assert held.places == [1]
    assert local.charge(held, 0, 10) == 50 - 30
    assert held.asks == [(SPENT, "k", 30)]
    ends = NOON + 3_600_000_000
    assert [*local.hand_over()] == [Give(SPENT, "k", 0, 30, ends)]
    assert local.charge(held, 0, 5) is None
    assert at_once(local.settle(held, {"cost": 33})) == [Give(SPENT, "k", 35, 33, ends)]


def test_a_request_that_ends_after_the_handing_over_is_settled_in_redis() -> None:
    local = fallback(Clock())
    hold = ask(local, (RATE, 30), (SPENT, 20), (FLYING, 1), (OPEN, 1))
    assert [*local.hand_over()]
    assert at_once(local.settle(hold.local, {"tokens": 10, "cost": 5, "in_flight": 0})) == [
        Give(RATE, "k", 30, 10, 0),
        Give(SPENT, "k", 20, 5, NOON + 3_600_000_000),
        Give(FLYING, "k", 1, 0, "id"),
    ]


def test_a_keys_own_limits_are_handed_over_too() -> None:
    own = Limit("key-tokens-hour", "tokens", 50, "hour", per="key", of_key=True)
    local = fallback(Clock())
    assert ask(local, (own, 20)).held
    assert [*local.hand_over()] == [Give(own, "k", -20, 0, 0)]
