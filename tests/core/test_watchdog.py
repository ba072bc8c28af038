"""A loop that hangs is told of, with the place; one that is only slow or stopped is not."""

import asyncio
import logging
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from proxy.core import watchdog as module
from proxy.core.watchdog import LOOKS, Watchdog

STALL = 0.25


class Looking(threading.Event):
    """Whoever waits for it has looked."""

    looks = 0
    awake: threading.Event | None = None

    def wait(self, timeout: float | None = None) -> bool:
        self.looks += 1
        if self.awake is not None:
            self.awake.wait(20)
        return super().wait(timeout)


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Iterator[list[tuple[str, dict[str, Any]]]]:
    found: list[tuple[str, dict[str, Any]]] = []

    class Into(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            found.append((record.getMessage(), getattr(record, "fields", {})))

    handler = Into()
    log = logging.getLogger("weir")
    log.addHandler(handler)
    yield found
    log.removeHandler(handler)


def hangs_here(until: Any) -> None:
    deadline = time.monotonic() + 20
    while not until() and time.monotonic() < deadline:
        time.sleep(0.01)


async def test_a_stall_is_told_once_with_the_place_and_so_is_its_end(
    lines: list[tuple[str, dict[str, Any]]],
) -> None:
    watchdog = Watchdog(lambda: STALL)
    watchdog.start()
    await asyncio.sleep(0.05)
    hangs_here(lambda: lines)
    began = time.monotonic()
    hangs_here(lambda: time.monotonic() > began + 2 * STALL)
    async with asyncio.timeout(20):
        while len(lines) < 2:
            await asyncio.sleep(0.01)
    watchdog.stop()
    (event, fields), (then, _) = lines
    assert (event, then) == ("the event loop is stalled", "the event loop goes on")
    assert fields["seconds"] >= round(STALL * (LOOKS - 1) / LOOKS, 1)
    assert any(place.startswith("test_watchdog.py:") and "hangs_here" in place for place in fields["at"])
    assert len(fields["at"]) <= module.PLACES


async def test_a_loop_that_goes_on_is_not_told_of(lines: list[tuple[str, dict[str, Any]]]) -> None:
    watchdog = Watchdog(lambda: 1.0)
    looking = watchdog._stop = Looking()
    watchdog.start()
    async with asyncio.timeout(20):
        while looking.looks < 2 * LOOKS:
            time.sleep(0.1)  # busy, and not stuck  # noqa: ASYNC251
            await asyncio.sleep(0)
    watchdog.stop()
    assert lines == []


async def test_time_in_which_the_thread_did_not_look_does_not_count(
    lines: list[tuple[str, dict[str, Any]]],
) -> None:
    """As if the process had been stopped, and both go on at once."""
    watchdog = Watchdog(lambda: STALL)
    looking = watchdog._stop = Looking()
    watchdog.start()
    await asyncio.sleep(0.05)
    looking.awake = threading.Event()
    began = time.monotonic()
    hangs_here(lambda: time.monotonic() > began + 3 * STALL)
    looking.awake.set()
    await asyncio.sleep(2 * STALL)
    watchdog.stop()
    assert lines == []


async def test_it_can_be_off_and_on_again(lines: list[tuple[str, dict[str, Any]]]) -> None:
    after: list[float | None] = [None]
    watchdog = Watchdog(lambda: after[0])
    watchdog.start()
    began = time.monotonic()
    hangs_here(lambda: time.monotonic() > began + 2 * STALL)
    assert lines == []
    after[0] = STALL
    hangs_here(lambda: lines)
    watchdog.stop()
    assert lines[0][0] == "the event loop is stalled"


async def test_a_stop_ends_its_thread_and_may_be_repeated() -> None:
    watchdog = Watchdog(lambda: STALL)
    watchdog.start()
    names = [thread.name for thread in threading.enumerate()]
    assert "watchdog" in names
    watchdog.stop()
    watchdog.stop()
    assert "watchdog" not in [thread.name for thread in threading.enumerate()]
