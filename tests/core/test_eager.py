"""Tasks that begin at once."""

import asyncio
import contextvars
import sys

import pytest

from proxy.core.eager import begin

SEEN = contextvars.ContextVar("SEEN", default=0)


async def test_a_task_is_its_own_current_task() -> None:
    seen: list[asyncio.Task[None] | None] = []

    async def work() -> None:
        seen.append(asyncio.current_task())
        await asyncio.sleep(0)
        seen.append(asyncio.current_task())

    task = begin(asyncio.get_running_loop(), work())
    await task
    assert seen == [task, task]
    assert asyncio.current_task() is not task


async def test_what_waits_for_nothing_is_done_at_once_where_python_can() -> None:
    async def work() -> None:
        pass

    task = begin(asyncio.get_running_loop(), work())
    assert task.done() == (sys.version_info >= (3, 12))
    await task


async def test_a_timeout_within_it_ends_it_and_nobody_else() -> None:
    async def work() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await asyncio.sleep(10)

    await begin(asyncio.get_running_loop(), work())


async def test_it_runs_in_the_context_that_it_is_given() -> None:
    context = contextvars.copy_context()

    async def work() -> None:
        SEEN.set(1)
        await asyncio.sleep(0)
        SEEN.set(SEEN.get() + 1)

    await begin(asyncio.get_running_loop(), work(), context)
    assert (context[SEEN], SEEN.get()) == (2, 0)


async def test_a_failure_is_the_tasks_own() -> None:
    async def work() -> None:
        raise ValueError

    with pytest.raises(ValueError):
        await begin(asyncio.get_running_loop(), work())
