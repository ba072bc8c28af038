import re
from typing import Any

import pytest

from plugins.limiter.gcra import Gcra
from plugins.limiter.grammar import DEFAULTS, read, read_of_key, seconds
from plugins.limiter.limit import Limit, Queue
from plugins.limiter.money import MOST, MOST_UNITS


def one(**entry: Any) -> Limit:
    (limit,) = read([entry])
    return limit


def test_the_defaults_are_those_that_the_documentation_names() -> None:
    assert [(limit.name, limit.amount, limit.window, limit.per, limit.on) for limit in read(DEFAULTS)] == [
        ("global", 1000, "hour", "address", ()),
        ("chat", 100, "minute", "user", ("chat",)),
        ("images", 50, "hour", "user", ("images",)),
        ("embeddings", 500, "hour", "user", ("embeddings",)),
    ]


def test_no_limits_are_no_limits() -> None:
    assert read([]) == ()


@pytest.mark.parametrize("kind", ["requests", "input_tokens", "tokens"])
@pytest.mark.parametrize("window", ["second", "minute", "hour", "day", "month"])
def test_a_rate(kind: str, window: str) -> None:
    limit = one(name="x", **{kind: f"100/{window}"})
    assert (limit.kind, limit.amount, limit.window, limit.burst) == (kind, 100, window, 100)


def test_everything_that_can_be_said() -> None:
    limit = one(
        name="x",
        requests=" 100 / minute ",
        burst=20,
        per="end_user",
        on=["chat", "/v1/rerank", "audio/*"],
        models=["gpt-5*", "o3"],
        shadow=True,
    )
    assert limit == Limit(
        "x",
        "requests",
        100,
        "minute",
        20,
        "end_user",
        ("chat", "/v1/rerank", "audio/*"),
        ("gpt-5*", "o3"),
        True,
    )


@pytest.mark.parametrize(
    ("said", "fuse"),
    [
        ({}, "off"),
        ({"fuse": "off"}, "off"),
        ({"fuse": "warn"}, "warn"),
        ({"fuse": "on"}, "on"),
        ({"fuse": True}, "on"),
        ({"fuse": False}, "off"),
        ({"fuse": "on", "rolling": True}, "on"),
    ],
)
def test_money_may_have_a_fuse(said: dict[str, Any], fuse: str) -> None:
    assert one(cost="5/day", **said).fuse == fuse
    (of_key,) = read_of_key([{"cost": "5/day", **said}])
    assert of_key.fuse == fuse


@pytest.mark.parametrize(
    ("entry", "says"),
    [
        ({"requests": "5/day", "fuse": "on"}, "fuse is for cost; requests is not charged"),
        ({"in_flight": 5, "fuse": "off"}, "fuse is for cost"),
        ({"cost": "5/day", "fuse": "onn"}, 'fuse: "onn" is not one of off, warn, on; did you mean "on"?'),
        ({"cost": "5/day", "fuse": 1}, 'fuse: "1" is not one of'),
        ({"cost": "5/day", "fuse": None}, 'fuse: "None" is not one of'),
        ({"cost": "5/day", "fuse": [1]}, "is not one of"),
        ({"cost": "5/day", "fuse": "on", "shadow": True}, "a shadow ends no stream; write fuse: warn"),
    ],
)
def test_a_fuse_that_cannot_be_is_told(entry: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=re.escape(says)):
        read([{"name": "x", **entry}])


def test_one_pattern_needs_no_list() -> None:
    limit = one(requests="1/hour", on="chat", models="gpt-5*")
    assert (limit.on, limit.models) == (("chat",), ("gpt-5*",))


@pytest.mark.parametrize(
    ("said", "nano"),
    [
        ("5/day", 5_000_000_000),
        ("0.25/day", 250_000_000),
        ("0.000000001/day", 1),
        ("9007199.254740992/day", MOST),
    ],
)
def test_money_is_counted_in_nanodollars(said: str, nano: int) -> None:
    assert one(cost=said).amount == nano


@pytest.mark.parametrize("said", [5, "5"])
def test_requests_in_flight_have_no_window(said: object) -> None:
    limit = one(in_flight=said)
    assert (limit.kind, limit.amount, limit.window) == ("in_flight", 5, "")


def test_a_limit_without_a_name_is_named_after_what_it_does() -> None:
    assert one(requests="1/hour").name == "requests-per-user"
    assert one(tokens="1/hour", per="team", on=["chat", "audio"]).name == "tokens-per-team-on-chat-audio"


@pytest.mark.parametrize(
    ("entries", "says"),
    [
        ("chat", "limits is a list of entries"),
        ({"requests": "1/hour"}, "limits is a list of entries"),
        (7, "limits is a list of entries"),
        (None, "limits is a list of entries"),
        (["100/minute"], r"limits\[0\] is not an entry"),
        (
            [{}],
            r"limits\[0\]: counts nothing; one limit has one of requests, .*tokens, cost, in_flight$",
        ),
        ([{"name": 7, "requests": "1/hour"}], r"limits\[0\]: name is a line of text"),
        ([{"name": "", "requests": "1/hour"}], r"limits\[0\]: name is a line of text"),
        ([{"name": "a\nb", "requests": "1/hour"}], r"limits\[0\]: name is a line of text"),
        ([{"name": "x" * 65, "requests": "1/hour"}], r"limits\[0\]: name is a line of text, at most 64"),
        (
            [{"requests": "1/hour"}, {"requests": "2/hour"}],
            'limit "requests-per-user": the name stands there twice',
        ),
        ([{"name": "x", "reqests": "1/hour"}], 'limit "x": unknown key "reqests"; did you mean "requests"?'),
        (
            [{"name": "x", "requests": "1/hour", "model": "a"}],
            'limit "x": unknown key "model"; did you mean "models"?',
        ),
        ([{"name": "x", "requests": "1/hour", 7: 8}], 'limit "x": unknown key "7"'),
        (
            [{"name": "x", "requests": "1/hour", "tokens": "1/hour"}],
            'limit "x": has both requests and tokens: make two',
        ),
        (
            [{"name": "x", "requests": 100}],
            'limit "x": requests: "100" is not an amount per window, like 100/minute',
        ),
        ([{"name": "x", "requests": "100"}], 'requests: "100" is not an amount per window'),
        ([{"name": "x", "requests": "100/"}], 'requests: "100/" is not an amount per window'),
        ([{"name": "x", "requests": None}], 'requests: "None" is not an amount per window'),
        ([{"name": "x", "requests": "100/minutes"}], '"minutes" is not one of .*; did you mean "minute"?'),
        ([{"name": "x", "requests": "100/week"}], '"week" is not one of second, minute, hour, day, month$'),
        ([{"name": "x", "requests": "100/Minute"}], 'did you mean "minute"?'),
        ([{"name": "x", "requests": "many/minute"}], 'requests: "many" is not a whole number'),
        ([{"name": "x", "requests": "1.5/minute"}], 'requests: "1.5" is not a whole number'),
        ([{"name": "x", "requests": "-1/minute"}], 'requests: "-1" is not a whole number'),
        ([{"name": "x", "requests": "٣/minute"}], "is not a whole number"),
        ([{"name": "x", "requests": "0/minute"}], 'limit "x": requests must be more than 0'),
        ([{"name": "x", "tokens": f"{MOST_UNITS + 1}/minute"}], "is too much to be counted exactly"),
        ([{"name": "x", "cost": "1125900/day", "rolling": True}], "dollars is too much .* is 1125899"),
        ([{"name": "x", "requests": "1/day", "rolling": True}], "rolling is for cost; requests has no"),
        ([{"name": "x", "cost": "1/day", "rolling": "yes"}], "rolling is true or false"),
        ([{"name": "x", "cost": "1/day", "on_failure": "opne"}], 'on_failure: .* did you mean "open"?'),
        ([{"name": "x", "in_flight": 1, "queue": 5}], r"queue is written like {max: 100, wait: 2s}"),
        ([{"name": "x", "in_flight": 1, "queue": {}}], "queue is written like"),
        ([{"name": "x", "in_flight": 1, "queue": {"maxi": 5}}], "queue is written like"),
        ([{"name": "x", "in_flight": 1, "queue": {"max": 0}}], "queue.max must be more than 0"),
        ([{"name": "x", "in_flight": 1, "queue": {"wait": 2}}], 'queue.wait: "2" is not a duration like 2s'),
        ([{"name": "x", "in_flight": 1, "queue": {"wait": "11m"}}], "queue.wait: 11m is not .* at most 600s"),
        ([{"name": "x", "in_flight": 1, "queue": {"max": 1}, "shadow": True}], "nobody waits for a shadow"),
        ([{"name": "keys: requests", "in_flight": 1}], 'a name does not begin with "keys:"'),
        ([{"name": "x", "cost": "5"}], 'cost: "5" is not an amount per window, like 5.00/day'),
        ([{"name": "x", "cost": "0/day"}], 'limit "x": cost must be more than 0'),
        ([{"name": "x", "cost": "0.000/day"}], "cost must be more than 0"),
        ([{"name": "x", "cost": "-5/day"}], 'cost: "-5" is not an amount of dollars'),
        ([{"name": "x", "cost": "1e3/day"}], 'cost: "1e3" is not an amount of dollars'),
        ([{"name": "x", "cost": "0.0000000001/day"}], "to the nanodollar"),
        (
            [{"name": "x", "cost": "9007199.254740993/day"}],
            "9007199.254740993 dollars is too much .* is 9007199",
        ),
        ([{"name": "x", "in_flight": "5/minute"}], 'in_flight: "5/minute" is not a whole number'),
        ([{"name": "x", "in_flight": True}], 'in_flight: "True" is not a whole number'),
        ([{"name": "x", "in_flight": 0}], "in_flight must be more than 0"),
        ([{"name": "x", "requests": "1/hour", "burst": 0}], 'limit "x": burst must be more than 0'),
        ([{"name": "x", "requests": "1/hour", "burst": "a"}], 'burst: "a" is not a whole number'),
        ([{"name": "x", "cost": "1/hour", "burst": 5}], "burst is for requests and tokens; cost has none"),
        ([{"name": "x", "in_flight": 1, "burst": 5}], "in_flight has none"),
        (
            [{"name": "x", "requests": "1/hour", "per": "usr"}],
            'per: "usr" is not one of .*; did you mean "user"?',
        ),
        ([{"name": "x", "requests": "1/hour", "per": ["user"]}], "is not one of address, key, user"),
        (
            [{"name": "x", "requests": "1/hour", "on": "chats"}],
            'on: "chats" is not one of .*did you mean "chat"?',
        ),
        ([{"name": "x", "requests": "1/hour", "on": "rerank"}], "with its slash, /rerank"),
        ([{"name": "x", "requests": "1/hour", "on": []}], "on is a pattern or a list of patterns"),
        ([{"name": "x", "requests": "1/hour", "on": None}], "on is a pattern or a list of patterns"),
        ([{"name": "x", "requests": "1/hour", "models": [7]}], "models is a pattern or a list of patterns"),
        ([{"name": "x", "requests": "1/hour", "models": ""}], "models is a pattern or a list of patterns"),
        ([{"name": "x", "requests": "1/hour", "shadow": "yes"}], 'limit "x": shadow is true or false'),
    ],
)
def test_what_will_not_do_is_told_in_a_line_that_names_the_limit(entries: Any, says: str) -> None:
    with pytest.raises(ValueError, match=says) as caught:
        read(entries)
    assert "\n" not in str(caught.value)


def test_what_happens_without_the_store_depends_on_what_is_counted() -> None:
    entries = [{"requests": "1/day"}, {"cost": "1/day"}, {"in_flight": 1}, {"tokens": "1/day"}]
    assert [limit.on_failure for limit in read(entries)] == ["local", "closed", "local", "local"]
    (said,) = read([{"cost": "1/day", "on_failure": "open"}])
    assert said.on_failure == "open"


def test_a_queue_has_defaults_and_nobody_waits_without_one() -> None:
    without, some, all_ = read(
        [
            {"name": "a", "in_flight": 1},
            {"name": "b", "in_flight": 1, "queue": {"max": "5"}},
            {"name": "c", "in_flight": 1, "queue": {"wait": "250ms"}},
        ]
    )
    assert (without.queue, some.queue, all_.queue) == (None, Queue(5, 2.0), Queue(100, 0.25))


def test_a_rolling_budget_is_a_rate_of_money() -> None:
    (limit,) = read([{"cost": "5/day", "rolling": True}])
    assert isinstance(limit.meter, Gcra)
    assert limit.id != read([{"cost": "5/day"}])[0].id  # what one keeps, the other cannot read


@pytest.mark.parametrize(
    ("text", "found"), [("2s", 2.0), ("500ms", 0.5), ("1.5m", 90.0), ("1h", 3600.0), ("0.5ms", 0.0005)]
)
def test_durations(text: str, found: float) -> None:
    assert seconds(text, "x", 3600.0) == found


def test_the_limits_of_a_key_are_named_by_what_they_count() -> None:
    limits = read_of_key(
        [{"requests": "1/hour"}, {"in_flight": 2}, {"requests": "2/hour"}, {"name": "own", "cost": "1/day"}]
    )
    assert [(limit.name, limit.per, limit.of_key) for limit in limits] == [
        ("key-requests-hour", "key", True),
        ("key-in_flight-at-once", "key", True),
        ("key-requests-hour-2", "key", True),
        ("own", "key", True),
    ]
