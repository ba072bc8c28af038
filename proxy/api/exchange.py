"""One request and its response, and how it ended."""

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Literal, NamedTuple, Protocol, TypeVar

from proxy.api.asked import Asked
from proxy.api.errors import WeirError
from proxy.api.request import Request
from proxy.api.response import Response
from proxy.api.slots import Slot
from proxy.api.timeline import Timeline

T = TypeVar("T")

Reason = Literal["complete", "rejected", "client_gone", "upstream_error", "internal_error", "shutdown"]


class End(NamedTuple):
    """How an exchange ended. `reason` is the kind, `code` the one machine-readable cause.

    complete: the upstream's answer, whatever its status, was passed on whole. rejected: a plugin or Weir
    answered instead. The others say whose failure it was; `error` is what was raised, if anything.
    """

    reason: Reason
    code: str
    error: BaseException | None = None


class Attempt(NamedTuple):
    """One try at one upstream. `outcome` is a status or the code of an error; times are monotonic ns.

    `resent` says that a kept connection turned out to be closed and the request went out again on a new one.
    """

    upstream: str
    start: int
    end: int
    outcome: str
    resent: bool = False


# A quarter of what the constructor costs that a NamedTuple is given.
new_attempt: Callable[[tuple[str, int, int, str, bool]], Attempt] = partial(tuple.__new__, Attempt)


class Driver(Protocol):
    """The engine's side of an exchange."""

    def interrupt(self, cause: WeirError) -> None:
        """End the exchange for this cause, once, from any task of the loop."""

    def ask(self, ex: "Exchange", endpoint: str, body: bytes, timeout: float) -> Awaitable[Asked]:
        """See `Exchange.ask`."""


class Exchange:
    """One request and its response: what every hook gets.

    `id` is Weir's own request id (`x-weir-request-id`), unique across processes. State between hooks lives
    in slots: `ex[SLOT] = value` before the first await that may be cut off, since `on_end` runs even then.
    """

    __slots__ = ("_driver", "_slots", "attempts", "id", "request", "response", "timeline", "upstream")

    def __init__(self, id: str, request: Request, driver: Driver) -> None:
        self.id = id
        self.request = request
        self.response = Response()
        self.timeline = Timeline()
        self.upstream: str | None = None
        """The name of the upstream that it goes to, or None if it goes to none. Which were tried, is in
        `attempts`."""
        self.attempts: list[Attempt] = []
        self._driver = driver
        self._slots: dict[Slot[Any], Any] = {}

    def __getitem__(self, slot: Slot[T]) -> T:
        value: T = self._slots[slot]
        return value

    def __setitem__(self, slot: Slot[T], value: T) -> None:
        self._slots[slot] = value

    def __contains__(self, slot: Slot[Any]) -> bool:
        return slot in self._slots

    def get(self, slot: Slot[T]) -> T | None:
        """What is in a slot, or None."""
        return self._slots.get(slot)

    def abort(self, error: WeirError) -> None:
        """End this exchange now, from any hook or task of the event loop.

        Before the first byte the client gets `error` as an answer; in a running stream as an error event,
        and the connection is broken off, so that it cannot be taken for a whole answer. The first call
        counts. Once `on_end` has begun it does nothing.
        """
        self._driver.interrupt(error)

    async def ask(self, endpoint: str, body: bytes, *, timeout: float) -> Asked:
        """POST a plugin's own JSON to the upstream that this exchange goes to, and await the answer.

        `endpoint` is one like `Request.endpoint`, with a query if need be. It goes out with the upstream's
        key or, where there is none, with the client's credential, and with its organization and project; no
        other field of the client's. No hook sees it, it is no attempt, and no redirect is followed. In the
        timeline it is the hop `ask`.

        Raises `UpstreamError` if there is no whole answer of at most 64 KiB after `timeout` seconds, or if
        the upstream fails as in any other request; after the eighth question of an exchange; and once
        `on_end` has begun, which cuts off what is still being asked. Raises `ClientError` for a path that
        Weir would not forward. Cancelling it leaves nothing behind.
        """
        if self.upstream is None:
            raise RuntimeError("this exchange goes to no upstream: there is nobody to ask")
        return await self._driver.ask(self, endpoint, body, timeout)
