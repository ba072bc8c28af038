import asyncio
from collections.abc import Awaitable, Callable

import pytest

from proxy.api.errors import ClientError, ClientGone, UpstreamError, WeirError
from proxy.core.deadlines import NEVER
from proxy.core.flight import END_LIMIT, Flight
from proxy.core.upstream import errors

CAUSE = ClientError(402, "first", "m")
OTHER = ClientError(402, "second", "m")


def now() -> float:
    return asyncio.get_running_loop().time()


async def in_a_task(
    body: Callable[[Flight], Awaitable[None]], total: float = 3600
) -> tuple[Flight, "asyncio.Task[None]"]:
    """A flight in a task of its own, begun."""
    made: asyncio.Future[Flight] = asyncio.get_running_loop().create_future()

    async def run() -> None:
        flight = Flight(total)
        made.set_result(flight)
        await body(flight)

    task = asyncio.get_running_loop().create_task(run())
    return await asyncio.wait_for(made, 2), task


async def forever(flight: Flight) -> None:
    await asyncio.Event().wait()


async def test_the_total_is_its_first_deadline() -> None:
    flight = Flight(10)
    assert flight.deadline == pytest.approx(now() + 10, abs=1)
    assert flight.late().code == "max_duration"
    assert (flight.cause, flight.ending, flight.overdue) == (None, False, False)


async def test_arming_moves_the_deadline_both_ways_but_never_beyond_the_total() -> None:
    flight = Flight(10)
    flight.arm(2, errors.idle_timeout)
    assert flight.deadline == pytest.approx(now() + 2, abs=1)
    assert flight.late().code == "upstream_idle_timeout"
    flight.arm(5, errors.header_timeout)
    assert flight.deadline == pytest.approx(now() + 5, abs=1)
    assert flight.late().code == "upstream_header_timeout"
    flight.arm(100, errors.idle_timeout)
    assert flight.deadline == pytest.approx(now() + 10, abs=1)
    assert flight.late().code == "max_duration"


async def test_at_rest_only_the_total_counts() -> None:
    flight = Flight(10)
    flight.arm(2, errors.idle_timeout)
    flight.rest()
    assert flight.deadline == pytest.approx(now() + 10, abs=1)
    assert flight.late().code == "max_duration"


async def test_the_total_may_become_shorter_but_never_longer() -> None:
    flight = Flight(10)
    flight.arm(2, errors.idle_timeout)
    flight.shorten(5, ClientGone)
    assert flight.late().code == "upstream_idle_timeout"
    flight.arm(100, errors.idle_timeout)
    assert flight.deadline == pytest.approx(now() + 5, abs=1)
    assert isinstance(flight.late(), ClientGone)
    flight.arm(4, errors.idle_timeout)
    flight.shorten(1, ClientGone)
    assert flight.deadline == pytest.approx(now() + 1, abs=0.5)
    flight.shorten(50, lambda: CAUSE)
    flight.rest()
    assert flight.deadline == pytest.approx(now() + 1, abs=0.5)
    assert isinstance(flight.late(), ClientGone)


async def test_an_interruption_from_outside_cancels_the_task_wherever_it_waits() -> None:
    flight, task = await in_a_task(forever)
    flight.interrupt(CAUSE)
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(task, 2)
    assert flight.cause is CAUSE


async def test_the_first_cause_counts() -> None:
    flight, task = await in_a_task(forever)
    flight.interrupt(CAUSE)
    flight.interrupt(OTHER)
    assert flight.cause is CAUSE
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(task, 2)
    assert task.cancelling() == 1


async def test_an_interruption_from_the_task_itself_is_found_at_the_next_look() -> None:
    flight = Flight(10)
    flight.check()
    flight.interrupt(CAUSE)
    await asyncio.sleep(0)  # not cancelled
    with pytest.raises(ClientError) as caught:
        flight.check()
    assert caught.value is CAUSE


async def test_a_cancellation_of_ours_is_taken_back() -> None:
    async def catches(flight: Flight) -> None:
        try:
            await forever(flight)
        except asyncio.CancelledError:
            assert flight.cancelled()
        await asyncio.sleep(0)  # works again

    flight, task = await in_a_task(catches)
    flight.interrupt(CAUSE)
    await asyncio.wait_for(task, 2)
    assert task.cancelling() == 0


async def test_a_strangers_cancellation_is_not() -> None:
    found: list[bool] = []

    async def catches(flight: Flight) -> None:
        try:
            await forever(flight)
        except asyncio.CancelledError:
            found.append(flight.cancelled())
            raise

    _, task = await in_a_task(catches)
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(task, 2)
    assert found == [False]


async def test_a_deadline_that_has_passed_interrupts_with_what_it_stands_for() -> None:
    flight, task = await in_a_task(forever)
    flight.arm(0, errors.idle_timeout)
    flight.expire(now())
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(task, 2)
    assert isinstance(flight.cause, UpstreamError)
    assert flight.cause.code == "upstream_idle_timeout"


async def test_while_ending_nothing_interrupts() -> None:
    async def ends(flight: Flight) -> None:
        flight.begin_ending()
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    flight, task = await in_a_task(ends)
    assert flight.ending
    assert flight.deadline == NEVER
    flight.interrupt(ClientGone())
    flight.expire(now())
    await asyncio.wait_for(task, 2)
    assert flight.cause is None


async def test_the_last_hooks_have_a_limit_of_their_own_each() -> None:
    async def ends(flight: Flight) -> None:
        flight.begin_ending()
        flight.arm_end(asyncio.current_task())
        await forever(flight)

    flight, task = await in_a_task(ends)
    assert flight.deadline == pytest.approx(now() + END_LIMIT, abs=1)
    assert not flight.overdue
    flight.expire(now())
    assert flight.overdue
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(task, 2)


async def test_a_last_hook_that_swallows_its_cancellation_is_cancelled_again() -> None:
    swallowed: list[int] = []
    waiting = asyncio.Event()

    async def ends(flight: Flight) -> None:
        flight.begin_ending()
        flight.arm_end(asyncio.current_task())
        for n in range(2):
            waiting.set()
            try:
                await forever(flight)
            except asyncio.CancelledError:
                swallowed.append(n)

    flight, task = await in_a_task(ends)
    for _ in range(2):
        await asyncio.wait_for(waiting.wait(), 2)
        waiting.clear()
        flight.expire(now())
        await asyncio.sleep(0)
    await asyncio.wait_for(task, 2)
    assert swallowed == [0, 1]


async def test_telling_the_cause_has_a_limit_and_can_be_interrupted_anew() -> None:
    flight, task = await in_a_task(forever)
    flight.cause = CAUSE
    flight.begin_telling()
    told: WeirError | None = flight.cause
    assert told is None
    assert flight.deadline == pytest.approx(now() + END_LIMIT, abs=1)
    flight.arm(3600, errors.idle_timeout)
    assert flight.deadline == pytest.approx(now() + END_LIMIT, abs=1)
    flight.interrupt(OTHER)
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(task, 2)


async def test_the_task_that_carries_it_is_known() -> None:
    flight, task = await in_a_task(forever)
    assert flight.task is task
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_client_that_leaves_ends_it() -> None:
    flight, task = await in_a_task(forever)
    flight.leave("client_closed")
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(task, 2)
    assert isinstance(flight.cause, ClientGone)
    assert flight.cause.code == "client_closed"
