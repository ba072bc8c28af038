"""The plugins of a configuration, compiled: one table per hook, of those that override it.

`on_request` runs in order, everything else in reverse. A plugin whose turn in `on_request` has come (whether
or not it finished) is entered, and what is entered is ended.
"""

import asyncio
import contextvars
import inspect
import types
from collections.abc import Awaitable, Coroutine, Generator, Iterable, Iterator, Sequence
from time import monotonic_ns
from typing import Any, TypeVar

from proxy.api.errors import PluginError, WeirError
from proxy.api.event import END_OF_EVENTS, Event
from proxy.api.exchange import End, Exchange
from proxy.api.plugin import Plugin
from proxy.api.response import Reply
from proxy.api.slots import Slot
from proxy.core.eager import begin
from proxy.core.flight import Flight
from proxy.core.log import log, raised

T = TypeVar("T")


class ChainError(Exception):
    """Plugins that do not go together. `problems` has a line for each reason, which says what to do."""

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = list(problems)
        super().__init__("\n".join(self.problems))


class Chain:
    """Plugins in order, checked once, run for every exchange."""

    def __init__(self, plugins: Sequence[Plugin]) -> None:
        self.plugins = tuple(plugins)
        self.depth = len(self.plugins)
        if problems := list(_problems(self.plugins)):
            raise ChainError(problems)
        overriding = [(depth, plugin) for depth, plugin in enumerate(self.plugins, 1)]
        back = overriding[::-1]
        self._request = [(d, p, p.on_request) for d, p in overriding if _overrides(p, "on_request")]
        self._response = [(d, p, p.on_response) for d, p in back if _overrides(p, "on_response")]
        self._event = [(d, p, p.on_event) for d, p in back if _overrides(p, "on_event")]
        self._end = [(d, p, p.on_end) for d, p in back if _overrides(p, "on_end")]
        self.responds = bool(self._response)
        """Whether any plugin looks at an answer's head."""
        self.ends = bool(self._end)
        """Whether any plugin wants to know how an exchange ended."""
        self.apart = any(inspect.iscoroutinefunction(inspect.unwrap(hook)) for _, _, hook in self._end)
        """Whether hooks need a context of their own, since an `on_end` always gets a task of its own."""

    def __len__(self) -> int:
        return len(self.plugins)

    def upto(self, slot: Any) -> int:
        """How many plugins it takes until one has provided this slot; all of them if none does."""
        for depth, plugin in enumerate(self.plugins, 1):
            if slot in plugin.provides:
                return depth
        return len(self.plugins)


class Run:
    """One exchange's way through a chain.

    Hooks run in the task of the request but in a context of their own, which `end` can take along to the
    tasks that shield it: a context variable set in one hook is seen by all that follow, and can be reset.

    `on_request`, `on_response` and `on_end` may be plain functions too, which return what is left to be
    awaited, or what there is to return, which nearly always is None. A coroutine costs more than most of them
    do, and a task with its context ten times that: a chain in which every `on_end` is plain has neither.
    (What a plain one then leaves to be awaited sees all context variables, but in a copy of their context.)
    """

    __slots__ = ("_chain", "_context", "_ex", "_flight", "ends", "entered", "responds")

    def __init__(self, chain: Chain, ex: Exchange, flight: Flight) -> None:
        self._chain = chain
        self._flight = flight
        self._ex = ex
        self.responds = chain.responds
        self.ends = chain.ends
        self._context = contextvars.copy_context() if chain.apart else None
        self.entered = 0

    def request(self, upto: int | None = None) -> Awaitable[Reply | None]:
        """`on_request`, in order, of all plugins or the first `upto`; stops at the first Reply."""
        chain = self._chain
        if upto is None or upto >= chain.depth:
            return self._within(self._request(chain._request, chain.depth))
        return self._within(self._request([hook for hook in chain._request if hook[0] <= upto], upto))

    async def _request(self, hooks: Iterable[tuple[int, Plugin, Any]], last: int) -> Reply | None:
        ex = self._ex
        marks = ex.timeline._marks
        flight = self._flight
        start = monotonic_ns()
        for depth, plugin, hook in hooks:
            self.entered = depth  # before the await: a hook that was cut off is ended too
            try:
                left = hook(ex)
                reply: Reply | None = left if left is None or isinstance(left, Reply) else await left
            except WeirError:
                raise
            except Exception as error:  # noqa: BLE001 # a plugin may raise anything
                self._failed(plugin, "on_request", error)
                reply = None
            finally:
                now = monotonic_ns()
                marks.append((plugin.name, "request", start, now))
                start = now  # one look at the clock ends a hook and begins the next
            if flight.cause is not None:
                raise flight.cause
            if reply is not None:
                return reply
        self.entered = last
        return None

    def response(self) -> Awaitable[None]:
        """`on_response`, in reverse, of the plugins that are entered."""
        return self._within(self._response(self._entered(self._chain._response)))

    def _entered(self, hooks: list[tuple[int, Plugin, T]]) -> list[tuple[int, Plugin, T]]:
        if not hooks or self.entered == self._chain.depth:
            return hooks
        return [hook for hook in hooks if hook[0] <= self.entered]

    async def _response(self, hooks: Iterable[tuple[int, Plugin, Any]]) -> None:
        ex = self._ex
        marks = ex.timeline._marks
        flight = self._flight
        start = monotonic_ns()
        for _, plugin, hook in hooks:
            try:
                left = hook(ex)
                if left is not None:
                    await left
            except WeirError:
                raise
            except Exception as error:  # noqa: BLE001
                self._failed(plugin, "on_response", error)
            finally:
                now = monotonic_ns()
                marks.append((plugin.name, "response", start, now))
                start = now
            if flight.cause is not None:
                raise flight.cause

    @property
    def sees_events(self) -> bool:
        """Whether any entered plugin looks at events."""
        return bool(self._entered(self._chain._event))

    def events(self, events: list[Event]) -> list[Event]:
        """`on_event` of every entered plugin, in reverse, for each event; what comes out in their stead."""
        if self._context is None:
            return self._events(events)
        return self._context.run(self._events, events)

    def body(self, body: bytes) -> bytes:
        """The same for a whole JSON body, and what comes out in its stead."""
        events = self.events([Event(body, "json")])
        return events[0].raw if len(events) == 1 else b"".join([event.raw for event in events])

    def _events(self, events: list[Event]) -> list[Event]:
        ex, flight = self._ex, self._flight
        for _, plugin, hook in self._entered(self._chain._event):
            out: list[Event] = []
            for event in events:
                if event.kind == "part":
                    out.append(event)
                    continue
                try:
                    result = hook(ex, event)
                except WeirError:
                    raise
                except Exception as error:  # noqa: BLE001
                    self._failed(plugin, "on_event", error)
                    result = None
                if flight.cause is not None:
                    raise flight.cause
                if result is None:
                    out.append(event)
                elif ex.response.rewriting is None and ex.response.started:
                    # The bytes are out: to go on as if they had been changed would be a lie.
                    self._failed(
                        plugin, "on_event", RuntimeError("replaced an event without ex.response.rewrites()")
                    )
                    out.append(event)
                else:
                    out.extend((result,) if isinstance(result, Event) else result)
                    if event is END_OF_EVENTS:
                        out.append(event)  # the plugins that come after still have theirs to give out
            events = out
        return events

    async def end(self, end: End) -> None:
        """`on_end`, in reverse, once for every entered plugin. Neither raises nor is cut short.

        A cancellation that arrives meanwhile is raised when all is done.
        """
        ex, flight, context = self._ex, self._flight, self._context
        marks = ex.timeline._marks
        cancelled: asyncio.CancelledError | None = None
        start = monotonic_ns()
        for _, plugin, hook in self._entered(self._chain._end):
            try:
                left = hook(ex, end) if context is None else context.run(hook, ex, end)
                if left is not None:
                    task = begin(asyncio.get_running_loop(), left, context)
                    cancelled = await self._outlast(task) or cancelled
                    task.result()
            except asyncio.CancelledError as error:
                log_failure(plugin, "on_end", TimeoutError("took too long") if flight.overdue else error, ex)
            except Exception as error:  # noqa: BLE001
                log_failure(plugin, "on_end", error, ex)
            now = monotonic_ns()
            marks.append((plugin.name, "end", start, now))
            start = now
        if cancelled is not None:
            raise cancelled

    async def _outlast(self, task: asyncio.Task[None]) -> asyncio.CancelledError | None:
        """Wait until what a hook has left to do is done, or its time is over; and what cancelled us
        meanwhile."""
        cancelled = None
        self._flight.arm_end(task)
        while not task.done():
            try:
                await asyncio.wait((task,))
            except asyncio.CancelledError as error:
                cancelled = error
        return cancelled

    def _failed(self, plugin: Plugin, hook: str, error: Exception) -> None:
        log_failure(plugin, hook, error, self._ex)
        if plugin.on_error == "fail":
            raise PluginError(plugin.name, hook) from error

    def _within(self, hooks: Coroutine[Any, Any, T]) -> Awaitable[T]:
        return hooks if self._context is None else _in_context(self._context, hooks)


@types.coroutine
def _in_context(context: contextvars.Context, coroutine: Coroutine[Any, Any, T]) -> Generator[Any, Any, T]:
    """Run a coroutine in this task but in another context: each of its steps is entered there."""
    try:
        waits_for = context.run(coroutine.send, None)
        while True:
            try:
                value = yield waits_for
            except BaseException as error:  # noqa: BLE001 # cancellation too: it is the coroutine's to see
                waits_for = context.run(coroutine.throw, error)
            else:
                waits_for = context.run(coroutine.send, value)
    except StopIteration as stop:
        result: T = stop.value
        return result


def log_failure(plugin: Plugin, hook: str, error: BaseException, ex: Exchange) -> None:
    """Log that a plugin failed: name, hook and place, but no message, since that may quote a prompt."""
    log.error(
        "a plugin failed",
        extra={
            "fields": {
                "id": ex.id,
                "plugin": plugin.name,
                "hook": hook,
                "policy": plugin.on_error,
                **raised(error),
            }
        },
    )


def _overrides(plugin: Plugin, hook: str) -> bool:
    return getattr(type(plugin), hook) is not getattr(Plugin, hook)


def _problems(plugins: Sequence[Plugin]) -> Iterator[str]:
    provided: set[Any] = set()
    everywhere = {slot for plugin in plugins for slot in plugin.provides}
    for plugin in plugins:
        for slot in plugin.requires:
            if slot not in provided:
                where = "earlier in" if slot in everywhere else "into"
                yield f"{plugin.name} needs {slot.name}: put {_provider(slot)} {where} the chain"
        for slot in plugin.reads_at_end:
            if slot not in everywhere:
                yield f"{plugin.name} reads {slot.name} at the end: put {_provider(slot)} into the chain"
        provided.update(plugin.provides)


def _provider(slot: Slot[Any]) -> str:
    return f"its provider ({slot.provider})" if slot.provider else "its provider"
