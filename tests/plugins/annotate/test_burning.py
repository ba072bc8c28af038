"""Budgets that streams use up while they run."""

import asyncio
import random
from decimal import Decimal

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from plugins.annotate import Annotate
from plugins.annotate.burning import Burning
from proxy.api import COST, ESTIMATE, USAGE, Estimate, Exchange, Plugin, Server, WeirError
from proxy.api.fuse import FUSE
from proxy.api.testing import Script, play, post, sse
from proxy.pricing import tokens
from proxy.pricing.output.meter import Meter
from proxy.pricing.table import default
from tests.pricing.output.scripted import ENCODING, chat

OUT = Decimal("0.00001")
TEXT = "Some words, which are: 3.14 fish. " * 8
SCRIPT = list(chat(TEXT))
CHAT = "/v1/chat/completions"
BODY = {"model": "gpt-4o", "stream": True, "messages": [{"role": "user", "content": "Hello there"}]}


@pytest.fixture(autouse=True, scope="module")
def _vocabulary() -> None:
    tokens.preload(ENCODING)


class Purse:
    """A budget that several streams use up."""

    def __init__(self, dollars: Decimal, streams: int = 1) -> None:
        self.left = dollars
        self.granted = Decimal(0)
        self.charges = 0
        self.streams = streams

    def share(self) -> "Share":
        return Share(self)


class Share:
    """One stream's fuse: what it is granted nobody else is, until it is charged again."""

    def __init__(self, purse: Purse) -> None:
        self._purse = purse
        self._granted = Decimal(0)

    def charge(self, amount: Decimal) -> Decimal:
        assert amount >= 0
        purse = self._purse
        purse.charges += 1
        purse.left -= amount
        purse.granted -= self._granted
        self._granted = max(purse.left - purse.granted, Decimal(0)) / purse.streams
        purse.granted += self._granted
        return self._granted if purse.left > 0 else Decimal(-1)

    def blown(self) -> WeirError:
        return WeirError(429, "insufficient_quota", "The budget is used up.")


class Lights(Plugin):
    """What a limiter does."""

    provides = (FUSE, ESTIMATE)

    def __init__(self, purse: Purse) -> None:
        self._purse = purse

    async def on_request(self, ex: Exchange) -> None:
        ex[FUSE] = self._purse.share()
        ex[ESTIMATE] = Estimate(40, "tiktoken", 9, 1000)


def by_output(count: int) -> Decimal:
    return 1 + count * OUT


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 400), st.integers(1, 20), st.integers())
def test_together_they_use_no_more_than_the_budget_and_one_event_each(
    budget: int, streams: int, seed: int
) -> None:
    chance = random.Random(seed)
    purse = Purse(budget * OUT, streams)
    running = [
        (Burning(purse.share(), Meter("chat/completions", ENCODING), by_output), iter(SCRIPT))
        for _ in range(streams)
    ]
    written: dict[int, int] = {}
    while running:
        burning, script = chance.choice(running)
        raw, count = next(script, (b"", -1))
        if count >= 0:
            written[id(script)] = count
        if count < 0 or burning.used_up(raw):
            running.remove((burning, script))
            if count >= 0:
                assert purse.left <= 0  # nobody is stopped before
    spent = sum(written.values()) * OUT
    # An event may bring two tokens: the last of what came before was none yet.
    assert spent <= budget * OUT + streams * 2 * OUT


async def test_far_from_the_end_it_is_charged_seldom() -> None:
    purse = Purse(Decimal(1000))
    burning = Burning(purse.share(), Meter("chat/completions", ENCODING), by_output)
    assert not any(burning.used_up(raw) for raw, _ in SCRIPT * 4)
    assert purse.charges < len(SCRIPT) * 4 / 20


async def test_what_has_no_price_burns_nothing() -> None:
    purse = Purse(Decimal("0.0001"))
    burning = Burning(purse.share(), Meter("chat/completions", ENCODING), lambda count: None)
    assert not any(burning.used_up(raw) for raw, _ in SCRIPT)
    assert purse.left == Decimal("0.0001")


# -- in a running stream ---------------------------------------------------------------------------------


async def streamed(purse: Purse, script: Script, *, stream: str = "comment"):  # type: ignore[no-untyped-def]
    served = Server(metrics=CollectorRegistry(), prices=default())
    return await play([Lights(purse), Annotate(stream=stream)], post(CHAT, BODY), script, server=served)


@pytest.mark.parametrize("stream", ["comment", "none"])
async def test_a_stream_is_stopped_when_its_budget_is_used_up(stream: str) -> None:
    purse = Purse(20 * OUT)
    events = [raw for raw, _ in SCRIPT]
    played = await streamed(purse, Script(200, sse().headers, events, hangs=True), stream=stream)
    assert played.end[:2] == ("rejected", "insufficient_quota")
    assert not played.complete
    *passed, last = played.body.split(b"\n\n")[:-1]
    assert orjson.loads(last.removeprefix(b"data: "))["error"]["code"] == "insufficient_quota"
    assert 20 <= len(passed) <= 23
    (usage,) = played.ex[USAGE]
    assert usage.provenance == "estimated"
    assert 20 <= usage.output_tokens <= 22
    assert purse.left <= 0
    cost = played.ex[COST].amount
    assert cost is not None
    assert abs(cost - 9 * Decimal("0.0000025") - 20 * OUT + purse.left) <= OUT


async def test_a_usage_with_every_event_is_what_the_fuse_is_charged() -> None:
    purse = Purse(20 * OUT)
    told = (
        b'data: {"model":"gpt-4o","choices":[{"index":0,"delta":{"content":"word"}}],'
        b'"usage":{"prompt_tokens":9,"completion_tokens":%d}}\n\n'
    )
    events = [told % count for count in range(1, 60)]
    played = await streamed(purse, Script(200, sse().headers, events, hangs=True))
    assert played.end[:2] == ("rejected", "insufficient_quota")
    # The input took 2.25 of the 20: with the 18th token there is nothing left.
    assert 17 <= played.body.count(b'"word"') <= 19
    assert purse.left <= 0


async def test_a_stream_within_its_budget_passes_as_ever() -> None:
    purse = Purse(Decimal(1))
    events = [raw for raw, _ in SCRIPT]
    usage = b'data: {"model":"gpt-4o","choices":[],"usage":{"prompt_tokens":9,"completion_tokens":77}}\n\n'
    played = await streamed(purse, sse(*events, usage, b"data: [DONE]\n\n"))
    assert played.complete
    assert played.ex[USAGE][0].provenance == "measured"
    assert 0 < 1 - purse.left <= 77 * OUT


async def test_a_fuse_that_is_blown_already_stops_it_at_once() -> None:
    played = await streamed(Purse(Decimal(0)), sse(*[raw for raw, _ in SCRIPT]))
    assert played.end[:2] == ("rejected", "insufficient_quota")
    assert played.ex[USAGE][0].output_tokens <= 1


async def test_answers_in_one_piece_are_not_charged_as_they_come() -> None:
    purse = Purse(Decimal(0))
    answer = Script(200, [("content-type", "application/json")], [b'{"choices":[]}'])
    assert (await streamed(purse, answer)).complete
    assert purse.charges == 0


async def test_many_streams_beside_each_other_stop_at_their_common_budget() -> None:
    purse = Purse(200 * OUT, 20)
    events = [raw for raw, _ in SCRIPT]
    script = Script(200, sse().headers, events, hangs=True)
    played = await asyncio.gather(*(streamed(purse, script) for _ in range(20)))
    assert all(each.end.code == "insufficient_quota" for each in played)
    written = sum(each.ex[USAGE][0].output_tokens for each in played)
    assert 200 <= written <= 200 + 20 * 2
