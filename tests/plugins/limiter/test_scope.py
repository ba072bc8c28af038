from typing import Any

import pytest

from plugins.limiter.demand import NOTHING, Demand
from plugins.limiter.grammar import DEFAULTS, read
from plugins.limiter.headers import Told
from plugins.limiter.scope import CHOICES, IDENTITIES, Plan, Scopes, endpoint_of, loosely, model_key
from proxy.api import Identity

ALICE = Identity("alice", "192.0.2.1", "k1", "red", "customer-7")


def asked(
    endpoint: str, *entries: dict[str, Any], who: Identity = ALICE, model: str | None = None
) -> list[str]:
    """The limits that a request meets, as `name=key`."""
    plan = Scopes(read(entries)).plan(endpoint, True)
    return [f"{limit.name}={key}" for limit, key, _ in plan.asks(who, model, NOTHING)]


def met(endpoint: str, on: object) -> bool:
    return bool(asked(endpoint, {"requests": "1/hour", "on": on}))


@pytest.mark.parametrize(
    ("endpoint", "names"),
    [
        ("chat/completions", ["global", "chat"]),
        ("responses", ["global", "chat"]),
        ("completions", ["global", "chat"]),
        ("images/generations", ["global", "images"]),
        ("images/edits", ["global", "images"]),
        ("embeddings", ["global", "embeddings"]),
        ("models", ["global"]),
        ("responses/resp_1", ["global"]),
        ("my/chat/completions", ["global"]),
        ("images", ["global"]),
        ("", ["global"]),
    ],
)
def test_where_the_defaults_count(endpoint: str, names: list[str]) -> None:
    plan = Scopes(read(DEFAULTS)).plan(endpoint, True)
    assert [limit.name for limit, _, _ in plan.asks(ALICE, None, NOTHING)] == names


@pytest.mark.parametrize(
    ("on", "endpoint", "there"),
    [
        ("audio", "audio/speech", True),
        (["audio", "embeddings"], "embeddings", True),
        (["audio", "embeddings"], "chat/completions", False),
        ("/rerank", "rerank", True),
        ("/v1/rerank", "rerank", True),
        ("/rerank", "rerank/more", False),
        ("files/*", "files/file-1", True),
        ("files/*", "files", False),
        ("*/chat/completions", "openai/deployments/x/chat/completions", True),
        ("*/chat/completions", "chat/completions", False),
        ("/Batches", "batches", True),
        ("/a.b", "axb", False),
    ],
)
def test_paths_are_patterns(on: object, endpoint: str, there: bool) -> None:
    assert met(endpoint, on) is there


@pytest.mark.parametrize(
    "endpoint",
    [
        "chat/completions/",
        "chat//completions",
        "/chat/completions",
        "chat%2Fcompletions",
        "%63hat/%43ompletions",
        "Chat/Completions",
        "chat/completions;a=b",
        "chat;a/completions",
        "%761/chat/completions",
        "V1/chat/completions",
    ],
)
def test_no_other_spelling_of_a_path_is_a_way_around(endpoint: str) -> None:
    assert loosely(endpoint) == "chat/completions"
    assert met(endpoint, "chat")


@pytest.mark.parametrize(
    "path", ["openai/deployments/prod-4o/chat/completions", "OpenAI/v1//chat%2fcompletions"]
)
def test_azures_paths_are_the_endpoint_behind_them_and_themselves(path: str) -> None:
    assert met(path, "chat")
    assert met(path, "openai/*")
    assert endpoint_of(path) == "chat/completions"


def test_a_limit_that_counts_use_is_not_asked_where_nothing_is_used() -> None:
    scopes = Scopes(read([{"name": "a", "cost": "1/day"}, {"name": "b", "requests": "1/day"}]))
    assert [limit.name for limit, _, _ in scopes.plan("models", False).asks(ALICE, None, NOTHING)] == ["b"]
    assert len(scopes.plan("models", True).asks(ALICE, None, NOTHING)) == 2
    assert not Scopes(read([{"cost": "1/day"}])).plan("models", False).limits


def test_plans_are_made_once_and_not_kept_for_ever() -> None:
    scopes = Scopes(read(DEFAULTS))
    assert scopes.plan("chat/completions", True) is scopes.plan("chat/completions", True)
    for number in range(5000):
        scopes.plan(f"made/up/{number}", True)
        assert len(scopes.plans) <= 1024
    scopes.plan("x" * 10_000, True)
    assert ("x" * 10_000, True) not in scopes.plans
    assert scopes.plan("chat/completions", True).limits


@pytest.mark.parametrize(
    ("per", "key"),
    [
        ("address", "192.0.2.1"),
        ("key", "k1"),
        ("user", "alice"),
        ("end_user", "alice\ncustomer-7"),
        ("team", "red"),
        ("all", ""),
    ],
)
def test_whom_a_limit_counts(per: str, key: str) -> None:
    assert asked("x", {"name": "a", "requests": "1/hour", "per": per}) == [f"a={key}"]


def test_who_has_no_key_or_team_counts_as_their_user_and_nobody_can_pose_as_them() -> None:
    open_to_all = Identity("alice", "192.0.2.1")
    for per in ("key", "team", "end_user"):
        (without,) = asked("x", {"name": "a", "requests": "1/hour", "per": per}, who=open_to_all)
        (bob,) = asked("x", {"name": "a", "requests": "1/hour", "per": per}, who=Identity("bob", "192.0.2.1"))
        assert "alice" in without
        assert bob != without
        posing = Identity("eve", "192.0.2.9", "alice", "alice", "alice")
        (eve,) = asked("x", {"name": "a", "requests": "1/hour", "per": per}, who=posing)
        assert eve != without


def test_one_clients_end_users_are_not_anothers() -> None:
    keys = {
        tuple(
            asked("x", {"requests": "1/hour", "per": "end_user"}, who=Identity(user, "a", user, None, said))
        )
        for user in ("alice", "bob")
        for said in ("x", "y", None)
    }
    assert len(keys) == 6


@pytest.mark.parametrize(
    ("address", "key"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::1", "2001:db8:1:2::/64"),
        ("2001:db8:1:3::1", "2001:db8:1:3::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("::1", "::/64"),
        ("", ""),
        ("no:address", "no:address"),
    ],
)
def test_whoever_has_an_ipv6_address_has_its_whole_64(address: str, key: str) -> None:
    who = Identity("alice", address)
    assert asked("x", {"name": "a", "requests": "1/hour", "per": "address"}, who=who) == [f"a={key}"]


def test_limits_by_model() -> None:
    by_model = {"name": "a", "requests": "1/hour", "per": "model"}
    for_some = {"name": "b", "requests": "1/hour", "models": ["gpt-5*", "O3"]}
    assert asked("x", by_model, for_some, model="gpt-5-mini") == ["a=gpt-5-mini", "b=alice"]
    assert asked("x", by_model, for_some, model="o3") == ["a=o3", "b=alice"]
    assert asked("x", by_model, for_some, model="o3-pro") == ["a=o3-pro"]
    assert asked("x", by_model, for_some) == []
    assert asked("x", for_some, {"name": "c", "requests": "1/hour"}) == ["c=alice"]


def test_what_headers_tell_of_a_models_limits_is_made_once_and_not_kept_for_ever() -> None:
    entries = [{"name": str(n), "requests": "1/hour", "models": [f"*{n}*"]} for n in range(10)]
    plan = Plan(read(entries))
    assert plan.told is None
    for number in range(1024):
        asks = plan.asks(ALICE, str(number), NOTHING)
        told = plan.told_of(asks)
        assert told is plan.told_of(asks)
        assert [item.place for first, others in told.units for item in (first, *others)] == [
            *range(len(asks))
        ]
        assert told.policy == Told(asks).policy
        assert len(plan._told) <= CHOICES


def test_the_name_of_a_model_is_read_without_its_case_and_cut() -> None:
    assert model_key("GPT-5") == "gpt-5"
    assert len(model_key("x" * 10_000)) == 256


def test_what_is_asked_of_each_limit() -> None:
    entries = [
        {"name": "r", "requests": "10/hour"},
        {"name": "i", "input_tokens": "1000/hour"},
        {"name": "t", "tokens": "1000/hour"},
        {"name": "c", "cost": "1/hour"},
        {"name": "f", "in_flight": 5},
    ]
    plan = Plan(read(entries))
    demand = Demand(100, 300, 42, {"max_tokens": 200})
    assert {limit.name: amount for limit, _, amount in plan.asks(ALICE, None, demand)} == {
        "r": 1,
        "i": 100,
        "t": 300,
        "c": 42,
        "f": 1,
    }
    assert [amount for _, _, amount in plan.asks(ALICE, None, NOTHING)] == [1, 0, 0, 0, 1]


def test_a_plan_knows_what_it_takes() -> None:
    def plan(**entry: object) -> tuple[bool, bool, bool]:
        made = Plan(read([entry]))
        return made.by_model, made.by_use, made.settles

    assert plan(requests="1/hour") == (False, False, False)
    assert plan(requests="1/hour", per="model") == (True, False, False)
    assert plan(requests="1/hour", models="x") == (True, False, False)
    assert plan(tokens="1/hour") == (False, True, True)
    assert plan(cost="1/hour") == (False, True, True)
    assert plan(in_flight=1) == (False, False, True)
    assert not Plan([]).limits


def test_what_an_identity_asks_is_made_once_and_not_kept_for_ever() -> None:
    plan = Plan(read(DEFAULTS[:1]))
    assert plan.counted[ALICE] is plan.asks(ALICE, None, NOTHING)
    for number in range(3 * IDENTITIES):
        (asked,) = plan.counted[Identity("alice", f"192.0.2.{number}")]
        assert asked[1:] == (f"192.0.2.{number}", 1)
        assert len(plan.counted) <= IDENTITIES
    with_limits = ALICE._replace(limits=({"requests": "1/day"},))
    assert plan.asks(with_limits, None, NOTHING) == plan.asks(ALICE, None, NOTHING)
