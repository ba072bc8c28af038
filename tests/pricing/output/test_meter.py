from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.pricing import tokens
from proxy.pricing.output import Streamed
from proxy.pricing.output.meter import MOST_EVENTS, Meter

from .scripted import ENCODING, STREAMS, chat, chunk

CHAT = "chat/completions"
TEXTS = st.lists(
    st.sampled_from(["word", " ", "\n", "日本", "😀", '"', "\\", "12", "été", "..."]), max_size=60
)


@pytest.fixture(autouse=True, scope="module")
def _vocabulary() -> None:
    tokens.preload(ENCODING)


@pytest.mark.parametrize("endpoint", STREAMS)
@settings(deadline=None, max_examples=30)
@given(texts=TEXTS, allowed=st.integers(0, 200))
def test_between_two_counts_no_more_comes_than_was_allowed(
    endpoint: str, texts: list[str], allowed: int
) -> None:
    meter = Meter(endpoint, ENCODING)
    meter.allow(allowed)
    counted = 0
    events = []
    for raw, _ in STREAMS[endpoint]("".join(texts)):
        events.append(raw)
        truth = Streamed(endpoint, ENCODING, batch=list(events)).output().tokens
        if meter.due(raw):
            counted = meter.tokens()
            assert counted == truth
            meter.allow(allowed)
        else:
            assert truth <= counted + allowed + 3
    assert meter.tokens() == Streamed(endpoint, ENCODING, batch=events).output().tokens


def test_a_count_is_due_by_the_text_and_not_by_what_is_around_it() -> None:
    meter = Meter(CHAT, ENCODING)
    assert meter.due(chunk({"content": "Hello"}))  # nobody knows yet what is around it
    assert meter.tokens() == 1
    meter.allow(40)
    due = [number for number in range(20) if meter.due(chunk({"content": " word"}))]
    assert due[0] == 8  # the ninth makes more than 40 bytes
    assert meter.tokens() == 21


def test_a_small_event_gives_nothing_back() -> None:
    meter = Meter(CHAT, ENCODING)
    meter.due(chunk({"content": "Hello"}))
    meter.tokens()
    meter.allow(4)
    for _ in range(20):
        assert not meter.due(b": ping\n\n")
    assert meter.due(chunk({"content": "Hello"}))


def test_few_events_wait() -> None:
    meter = Meter(CHAT, ENCODING)
    meter.allow(10**9)
    due = [meter.due(chunk({"content": "x"})) for _ in range(MOST_EVENTS)]
    assert due == [False] * (MOST_EVENTS - 1) + [True]
    assert meter.tokens() == tokens.count("x" * MOST_EVENTS, ENCODING)
    assert not meter._pending


def test_calls_and_reasoning_are_written_too() -> None:
    call: dict[str, Any] = {"index": 0, "function": {"name": "f", "arguments": "{}"}}
    meter = Meter(CHAT, ENCODING)
    for delta in ({"reasoning": "Hm"}, {"tool_calls": [call]}, {"refusal": "No"}):
        meter.due(chunk(delta))
    assert meter.tokens() == 1 + (1 + 1 + 4) + 1


def test_until_there_is_a_vocabulary_a_token_is_a_byte(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokens, "loaded", lambda encoding: False)
    meter = Meter(CHAT, ENCODING)
    for raw, _ in chat("Hello there"):
        meter.due(raw)
    assert meter.tokens() == len("Hello there")
