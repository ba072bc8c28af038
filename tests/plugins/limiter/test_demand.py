import asyncio
from dataclasses import replace
from decimal import Decimal
from typing import Any, NoReturn

import orjson
import pytest

from plugins.limiter.demand import NOTHING, Demand, counted, expected, model_of, used
from plugins.limiter.limit import Limit
from proxy.api import (
    COST,
    ESTIMATE,
    USAGE,
    Attempt,
    ClientError,
    Cost,
    End,
    Estimate,
    Exchange,
    Headers,
    Request,
    Usage,
    WeirError,
)

COMPLETE = End("complete", "completed")


class Body:
    length: int | None = None

    def __init__(self, raw: bytes) -> None:
        self.raw = raw
        self.reads = 0

    async def read(self) -> bytes:
        self.reads += 1
        return self.raw

    async def peek(self, count: int) -> bytes:
        return self.raw[:count]

    def replace(self, body: bytes) -> None:
        self.raw = body


class Driver:
    def interrupt(self, cause: WeirError) -> None:
        raise AssertionError

    def ask(self, ex: Exchange, endpoint: str, body: bytes, timeout: float) -> NoReturn:
        raise AssertionError


def exchange(
    body: Any = None, *, method: str = "POST", headers: tuple[tuple[str, str], ...] = ()
) -> Exchange:
    raw = body if isinstance(body, bytes) else orjson.dumps(body)
    request = Request(method, b"/v1/x", b"", Headers.of(headers), Body(raw), "192.0.2.1", "192.0.2.1")
    return Exchange("id", request, Driver())


JSON = ("content-type", "application/json")
TOKENS = Limit("t", "tokens", 1000, "minute")
INPUT = Limit("i", "input_tokens", 1000, "minute")
MONEY = Limit("c", "cost", 10**9, "day")


# -- the model -----------------------------------------------------------------------------------------


async def test_the_model_is_read_where_json_belongs_whatever_it_is_declared_as() -> None:
    for headers in ((JSON,), (("content-type", "text/plain"),), ()):
        assert await model_of(exchange({"model": "gpt-4o"}, headers=headers), "chat/completions") == "gpt-4o"
    assert await model_of(exchange({"model": "m"}, headers=(JSON,)), "rerank") == "m"
    assert await model_of(exchange({"model": "m"}, headers=(("content-type", "x/y+JSON"),)), "rerank") == "m"


@pytest.mark.parametrize("body", [{}, {"model": 7}, {"model": ""}, {"model": None}, [], "gpt-4o", b""])
async def test_a_request_may_name_no_model(body: Any) -> None:
    assert await model_of(exchange(body, headers=(JSON,)), "chat/completions") is None


async def test_an_upload_is_not_read() -> None:
    ex = exchange(b"--x", headers=(("content-type", "multipart/form-data; boundary=x"),))
    assert await model_of(ex, "audio/transcriptions") is None
    assert ex.request._body.reads == 0  # type: ignore[attr-defined]
    assert await model_of(exchange({"model": "m"}, method="GET", headers=(JSON,)), "chat/completions") is None


@pytest.mark.parametrize("body", [b'{"model": "gpt-4o", "temperature": NaN}', b'{"model": "gpt-4o"'])
async def test_what_cannot_be_read_cannot_pass_as_having_no_model(body: bytes) -> None:
    with pytest.raises(ClientError) as caught:
        await model_of(exchange(body, headers=(JSON,)), "chat/completions")
    assert caught.value.code == "invalid_json"
    with pytest.raises(ClientError) as caught:
        await model_of(exchange(body, headers=(("content-encoding", "gzip"),)), "chat/completions")
    assert caught.value.code == "unsupported_encoding"


# -- before --------------------------------------------------------------------------------------------


async def test_an_estimate_is_what_is_expected() -> None:
    ex = exchange({"max_tokens": 200})
    ex[ESTIMATE] = Estimate(500, "tiktoken", 120, 200, Decimal("0.0000000011"))
    demand = await expected(ex)
    assert [demand.of(limit) for limit in (INPUT, TOKENS, MONEY)] == [120, 320, 2]


async def test_what_was_not_counted_is_bounded() -> None:
    ex = exchange({})
    ex[ESTIMATE] = Estimate(500, "upper_bound")
    demand = await expected(ex)
    assert [demand.of(limit) for limit in (INPUT, TOKENS)] == [500, 500]
    assert demand.cost is None


async def test_without_an_estimate_nothing_is() -> None:
    assert await expected(exchange({})) is NOTHING
    assert [NOTHING.of(limit) for limit in (INPUT, TOKENS, MONEY)] == [0, 0, 0]


@pytest.mark.parametrize(
    ("fields", "asked"),
    [
        ({}, 1000),
        ({"max_tokens": None}, 1000),
        ({"max_tokens": 5000}, 5100),
        ({"max_completion_tokens": 5000}, 5100),
        ({"max_output_tokens": 5000}, 5100),
    ],
)
def test_who_does_not_say_how_much_is_not_refused_for_what_a_model_could_give(
    fields: dict[str, Any], asked: int
) -> None:
    assert Demand(100, 5100, None, fields).of(TOKENS) == asked


def test_input_above_the_limit_is_asked_for_in_full() -> None:
    assert Demand(1001, 5100, None, {}).of(TOKENS) == 5100
    assert Demand(1000, 5100, None, {}).of(TOKENS) == 1000
    assert Demand(100, 900, None, {}).of(TOKENS) == 900


async def test_an_estimate_of_what_is_no_json_is_still_one() -> None:
    for body in (b"--x", b"[1]"):
        ex = exchange(body)
        ex[ESTIMATE] = Estimate(50, "upper_bound")
        assert (await expected(ex)).of(TOKENS) == 50


STREAM = {"model": "gpt-4o", "stream": True, "service_tier": "flex"}


@pytest.mark.parametrize(
    ("endpoint", "body", "asked"),
    [
        ("chat/completions", STREAM, 7),
        ("responses", STREAM, 7),
        ("chat/completions", {**STREAM, "stream": False}, 900),
        ("chat/completions", {**STREAM, "stream": "true"}, 900),
        ("chat/completions", {**STREAM, "model": "other"}, 900),
        ("images/generations", STREAM, 900),
    ],
)
async def test_a_stream_with_a_fuse_asks_for_its_input_alone(endpoint: str, body: Any, asked: int) -> None:
    ex = exchange(body)
    ex.request.endpoint = endpoint
    ex[ESTIMATE] = Estimate(7, "tiktoken", 7, 200, Decimal(900))
    prices: Any = Prices()
    demand = await expected(ex, prices)
    assert demand.of(MONEY) == 900 * 10**9
    for fuse in ("on", "warn"):
        assert demand.of(replace(MONEY, fuse=fuse)) == asked * 10**9
    assert (await expected(ex)).of(replace(MONEY, fuse="on")) == 900 * 10**9


class Prices:
    """A dollar for each token in, two for each out."""

    def __init__(self) -> None:
        self.asked: list[tuple[Any, ...]] = []

    def input_cost(self, model: str, **more: Any) -> Decimal | None:
        return Decimal(more["input_tokens"]) if model == "gpt-4o" else None

    def max_cost(self, model: str, **more: Any) -> Decimal | None:
        self.asked.append((model, more["service_tier"]))
        if model != "gpt-4o":
            return None
        return Decimal(more["input_tokens"] + 2 * more["output_tokens"])


@pytest.mark.parametrize(
    ("model", "tier", "cost"),
    [("gpt-4o", "flex", 420), ("gpt-4o", 7, 420), ("other", None, 900), (7, None, 900)],
)
async def test_an_exact_count_replaces_the_bound(model: object, tier: object, cost: int) -> None:
    async def count() -> int:
        await asyncio.sleep(0)
        return 20

    ex = exchange({"model": model, "service_tier": tier, "max_tokens": 200})
    ex[ESTIMATE] = Estimate(500, "upper_bound", None, 200, Decimal(900), count)
    prices: Any = Prices()
    demand = await counted(ex, prices)
    assert demand is not None
    assert [demand.of(limit) for limit in (INPUT, TOKENS)] == [20, 220]
    assert demand.cost == cost * 10**9
    assert prices.asked == [
        (model if isinstance(model, str) else "", tier if isinstance(tier, str) else None)
    ]


async def test_an_exact_count_without_prices_leaves_the_cost() -> None:
    async def count() -> int:
        return 20

    ex = exchange({})
    ex[ESTIMATE] = Estimate(500, "upper_bound", None, 200, Decimal(900), count)
    demand = await counted(ex, None)
    assert demand is not None
    assert (demand.input_tokens, demand.cost) == (20, 900 * 10**9)


async def test_there_is_nothing_to_count_where_it_was_or_cannot_be() -> None:
    ex = exchange({})
    assert await counted(ex, None) is None
    ex[ESTIMATE] = Estimate(500, "tiktoken", 120)
    assert await counted(ex, None) is None
    ex[ESTIMATE] = Estimate(500, "upper_bound")
    assert await counted(ex, None) is None


# -- after ---------------------------------------------------------------------------------------------


def ended(*outcomes: str) -> Exchange:
    ex = exchange({})
    ex.attempts.extend(Attempt("up", 0, 0, outcome) for outcome in outcomes)
    return ex


def test_what_was_never_sent_was_not_used_at_all() -> None:
    assert used(ended(), COMPLETE) == {
        "requests": 0,
        "input_tokens": 0,
        "tokens": 0,
        "cost": 0,
        "in_flight": 0,
    }


@pytest.mark.parametrize(
    "outcomes", [("429",), ("400",), ("500",), ("cancelled",), ("upstream_connect_failed",), ("200", "503")]
)
def test_what_an_upstream_did_not_take_up_counts_as_a_request_alone(outcomes: tuple[str, ...]) -> None:
    assert used(ended(*outcomes), COMPLETE) == {"input_tokens": 0, "tokens": 0, "cost": 0, "in_flight": 0}


@pytest.mark.parametrize("outcomes", [("200",), ("302",), ("503", "200")])
def test_what_is_not_known_stays_as_expected(outcomes: tuple[str, ...]) -> None:
    assert used(ended(*outcomes), COMPLETE) == {"in_flight": 0}


@pytest.mark.parametrize("reason", ["client_gone", "shutdown"])
def test_who_leaves_before_the_answer_gets_nothing_back(reason: Any) -> None:
    assert used(ended("client_closed"), End(reason, "client_closed")) == {"in_flight": 0}
    never_sent = used(ended(), End(reason, "client_closed"))
    assert (never_sent["requests"], never_sent["cost"]) == (0, 0)


def test_what_is_known_counts_whatever_the_outcome() -> None:
    for outcome in ("200", "500", "upstream_idle_timeout"):
        ex = ended(outcome)
        ex[USAGE] = [
            Usage(100, 20),
            Usage(10, 2),
            Usage(7000, 7000, provenance="none"),
        ]
        ex[COST] = Cost(Decimal("0.0000000015"))
        assert used(ex, COMPLETE) == {"input_tokens": 110, "tokens": 132, "cost": 2, "in_flight": 0}


@pytest.mark.parametrize("provenance", ["estimated", "bounded"])
def test_what_is_estimated_counts_as_estimated(provenance: Any) -> None:
    ex = ended("200")
    ex[USAGE] = [Usage(100, 20, provenance=provenance)]
    ex[COST] = Cost(Decimal("0.000000005"), Decimal(0), Decimal("0.2"), provenance)
    assert used(ex, COMPLETE) == {"input_tokens": 100, "tokens": 120, "cost": 5, "in_flight": 0}
    assert used(ex, End("client_gone", "client_closed")) == used(ex, COMPLETE)


@pytest.mark.parametrize("provenance", ["estimated", "bounded"])
def test_who_leaves_before_the_answer_pays_the_most_that_it_may_cost(provenance: Any) -> None:
    ex = ended("client_closed")
    gone = End("client_gone", "client_closed")
    ex[USAGE] = [Usage(100, 0, provenance=provenance)]
    ex[COST] = Cost(Decimal("0.000000005"), Decimal(0), Decimal("0.000000009"), provenance)
    assert used(ex, gone) == {"cost": 9, "in_flight": 0}
    ex[COST] = Cost(Decimal("0.000000005"), None, None, provenance)
    assert used(ex, gone) == {"in_flight": 0}


def test_an_upstream_that_failed_before_it_answered_costs_what_is_estimated() -> None:
    ex = ended("upstream_reset")
    ex[COST] = Cost(Decimal(0), Decimal(0), Decimal("0.2"), "estimated")
    assert used(ex, End("upstream_error", "upstream_reset"))["cost"] == 0
    ex[COST] = Cost(None, Decimal(0), Decimal("0.2"))
    assert used(ex, End("upstream_error", "upstream_reset"))["cost"] == 0


def test_usage_of_no_known_origin_is_not_known() -> None:
    ex = ended("200")
    ex[USAGE] = [Usage(provenance="none")]
    assert used(ex, COMPLETE) == {"in_flight": 0}
    ex[USAGE] = []
    assert used(ex, COMPLETE) == {"in_flight": 0}


def test_a_cost_that_is_only_bounded_is_charged_at_its_bound() -> None:
    ex = ended("200")
    ex[COST] = Cost(None, Decimal("0.1"), Decimal("0.2"))
    assert used(ex, COMPLETE)["cost"] == 200_000_000
    ex[COST] = Cost(None)
    assert "cost" not in used(ex, COMPLETE)
    ex[COST] = Cost(Decimal("-1"))
    assert used(ex, COMPLETE)["cost"] == 0
