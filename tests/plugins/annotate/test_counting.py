import asyncio
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from plugins.annotate import counting as module
from plugins.annotate.counting import THREADS, WAITING, Counting, Running
from proxy.pricing import tokens
from proxy.pricing.output import Output, Streamed
from proxy.pricing.output.streamed import BATCH

CHUNK = b'data: {"choices":[{"index":0,"delta":{"content":" word"}}]}\n\n'


@pytest.fixture(autouse=True, scope="module")
def _vocabulary() -> None:
    tokens.preload("o200k_base")


@pytest.fixture
def counting() -> Iterator[Counting]:
    made = Counting()
    yield made
    made.close()


class Streaming(Streamed):
    """Writes down where it counts, and waits there until it may."""

    __slots__ = ("go_on", "threads")

    def __init__(self) -> None:
        super().__init__("chat/completions", "o200k_base")
        self.threads: list[threading.Thread] = []
        self.go_on = threading.Event()
        self.go_on.set()

    def fold(self, packed: Any) -> None:
        self.threads.append(threading.current_thread())
        assert self.go_on.wait(10)
        super().fold(packed)


def feed(streamed: Streamed, running: Running, events: int) -> None:
    for _ in range(events):
        streamed.batch.append(CHUNK)
        if len(streamed.batch) >= BATCH:
            running.make_room(CHUNK)


async def test_a_few_events_are_counted_at_once(counting: Counting) -> None:
    streamed = Streaming()
    running = Running(streamed, counting)
    feed(streamed, running, 10)
    assert (await running.output(1, hidden=False)).tokens == 10
    assert streamed.threads == [threading.current_thread()]


async def test_more_are_counted_in_a_thread(counting: Counting) -> None:
    streamed = Streaming()
    running = Running(streamed, counting)
    feed(streamed, running, 1000)
    assert (await running.output(1, hidden=False)).tokens == 1000
    assert threading.current_thread() not in streamed.threads


async def test_without_its_vocabulary_nothing_is_counted_on_the_loop(
    counting: Counting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tokens, "loaded", lambda encoding: False)
    streamed = Streaming()
    running = Running(streamed, counting)
    feed(streamed, running, 1)
    assert (await running.output(1, hidden=False)).tokens == 1
    assert threading.current_thread() not in streamed.threads


async def test_a_very_long_stream_is_counted_while_it_runs(
    counting: Counting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("proxy.pricing.output.streamed.LIMIT", 200)
    monkeypatch.setattr(module, "LIMIT", 200)
    streamed = Streaming()
    running = Running(streamed, counting)
    for _ in range(40):
        feed(streamed, running, BATCH)
        await asyncio.sleep(0.001)
    assert streamed.threads
    assert threading.current_thread() not in streamed.threads
    assert (await running.output(1, hidden=False)).tokens == 40 * BATCH


async def test_who_cannot_be_counted_as_fast_as_it_comes_keeps_no_more(
    counting: Counting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("proxy.pricing.output.streamed.LIMIT", 200)
    monkeypatch.setattr(module, "LIMIT", 200)
    streamed = Streaming()
    streamed.go_on.clear()
    running = Running(streamed, counting)
    for _ in range(100):
        feed(streamed, running, BATCH)
        await asyncio.sleep(0)
        assert streamed.size <= 1000
    streamed.go_on.set()
    out = await running.output(1, hidden=False)
    assert abs(out.tokens - 100 * BATCH) < 100  # all are alike, so those that were dropped count as well
    assert out.least < 50 * BATCH


async def test_what_takes_too_long_is_guessed(counting: Counting, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PATIENCE", 0.02)
    monkeypatch.setattr("proxy.pricing.output.streamed.LIMIT", 200)
    for long in (True, False):
        streamed = Streaming()
        streamed.go_on.clear()
        running = Running(streamed, counting)
        events = 40 * BATCH if long else 100  # still counting what came, or what was left
        feed(streamed, running, events)
        assert await running.output(1, hidden=False) == Output(events)
        streamed.go_on.set()


@pytest.mark.parametrize("why", ["too many wait", "closed", "it fails"])
async def test_what_cannot_be_counted_is_guessed(
    counting: Counting, monkeypatch: pytest.MonkeyPatch, why: str, caplog: pytest.LogCaptureFixture
) -> None:
    streamed = Streaming()
    running = Running(streamed, counting)
    feed(streamed, running, 100)
    if why == "too many wait":
        monkeypatch.setattr(counting, "_unfinished", THREADS + WAITING)
    elif why == "closed":
        counting.close()
    else:

        def fail(text: str, encoding: str) -> int:
            raise MemoryError("some text")

        monkeypatch.setattr(tokens, "count", fail)
    assert await running.output(1, hidden=False) == Output(100)
    assert "some text" not in caplog.text


async def test_a_usage_on_the_way_begins_anew(counting: Counting) -> None:
    streamed = Streaming()
    running = Running(streamed, counting)
    feed(streamed, running, 1000)
    running.forget()
    feed(streamed, running, 3)
    assert (await running.output(1, hidden=False)).tokens == 3


async def test_its_turn_comes(counting: Counting) -> None:
    go_on = threading.Event()

    def work(number: int) -> Callable[[], int]:
        def wait() -> int:
            assert go_on.wait(10)
            return number

        return wait

    waiting = [counting.begin(work(number)) for number in range(THREADS + WAITING)]
    assert counting.begin(work(0)) is None
    go_on.set()
    done = await asyncio.gather(*(future for future in waiting if future is not None))
    assert done == list(range(THREADS + WAITING))
    begun = counting.begin(work(7))
    assert begun is not None
    assert await begun == 7
