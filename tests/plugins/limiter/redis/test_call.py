import orjson

from plugins.limiter.limit import Limit
from plugins.limiter.meter import NEVER
from plugins.limiter.redis.call import Asked, Call, Give, gives_of, refused_by

CHAT = Limit("chat", "requests", 100, "minute")
MONEY = Limit("money", "cost", 5, "day")
FLYING = Limit("flying", "in_flight", 5)
WATCHED = Limit("watched", "requests", 1, "hour", shadow=True)
ASKS = [(CHAT, "alice", 1), (MONEY, "alice", 3), (FLYING, "", 1), (WATCHED, "alice", 1)]


def test_every_key_of_a_namespace_has_one_hash_tag() -> None:
    call = Call(7, [Give(CHAT, "bob", 1, 0, 0)], [Asked("id", ASKS, True), Asked("other", ASKS[:1], False)])
    keys, argument = call.written("weir:{ns}:", "p1", 30_000_000)
    assert all(key.startswith("weir:{ns}:") for key in keys)
    assert keys[0] == "weir:{ns}:process\np1"
    assert len(set(keys)) == len(keys) == 6
    number, lease, limits, gives, asks, answered, spent = orjson.loads(argument)
    assert (number, lease, answered, spent) == (7, 30_000_000, 0, [])
    assert limits == [["r", 600_000, 1, 100], ["b", 5, 86_400_000_000], ["l", 5], ["r", 3_600_000_000, 1, 1]]
    assert gives == [[1, 2, 1, 0, 0]]
    assert asks == [
        [1, "id", 1, 3, 1, 0, 2, 4, 3, 0, 3, 5, 1, 0, 4, 6, 1, 1],
        [0, "other", 1, 3, 1, 0],
    ]


def test_what_was_spent_is_put_back_under_the_key_that_is_asked_for() -> None:
    name = f"{MONEY.meter.sort}\n{MONEY.id}\nalice"
    call = Call(7, (), [Asked("id", ASKS[1:2], True)])
    keys, argument = call.written("weir:{ns}:", "p1", 1, 6, [(name, 777, 3), ("other", 5, 1)])
    assert keys[1:] == [f"weir:{{ns}}:{name}", "weir:{ns}:other"]
    assert orjson.loads(argument)[4:] == [[[1, "id", 1, 2, 3, 0]], 6, [[2, 777, 3], [3, 5, 1]]]


def test_a_user_cannot_name_anothers_bucket() -> None:
    names = set()
    for limit in (CHAT, MONEY, FLYING, WATCHED, Limit("chat", "requests", 1, "day", per="team")):
        for key in ("", "alice", "}", "{x}", "chat\nrequests\nuser\nalice"):
            names.add(Call(0, [Give(limit, key, 0, 0, 0)], ()).written("w:{n}:", "p", 1)[0][1])
    assert len(names) == 25


def test_what_the_script_says_is_read_back() -> None:
    call = Call(1, (), [Asked("a", ASKS[:2], True), Asked("b", ASKS[:1], True)])
    assert call.read(b"1 0 99 600000 0 -1 -2 5000 1 0 98 1200000") == [
        [((1,), 0, 99, 600_000), (None, NEVER, -2, 5000)],
        [((1,), 0, 98, 1_200_000)],
    ]
    assert Call(1, (), ()).read(b"") == []


def test_what_an_end_gives_back() -> None:
    taken = [((1,), 0, 9, 0), ((777,), 0, 2, 0), ((1,), 0, 4, 0), (None, 5, 0, 0)]
    assert gives_of("id", ASKS, taken, {"in_flight": 0, "cost": 1}) == [
        Give(MONEY, "alice", 3, 1, 777),
        Give(FLYING, "", 1, 0, "id"),
    ]
    assert gives_of("id", ASKS, taken, None) == [
        Give(CHAT, "alice", 1, 0, 0),
        Give(MONEY, "alice", 3, 0, 777),
        Give(FLYING, "", 1, 0, "id"),
    ]


def test_of_several_that_refuse_the_longest_is_told_and_no_shadow() -> None:
    taken = [(None, 5, 0, 0), (None, 9, 0, 0), (None, 7, 0, 0), (None, 99, 0, 0)]
    assert refused_by(ASKS, taken) == 1
    assert refused_by(ASKS[3:], taken[3:]) is None
