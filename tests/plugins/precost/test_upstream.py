"""The upstream's own count; over sockets it is in tests/faults/test_asking.py."""

import asyncio
import gc
import logging
import sys
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from plugins.precost import PreCost
from plugins.precost import upstream as module
from plugins.precost.upstream import (
    AT_ONCE,
    FIELDS,
    LARGEST,
    MOST,
    QUIET,
    UpstreamCount,
    read,
    seconds,
    taken,
)
from proxy.api import (
    ESTIMATE,
    Asked,
    ClientGone,
    End,
    Exchange,
    Headers,
    Plugin,
    UpstreamError,
    WeirError,
)
from proxy.api.testing import Played, Script, json, play, post
from proxy.pricing import tokens
from tests.plugins.precost.test_plugin import server, told

RESPONSES = "/v1/responses"
HELLO: dict[str, Any] = {"model": "gpt-4o", "input": "hello world"}
LONG: dict[str, Any] = {"model": "gpt-4o", "input": "hello world, " * 2000, "max_output_tokens": 10}
DRY = ("x-weir-dry-run", "true")
COUNTED = json({"object": "response.input_tokens", "input_tokens": 4321})
UNKNOWN = json({"error": {"message": "Unknown path."}}, 404)
LOST = UpstreamError(502, "upstream_reset", "It broke.")
BAD = [
    UNKNOWN,
    json({"object": "response.input_tokens", "input_tokens": -1}),
    json({"input_tokens": True}),
    json({"input_tokens": MOST + 1}),
    json({"input_tokens": 4321.0}),
    json([4321]),
    json(b"<html>"),
    json({"input_tokens": 4321}, 201),
    Script(refuses=LOST),
    Script(200, [], [b'{"input_tokens":'], breaks=LOST),
    Script(200, [], [b'{"input_tokens":'], hangs=True),
    Script(200, [], [b" " * 40_000, b" " * 40_000, b'{"input_tokens":4321}']),
]


class Limits(Plugin):
    """Asks for the exact count, as the limiter does when the bound is too much."""

    def __init__(self, times: int = 1) -> None:
        self.times = times
        self.exact: list[int] = []

    async def on_request(self, ex: Exchange) -> None:
        self.exact = await asyncio.gather(*(ex[ESTIMATE].exact() for _ in range(self.times)))


class AtEnd(Plugin):
    """Asks for the exact count at the end, as `annotate` does of a stream that was cut off."""

    def __init__(self, before: bool = False, aborts: WeirError | None = None) -> None:
        self.before = before
        self.aborts = aborts
        self.exact = 0

    async def on_request(self, ex: Exchange) -> None:
        if self.before:
            await ex[ESTIMATE].exact()
        if self.aborts is not None:
            ex.abort(self.aborts)

    async def on_end(self, ex: Exchange, end: End) -> None:
        self.exact = await ex[ESTIMATE].exact()


async def asked(
    body: Any,
    *headers: tuple[str, str],
    path: str = RESPONSES,
    says: Script = COUNTED,
    behind: Plugin | None = None,
    timeout: str = "2s",
    on: bool = True,
) -> Played:
    plugins = [PreCost(ask_upstream=on, ask_timeout=timeout), *([] if behind is None else [behind])]
    return await play(plugins, post(path, body, headers), asked=[says], server=server())


@pytest.fixture(autouse=True)
def _loaded() -> None:
    tokens.preload("o200k_base")


# -- when it is asked ----------------------------------------------------------------------------------


async def test_it_is_not_asked_unless_that_is_configured() -> None:
    for body in (HELLO, LONG, {**HELLO, "previous_response_id": "resp_1"}):
        limits = Limits()
        played = await asked(body, behind=limits, on=False)
        assert played.asked == []
    assert (await asked(HELLO, DRY, on=False)).asked == []


async def test_a_request_that_no_limit_asks_about_is_counted_here_alone() -> None:
    played = await asked(HELLO)
    assert played.asked == []
    assert told(played)[1] == "tiktoken"
    played = await asked(LONG)
    assert played.asked == []
    assert told(played)[1] == "upper_bound"


@pytest.mark.parametrize("body", [HELLO, LONG], ids=["short", "long"])
async def test_the_exact_count_is_the_upstreams(body: dict[str, Any]) -> None:
    limits = Limits(times=3)
    played = await asked({**body, "stream": True, "store": False}, behind=limits)
    assert limits.exact == [4321] * 3
    (question,) = played.asked
    assert (question.method, question.target) == ("POST", "/v1/responses/input_tokens")
    counted = {name: value for name, value in body.items() if name != "max_output_tokens"}
    assert orjson.loads(question.body) == counted
    assert played.forwarded is not None


@pytest.mark.parametrize(
    "stored", [{"previous_response_id": "resp_1"}, {"conversation": "conv_1"}, {"conversation": {"id": "c"}}]
)
async def test_what_only_the_upstream_knows_is_counted_by_it_first(stored: dict[str, Any]) -> None:
    played = await asked({**HELLO, **stored, "max_output_tokens": 10})
    estimate = played.ex[ESTIMATE]
    assert (estimate.input_tokens, estimate.input_bound, estimate.method) == (4321, 4321, "upstream")
    assert estimate.max_cost == 4321 + 1000
    assert told(played) == ("4321", "upstream", "5321")
    assert await estimate.exact() == 4321
    assert len(played.asked) == 1


@pytest.mark.parametrize("body", [HELLO, LONG], ids=["short", "long"])
async def test_a_dry_run_tells_what_the_upstream_says(body: dict[str, Any]) -> None:
    played = await asked(body, DRY)
    assert (played.json()["input_tokens"], played.json()["method"]) == (4321, "upstream")
    assert played.json()["input_cost_usd"] == 4321
    assert played.forwarded is None
    assert len(played.asked) == 1


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/chat/completions", {"model": "gpt-4o", "messages": [{"role": "user", "content": "Hi"}]}),
        ("/v1/responses/compact", HELLO),
        ("/v1/embeddings", {"model": "text-embedding-3-small", "input": "Hi"}),
        (RESPONSES, {**HELLO, "prompt": {"id": "pmpt_1"}}),
        (RESPONSES, {**HELLO, "metadata": {"a": "x" * LARGEST}}),
        (RESPONSES, [1]),
        (RESPONSES, b"{"),
    ],
)
async def test_of_all_else_nothing_is_asked(path: str, body: Any) -> None:
    played = await asked(body, path=path)
    assert played.asked == []
    if isinstance(body, dict):
        played = await asked(body, DRY, path=path)
        assert played.asked == []
        assert played.json()["method"] != "upstream"


async def test_azure_is_asked_where_it_has_its_responses() -> None:
    sent = post("/openai/v1/responses", HELLO, [DRY])
    sent = type(sent)(sent.method, sent.path, "api-version=preview", sent.headers, sent.pieces)
    played = await play([PreCost(ask_upstream=True)], sent, asked=[COUNTED], server=server())
    assert played.json()["method"] == "upstream"
    assert played.asked[0].target == "/v1/openai/v1/responses/input_tokens?api-version=preview"


async def test_a_query_that_cannot_be_passed_on_asks_nothing() -> None:
    sent = post(RESPONSES, HELLO, [DRY])
    sent = type(sent)(sent.method, sent.path, "a=ä", sent.headers, sent.pieces)
    played = await play([PreCost(ask_upstream=True)], sent, asked=[COUNTED], server=server())
    assert played.asked == []
    assert played.json()["method"] == "tiktoken"


# -- when it does not tell -----------------------------------------------------------------------------


def warnings(caplog: pytest.LogCaptureFixture) -> list[Any]:
    return [record.__dict__["fields"] for record in caplog.records if record.levelno == logging.WARNING]


@pytest.mark.parametrize("says", BAD)
async def test_where_it_does_not_tell_the_count_is_ours(
    says: Script, caplog: pytest.LogCaptureFixture
) -> None:
    ours = [(await asked(body, DRY, on=False)).json() for body in (HELLO, LONG)]
    assert [each["method"] for each in ours] == ["tiktoken", "tiktoken"]
    for body, our in zip((HELLO, LONG), ours, strict=True):
        played = await asked(body, DRY, says=says, timeout="50ms")
        assert played.json() == our
        limits = Limits(times=2)
        played = await asked(body, says=says, behind=limits, timeout="50ms")
        assert limits.exact == [our["input_tokens"]] * 2
        assert len(played.asked) == 1
        assert played.complete
    played = await asked({**HELLO, "previous_response_id": "x"}, says=says, timeout="50ms")
    assert played.ex[ESTIMATE].method == "tiktoken"
    assert played.ex[ESTIMATE].input_tokens == ours[0]["input_tokens"]
    assert len(played.asked) == 1


async def test_it_is_not_asked_twice_for_one_request() -> None:
    limits = Limits()
    played = await asked({**HELLO, "previous_response_id": "x"}, says=UNKNOWN, behind=limits)
    assert len(played.asked) == 1
    assert limits.exact == [played.ex[ESTIMATE].input_tokens]


@pytest.mark.parametrize(
    ("says", "outcome"),
    [
        (UNKNOWN, "404"),
        (json([1]), "unreadable"),
        (Script(refuses=LOST), "upstream_reset"),
        (Script(hangs=True), "ask_timeout"),
    ],
)
async def test_the_log_says_once_a_minute_that_it_failed_and_how(
    says: Script, outcome: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0
    monkeypatch.setattr(module, "monotonic", lambda: now)
    plugin = PreCost(ask_upstream=True, ask_timeout="20ms")
    for _ in range(3):
        played = await play([plugin], post(RESPONSES, HELLO, [DRY]), asked=[says], server=server())
    assert [(line["upstream"], line["outcome"]) for line in warnings(caplog)] == [("scripted", outcome)]
    assert warnings(caplog)[0]["id"] != played.ex.id
    now += QUIET
    await play([plugin], post(RESPONSES, HELLO, [DRY]), asked=[says], server=server())
    assert len(warnings(caplog)) == 2


async def test_what_is_told_is_no_line_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    await asked(HELLO, DRY)
    assert warnings(caplog) == []


async def test_only_so_many_are_asked_at_once() -> None:
    plugin = PreCost(ask_upstream=True, ask_timeout="2s")
    counter = plugin._counter
    assert counter is not None
    counter._running = AT_ONCE
    played = await play([plugin], post(RESPONSES, HELLO, [DRY]), asked=[COUNTED], server=server())
    assert (played.asked, played.json()["method"]) == ([], "tiktoken")
    counter._running = AT_ONCE - 1
    for _ in range(3):
        played = await play([plugin], post(RESPONSES, HELLO, [DRY]), asked=[COUNTED], server=server())
        assert played.json()["method"] == "upstream"
        played = await play([plugin], post(RESPONSES, HELLO, [DRY]), asked=[UNKNOWN], server=server())
        assert (len(played.asked), counter._running) == (1, AT_ONCE - 1)


# -- the count -----------------------------------------------------------------------------------------


async def test_once_the_answer_has_begun_nothing_is_asked_any_more() -> None:
    at_end = AtEnd()
    played = await asked(LONG, behind=at_end)
    assert at_end.exact == (await asked(LONG, DRY, on=False)).json()["input_tokens"]
    assert played.asked == []


async def test_what_was_told_before_is_still_known_then() -> None:
    at_end = AtEnd(before=True)
    played = await asked(LONG, behind=at_end)
    assert at_end.exact == 4321
    assert len(played.asked) == 1


async def test_an_exchange_that_ends_before_its_answer_is_counted_here(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """`on_response` runs for no client that has gone."""
    at_end = AtEnd(aborts=ClientGone())
    played = await asked(LONG, behind=at_end)
    assert played.end.reason == "client_gone"
    assert at_end.exact == (await asked(LONG, DRY, on=False)).json()["input_tokens"]
    assert played.asked == []
    assert warnings(caplog) == []


async def test_who_stops_waiting_does_not_stop_the_others() -> None:
    release = asyncio.Event()

    async def ask() -> int | None:
        await release.wait()
        return 7

    count = UpstreamCount(ask, first=False)
    one, other = asyncio.create_task(count()), asyncio.create_task(count())
    await asyncio.sleep(0)
    one.cancel()
    with pytest.raises(asyncio.CancelledError):
        await one
    release.set()
    assert await asyncio.wait_for(other, 5) == 7


async def test_an_exchange_is_gone_when_it_is_over_without_the_garbage_collector() -> None:
    def alive() -> int:
        return sum(isinstance(each, Exchange) for each in gc.get_objects())

    gc.collect()
    gc.disable()
    try:
        if sys.version_info >= (3, 12):
            await asked(HELLO)  # there the last one, and no more than that, is gone with the next
        before = alive()
        for body in (HELLO, LONG, HELLO):
            await asked(body)
        assert alive() == before
    finally:
        gc.enable()


# -- the question --------------------------------------------------------------------------------------


def test_values_are_asked_about_in_the_bytes_that_they_came_in() -> None:
    raw = b"""{ "stream" : true,"input":[ {"a": 18446744073709551616, "b":1e2} ],
        "mod\\u0065l": "gpt-4o" , "tools":null, "user":"me", "metadata":{"model":"x"}}"""
    assert taken(raw, orjson.loads(raw)) == (
        b'{"model":"gpt-4o","input":[ {"a": 18446744073709551616, "b":1e2} ],"tools":null}'
    )


def test_a_model_that_the_path_names_is_not_in_the_body() -> None:
    assert taken(b'{"input":"Hi"}', {"input": "Hi", "model": "prod"}) == b'{"input":"Hi"}'


scalars = st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.text(max_size=20)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
)


@given(st.dictionaries(st.sampled_from(FIELDS) | st.sampled_from(["stream", "prompt", "user"]), values))
def test_the_question_is_the_request_but_for_what_is_not_counted(body: dict[str, Any]) -> None:
    raw = orjson.dumps(body)
    asked_about = orjson.loads(taken(raw, orjson.loads(raw)))
    assert asked_about == {name: value for name, value in orjson.loads(raw).items() if name in FIELDS}


@pytest.mark.parametrize("count", [0, 1, MOST])
def test_a_count_is_a_number_of_tokens(count: int) -> None:
    assert read(Asked(200, Headers(), b'{"input_tokens":%d}' % count)) == count


# -- the configuration ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("text", "found"), [("2s", 2.0), ("500ms", 0.5), ("0.5s", 0.5), ("30s", 30.0)])
def test_a_patience_is_a_duration(text: str, found: float) -> None:
    assert seconds(text) == found


@pytest.mark.parametrize("text", ["", "2", "0s", "0ms", "31s", "-1s", "1e1s", "2 s", "1m", 2, None, "nan"])
def test_anything_else_is_refused(text: object) -> None:
    with pytest.raises(ValueError, match="ask_timeout is"):
        PreCost(ask_timeout=text)  # type: ignore[arg-type]


def test_asking_is_a_switch() -> None:
    with pytest.raises(ValueError, match="ask_upstream is true or false"):
        PreCost(ask_upstream="yes")  # type: ignore[arg-type]
