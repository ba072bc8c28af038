import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plugins.limiter.headers import ANSWERS, Told, add_headers, go_duration
from plugins.limiter.limit import Limit
from plugins.limiter.memory import MemoryStore
from plugins.limiter.store import Hold
from proxy.api import Headers
from tests.plugins.limiter.clock import Clock, at_once


def told(*asks: tuple[Limit, int], upstream: list[tuple[str, str]] | None = None) -> list[tuple[str, str]]:
    clock = Clock()
    store = MemoryStore([limit for limit, _ in asks], monotonic=clock.monotonic, wall=clock.wall)
    hold = Hold("id", [(limit, "k", amount) for limit, amount in asks])
    at_once(store.decide(hold))
    headers = Headers.of(upstream or [])
    add_headers(headers, hold)
    return list(headers)


def openai(pairs: list[tuple[str, str]]) -> list[tuple[str, str]]:
    return [pair for pair in pairs if pair[0] not in ("ratelimit", "ratelimit-policy")]


def ietf(*asks: tuple[Limit, int]) -> dict[str, str]:
    return {name: value for name, value in told(*asks) if name in ("ratelimit", "ratelimit-policy")}


def test_openais_six_headers() -> None:
    asks = (Limit("a", "requests", 60, "minute"), 1), (Limit("b", "tokens", 150_000, "minute"), 16)
    assert openai(told(*asks)) == [
        ("x-ratelimit-limit-requests", "60"),
        ("x-ratelimit-remaining-requests", "59"),
        ("x-ratelimit-reset-requests", "1s"),
        ("x-ratelimit-limit-tokens", "150000"),
        ("x-ratelimit-remaining-tokens", "149984"),
        ("x-ratelimit-reset-tokens", "7ms"),
    ]


def test_of_several_limits_the_closest_to_refusing_is_told() -> None:
    hourly, minutely = Limit("a", "requests", 1000, "hour"), Limit("b", "requests", 100, "minute")
    for asks in ([hourly, minutely], [minutely, hourly]):
        assert told(*((limit, 1) for limit in asks))[0] == ("x-ratelimit-limit-requests", "100")
    daily = Limit("c", "requests", 100, "day")
    for asks in ([daily, minutely], [minutely, daily]):  # as few are left: the one that takes longer
        assert told(*((limit, 1) for limit in asks))[2] == ("x-ratelimit-reset-requests", "14m24s")
    tokens, input_tokens = Limit("d", "tokens", 1000, "hour"), Limit("e", "input_tokens", 900, "hour")
    assert told((tokens, 500), (input_tokens, 100))[:2] == [
        ("x-ratelimit-limit-tokens", "1000"),
        ("x-ratelimit-remaining-tokens", "500"),
    ]


def test_the_limit_is_what_may_come_at_once() -> None:
    assert told((Limit("a", "requests", 100, "minute", burst=10), 1))[:2] == [
        ("x-ratelimit-limit-requests", "10"),
        ("x-ratelimit-remaining-requests", "9"),
    ]


def test_a_refusal_has_them_too() -> None:
    assert openai(told((Limit("a", "tokens", 100, "minute"), 101))) == [
        ("x-ratelimit-limit-tokens", "100"),
        ("x-ratelimit-remaining-tokens", "100"),
        ("x-ratelimit-reset-tokens", "0s"),
    ]


@pytest.mark.fault("A32")
def test_the_upstreams_own_are_renamed() -> None:
    upstream = [
        ("x-ratelimit-limit-requests", "5000"),
        ("content-type", "application/json"),
        ("x-ratelimit-reset-tokens", "6m0s"),
        ("x-ratelimiting", "something else"),
    ]
    assert told((Limit("a", "requests", 60, "minute"), 1), upstream=upstream)[:4] == [
        ("x-upstream-ratelimit-limit-requests", "5000"),
        ("content-type", "application/json"),
        ("x-upstream-ratelimit-reset-tokens", "6m0s"),
        ("x-ratelimiting", "something else"),
    ]


@pytest.mark.parametrize(
    "limit",
    [
        Limit("a", "cost", 100, "day"),
        Limit("a", "requests", 2, "hour", shadow=True),
        None,
    ],
)
def test_without_a_limit_to_tell_of_nothing_is_touched(limit: Limit | None) -> None:
    upstream = [("x-ratelimit-limit-requests", "5000")]
    assert told(*([(limit, 1)] if limit else []), upstream=upstream) == upstream


def test_a_hold_that_was_not_decided_tells_nothing() -> None:
    headers = Headers.of([("x-ratelimit-limit-requests", "5000")])
    add_headers(headers, Hold("id", [(Limit("a", "requests", 60, "minute"), "k", 1)]))
    assert list(headers) == [("x-ratelimit-limit-requests", "5000")]


@pytest.mark.parametrize(
    ("us", "text"),
    [
        (0, "0s"),
        (1, "1ms"),
        (12_000, "12ms"),
        (999_001, "1s"),
        (1_000_000, "1s"),
        (1_500_000, "1.5s"),
        (1_050_000, "1.05s"),
        (1_001_000, "1.001s"),
        (59_999_001, "1m0s"),
        (90_000_000, "1m30s"),
        (360_000_000, "6m0s"),
        (3_600_000_000, "1h0m0s"),
        (3_661_100_000, "1h1m1.1s"),
        (86_400_000_000, "24h0m0s"),
    ],
)
def test_durations_are_written_as_go_does(us: int, text: str) -> None:
    assert go_duration(us) == text


@given(st.integers(0, 10**14))
def test_a_duration_reads_back_to_the_millisecond_above(us: int) -> None:
    match = re.fullmatch(r"(?:(\d+)h)?(?:(\d+)m)?(?:([\d.]+)s)?", go_duration(us)) or re.fullmatch(
        r"()()0*([1-9]\d{0,2})ms", go_duration(us)
    )
    assert match is not None
    hours, minutes, rest = match.groups()
    seconds, _, part = (rest or "0").partition(".")
    if go_duration(us).endswith("ms"):
        ms = int(rest)
    else:
        ms = (int(hours or 0) * 3600 + int(minutes or 0) * 60 + int(seconds)) * 1000 + int((part + "000")[:3])
        assert not part.endswith("0")
    assert 0 <= ms * 1000 - us < 1000


def test_the_fields_of_the_ietf_name_every_limit_and_tell_the_closest_of_a_unit() -> None:
    assert ietf(
        (Limit("global", "requests", 1000, "hour"), 1),
        (Limit("chat", "requests", 100, "minute", burst=10), 1),
        (Limit("tokens", "tokens", 60_000, "minute"), 500),
        (Limit("running", "in_flight", 5), 1),
        (Limit("money", "cost", 10**9, "day"), 1),
        (Limit("watched", "requests", 1, "day", shadow=True), 1),
    ) == {
        "ratelimit": '"chat";r=9;t=1, "tokens";r=59500;t=1, "running";r=4;t=0',
        "ratelimit-policy": (
            '"global";q=1000;w=3600, "chat";q=10;w=60, "tokens";q=60000;w=60;qu="tokens", '
            '"running";q=5;qu="concurrent-requests"'
        ),
    }


def test_a_name_is_a_structured_string() -> None:
    said = ietf((Limit('a "b" \\ 100% é', "requests", 5, "second"), 1))
    assert said["ratelimit"] == '"a %22b%22 %5C 100%25 %C3%A9";r=4;t=1'


def test_what_is_owed_is_told_as_nothing_left() -> None:
    clock, limit = Clock(), Limit("a", "requests", 10, "minute")
    store = MemoryStore([limit], monotonic=clock.monotonic, wall=clock.wall)
    hold = Hold("one", [(limit, "k", 5)])
    at_once(store.decide(hold))
    at_once(store.settle(hold, {"requests": 40}))
    refused = Hold("two", [(limit, "k", 1)])
    at_once(store.decide(refused))
    headers = Headers()
    add_headers(headers, refused)
    assert headers["x-ratelimit-remaining-requests"] == "0"
    assert headers["ratelimit"] == '"a";r=0;t=240'


def test_the_upstreams_fields_of_the_ietf_are_renamed_too() -> None:
    upstream = [("ratelimit", '"x";r=1'), ("x-ratelimit-limit-requests", "9")]
    flying = told((Limit("a", "in_flight", 2), 1), upstream=upstream)
    assert flying == [
        ("x-upstream-ratelimit", '"x";r=1'),
        ("x-ratelimit-limit-requests", "9"),  # we tell nothing under this name here
        ("ratelimit", '"a";r=1;t=0'),
        ("ratelimit-policy", '"a";q=2;qu="concurrent-requests"'),
    ]


def test_what_is_made_once_says_the_same() -> None:
    limits = [Limit("a", "requests", 60, "minute"), Limit("b", "tokens", 100, "minute")]
    clock = Clock()
    store = MemoryStore(limits, monotonic=clock.monotonic, wall=clock.wall)
    asks = [(limit, "k", 1) for limit in limits]
    hold = Hold("id", asks, told=Told([(limit, "", 0) for limit in limits]))
    at_once(store.decide(hold))
    with_it, without = Headers(), Headers()
    add_headers(with_it, hold)
    hold.told = None
    add_headers(without, hold)
    assert with_it == without


NAMES = st.sampled_from(
    (
        "content-type",
        "x-ratelimit-limit-requests",
        "x-ratelimit-reset-tokens",
        "x-ratelimit",
        "ratelimit",
        "ratelimit-policy",
        "ratelimits",
        "date",
    )
)


def beside_ours(name: str) -> str:
    ours = name in ("ratelimit", "ratelimit-policy") or name.startswith("x-ratelimit-")
    return "x-upstream-" + name.removeprefix("x-") if ours else name


@given(st.lists(st.tuples(NAMES, st.sampled_from(("1", "2", "3")))))
def test_whatever_an_upstream_says_keeps_its_place_and_value(upstream: list[tuple[str, str]]) -> None:
    for _ in range(2):  # the first time its names are not known yet
        said = told((Limit("a", "requests", 60, "minute"), 1), upstream=upstream)
        assert said[: len(upstream)] == [(beside_ours(name), value) for name, value in upstream]
        assert len(said) == len(upstream) + 5


def test_the_names_that_are_known_are_bounded() -> None:
    limit = Limit("a", "requests", 60, "minute")
    known = Told([(limit, "", 0)]).beside
    for number in range(3 * ANSWERS):
        said = told((limit, 1), upstream=[(f"x-{number}", ""), ("ratelimit", "r=1")])
        assert said[:2] == [(f"x-{number}", ""), ("x-upstream-ratelimit", "r=1")]
        assert len(known) <= ANSWERS
    assert told((limit, 1), upstream=[("x" * 5000, ""), ("ratelimit", "")])[1][0] == "x-upstream-ratelimit"
    assert (b"x" * 5000, b"ratelimit") not in known
