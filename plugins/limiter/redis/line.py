"""The line to Redis: one call at a time, and whatever came meanwhile goes with the next one."""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Final, NamedTuple

from ..meter import Taken
from ..store import Hold
from .breaker import Breaker
from .call import LOST, Asked, Call, gives_of, refused_by
from .connection import Connection, has_moved, is_ours
from .known import Known, Spent
from .settlements import Settlements

TIMEOUT: Final = 0.05
"""Seconds that a call may take, and so the longest that a request waits for one that is not answered."""
PROBE_TIMEOUT: Final = 1.0
"""The same for a call that no request waits for: there is time to connect, log in and find the master."""
SOON: Final = 0.002
"""Seconds that a settlement waits for a decision to go with."""
AGAIN: Final = 0.1
"""Seconds until a call that failed is cleared up, where no request comes first."""
REMEMBERED: Final = 12 * 3600.0
"""Seconds after which Redis may have forgotten a call without having lost it: half of the script's."""
DECISIONS: Final = 128
"""Requests decided in one call; Redis is busy with that for about a millisecond."""
GIVES: Final = 512


class Waiting(NamedTuple):
    """A request that waits for its answer: whether there was one."""

    hold: Hold
    asked: Asked
    answered: asyncio.Future[bool]


class Line:
    """Decides many requests in one call, and settles others with it.

    Only one call is under way, so a process has at most one of which nobody knows whether it was done. That
    one is cleared up before the next: it is sent again without its asks, under its old number, and what it
    had admitted after all is given back.

    Every call says which was answered last. A Redis that does not know of that one has lost its data, and is
    told what was spent of every budget before it decides anything.
    """

    def __init__(
        self,
        connection: Connection,
        settlements: Settlements,
        breaker: Breaker,
        known: Known,
        changed: Callable[[bool], None],
        lost: Callable[[int], None],
        *,
        prefix: str,
        process: str,
        lease: int,
        timeout: float = TIMEOUT,
    ) -> None:
        """`changed` is called after each call that was answered, and when the breaker has opened; it is told
        whether the breaker has changed. `lost` is called when Redis had lost its data and was told what there
        is in `known`, with how many budgets that were. `lease` is in µs, `timeout` in seconds."""
        self._connection = connection
        self._settlements = settlements
        self._breaker = breaker
        self._known = known
        self._changed = changed
        self._lost = lost
        self._prefix = prefix
        self._process = process
        self._lease = lease
        self._timeout = timeout
        self._number = 0
        self._answered = 0
        self._answered_at = 0.0
        self._calling = asyncio.Lock()
        self._waiting: deque[Waiting] = deque()
        self._unsure: Call | None = None
        self._work: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self.calls = self.decisions = 0
        """Calls that were answered, and decisions made by them."""

    async def ask(self, hold: Hold, decide: bool) -> bool:
        """Write what the limits say into a hold. False if Redis did not say it."""
        if self._breaker.open:
            return False
        answered: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._waiting.append(Waiting(hold, Asked(hold.id, hold.asks, decide), answered))
        self._begin()
        return await answered

    def nudge(self, after: float = SOON) -> None:
        """There is something to settle."""
        if self._work is None and self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(after, self._begin)

    async def probe(self) -> bool:
        """Whether Redis answers; meant for when requests no longer ask it."""
        return await self._call(PROBE_TIMEOUT, probing=True)

    @property
    def owed(self) -> int:
        """Settlements that Redis has not been told, or may not have heard."""
        if self._unsure is None:
            return self._settlements.waiting
        gives = sum(give.limit.kind != "in_flight" for give in self._unsure.gives)
        # What was admitted unheard has to be undone, or its lease outlives it.
        return self._settlements.waiting + gives + sum(asked.decide for asked in self._unsure.asked)

    async def flush(self) -> None:
        """Tell what has still to be told, as far as Redis listens."""
        while True:
            if self._work is not None:
                await self._work
            if self._breaker.open or not (self._settlements or self._unsure):
                return
            if not await self._call(PROBE_TIMEOUT):
                return

    def close(self) -> None:
        """Call no more. Nobody waits."""
        if self._timer is not None:
            self._timer.cancel()
        if self._work is not None:
            self._work.cancel()

    def _begin(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._work is None and not self._breaker.open:
            self._work = asyncio.create_task(self._calls())

    async def _calls(self) -> None:
        going = True
        try:
            while going and not self._breaker.open and (self._waiting or self._settlements or self._unsure):
                going = await self._call(self._timeout)
        finally:
            self._work = None
        if not going and not self._breaker.open:
            self.nudge(AGAIN)

    async def _call(self, timeout: float, probing: bool = False) -> bool:
        """One call, and before it the one that has to be cleared up. Whether they were answered."""
        call: Call | None = None
        waiting: list[Waiting] = []
        try:
            async with self._calling, asyncio.timeout(timeout):
                if self._unsure is not None:
                    await self._clear_up(self._unsure)
                waiting = [self._waiting.popleft() for _ in range(min(len(self._waiting), DECISIONS))]
                call = self._next(waiting, probing)
                said = call.read(await self._send(call))
                self._known.note(call, said)
        except BaseException as error:
            # Whatever it is, nobody must wait for ever, and who came meanwhile need not wait as long again.
            self._give_up(waiting)
            self._give_up(self._waiting)
            self._waiting.clear()
            if not isinstance(error, Exception):
                raise
            self._failed(call, error)
            return False
        self.calls += 1
        for each, taken in zip(waiting, said, strict=True):
            self._answer(each, taken)
        self._changed(self._breaker.answered())
        return True

    def _next(self, waiting: Sequence[Waiting], probing: bool) -> Call:
        gives = self._settlements.take(GIVES)
        writes = probing or gives or any(each.asked.decide for each in waiting)
        if writes:
            self._number += 1
        return Call(self._number if writes else 0, gives, [each.asked for each in waiting])

    async def _send(self, call: Call) -> bytes:
        loop = asyncio.get_running_loop()
        if loop.time() - self._answered_at > REMEMBERED:
            self._answered = 0
        while (outcome := await self._run(call, self._answered)) == LOST:
            await self._restore(call.number - 1 if call.number else self._number)
        if call.number:
            self._answered, self._answered_at = call.number, loop.time()
        return outcome

    async def _run(self, call: Call, answered: int, spent: Sequence[Spent] = ()) -> bytes:
        keys, argument = call.written(self._prefix, self._process, self._lease, answered, spent)
        return await self._connection.run(keys, argument)

    async def _restore(self, last: int) -> None:
        """Redis has lost its data: put back what is known, and which call was the last one.

        To do it twice, or twice in part, does no harm.
        """
        restored = 0
        for spent in self._known.batches():
            await self._run(Call(0, (), ()), 0, spent)
            restored += len(spent)
        if last:
            await self._run(Call(last, (), ()), 0)
        self._answered = last
        self._settlements.beat()
        self._lost(restored)

    async def _clear_up(self, unsure: Call) -> None:
        """Do what a call that was not answered was to give, if it was not done, and undo what it admitted."""
        again = Call(unsure.number, self._settlements.still_due(unsure.gives), ())
        try:
            outcome = await self._send(again)
        except Exception as error:
            if is_ours(error):
                self._lose(unsure)
            raise
        self._unsure = None
        if not outcome:
            self._known.note(again, ())
            return  # it had not been done; its asks never will be
        said = unsure.read(outcome)
        self._known.note(unsure, said)
        for (id_, asks, decide), taken in zip(unsure.asked, said, strict=True):
            if decide and refused_by(asks, taken) is None:
                # One that was admitted here meanwhile keeps its lease: it runs.
                self._settlements.put(self._settlements.ended(gives_of(id_, asks, taken, None)))

    def _answer(self, waiting: Waiting, taken: list[Taken]) -> None:
        hold, (id_, asks, decide), answered = waiting
        place = refused_by(asks, taken)
        self.decisions += decide
        if answered.done():  # cut off while it waited
            if decide and place is None:
                self._settlements.put(gives_of(id_, asks, taken, None))
            return
        hold.taken = taken
        hold.refused_by = place
        if decide and place is None:
            hold.held = True
            self._settlements.run(id_, asks)
        answered.set_result(True)

    def _failed(self, call: Call | None, error: Exception) -> None:
        if call is not None:
            if is_ours(error):
                self._lose(call)
            elif call.number:
                self._unsure = call
        if not is_ours(error) and (self._breaker.open or has_moved(error)):
            self._connection.forget()
        if self._breaker.failed(error):
            self._connection.forget()
            self._changed(True)

    def _lose(self, call: Call) -> None:
        self._unsure = None
        self._settlements.lost += len(call.gives)

    @staticmethod
    def _give_up(waiting: Iterable[Waiting]) -> None:
        for each in waiting:
            if not each.answered.done():
                each.answered.set_result(False)
