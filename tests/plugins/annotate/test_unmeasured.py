"""Every way to end that leaves the usage untold."""

import asyncio
import logging
from decimal import Decimal
from typing import Any

import orjson
import pytest
from prometheus_client import CollectorRegistry

from plugins.annotate import Annotate
from proxy.api import COST, ESTIMATE, USAGE, Cost, Estimate, Event, Exchange, Plugin, Server, Usage, WeirError
from proxy.api import UpstreamError as Fault
from proxy.api.testing import Played, Script, Sent, json, play, post, sse
from proxy.pricing import tokens
from proxy.pricing.table import default
from tests.pricing.output.scripted import STREAMS, chunk

CHAT = "/v1/chat/completions"
BODY = {
    "model": "gpt-4o",
    "stream": True,
    "max_tokens": 100,
    "messages": [{"role": "user", "content": "Hello there"}],
}
INPUT = 9
"""Tokens of that."""
RESET = Fault(502, "upstream_reset", "The upstream broke the connection.")
SCRIPT = list(STREAMS["chat/completions"]("Some words, which are: 3.14 fish. " * 3))
EVENTS = [raw for raw, _ in SCRIPT]
IN, OUT = Decimal("0.0000025"), Decimal("0.00001")


@pytest.fixture(autouse=True, scope="module")
def _vocabulary() -> None:
    tokens.preload()


async def ended(script: Script, body: Any = None, path: str = CHAT, plugins: Any = (), **more: Any) -> Played:
    served = Server(metrics=CollectorRegistry(), prices=default())
    request = more.pop("request", None) or post(path, BODY if body is None else body)
    annotate = more.pop("annotate", None) or Annotate()
    return await play([*plugins, annotate], request, script, server=served, **more)


def bill(played: Played) -> tuple[Usage, Cost]:
    (usage,) = played.ex[USAGE]
    cost = played.ex[COST]
    assert usage.provenance == cost.provenance != "measured"
    return usage, cost


def holds(cost: Cost, *truths: Decimal) -> None:
    assert cost.low is not None
    assert cost.amount is not None
    assert cost.high is not None
    assert cost.low <= cost.amount <= cost.high
    for truth in truths:
        assert cost.low <= truth <= cost.high


# -- streams ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cut", range(0, len(EVENTS), 4))
@pytest.mark.parametrize("how", ["gone", "reset", "aborted", "without a usage"])
@pytest.mark.parametrize("stream", ["comment", "none"])
async def test_a_cut_stream_is_billed_by_what_was_streamed(cut: int, how: str, stream: str) -> None:
    events = EVENTS[:cut]
    truth = SCRIPT[cut - 1][1] if cut else 0
    annotate = Annotate(stream=stream)
    if how == "gone":
        # Passing on, its client hears of each event before a plugin does; rewriting, after.
        script = Script(200, sse().headers, events, hangs=True)
        played = await ended(script, annotate=annotate, leaves_after=cut)
    elif how == "reset":
        played = await ended(Script(200, sse().headers, events, breaks=RESET), annotate=annotate)
    elif how == "aborted":
        stopped = Script(200, sse().headers, EVENTS, hangs=True)
        played = await ended(stopped, annotate=annotate, plugins=[Stopping(cut)])
    else:
        played = await ended(sse(*events), annotate=annotate)
    usage, cost = bill(played)
    reasons = {"gone": "client_gone", "reset": "upstream_error", "aborted": "rejected"}
    assert played.end.reason == reasons.get(how, "complete")
    assert abs(usage.output_tokens - truth) <= 4
    assert usage.input_tokens == INPUT
    holds(cost, INPUT * IN + truth * OUT, INPUT * IN + 100 * OUT)
    assert b": weir " not in played.body


class Stopping(Plugin):
    """As a fuse does, after so many events."""

    def __init__(self, after: int) -> None:
        self._left = after

    async def on_response(self, ex: Exchange) -> None:
        if not self._left:
            ex.abort(WeirError(429, "stopped", "Stopped."))

    def on_event(self, ex: Exchange, event: Event) -> None:
        self._left -= 1
        if not self._left:
            ex.abort(WeirError(429, "stopped", "Stopped."))


async def test_a_usage_counts_though_the_stream_is_cut_after_it() -> None:
    usage = b'data: {"model":"gpt-4o","choices":[],"usage":{"prompt_tokens":11,"completion_tokens":5}}\n\n'
    script = Script(200, sse().headers, [*EVENTS, usage], breaks=RESET)
    played = await ended(script)
    assert played.ex[USAGE][0].provenance == played.ex[COST].provenance == "measured"
    assert played.ex[COST].amount == 11 * IN + 5 * OUT


def running(content: str, output: int, finish: str | None = None) -> bytes:
    return chunk({"content": content}, finish_reason=finish).replace(
        b'"usage":null', b'"usage":{"prompt_tokens":11,"completion_tokens":%d}' % output
    )


async def test_a_usage_on_the_way_is_where_the_count_begins() -> None:
    told = [running("Hello", 1), running(" there", 70)]
    untold = [chunk({"content": " word"})] * 5
    for more, output in ((untold, 75), ([], 70)):
        played = await ended(Script(200, sse().headers, [*told, *more], breaks=RESET))
        usage, cost = bill(played)
        assert (usage.input_tokens, usage.output_tokens) == (11, output)
        holds(cost, 11 * IN + output * OUT, 11 * IN + 100 * OUT)
        assert cost.low is not None
        assert cost.low >= 70 * OUT
    for script in (sse(*told), Script(200, sse().headers, [*told, running("", 71, "stop")], breaks=RESET)):
        assert (await ended(script)).ex[COST].provenance == "measured"


async def test_a_long_stream_with_a_usage_on_each_event_keeps_nothing() -> None:
    events = [running(" word" * 200, number) for number in range(1, 400)]
    played = await ended(Script(200, sse().headers, events, breaks=RESET))
    assert bill(played)[0].output_tokens == 399


async def test_large_events_are_counted_too() -> None:
    events = [chunk({"content": " word" * 2000}) for _ in range(40)]
    played = await ended(Script(200, sse().headers, events, breaks=RESET))
    assert bill(played)[0].output_tokens == 80_000


async def test_all_kinds_of_streams() -> None:
    for endpoint, body in (
        ("completions", {"prompt": "Hello there", "max_tokens": 100}),
        ("responses", {"input": "Hello there", "max_output_tokens": 100}),
    ):
        script = list(STREAMS[endpoint]("Some words, which are: 3.14 fish. " * 3))[:20]
        answer = Script(200, sse().headers, [raw for raw, _ in script], breaks=RESET)
        played = await ended(answer, {"model": "gpt-4o", "stream": True, **body}, f"/v1/{endpoint}")
        usage, cost = bill(played)
        assert abs(usage.output_tokens - script[-1][1]) <= 1
        holds(cost, usage.input_tokens * IN + script[-1][1] * OUT)


async def test_a_model_that_reasons_out_of_sight_may_have_written_all_that_was_allowed() -> None:
    events = [raw.replace(b"gpt-4o-2024-08-06", b"o3") for raw in EVENTS]
    played = await ended(sse(*events), {**BODY, "model": "o3"})
    _, cost = bill(played)
    assert cost.high is not None
    assert cost.high >= 100 * Decimal("0.000008")


async def test_several_choices_may_each_be_as_long_as_allowed() -> None:
    played = await ended(Script(200, sse().headers, EVENTS[:3], breaks=RESET), {**BODY, "n": 4})
    high = bill(played)[1].high
    assert high is not None
    assert high >= 400 * OUT


async def test_the_models_most_counts_where_the_request_says_nothing() -> None:
    body = {name: value for name, value in BODY.items() if name != "max_tokens"}
    _, cost = bill(await ended(Script(200, sse().headers, EVENTS[:3], breaks=RESET), body))
    assert cost.high is not None
    assert cost.high >= 16384 * OUT


async def test_a_compressed_stream_that_cannot_be_read_is_only_bounded() -> None:
    headers = [*sse().headers, ("content-encoding", "br")]
    usage, cost = bill(await ended(Script(200, headers, [b"\x00\x01"], breaks=RESET)))
    assert usage.provenance == "bounded"
    holds(cost, Decimal(0), INPUT * IN + 100 * OUT)


# -- before the answer -----------------------------------------------------------------------------------


async def test_who_leaves_before_a_stream_begins_pays_the_input_and_perhaps_nothing() -> None:
    played = await ended(Script(200, sse().headers, hangs=True), leaves_after=0)
    usage, cost = bill(played)
    assert (usage.input_tokens, usage.output_tokens) == (INPUT, 0)
    assert cost.amount == INPUT * IN
    holds(cost, INPUT * IN, INPUT * IN + 100 * OUT)


@pytest.mark.parametrize("code", ["upstream_connect_failed", "upstream_dns_failed", "upstream_busy"])
async def test_what_never_reached_an_upstream_cost_nothing(code: str) -> None:
    played = await ended(Script(refuses=Fault(502, code, "No.")))
    assert USAGE not in played.ex
    assert COST not in played.ex


@pytest.mark.parametrize("code", ["upstream_reset", "upstream_header_timeout", "upstream_closed"])
async def test_what_an_upstream_did_not_answer_cost_nothing_as_a_rule(code: str) -> None:
    played = await ended(Script(refuses=Fault(502, code, "No.")))
    assert USAGE not in played.ex
    cost = played.ex[COST]
    assert (cost.amount, cost.provenance) == (Decimal(0), "estimated")
    holds(cost, Decimal(0), INPUT * IN + 100 * OUT)


async def test_what_was_refused_or_never_sent_cost_nothing() -> None:
    for played in (
        await ended(Script(429, sse().headers, [b"data: {}\n\n"], breaks=RESET)),
        await ended(json({"error": {}}, 400)),
        await ended(json({}), b"{"),
        await ended(json({}), request=Sent("POST", CHAT, pieces=[b"{", b"}"], leaves_while_sending=True)),
    ):
        assert USAGE not in played.ex or not played.ex[USAGE][0].output_tokens
        cost = played.ex.get(COST)
        assert cost is None or not cost.amount


# -- answers in one piece --------------------------------------------------------------------------------

ANSWER = {
    "model": "gpt-4o-2024-08-06",
    "choices": [
        {"index": 0, "message": {"role": "assistant", "content": "Hi there!"}, "finish_reason": "stop"}
    ],
}
WHOLE = {name: value for name, value in BODY.items() if name != "stream"}


async def test_an_answer_without_a_usage_is_billed_by_what_it_says() -> None:
    usage, cost = bill(await ended(json(ANSWER), WHOLE))
    assert (usage.input_tokens, usage.output_tokens, usage.model) == (INPUT, 3, "gpt-4o-2024-08-06")
    holds(cost, INPUT * IN + 3 * OUT, INPUT * IN + 4 * OUT)
    assert cost.high is not None
    assert cost.high < 100 * OUT


async def test_a_large_answer_without_a_usage_is_counted_in_a_thread() -> None:
    long = orjson.dumps(ANSWER).replace(b"Hi there!", b" word" * 20_000)
    usage, _ = bill(await ended(json(long), {**WHOLE, "max_tokens": 100_000}))
    assert usage.output_tokens == 20_000


async def test_an_answer_that_broke_off_costs_all_it_may() -> None:
    raw = orjson.dumps(ANSWER)
    script = Script(200, [("content-type", "application/json")], [raw[:20]], breaks=RESET)
    usage, cost = bill(await ended(script, WHOLE))
    assert (usage.provenance, usage.output_tokens) == ("bounded", 100)
    assert cost.amount is not None
    assert cost.amount >= INPUT * IN + 100 * OUT
    holds(cost, Decimal(0), INPUT * IN + 3 * OUT)


async def test_who_leaves_before_an_answer_pays_all_it_may_cost() -> None:
    usage, cost = bill(await ended(Script(200, hangs=True), WHOLE, leaves_after=0))
    assert usage.provenance == "bounded"
    assert cost.amount is not None
    assert cost.amount >= INPUT * IN + 100 * OUT


async def test_embeddings_without_a_usage_cost_their_input() -> None:
    answer = {"object": "list", "data": [{"embedding": [0.5]}], "model": "text-embedding-3-small"}
    asked = {"model": "text-embedding-3-small", "input": "Hello there"}
    usage, cost = bill(await ended(json(answer), asked, "/v1/embeddings"))
    assert (usage.input_tokens, usage.output_tokens) == (2, 0)
    assert cost.amount == 2 * Decimal("0.00000002")
    assert cost.high is not None
    assert cost.high < Decimal("0.000001")


async def test_uploads_without_a_usage_have_no_cost() -> None:
    form = Sent(
        path="/v1/audio/transcriptions", headers=[("content-type", "multipart/form-data")], pieces=[b"x"]
    )
    played = await ended(json({"text": "I see skies."}), request=form)
    assert played.ex[USAGE][0].provenance == "none"
    assert played.ex[COST].amount is None


async def test_pictures_without_a_usage_are_only_bounded_if_at_all() -> None:
    asked = {"model": "gpt-image-1", "prompt": "A fish", "quality": "low", "size": "1024x1024"}
    usage, cost = bill(
        await ended(json({"data": [{"b64_json": "A" * 999}]}), asked, "/v1/images/generations")
    )
    assert (usage.provenance, usage.output_tokens) == ("bounded", 272)
    assert cost.low == 0


# -- who counts, and where -------------------------------------------------------------------------------


async def test_the_estimate_is_what_precost_said() -> None:
    estimate = Estimate(4000, "tiktoken", 1000, 50, model="gpt-4o")
    played = await ended(Script(200, sse().headers, EVENTS[:3], breaks=RESET), given={ESTIMATE: estimate})
    usage, cost = bill(played)
    assert usage.input_tokens == 1000
    holds(cost, 1000 * IN + 50 * OUT)


async def test_an_upstreams_own_model_and_tier_count() -> None:
    events = [raw.replace(b'"default"', b'"priority"') for raw in EVENTS[:3]]
    usage, cost = bill(await ended(Script(200, sse().headers, events, breaks=RESET)))
    assert (usage.model, usage.service_tier) == ("gpt-4o-2024-08-06", "priority")
    assert "tier_priced_as=standard" not in cost.flags


async def test_without_prices_there_is_the_usage() -> None:
    played = await play(
        [Annotate()],
        post(CHAT, BODY),
        Script(200, sse().headers, EVENTS[:6], breaks=RESET),
        server=Server(metrics=CollectorRegistry()),
    )
    assert played.ex[USAGE][0].provenance == "estimated"
    assert played.ex[COST] == Cost(None)


async def test_a_model_without_a_price_has_its_tokens() -> None:
    events = [raw.replace(b"gpt-4o-2024-08-06", b"mystery") for raw in EVENTS[:6]]
    script = Script(200, sse().headers, events, breaks=RESET)
    played = await ended(script, {**BODY, "model": "mystery"})
    assert played.ex[USAGE][0].output_tokens == 5
    cost = played.ex[COST]
    assert (cost.amount, cost.low, cost.high) == (None, None, None)


async def test_nothing_of_what_was_said_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    await ended(Script(200, sse().headers, EVENTS, breaks=RESET))
    assert "fish" not in caplog.text
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


async def test_many_that_are_cut_at_once_are_all_billed() -> None:
    events = EVENTS * 8
    script = Script(200, sse().headers, events, breaks=RESET)

    class Staying(Annotate):
        async def stop(self) -> None:
            """Others still count."""

    annotate = Staying()
    played = await asyncio.gather(*(ended(script, annotate=annotate) for _ in range(30)))
    assert all(abs(bill(each)[0].output_tokens - 8 * SCRIPT[-1][1]) <= 8 for each in played)
