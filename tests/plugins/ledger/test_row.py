from decimal import Decimal
from typing import Any

import orjson
import pytest

from plugins.ledger import row as module
from plugins.ledger.columns import KEPT, TEXT, TOKENS
from plugins.ledger.money import MOST
from plugins.ledger.row import First, cleaned, closed, crashed, opened, stored, tidied, values
from proxy.api import (
    COST,
    ESTIMATE,
    IDENTITY,
    USAGE,
    Cost,
    End,
    Estimate,
    Exchange,
    Identity,
    Plugin,
    Reply,
    Slot,
    UpstreamError,
    Usage,
)
from proxy.api.testing import Script, Sent, get, json, play, post, sse

from .making import a_payload, column

ALICE = Identity("alice", "192.0.2.1", "key-a", "red", "bob")
ESTIMATED = Estimate(120, "tiktoken", 100, 16384, Decimal("0.0099"), None, "gpt-4o")
USED = Usage(100, 50, 20, model="gpt-4o-2024-08-06", service_tier="default")
PAID = Cost(Decimal("0.000725"), Decimal("0.000725"), Decimal("0.000725"), "measured", "2026-11-22+ab")


class Rows(Plugin):
    """Makes the row of each exchange, and fills slots at the end as others would."""

    def __init__(self, at_end: dict[Slot[Any], Any] | None = None, reply: Reply | None = None) -> None:
        self._at_end = at_end or {}
        self._reply = reply
        self.first: First = (b"", b"", b"")
        self.last = b""

    async def on_request(self, ex: Exchange) -> Reply | None:
        self.first = opened(ex)
        return self._reply

    async def on_end(self, ex: Exchange, end: End) -> None:
        for slot, value in self._at_end.items():
            ex[slot] = value
        self.last = closed(ex, end, self.first)

    @property
    def row(self) -> dict[str, Any]:
        (row,) = stored([self.last])
        return dict(zip(KEPT, row, strict=True))


async def row_of(
    request: Sent | None = None,
    answer: Script | None = None,
    *,
    given: dict[Slot[Any], Any] | None = None,
    at_end: dict[Slot[Any], Any] | None = None,
    reply: Reply | None = None,
    leaves_after: int | None = None,
) -> dict[str, Any]:
    rows = Rows(at_end, reply)
    known: dict[Slot[Any], Any] = {IDENTITY: ALICE, ESTIMATE: ESTIMATED}
    who = known if given is None else given
    await play([rows], request, answer, given=who, leaves_after=leaves_after)
    return rows.row


async def test_a_measured_answer_has_all_there_is_to_know() -> None:
    traced = "00-" + "ab" * 16 + "-" + "cd" * 8 + "-01"
    request = post(
        "/v1/chat/completions",
        {"model": "gpt-4o", "secret": "prompt"},
        [("x-request-id", "mine"), ("traceparent", traced)],
    )
    answer = json({"secret": "completion"}, headers=[("x-request-id", "req_1")])
    row = await row_of(request, answer, at_end={USAGE: [USED], COST: PAID})
    times = {name: row.pop(name) for name in ("started_at", "finished_at", "duration_us", "ttfb_us")}
    assert times["finished_at"] >= times["started_at"] > 1_700_000_000_000_000
    assert times["duration_us"] >= 0
    hops = orjson.loads(row.pop("hops_ns"))
    assert {"upstream", "recorder"} <= set(hops)
    assert all(isinstance(ns, int) and 0 <= ns < 60_000_000_000 for ns in hops.values())
    assert row.pop("id")
    assert row == {
        "key_id": "key-a",
        "user": "alice",
        "team": "red",
        "end_user": "bob",
        "address": "192.0.2.1",
        "endpoint": "chat/completions",
        "method": "POST",
        "path": "/v1/chat/completions",
        "model_requested": "gpt-4o",
        "estimate_pico": 9_900_000_000,
        "trace_id": "ab" * 16,
        "client_request_id": "mine",
        "model_served": "gpt-4o-2024-08-06",
        "upstream": "scripted",
        "attempts": 1,
        "status": 200,
        "end_reason": "complete",
        "end_code": "completed",
        "stream": False,
        "input_tokens": 100,
        "cached_tokens": 20,
        "cache_write_tokens": 0,
        "audio_input_tokens": 0,
        "image_input_tokens": 0,
        "output_tokens": 50,
        "reasoning_tokens": 0,
        "audio_output_tokens": 0,
        "image_output_tokens": 0,
        "other_units": None,
        "usage_provenance": "measured",
        "cost_pico": 725_000_000,
        "cost_low_pico": 725_000_000,
        "cost_high_pico": 725_000_000,
        "price_version": "2026-11-22+ab",
        "service_tier": "default",
        "upstream_request_id": "req_1",
        "cache": None,
    }


async def test_each_kind_of_token_has_its_column() -> None:
    used = Usage(*range(1, 10))
    row = await row_of(at_end={USAGE: [used], COST: PAID})
    assert [row[name] for name in TOKENS] == [getattr(used, name) for name in TOKENS]
    assert {row[name] for name in TOKENS} == {*range(1, 10)}


async def test_no_content_is_in_a_row() -> None:
    rows = Rows()
    request = post(
        "/v1/chat/completions", {"messages": "a-secret-prompt"}, [("authorization", "Bearer sk-secret")]
    )
    await play([rows], request, json({"choices": "a-secret-completion"}), given={IDENTITY: ALICE})
    assert b"secret" not in b"".join(rows.first) + rows.last


async def test_an_answer_without_usage_costs_something_between_nothing_and_the_estimate() -> None:
    row = await row_of(answer=sse(b"data: 1\n\n", b"data: 2\n\n"), leaves_after=1)
    assert (row["end_reason"], row["stream"], row["input_tokens"]) == ("client_gone", True, None)
    assert (row["cost_pico"], row["cost_low_pico"], row["cost_high_pico"]) == (None, 0, 9_900_000_000)
    assert row["usage_provenance"] == "bounded"


async def test_without_an_estimate_nothing_is_known_and_that_is_not_zero() -> None:
    row = await row_of(given={IDENTITY: ALICE})
    costs = [row[name] for name in ("cost_pico", "cost_low_pico", "cost_high_pico", "estimate_pico")]
    assert costs == [None] * 4
    assert row["usage_provenance"] == "none"


class Reads(Plugin):
    async def on_request(self, ex: Exchange) -> None:
        await ex.request.json()


@pytest.mark.parametrize(
    ("body", "before", "model"),
    [
        ({"model": "gpt-4o"}, [Reads()], "gpt-4o"),
        ({"model": "gpt-4o"}, [], None),
        ({"model": 7}, [Reads()], None),
        ([], [Reads()], None),
    ],
)
async def test_without_an_estimate_the_model_is_the_one_that_another_plugin_has_read(
    body: Any, before: list[Plugin], model: str | None
) -> None:
    rows = Rows()
    await play([*before, rows], post("/v1/moderations", body), given={IDENTITY: ALICE})
    assert rows.row["model_requested"] == model


async def test_bounds_of_a_cut_stream_are_kept_as_they_are() -> None:
    used = Usage(100, 7, provenance="estimated")
    cost = Cost(Decimal("0.5"), Decimal("0.4000000000001"), Decimal("0.6000000000001"), "estimated")
    row = await row_of(at_end={USAGE: [used], COST: cost})
    assert row["usage_provenance"] == "estimated"
    assert (row["cost_pico"], row["output_tokens"]) == (500_000_000_000, 7)
    assert (row["cost_low_pico"], row["cost_high_pico"]) == (400_000_000_000, 600_000_000_001)


async def test_a_cost_alone_says_where_it_comes_from() -> None:
    cost = Cost(None, Decimal(0), Decimal(1), "bounded")
    row = await row_of(at_end={COST: cost})
    assert (row["cost_pico"], row["cost_low_pico"], row["cost_high_pico"]) == (None, 0, 10**12)
    assert row["usage_provenance"] == "bounded"


async def test_an_unpriced_usage_has_tokens_and_no_cost() -> None:
    row = await row_of(at_end={USAGE: [USED], COST: Cost(None)})
    assert (row["input_tokens"], row["cost_pico"], row["cost_high_pico"]) == (100, None, None)
    assert row["usage_provenance"] == "measured"


async def test_what_was_refused_here_cost_nothing() -> None:
    row = await row_of(reply=Reply.error(429, "rate_limit_exceeded", "Too much."))
    assert (row["status"], row["end_reason"], row["end_code"]) == (429, "rejected", "rate_limit_exceeded")
    assert (row["attempts"], row["upstream"], row["upstream_request_id"]) == (0, None, None)
    assert (row["cost_pico"], row["cost_high_pico"], row["input_tokens"]) == (0, 0, 0)


@pytest.mark.parametrize(
    ("answer", "cost", "high"),
    [
        (json({"error": {}}, 400), 0, 0),
        (json({"error": {}}, 500), 0, 0),
        (Script(refuses=UpstreamError(502, "upstream_connect_failed", "")), 0, 0),
        (Script(refuses=UpstreamError(504, "upstream_header_timeout", "")), None, 9_900_000_000),
        (Script(200, (), [b"x"], breaks=UpstreamError(502, "upstream_reset", "")), None, 9_900_000_000),
        (json({}, 200), None, 9_900_000_000),
    ],
)
async def test_what_an_upstream_has_not_worked_on_costs_nothing(
    answer: Script, cost: int | None, high: int
) -> None:
    row = await row_of(answer=answer)
    assert (row["cost_pico"], row["cost_high_pico"]) == (cost, high)


async def test_several_usages_are_summed_and_as_good_as_the_worst() -> None:
    usages = [
        Usage(1, 2, other_units={"seconds": Decimal("1.5")}),
        Usage(10, 20, 5, provenance="estimated", model="m", other_units={"seconds": Decimal(2)}),
    ]
    row = await row_of(at_end={USAGE: usages, COST: PAID})
    assert (row["input_tokens"], row["output_tokens"], row["cached_tokens"]) == (11, 22, 5)
    assert (row["usage_provenance"], row["model_served"]) == ("estimated", "m")
    assert orjson.loads(row["other_units"]) == {"seconds": "3.5"}


async def test_strangers_words_are_cut_and_cleaned() -> None:
    estimate = Estimate(1, "tiktoken", model="m\0" * TEXT)
    used = Usage(2**64, 2**70, model="\ud800" + "x" * 9999)
    row = await row_of(
        post("/v1/" + "p" * 2000, {}, [("x-request-id", "r" * 2000)]),
        given={IDENTITY: ALICE, ESTIMATE: estimate},
        at_end={USAGE: [used], COST: PAID},
    )
    assert all(len(value) <= TEXT for value in row.values() if isinstance(value, str))
    assert "\0" not in row["model_requested"]
    assert row["model_served"] == "?" + "x" * (TEXT - 1)
    assert row["output_tokens"] == MOST


async def test_what_is_remembered_of_callers_and_paths_has_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = module._Lines()
    monkeypatch.setattr(module, "_WHAT", lines)
    for n in range(module.LINES + 5):
        row = await row_of(post(f"/v1/{n}", {}))
        assert row["path"] == f"/v1/{n}"
        assert len(lines) <= module.LINES
    assert len(lines) == 5
    row = await row_of(post("/v1/" + "p" * 2000, {}))
    assert row["path"] == "/v1/" + "p" * (TEXT - 4)
    assert len(lines) == 5  # too long to be remembered
    assert (await row_of(post("/v1/5", {})))["path"] == "/v1/5"


@pytest.mark.parametrize("trace", ["", "00-short", "x" * 54])
async def test_what_is_no_traceparent_is_no_trace(trace: str) -> None:
    row = await row_of(get("/v1/models", [("traceparent", trace)]))
    assert row["trace_id"] is None


async def test_a_crashed_row_has_what_was_known_when_it_began() -> None:
    rows = Rows()
    await play([rows], post("/v1/responses", {}), given={IDENTITY: ALICE, ESTIMATE: ESTIMATED})
    (crash,) = stored([crashed(b"".join(rows.first))])
    row = dict(zip(KEPT, crash, strict=True))
    known = {name: value for name, value in row.items() if value is not None}
    assert known.pop("id")
    assert known.pop("started_at")
    assert known == {
        "key_id": "key-a",
        "user": "alice",
        "team": "red",
        "end_user": "bob",
        "address": "192.0.2.1",
        "endpoint": "responses",
        "method": "POST",
        "path": "/v1/responses",
        "model_requested": "gpt-4o",
        "estimate_pico": 9_900_000_000,
        "end_reason": "crashed",
        "end_code": "process_died",
        "usage_provenance": "bounded",
        "cost_low_pico": 0,
        "cost_high_pico": 9_900_000_000,
    }


def test_many_rows_are_read_in_pieces_and_in_order() -> None:
    payloads = [a_payload(f"{n}") for n in range(234)]
    assert [column(row, "id") for row in stored(payloads)] == [f"{n}" for n in range(234)]


def test_many_lines_are_read_in_pieces_and_in_order() -> None:
    lines = [b'"%d",null' % n for n in range(234)]
    assert values(lines) == [value for n in range(234) for value in (f"{n}", None)]
    assert values([b'"a\\u0000"', b"7"]) == ["a\ufffd", 7]


def test_a_tidied_row_has_nothing_that_some_database_does_not_take() -> None:
    odd = b'"a\\u0000",%d\n"b"\nnull,true' % 2**63
    assert tidied(odd) == '"a\ufffd",%d\n"b"\nnull,true'.encode() % MOST


def test_a_cleaned_row_is_one_that_any_database_takes() -> None:
    assert cleaned(["a\0b", 2**64, -(2**64), None, True, "fine", 7]) == [
        "a\ufffdb",
        MOST,
        -MOST,
        None,
        True,
        "fine",
        7,
    ]
