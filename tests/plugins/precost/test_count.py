import asyncio
import threading
from collections.abc import Iterator

import pytest

from plugins.precost.count import THREADS, WAITING, Count, Counting


@pytest.fixture
def counting() -> Iterator[Counting]:
    made = Counting()
    yield made
    made.close()


class Work:
    """Counts to 42 in a thread, once it is let go on."""

    def __init__(self) -> None:
        self.go_on = threading.Event()
        self.threads: list[threading.Thread] = []

    def __call__(self) -> int:
        self.threads.append(threading.current_thread())
        assert self.go_on.wait(10)
        return 42


async def test_it_counts_in_a_thread_and_once_for_all(counting: Counting) -> None:
    work = Work()
    count = Count(work, 99, counting)
    asking = [asyncio.create_task(count()) for _ in range(3)]
    await asyncio.sleep(0)
    work.go_on.set()
    assert await asyncio.gather(*asking) == [42, 42, 42]
    assert await count() == 42
    assert len(work.threads) == 1
    assert work.threads[0] is not threading.current_thread()


async def test_nothing_is_counted_until_somebody_asks(counting: Counting) -> None:
    work = Work()
    Count(work, 99, counting)
    await asyncio.sleep(0)
    assert work.threads == []


async def test_who_stops_waiting_does_not_stop_the_others(counting: Counting) -> None:
    work = Work()
    count = Count(work, 99, counting)
    gone, staying = asyncio.create_task(count()), asyncio.create_task(count())
    await asyncio.sleep(0)
    gone.cancel()
    with pytest.raises(asyncio.CancelledError):
        await gone
    work.go_on.set()
    assert await staying == 42
    assert len(work.threads) == 1


async def test_where_too_many_wait_the_bound_is_told_at_once(counting: Counting) -> None:
    work = Work()
    waiting = [asyncio.create_task(Count(work, 99, counting)()) for _ in range(THREADS + WAITING)]
    await asyncio.sleep(0)
    late = Count(work, 99, counting)
    assert await late() == 99
    assert not late.counted
    work.go_on.set()
    assert set(await asyncio.gather(*waiting)) == {42}
    assert await late() == 42  # now there is room
    assert late.counted
