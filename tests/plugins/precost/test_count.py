import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from plugins.precost.count import Count


class Work:
    """Counts to 42 in a thread, once it is let go on."""

    def __init__(self) -> None:
        self.go_on = threading.Event()
        self.threads: list[threading.Thread] = []

    def __call__(self) -> int:
        self.threads.append(threading.current_thread())
        assert self.go_on.wait(10)
        return 42


async def test_it_counts_in_a_thread_and_once_for_all() -> None:
    work = Work()
    with ThreadPoolExecutor(2) as threads:
        count = Count(work, threads)
        asking = [asyncio.create_task(count()) for _ in range(3)]
        await asyncio.sleep(0)
        work.go_on.set()
        assert await asyncio.gather(*asking) == [42, 42, 42]
        assert await count() == 42
    assert len(work.threads) == 1
    assert work.threads[0] is not threading.current_thread()


async def test_nothing_is_counted_until_somebody_asks() -> None:
    work = Work()
    with ThreadPoolExecutor(1) as threads:
        Count(work, threads)
        await asyncio.sleep(0)
    assert work.threads == []


async def test_who_stops_waiting_does_not_stop_the_others() -> None:
    work = Work()
    with ThreadPoolExecutor(1) as threads:
        count = Count(work, threads)
        gone, staying = asyncio.create_task(count()), asyncio.create_task(count())
        await asyncio.sleep(0)
        gone.cancel()
        with pytest.raises(asyncio.CancelledError):
            await gone
        work.go_on.set()
        assert await staying == 42
    assert len(work.threads) == 1
