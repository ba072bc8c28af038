"""A running exchange seen from outside: its task, its deadline, and why it was cut short."""

import asyncio
from collections.abc import Awaitable
from typing import TYPE_CHECKING, Final

from proxy.api.asked import Asked
from proxy.api.errors import ClientGone, WeirError
from proxy.api.exchange import Exchange
from proxy.core.deadlines import NEVER
from proxy.core.upstream import Late, errors

if TYPE_CHECKING:
    from proxy.core.asking import Asker, Question

_NONE: Final[frozenset[bytes]] = frozenset()
END_LIMIT = 5.0
"""Seconds that one plugin's `on_end` may take."""


class Flight:
    """Carries one exchange through one task. Everything that cuts it short goes through `interrupt`.

    Interrupting cancels the task, wherever it waits; once `ending` nothing does, so that `on_end` runs
    whole. A cause that comes from the task itself (a hook that calls `abort`) is found at the next look at
    `cause`.
    """

    __slots__ = (
        "_asker",
        "_end_task",
        "_loop",
        "_task",
        "_total_at",
        "_total_late",
        "cause",
        "deadline",
        "ending",
        "late",
        "named",
        "overdue",
        "questions",
    )

    def __init__(
        self, total: float, task: "asyncio.Task[None] | None" = None, asker: "Asker | None" = None
    ) -> None:
        loop = asyncio.get_running_loop()
        self._loop = loop
        self._task = task or asyncio.current_task(loop)
        self._total_at = loop.time() + total
        self._total_late: Late = errors.max_duration
        self._end_task: asyncio.Task[None] | None = None
        self.cause: WeirError | None = None
        self.deadline = self._total_at
        self.late: Late = errors.max_duration
        self.ending = False
        self.overdue = False
        self._asker = asker
        self.named = _NONE
        """The client's fields that go no further, not with a plugin's question either."""
        self.questions: tuple[Question, ...] = ()
        """What plugins have asked the upstream, answered or not."""

    @property
    def task(self) -> "asyncio.Task[None] | None":
        """The task that carries it."""
        return self._task

    def arm(self, seconds: float, late: Late) -> None:
        """See `Clock.arm`; the total is never extended."""
        deadline = self._loop.time() + seconds
        if deadline < self._total_at:
            self.deadline = deadline
            self.late = late
        else:
            self.deadline = self._total_at
            self.late = self._total_late

    def rest(self) -> None:
        """Nothing is awaited from the upstream now: only the total counts."""
        self.deadline = self._total_at
        self.late = self._total_late

    def shorten(self, seconds: float, late: Late) -> None:
        """All of it is to end within so many seconds from now, unless it would have ended before."""
        total_at = self._loop.time() + seconds
        if total_at < self._total_at:
            self._total_at = total_at
            self._total_late = late
        if self._total_at <= self.deadline:
            self.rest()

    def interrupt(self, cause: WeirError) -> None:
        """End this exchange for this cause. The first cause counts."""
        if self.cause is not None or self.ending:
            return
        self.cause = cause
        task = self._task
        if task is not None and asyncio.current_task(self._loop) is not task:
            task.cancel()

    def ask(self, ex: Exchange, endpoint: str, body: bytes, timeout: float) -> Awaitable[Asked]:
        """See `Exchange.ask`."""
        if self._asker is None:
            raise RuntimeError("there is nobody to ask")
        return self._asker.ask(self, ex, endpoint, body, timeout)

    def leave(self, code: str) -> None:
        """The client has gone."""
        self.interrupt(ClientGone(code))

    def expire(self, now: float) -> None:
        """The deadline has passed."""
        if not self.ending:
            self.interrupt(self.late())
        elif self._end_task is not None:  # again at each tick, should a plugin swallow it
            self.overdue = True
            self._end_task.cancel()

    def check(self) -> None:
        """Raise what this exchange was interrupted for, if it was."""
        if self.cause is not None:
            raise self.cause

    def cancelled(self) -> bool:
        """A cancellation has been caught: whether it was ours. If so, it is taken back."""
        if self.cause is None:
            return False
        if self._task is not None:
            self._task.uncancel()
        return True

    def begin_telling(self) -> None:
        """The cause is known and is being told: what is still to run before the end gets `END_LIMIT`."""
        self.cause = None
        self._total_at = self.deadline = self._loop.time() + END_LIMIT

    def begin_ending(self) -> None:
        """From here on nothing interrupts."""
        self.ending = True
        self.deadline = NEVER
        for question in self.questions:
            question.cut()

    def arm_end(self, task: "asyncio.Task[None] | None") -> None:
        """This task, which runs one plugin's `on_end`, has `END_LIMIT` from now on."""
        self._end_task = task
        self.overdue = False
        self.deadline = self._loop.time() + END_LIMIT
