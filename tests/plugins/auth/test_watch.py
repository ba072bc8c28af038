import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest

from plugins.auth.watch import Watch

Answers = list[Any]


class Looks:
    """What each look finds, one after the other; the last for ever. An exception is raised."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.count = 0

    def __call__(self) -> Any:
        self.count += 1
        found = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(found, Exception):
            raise found
        return found


async def until(true: Callable[[], Any]) -> None:
    async with asyncio.timeout(5):
        while not true():
            await asyncio.sleep(0.002)


async def test_what_is_found_is_told_when_it_is_new() -> None:
    told: list[Any] = []
    watch = Watch("here", Looks("one", None, "two", None), told.append, period=0.001)
    assert watch.ready() == "here cannot be read"
    await watch.start()
    assert told[0] == "one"
    assert watch.trusted
    assert watch.ready() is None
    await until(lambda: told == ["one", "two"])
    watch.stop()


async def test_after_a_stop_nothing_is_told_and_nothing_looked_at() -> None:
    told: list[Any] = []
    looks = Looks("one")
    watch = Watch("here", looks, told.append, period=0.001)
    await watch.start()
    watch.stop()
    before, count = len(told), looks.count
    await asyncio.sleep(0.05)
    assert len(told) == before
    assert looks.count <= count + 1  # one may have been on its way


async def test_a_failure_keeps_what_is_known_and_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "weir.auth")
    told: list[Any] = []
    looks = Looks("one", OSError(2, "No such file"), OSError(2, "No such file"), "two", None)
    watch = Watch("here", looks, told.append, period=0.001)
    await watch.start()
    await until(lambda: told == ["one", "two"])
    watch.stop()
    assert [record.message for record in caplog.records] == [
        "keys cannot be read; what is known goes on",
        "keys can be read again",
    ]
    fields = caplog.records[0].__dict__["fields"]
    assert fields == {"source": "here", "raised": "FileNotFoundError", "problem": "No such file"}


async def test_a_first_failure_is_waited_for_unless_somebody_has_to_put_it_right(
    caplog: pytest.LogCaptureFixture,
) -> None:
    told: list[Any] = []
    watch = Watch("here", Looks(OSError(1, "x"), "one", None), told.append, period=9, retry=0.001)
    await watch.start()
    assert not watch.trusted or told == ["one"]
    await until(lambda: told == ["one"])
    watch.stop()
    wrong = Watch("here", Looks(ValueError("set it right")), told.append, period=0.001)
    with pytest.raises(ValueError, match="set it right"):
        await wrong.start()
    assert len(caplog.records) == 1  # what is raised is told where it is caught


async def test_what_is_too_old_is_not_trusted_until_it_is_seen_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    told: list[Any] = []
    looks = Looks("one", OSError(1, "x"))
    watch = Watch("here", looks, told.append, period=0.001, stale=0.05)
    await watch.start()
    await until(lambda: told == ["one", None])
    assert not watch.trusted
    assert watch.ready() == "here cannot be read"
    assert "keys are not trusted any more" in caplog.text
    looks.answers = [None]  # it has not changed, and can be read
    await until(lambda: told[:3] == ["one", None, "one"])
    looks.answers = [OSError(1, "x")]
    await until(lambda: told[-1] is None)  # and again
    watch.stop()


async def test_looks_that_succeed_keep_it_trusted() -> None:
    told: list[Any] = []
    watch = Watch("here", Looks("one", None), told.append, period=0.005, stale=1.0)
    await watch.start()
    await asyncio.sleep(2.0)
    assert told == ["one"]
    assert watch.trusted
    watch.stop()


async def test_a_look_that_hangs_holds_up_nothing_and_is_not_trusted_for_ever() -> None:
    told: list[Any] = []
    gate = threading.Event()
    answers = iter(["one"])

    def look() -> Any:
        found = next(answers, None)
        if found is None:
            gate.wait(10)
        return found

    watch = Watch("here", look, told.append, period=0.001, stale=0.05)
    await watch.start()
    await until(lambda: told == ["one", None])
    watch.stop()
    gate.set()


async def test_somebody_may_ask_to_look_at_once() -> None:
    told: list[Any] = []
    looks = Looks("one", "two", None)
    watch = Watch("here", looks, told.append, period=60)
    await watch.start()
    await asyncio.gather(*(watch.again(5) for _ in range(10)))
    assert told == ["one", "two"]
    assert looks.count == 2
    watch.stop()


async def test_who_asks_does_not_wait_for_ever() -> None:
    gate = threading.Event()
    first = iter([True])

    def look() -> str:
        if next(first, None) is None:
            gate.wait(10)
        return "one"

    watch = Watch("here", look, lambda _: None, period=60)
    await watch.start()
    async with asyncio.timeout(5):
        await watch.again(0.05)
    watch.stop()
    gate.set()


async def test_it_can_be_started_again() -> None:
    told: list[Any] = []
    watch = Watch("here", Looks("one", None), told.append, period=0.001, stale=0.05)
    for _ in range(3):
        told.clear()
        async with asyncio.timeout(5):
            await watch.start()
        assert told[0] == "one"
        watch.stop()
    assert not watch.trusted


async def test_a_successor_knows_what_was_known() -> None:
    told: list[Any] = []
    before = Watch("here", Looks("one", None), told.append, period=0.01)
    await before.start()
    assert told == ["one"]
    after = Watch("here", Looks(OSError(1, "x")), told.append, period=0.01, stale=60)
    after.adopt(before)
    assert told == ["one", "one"]
    assert after.trusted
    await after.start()
    assert after.trusted
    before.stop()
    after.stop()


async def test_it_takes_over_nothing_that_is_not_trusted() -> None:
    told: list[Any] = []
    after = Watch("here", Looks("one"), told.append, period=0.01)
    after.adopt(Watch("here", Looks("one"), told.append, period=0.01))
    assert told == []
    assert not after.trusted


def test_a_loop_that_is_gone_ends_the_thread() -> None:
    watch: Watch[str] = Watch("gone", Looks("one"), lambda _: None, period=0.001)
    asyncio.run(watch.start())
    for thread in threading.enumerate():
        if thread.name == "weir-auth-gone":
            thread.join(5)
            assert not thread.is_alive()
