import asyncio
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any

import orjson
import pytest
from prometheus_client import CollectorRegistry, generate_latest

from plugins.auth import Auth
from plugins.limiter import Limiter
from plugins.limiter.demand import NOTHING
from plugins.limiter.grammar import DEFAULTS
from plugins.limiter.memory import MemoryStore
from plugins.limiter.plugin import HELD
from plugins.limiter.store import Hold
from proxy.api import (
    COST,
    DRY_RUN,
    ESTIMATE,
    FUSE,
    IDENTITY,
    USAGE,
    Cost,
    DryRun,
    End,
    Estimate,
    Exchange,
    Identity,
    Plugin,
    Reply,
    Server,
    UpstreamError,
    Usage,
)
from proxy.api.testing import Played, Script, Sent, get, json, play, post, sse
from proxy.core.app import App
from proxy.core.chain import Chain, ChainError
from proxy.core.forward import ResponseAborted
from proxy.pricing.table import default
from tests.core.test_app import Up, ask, settings, up
from tests.plugins.limiter.clock import Clock

__all__ = ["up"]  # a fixture

ALICE = Identity("alice", "192.0.2.1")
ASK = post("/v1/chat/completions", {"model": "gpt-4o", "max_tokens": 50})
SPEAK = post("/v1/rerank", {"model": "rerank-1", "query": "Hello"})  # which nobody estimates
CHUNK = b'data: {"choices":[]}\n\n'
DONE = b"data: [DONE]\n\n"
Entries = Sequence[dict[str, Any]]


def limiter(*entries: dict[str, Any], clock: Clock | None = None) -> Limiter:
    """A limiter whose time stands still unless it is moved."""
    made = Limiter(limits=entries)
    clock = clock or Clock()
    made._store = MemoryStore(made._limits, monotonic=clock.monotonic, wall=clock.wall)
    return made


async def asked(
    plugin: Limiter,
    request: Sent = ASK,
    answer: Script | None = None,
    *,
    who: Identity = ALICE,
    after: Plugin | None = None,
    **more: Any,
) -> Played:
    given = {IDENTITY: who, ESTIMATE: None, **more.pop("given", {})}
    return await play([plugin, after or Says()], request, answer, given=given, **more)


def fields(**more: str) -> dict[str, str]:
    return {f"x-ratelimit-{name.replace('_', '-')}": value for name, value in more.items()}


def rates(played: Played) -> dict[str, str]:
    """OpenAI's fields; those of the IETF are in test_headers.py."""
    return {name: value for name, value in played.headers if "ratelimit-" in name and name[0] == "x"}


async def left(plugin: Limiter) -> dict[str, int]:
    """What Alice has left of each limit."""
    now = Hold(
        "", [(limit, key, 0) for limit, key, _ in plugin._scopes.everything.asks(ALICE, None, NOTHING)]
    )
    await plugin._store.peek(now)
    return {ask[0].name: taken[2] for ask, taken in zip(now.asks, now.taken, strict=True)}


class Says(Plugin):
    """A later plugin: replies, and fills slots at the end."""

    provides = (COST, USAGE)

    def __init__(
        self, reply: Reply | None = None, usage: Usage | None = None, cost: Cost | None = None
    ) -> None:
        self.reply = reply
        self.usage = usage
        self.cost = cost

    async def on_request(self, ex: Exchange) -> Reply | None:
        await asyncio.sleep(0)
        return self.reply

    async def on_end(self, ex: Exchange, end: End) -> None:
        if self.usage is not None:
            ex[USAGE] = [self.usage]
        if self.cost is not None:
            ex[COST] = self.cost


# -- its configuration ---------------------------------------------------------------------------------


def test_it_needs_only_what_its_limits_need() -> None:
    assert Limiter().requires == (IDENTITY,)
    assert Limiter([{"in_flight": 5}]).requires == (IDENTITY,)
    assert Limiter([{"tokens": "5/day"}]).requires == (IDENTITY, ESTIMATE)
    assert Limiter([{"tokens": "5/day"}]).reads_at_end == ()
    money = Limiter([{"cost": "5/day"}])
    assert (money.requires, money.reads_at_end) == ((IDENTITY, ESTIMATE), (COST,))
    Chain([Auth(), Limiter()])
    for made, missing in ((Limiter(), IDENTITY), (money, IDENTITY)):
        with pytest.raises(ChainError, match=missing.name):
            Chain([made])
    money.name = "limiter"
    with pytest.raises(ChainError, match=r"limiter needs .*estimate"):
        Chain([Auth(), money])


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"limits": [{"requests": "1/fortnight"}]}, "is not one of second"),
        ({"store": "redis://localhost:66666"}, "store: the Redis URL has a port"),
        ({"store": "http://localhost"}, "store: the Redis URL begins with none of redis://"),
        ({"store": "disk"}, "store is memory, redis, or a URL"),
        ({"store": None}, "store is memory, redis, or a URL"),
        ({"namespace": "a{b}"}, 'namespace: "a{b}" is not a word'),
        ({"namespace": ""}, "namespace: .* is not a word"),
        ({"lease": "30"}, 'lease: "30" is not a duration'),
        ({"timeout": "1m"}, "timeout: 1m is not more than 0 and at most 10s"),
        ({"buckets": 0}, 'buckets: "0" is not a whole number above 0'),
        ({"buckets": True}, "is not a whole number"),
        ({"buckets": "5"}, "is not a whole number"),
    ],
)
def test_what_will_not_do_stops_the_start(options: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        Limiter(**options)


async def test_several_workers_cannot_share_the_memory_of_one() -> None:
    with pytest.raises(ValueError, match=r"limiter: 4 workers .* redis://"):
        await Limiter().start(Server(CollectorRegistry(), workers=4))
    await Limiter(limits=[]).start(Server(CollectorRegistry(), workers=4))


async def test_the_servers_redis_has_to_be_known() -> None:
    with pytest.raises(ValueError, match=r"store: redis needs the URL of one"):
        await Limiter(store="redis").start(Server(CollectorRegistry()))


async def test_two_of_them_in_a_chain_are_refused() -> None:
    server = Server(CollectorRegistry())
    await Limiter().start(server)
    with pytest.raises(ValueError, match="limiter stands in the chain twice"):
        await Limiter().start(server)


# -- requests ------------------------------------------------------------------------------------------


async def test_so_many_and_no_more() -> None:
    clock = Clock()
    plugin = limiter({"name": "chat", "requests": "3/minute", "on": "chat"}, clock=clock)
    for remaining in "210":
        played = await asked(plugin)
        assert (played.status, played.headers["x-ratelimit-remaining-requests"]) == (200, remaining)
    played = await asked(plugin)
    assert (played.status, played.forwarded) == (429, None)
    assert (played.end.reason, played.end.code) == ("rejected", "rate_limit_exceeded")
    assert played.json()["retryAfter"] == 20
    assert played.headers["retry-after-ms"] == "20000"
    assert '"chat"' in played.json()["message"]
    assert rates(played) == fields(limit_requests="3", remaining_requests="0", reset_requests="1m0s")
    assert (await asked(plugin, who=Identity("bob", "192.0.2.1"))).status == 200
    clock.pass_by(19_999_999)
    assert (await asked(plugin)).status == 429
    clock.pass_by(1)
    assert (await asked(plugin)).status == 200


async def test_the_defaults_count_by_user_and_by_address() -> None:
    plugin = limiter(*DEFAULTS)
    for _ in range(100):
        assert (await asked(plugin)).status == 200
    played = await asked(plugin)
    assert played.status == 429
    assert '"chat"' in played.json()["message"]
    bob = Identity("bob", "192.0.2.1")
    assert (await asked(plugin, who=bob)).status == 200
    assert (await asked(plugin, post("/v1/embeddings", {}))).status == 200


async def test_what_one_limit_refuses_the_others_keep() -> None:
    plugin = limiter(
        {"name": "all", "requests": "10/hour", "per": "address"},
        {"name": "one", "requests": "10/hour"},
        {"name": "chat", "requests": "1/hour"},
    )
    for _ in range(5):
        await asked(plugin)
    assert await left(plugin) == {"all": 9, "one": 9, "chat": 0}


@pytest.mark.parametrize("turn", [1, -1])
async def test_of_two_limits_that_refuse_the_longer_wait_is_told(turn: int) -> None:
    both = ({"name": "short", "requests": "1/minute"}, {"name": "long", "requests": "1/hour"})
    plugin = limiter(*both[::turn])
    await asked(plugin)
    played = await asked(plugin)
    assert played.headers["retry-after"] == "3600"
    assert '"long"' in played.json()["message"]


@pytest.mark.parametrize(
    "answer",
    [
        json({"object": "chat.completion"}),
        json({"error": {}}, status=500),
        sse(CHUNK, CHUNK, DONE),
        Script(refuses=UpstreamError(502, "upstream_connect_failed", "No.")),
    ],
    ids=["json", "error", "stream", "unreachable"],
)
async def test_every_answer_has_the_headers(answer: Script) -> None:
    plugin = limiter({"requests": "60/minute"})
    played = await asked(plugin, answer=answer)
    assert rates(played) == fields(limit_requests="60", remaining_requests="59", reset_requests="1s")


async def test_the_upstreams_own_are_renamed_only_where_ours_are() -> None:
    answer = json({}, headers=[("x-ratelimit-limit-requests", "5000"), ("x-request-id", "theirs")])
    plugin = limiter({"requests": "60/minute", "on": "chat"})
    played = await asked(plugin, answer=answer)
    assert played.headers.getall("x-ratelimit-limit-requests") == ["60"]
    assert played.headers["x-upstream-ratelimit-limit-requests"] == "5000"
    assert played.headers["x-request-id"] == "theirs"
    played = await asked(plugin, get("/v1/models"), answer)
    assert rates(played) == {"x-ratelimit-limit-requests": "5000"}


async def test_without_limits_nothing_happens() -> None:
    played = await asked(Limiter(limits=[]))
    assert (played.status, rates(played)) == (200, {})
    assert HELD not in played.ex


async def test_a_shadow_counts_and_lets_pass() -> None:
    plugin = limiter({"name": "watched", "requests": "1/hour", "shadow": True})
    for _ in range(3):
        played = await asked(plugin)
        assert (played.status, rates(played)) == (200, {})
    registry = CollectorRegistry()
    await plugin.start(Server(registry))
    assert (
        'weir_limiter_decisions_total{decision="shadow",limit="watched"} 2.0'
        in generate_latest(registry).decode()
    )


async def test_limits_by_model_read_the_body() -> None:
    plugin = limiter({"name": "a", "requests": "1/hour", "per": "model", "models": "gpt-4o*"})
    assert (await asked(plugin)).status == 200
    assert (await asked(plugin)).status == 429
    assert (await asked(plugin, post("/v1/chat/completions", {"model": "GPT-4O"}))).status == 429
    assert (await asked(plugin, post("/v1/chat/completions", {"model": "gpt-4o-mini"}))).status == 200
    assert (await asked(plugin, post("/v1/chat/completions", {"model": "o3"}))).status == 200
    assert (await asked(plugin, get("/v1/models"))).status == 200
    played = await asked(plugin, post("/v1/chat/completions", b"{"))
    assert (played.status, played.json()["error"]["code"]) == (400, "invalid_json")


async def test_a_keys_own_limits_are_decided_with_the_others() -> None:
    plugin = limiter({"name": "all", "requests": "10/hour", "per": "all"})
    own = ALICE._replace(key_id="k1", limits=({"requests": "2/hour"}, {"requests": "9/day", "on": "images"}))
    for _ in range(2):
        assert (await asked(plugin, who=own)).status == 200
    played = await asked(plugin, who=own)
    assert (played.status, played.headers["x-ratelimit-limit-requests"]) == (429, "2")
    assert '"key-requests-hour"' in played.json()["message"]
    assert await left(plugin) == {"all": 8}
    other = own._replace(key_id="k2")
    assert (await asked(plugin, who=other)).status == 200
    more = own._replace(limits=({"requests": "3/hour"},))  # the same key, raised: what is used stays used
    assert [(await asked(plugin, who=more)).status for _ in range(2)] == [200, 429]


async def test_a_key_whose_limits_cannot_be_read_is_refused() -> None:
    plugin = limiter({"name": "all", "requests": "10/hour"})
    played = await asked(plugin, who=ALICE._replace(limits=({"requests": "2/fortnight"},)))
    assert (played.status, played.json()["error"]["code"]) == (500, "invalid_key_limits")
    assert "fortnight" in played.json()["message"]
    assert played.forwarded is None


async def test_a_reload_keeps_what_keys_have_used() -> None:
    own = ALICE._replace(key_id="k1", limits=({"requests": "2/hour"},))
    first, second = Limiter(limits=[]), Limiter(limits=[])
    await asked(first, who=own)
    second.adopt(first)
    assert [(await asked(second, who=own)).status for _ in range(2)] == [200, 429]


# -- what was not sent, and what did not come ------------------------------------------------------------


EVERYTHING: Entries = (
    {"name": "requests", "requests": "100/hour"},
    {"name": "input", "input_tokens": "1000/hour"},
    {"name": "tokens", "tokens": "1000/hour"},
    {"name": "cost", "cost": "1/day"},
    {"name": "flying", "in_flight": 5},
)
ESTIMATED = {ESTIMATE: Estimate(100, "tiktoken", 100, 50, Decimal("0.25"))}
DOLLAR = 10**9
UNTOUCHED = {"requests": 100, "input": 1000, "tokens": 1000, "cost": DOLLAR, "flying": 5}
ONE_REQUEST = {**UNTOUCHED, "requests": 99}
RESERVED = {"requests": 99, "input": 900, "tokens": 850, "cost": DOLLAR * 3 // 4, "flying": 5}
REFUSED = Script(refuses=UpstreamError(502, "upstream_connect_failed", "No."))
BROKEN = Script(
    200,
    [("content-type", "text/event-stream")],
    [CHUNK],
    breaks=UpstreamError(502, "upstream_reset", "The upstream broke the connection."),
)


@pytest.mark.parametrize(
    ("answer", "more", "after"),
    [
        (json({}), {}, RESERVED),
        (sse(CHUNK, DONE), {}, RESERVED),
        (json({}, status=429), {}, ONE_REQUEST),
        (json({}, status=400), {}, ONE_REQUEST),
        (json({}, status=500), {}, ONE_REQUEST),
        (REFUSED, {}, ONE_REQUEST),
        (json({}), {"leaves_after": 0}, RESERVED),
        (sse(CHUNK, CHUNK, DONE), {"leaves_after": 1}, RESERVED),
        (BROKEN, {}, RESERVED),
        (json({}), {"request": Sent(pieces=[b"{", b"}"], leaves_while_sending=True)}, UNTOUCHED),
    ],
    ids=[
        "json",
        "stream",
        "429",
        "400",
        "500",
        "unreachable",
        "left at once",
        "left within",
        "broken",
        "left while sending",
    ],
)
async def test_what_is_charged_where_nothing_tells_the_use(
    answer: Script, more: dict[str, Any], after: dict[str, Any]
) -> None:
    plugin = limiter(*EVERYTHING)
    played = await asked(plugin, answer=answer, given=ESTIMATED, **more)
    assert played.ended == 1
    assert await left(plugin) == after


@pytest.mark.parametrize(
    ("answer", "more"),
    [(json({}), {}), (sse(CHUNK, DONE), {}), (BROKEN, {}), (sse(CHUNK, CHUNK, DONE), {"leaves_after": 1})],
)
async def test_what_is_known_at_the_end_is_charged(answer: Script, more: dict[str, Any]) -> None:
    plugin = limiter(*EVERYTHING)
    says = Says(usage=Usage(90, 10), cost=Cost(Decimal("0.1")))
    await asked(plugin, answer=answer, given=ESTIMATED, after=says, **more)
    assert await left(plugin) == {**RESERVED, "input": 910, "tokens": 900, "cost": DOLLAR * 9 // 10}


async def test_more_than_was_expected_is_charged_too() -> None:
    plugin = limiter(*EVERYTHING)
    says = Says(usage=Usage(100, 1100), cost=Cost(Decimal("1.5")))
    await asked(plugin, given=ESTIMATED, after=says)
    assert await left(plugin) == {**RESERVED, "tokens": -200, "cost": -DOLLAR // 2}
    played = await asked(plugin, given=ESTIMATED, after=says)
    assert played.json()["error"]["code"] == "insufficient_quota"
    assert played.headers["x-should-retry"] == "false"


@pytest.mark.parametrize(
    ("usage", "after"),
    [
        (Usage(8, 0, provenance="estimated"), {"input": 992, "tokens": 992}),
        (Usage(300, 100, provenance="estimated"), {"input": 700, "tokens": 600}),
        (Usage(100, 400, provenance="bounded"), {"input": 900, "tokens": 500}),
    ],
    ids=["less than reserved", "more", "bounded"],
)
async def test_use_that_is_only_estimated_counts_as_it_is_estimated(
    usage: Usage, after: dict[str, int]
) -> None:
    plugin = limiter(*EVERYTHING)
    cost = Cost(Decimal("0.01"), Decimal(0), Decimal("0.2"), usage.provenance)
    await asked(plugin, given=ESTIMATED, after=Says(usage=usage, cost=cost))
    assert await left(plugin) == {**RESERVED, **after, "cost": DOLLAR * 99 // 100}


async def test_what_an_upstream_refused_is_given_back_whatever_is_estimated() -> None:
    plugin = limiter(*EVERYTHING)
    cost = Cost(Decimal(0), Decimal(0), Decimal("0.2"), "estimated")
    says = Says(usage=Usage(8, 0, provenance="estimated"), cost=cost)
    await asked(plugin, answer=json({}, status=400), given=ESTIMATED, after=says)
    assert await left(plugin) == ONE_REQUEST


@pytest.mark.parametrize("reply", [Reply.error(400, "no", "No."), Reply.json({"from": "a cache"})])
async def test_what_a_later_plugin_answers_counts_for_nothing(reply: Reply) -> None:
    plugin = limiter(*EVERYTHING)
    played = await asked(plugin, given=ESTIMATED, after=Says(reply))
    assert played.forwarded is None
    assert "x-ratelimit-remaining-requests" in played.headers
    assert await left(plugin) == UNTOUCHED


async def test_a_request_alone_comes_back_too() -> None:
    plugin = limiter({"name": "a", "requests": "5/hour"})
    await asked(plugin, after=Says(Reply.error(400, "no", "No.")))
    assert await left(plugin) == {"a": 5}


async def test_every_lease_comes_back() -> None:
    plugin = limiter({"name": "flying", "in_flight": 1})
    for answer in (json({}), sse(CHUNK, DONE), REFUSED, BROKEN, json({}, status=500)):
        assert (await asked(plugin, answer=answer)).status != 429
    assert await left(plugin) == {"flying": 1}


# -- tokens and money ----------------------------------------------------------------------------------


async def test_the_tokens_are_told() -> None:
    plugin = limiter({"requests": "60/minute"}, {"name": "t", "tokens": "1000/minute"})
    played = await asked(plugin, given=ESTIMATED)
    assert rates(played) == fields(
        limit_requests="60",
        remaining_requests="59",
        reset_requests="1s",
        limit_tokens="1000",
        remaining_tokens="850",
        reset_tokens="9s",
    )


async def test_who_has_no_tokens_left_can_still_look_around() -> None:
    plugin = limiter({"tokens": "100/hour"})
    await asked(plugin, given={ESTIMATE: Estimate(100, "tiktoken", 100, 0)})
    assert (await asked(plugin, given={ESTIMATE: Estimate(1, "tiktoken", 1, 0)})).status == 429
    assert (await asked(plugin, SPEAK)).status == 429  # might use some
    assert (await asked(plugin, get("/v1/models"))).status == 200


async def test_what_nobody_could_estimate_is_charged_by_what_it_used() -> None:
    plugin = limiter(*EVERYTHING)
    says = Says(usage=Usage(300, 100), cost=Cost(Decimal("0.5")))
    assert (await asked(plugin, SPEAK, after=says)).status == 200
    assert await left(plugin) == {**ONE_REQUEST, "input": 700, "tokens": 600, "cost": DOLLAR // 2}


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (ASK, "not_estimated"),
        (post("/v1/chat%2Fcompletions", {"model": "gpt-4o"}), "not_estimated"),
        (post("/v1//Chat/completions/", {"model": "gpt-4o"}), "not_estimated"),
        (post("/v1/chat/completions", b"{"), "invalid_json"),
        (post("/v1/chat/completions", b"{}", [("content-encoding", "gzip")]), "unsupported_encoding"),
    ],
)
async def test_what_should_be_estimated_and_is_not_is_refused(sent: Sent, code: str) -> None:
    plugin = limiter({"name": "t", "tokens": "1000/hour"}, {"name": "r", "requests": "5/hour"})
    played = await asked(plugin, sent)
    assert (played.status, played.json()["error"]["code"], played.forwarded) == (
        400 if code != "unsupported_encoding" else 415,
        code,
        None,
    )
    assert await left(plugin) == {"t": 1000, "r": 5}
    for watched in (limiter({"tokens": "1000/hour", "shadow": True}), limiter({"requests": "5/hour"})):
        assert (await asked(watched, sent)).status == 200


async def test_a_model_without_a_price_is_refused_where_money_is_counted() -> None:
    plugin = limiter({"name": "m", "cost": "1/day"}, {"name": "r", "requests": "5/hour"})
    played = await asked(plugin, given={ESTIMATE: Estimate(9, "tiktoken", 9, 9)})
    assert (played.status, played.json()["error"]["code"]) == (403, "unpriced_model")
    assert played.forwarded is None
    assert await left(plugin) == {"m": DOLLAR, "r": 5}
    watched = limiter({"name": "m", "cost": "1/day", "shadow": True})
    played = await asked(watched, given={ESTIMATE: Estimate(9, "tiktoken", 9, 9)})
    assert played.status == 200


class Counts:
    """A count that takes its time."""

    def __init__(self, tokens: int) -> None:
        self.tokens = tokens
        self.calls = 0
        self.begun = asyncio.Event()
        self.go = asyncio.Event()
        self.go.set()

    async def __call__(self) -> int:
        self.calls += 1
        self.begun.set()
        await self.go.wait()
        return self.tokens

    def bound(self, bound: int) -> dict[Any, Any]:
        return {ESTIMATE: Estimate(bound, "upper_bound", None, 10, Decimal("0.1"), self)}


async def test_a_bound_that_fits_is_not_counted() -> None:
    plugin, count = limiter({"name": "t", "tokens": "1000/hour"}), Counts(200)
    assert (await asked(plugin, given=count.bound(900))).status == 200
    assert count.calls == 0
    assert await left(plugin) == {"t": 90}


async def test_a_bound_that_does_not_is_counted_once_and_asked_again() -> None:
    plugin, count = (
        limiter({"name": "t", "tokens": "1000/hour"}, {"name": "r", "requests": "9/hour"}),
        Counts(200),
    )
    assert (await asked(plugin, given=count.bound(5000))).status == 200
    assert count.calls == 1
    assert await left(plugin) == {"t": 790, "r": 8}
    count = Counts(2000)
    played = await asked(plugin, given=count.bound(5000))
    assert (played.status, count.calls) == (429, 1)
    assert await left(plugin) == {"t": 790, "r": 8}


async def test_nothing_is_counted_for_a_request_that_is_refused_anyway() -> None:
    plugin, count = limiter({"name": "t", "tokens": "1000/second"}, {"requests": "1/hour"}), Counts(200)
    await asked(plugin, SPEAK)
    assert (await asked(plugin, given=count.bound(100))).status == 429
    assert count.calls == 0


async def test_a_client_that_leaves_while_its_input_is_counted_holds_nothing() -> None:
    plugin = limiter(*EVERYTHING[2:3], {"name": "flying", "in_flight": 1})
    count = Counts(200)
    count.go.clear()
    playing = asyncio.create_task(asked(plugin, given=count.bound(5000)))
    await count.begun.wait()
    assert await left(plugin) == {"tokens": 1000, "flying": 1}
    playing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await playing
    assert await left(plugin) == {"tokens": 1000, "flying": 1}


# -- dry runs ------------------------------------------------------------------------------------------


async def test_a_dry_run_is_told_the_verdict_and_takes_nothing() -> None:
    plugin = limiter(*EVERYTHING)
    for _ in range(3):
        played = await asked(plugin, given={**ESTIMATED, DRY_RUN: DryRun({"object": "weir.estimate"})})
        body = played.json()
        assert (played.status, body["object"], body["admitted"]) == (200, "weir.estimate", True)
        assert played.forwarded is None
        seen = {
            limit["name"]: (limit["asked"], limit["remaining"], limit["admitted"]) for limit in body["limits"]
        }
        assert seen == {
            "requests": (1, 100, True),
            "input": (100, 1000, True),
            "tokens": (150, 1000, True),
            "cost": (0.25, 1, True),
            "flying": (1, 5, True),
        }
        assert played.headers["x-ratelimit-remaining-requests"] == "100"
        assert played.headers["x-ratelimit-remaining-tokens"] == "1000"


async def test_a_dry_run_is_told_what_would_refuse_it() -> None:
    plugin = limiter({"name": "r", "requests": "9/hour"}, {"name": "t", "tokens": "100/hour"})
    played = await asked(plugin, given={**ESTIMATED, DRY_RUN: DryRun()})
    body = played.json()
    assert (played.status, body["admitted"]) == (200, False)
    assert [(limit["name"], limit["admitted"]) for limit in body["limits"]] == [("r", True), ("t", False)]


async def test_a_dry_run_of_a_model_without_a_price_is_not_admitted_where_money_is_counted() -> None:
    given = {ESTIMATE: Estimate(9, "tiktoken", 9, 9), DRY_RUN: DryRun()}
    played = await asked(limiter({"cost": "1/day"}), given=given)
    assert played.json()["admitted"] is False
    played = await asked(limiter({"tokens": "100/day"}), given=given)
    assert played.json()["admitted"] is True


# -- served --------------------------------------------------------------------------------------------


@asynccontextmanager
async def serving(plugin: Limiter, upstream: Up) -> AsyncIterator[App]:
    app = App(settings(upstream.port), Chain([Auth(), plugin]), Server(CollectorRegistry()))
    await app.start()
    try:
        yield app
    finally:
        await app.stop()


async def status(app: App, *headers: tuple[bytes, bytes], path: str = "/rate-limit/status") -> Any:
    answered = await ask(app, "GET", path, *headers)
    assert (answered.status, answered.headers[b"content-type"]) == (200, b"application/json")
    return orjson.loads(answered.body)


async def test_of_many_at_once_exactly_so_many_pass(up: Up) -> None:
    plugin = limiter({"name": "a", "requests": "40/hour", "per": "address"}, {"requests": "30/hour"})
    async with serving(plugin, up) as app:
        users = [b"alice" if number % 2 else b"bob" for number in range(120)]
        answers = await asyncio.gather(
            *(ask(app, "POST", "/v1/chat/completions", (b"x-user-id", user), body=b"{}") for user in users)
        )
    assert sorted({answer.status for answer in answers}) == [200, 429]
    passed = [user for user, answer in zip(users, answers, strict=True) if answer.status == 200]
    assert len(passed) == len(up.lines) == 40
    assert max(passed.count(b"alice"), passed.count(b"bob")) <= 30


async def test_the_status_is_what_the_next_decision_will_say_and_takes_nothing(up: Up) -> None:
    clock = Clock()
    plugin = limiter(
        {"name": "all", "requests": "10/hour", "per": "address"},
        {"name": "chat", "requests": "4/minute", "on": "chat"},
        clock=clock,
    )
    alice = (b"x-user-id", b"alice")
    async with serving(plugin, up) as app:
        for passed in range(4):
            for _ in range(3):
                told = await status(app, alice)
                assert (told["user"], told["address"]) == ("alice", "192.0.2.1")
                assert [limit["remaining"] for limit in told["limits"]] == [10 - passed, 4 - passed]
                assert [limit["used"] for limit in told["limits"]] == [passed, passed]
            assert (await ask(app, "POST", "/v1/chat/completions", alice, body=b"{}")).status == 200
        told = await status(app, alice)
        assert told["limits"][1]["reset"] == 60.0
        refused = await ask(app, "POST", "/v1/chat/completions", alice, body=b"{}")
        assert refused.status == 429
        assert (await status(app, (b"x-user-id", b"bob")))["limits"][1]["remaining"] == 4
        clock.pass_by(int(refused.headers[b"retry-after-ms"]) * 1000)
        assert (await status(app, alice))["limits"][1]["remaining"] == 1
        assert (await ask(app, "POST", "/v1/chat/completions", alice, body=b"{}")).status == 200
    assert len(up.lines) == 5


async def test_the_status_without_a_name_goes_by_address(up: Up) -> None:
    async with serving(Limiter(), up) as app:
        told = await status(app)
        assert (told["object"], told["user"]) == ("weir.rate_limits", "192.0.2.1")
        assert [limit["name"] for limit in told["limits"]] == ["global", "chat", "images", "embeddings"]
        answered = await ask(app, "GET", "/rate-limit/status")
        assert not any(b"ratelimit" in name for name in answered.headers)


async def test_the_status_of_limits_by_model(up: Up) -> None:
    plugin = limiter(
        {"name": "m", "requests": "5/hour", "per": "model", "models": "gpt-*"}, {"requests": "5/hour"}
    )
    async with serving(plugin, up) as app:
        await ask(app, "POST", "/v1/chat/completions", body=b'{"model":"gpt-5"}')
        told = {limit["name"]: limit["remaining"] for limit in (await status(app))["limits"]}
        assert told == {"m": None, "requests-per-user": 4}
        named = (await status(app, path="/rate-limit/status?model=gpt-5"))["limits"]
        assert {limit["name"]: limit["remaining"] for limit in named} == {"m": 4, "requests-per-user": 4}
        (other,) = (await status(app, path="/rate-limit/status?model=o3"))["limits"]
        assert other["name"] == "requests-per-user"


async def test_a_client_that_leaves_gives_its_place_to_the_next(up: Up) -> None:
    async with serving(limiter({"name": "flying", "in_flight": 1}), up) as app:
        slow = asyncio.create_task(ask(app, "POST", "/v1/slow", body=b"{}"))
        while not up.lines:
            await asyncio.sleep(0.001)
        assert (await ask(app, "POST", "/v1/x", body=b"{}")).status == 429
        slow.cancel()
        # From Python 3.12 on `wait_for` makes no task of its own, and what the app raises comes out.
        with pytest.raises(asyncio.CancelledError if sys.version_info < (3, 12) else ResponseAborted):
            await slow
        assert (await ask(app, "POST", "/v1/x", body=b"{}")).status == 200


async def test_a_reload_goes_on_from_the_same_counts(up: Up) -> None:
    clock = Clock()
    first = limiter({"name": "a", "requests": "10/hour"}, {"name": "old", "requests": "9/hour"}, clock=clock)
    second = limiter({"name": "a", "requests": "5/hour"}, clock=clock)
    async with serving(first, up) as app:
        for _ in range(4):
            await ask(app, "POST", "/v1/x", body=b"{}")
        slow = asyncio.create_task(ask(app, "POST", "/v1/slow", body=b"{}"))  # runs on the old configuration
        while len(up.lines) < 5:
            await asyncio.sleep(0.001)
        await app.reload(settings(up.port), Chain([Auth(), second]))
        answered = await ask(app, "POST", "/v1/x", body=b"{}")
        assert (answered.status, answered.headers[b"x-ratelimit-limit-requests"]) == (429, b"5")
        metrics = generate_latest(app.server.metrics).decode()
        assert 'weir_limiter_decisions_total{decision="admitted",limit="a"} 5.0' in metrics
        up.go.set()
        assert (await slow).status == 200
    assert b"weir_limiter" not in generate_latest(app.server.metrics)


async def test_a_model_is_listed_with_the_limits_that_concern_it() -> None:
    plugin = limiter(
        {"name": "all", "requests": "10/hour", "per": "address"},
        {"name": "chat", "requests": "5/minute", "on": "chat"},
        {"name": "images", "requests": "3/minute", "on": "images"},
        {"name": "mini", "requests": "2/minute", "models": ["gpt-4o-mini*"]},
    )
    server = Server(metrics=CollectorRegistry(), prices=default())
    played = await play([Auth(), plugin], get("/v1/models"), json({}), server=server)

    def names(model: str) -> list[str]:
        return [limit["name"] for limit in plugin.describe_model(played.ex, model)["limits"]]

    assert names("gpt-4o") == ["all", "chat"]
    assert names("GPT-4o-mini-2024-07-18") == ["all", "chat", "mini"]
    assert names("gpt-image-1") == ["all", "images"]
    assert names("nobody/knows-it") == ["all", "chat", "images"]
    assert plugin.describe_model(played.ex, "gpt-4o")["limits"][1] == {
        "name": "chat",
        "kind": "requests",
        "per": "user",
        "on": ("chat",),
        "models": None,
        "limit": 5,
        "window": "minute",
        "burst": 5,
        "shadow": False,
    }


# -- the fuse ------------------------------------------------------------------------------------------

STREAM = post("/v1/chat/completions", {"model": "gpt-4o", "stream": True})
FUSED = {"name": "cost", "cost": "1/day", "fuse": "on"}
PRICED = Server(metrics=CollectorRegistry(), prices=default())


class Charges(Plugin):
    """Who knows what a stream costs."""

    provides = (COST, USAGE)

    def __init__(self, *amounts: str, cost: str = "0") -> None:
        self.amounts = amounts
        self.cost = Decimal(cost)
        self.had: list[bool] = []

    async def on_response(self, ex: Exchange) -> None:
        self.had.append(FUSE in ex)
        for amount in self.amounts:
            if FUSE in ex and ex[FUSE].charge(Decimal(amount)) < 0:
                ex.abort(ex[FUSE].blown())

    async def on_end(self, ex: Exchange, end: End) -> None:
        ex[COST] = Cost(self.cost, provenance="estimated")


async def test_a_stream_reserves_its_input_and_is_settled_by_what_it_cost() -> None:
    plugin = limiter(FUSED)
    charges = Charges("0.1", "0.2", cost="0.3")
    for _ in range(2):
        played = await asked(plugin, STREAM, sse(CHUNK, DONE), given=ESTIMATED, after=charges, server=PRICED)
        assert played.complete
    assert charges.had == [True, True]
    assert await left(plugin) == {"cost": DOLLAR * 4 // 10}
    assert plugin._fuses.running == {}


async def test_a_stream_ends_when_its_budget_is_used_up() -> None:
    plugin = limiter(FUSED)
    charges = Charges("0.5", "0.5", cost="1.1")
    played = await asked(plugin, STREAM, sse(CHUNK, DONE), given=ESTIMATED, after=charges, server=PRICED)
    assert played.end[:2] == ("rejected", "insufficient_quota")
    assert played.json()["error"]["message"].startswith('The answer ends here: the limit "cost" is used up')
    assert await left(plugin) == {"cost": -DOLLAR // 10}
    refused = await asked(plugin, STREAM, given=ESTIMATED, after=charges, server=PRICED)
    assert refused.forwarded is None


@pytest.mark.parametrize(
    ("request_", "entry"),
    [
        (ASK, FUSED),
        (STREAM, {**FUSED, "fuse": "off"}),
        (post("/v1/images/generations", {"model": "gpt-4o", "stream": True}), FUSED),
    ],
    ids=["in one piece", "off", "images"],
)
async def test_what_is_not_charged_as_it_runs_reserves_the_most_that_it_may_cost(
    request_: Sent, entry: dict[str, Any]
) -> None:
    plugin = limiter(entry)
    charges = Charges("0.9", cost="0.25")
    expensive = {ESTIMATE: Estimate(100, "tiktoken", 100, 50, Decimal("0.6"))}
    before, after = await asyncio.gather(
        *(asked(plugin, request_, json({}), given=expensive, after=charges, server=PRICED) for _ in range(2))
    )
    assert charges.had == [False]
    assert sorted([before.status, after.status]) == [200, 429]


async def test_without_prices_a_fuse_is_off() -> None:
    charges = Charges(cost="0")
    await asked(limiter(FUSED), STREAM, sse(CHUNK, DONE), given=ESTIMATED, after=charges)
    assert charges.had == [False]


async def test_the_limit_of_a_key_may_have_a_fuse() -> None:
    plugin = limiter()
    charges = Charges("2", cost="2")
    who = ALICE._replace(key_id="k1", limits=({"cost": "1/day", "fuse": "on"},))
    played = await asked(
        plugin, STREAM, sse(CHUNK, DONE), who=who, given=ESTIMATED, after=charges, server=PRICED
    )
    assert played.end[:2] == ("rejected", "insufficient_quota")
