"""The upstream's own count of what it is to read: `POST responses/input_tokens`.

It alone knows what `previous_response_id` and `conversation` refer to, and what frames a prompt. The price is
a round trip, and the prompt goes out twice: so it is asked where that makes a difference, and only if the
configuration says so. Whatever goes wrong, there is no count of it, and ours has to do.
"""

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable
from time import monotonic
from typing import Any

import orjson

from proxy.api import Asked, Exchange, UpstreamError, find_member
from proxy.pricing.endpoints import operation

LARGEST = 1024 * 1024
"""Bytes of a body that may be sent a second time, to be counted."""
INLINE = 16 * 1024
"""Bytes of a body that is taken apart on the event loop: well below a millisecond."""
AT_ONCE = 32
"""Questions at a time. It is asked before limits have their say: whoever sends too much is not to have the
upstream asked just as often."""
QUIET = 60.0
"""Seconds between two lines of the log that say that it failed."""
LONGEST = 30.0
"""Seconds of the longest patience."""
MOST = 10**9
"""Tokens that are believed."""

FIELDS = (
    "model",
    "input",
    "instructions",
    "tools",
    "tool_choice",
    "parallel_tool_calls",
    "reasoning",
    "text",
    "truncation",
    "personality",
    "previous_response_id",
    "conversation",
)
"""What it takes of a request; it refuses what it does not know, such as `stream`."""
_STORED = ("previous_response_id", "conversation")
_DURATION = re.compile(r"([0-9]{1,6}(?:\.[0-9]{1,6})?)(ms|s)")
log = logging.getLogger("weir.precost")


class UpstreamCount:
    """A count that the upstream is asked for by the first call; each call awaits the same answer.

    Who stops waiting does not stop the others; the end of the exchange does. Where the upstream does not
    tell, a call gives what `ours` does.
    """

    __slots__ = ("_ask", "_asking", "first", "ours")

    def __init__(self, ask: Callable[[], Awaitable[int | None]], *, first: bool) -> None:
        self._ask: Callable[[], Awaitable[int | None]] | None = ask
        self._asking: asyncio.Future[int | None] | None = None
        self.first = first
        """Whether no count of ours can be right, so that it is asked before anything is decided."""
        self.ours: int | Callable[[], Awaitable[int]] = 0

    async def told(self) -> int | None:
        """What the upstream says, None if it does not."""
        if self._asking is None:
            if self._ask is None:
                return None
            self._asking = asyncio.ensure_future(self._ask())
        return await asyncio.shield(self._asking)

    def forget(self) -> None:
        """Ask no more: it knows the exchange, which knows the estimate, which knows this."""
        self._ask = None

    async def __call__(self) -> int:
        """The count."""
        told = await self.told()
        if told is not None:
            return told
        return self.ours if isinstance(self.ours, int) else await self.ours()


class Counter:
    """Asks upstreams, each no longer than `patience` seconds."""

    def __init__(self, patience: float) -> None:
        self._patience = patience
        self._running = 0
        self._said = -QUIET

    def of(self, ex: Exchange, raw: bytes, body: Any) -> UpstreamCount | None:
        """The count of this request, or None if there is nothing that an upstream could be asked.

        A stored prompt (`prompt`) is not something that it counts.
        """
        if (
            operation(ex.request.endpoint)[0] != "responses"
            or not isinstance(body, dict)
            or body.get("prompt") is not None
            or len(raw) > LARGEST
            or not (ex.request.query.isascii() and ex.request.query.isprintable())
        ):
            return None
        first = any(body.get(name) is not None for name in _STORED)
        return UpstreamCount(lambda: self._ask(ex, raw, body), first=first)

    async def _ask(self, ex: Exchange, raw: bytes, body: dict[str, Any]) -> int | None:
        if self._running >= AT_ONCE:
            return None
        self._running += 1
        try:
            if len(raw) <= INLINE:
                question = taken(raw, body)
            else:
                question = await asyncio.to_thread(taken, raw, body)
            request = ex.request
            query = request.query  # Azure's has the version of its API
            path = f"{request.endpoint}/input_tokens"
            asked = await ex.ask(f"{path}?{query}" if query else path, question, timeout=self._patience)
        except UpstreamError as error:
            if error.code != "ask_too_late":  # the request is over: nobody needs it any more
                self._failed(ex, error.code)
            return None
        finally:
            self._running -= 1
        count = read(asked)
        if count is None:
            self._failed(ex, "unreadable" if asked.status == 200 else str(asked.status))
        return count

    def _failed(self, ex: Exchange, outcome: str) -> None:
        now = monotonic()
        if now - self._said >= QUIET:
            self._said = now
            fields = {"id": ex.id, "upstream": ex.upstream, "outcome": outcome}
            log.warning("the upstream does not count: estimates are ours", extra={"fields": fields})


def taken(raw: bytes, body: dict[str, Any]) -> bytes:
    """The question: what is counted of a request, each value in the bytes that it came in."""
    found = [(name, find_member(raw, name)) for name in FIELDS if name in body]
    members = [b'"%b":%b' % (name.encode(), raw[at.value : at.end]) for name, at in found if at is not None]
    return b"{%b}" % b",".join(members)


def read(asked: Asked) -> int | None:
    """The count that an answer has, or None if it has none."""
    if asked.status != 200:
        return None
    try:
        said = asked.json()
    except orjson.JSONDecodeError:
        return None
    count = said.get("input_tokens") if isinstance(said, dict) else None
    return count if type(count) is int and 0 <= count <= MOST else None


def seconds(value: object) -> float:
    """A patience as people write it. Raises `ValueError`."""
    match = _DURATION.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError("ask_timeout is a duration like 2s or 500ms")
    found = float(match[1]) / (1000 if match[2] == "ms" else 1)
    if not 0 < found <= LONGEST:
        raise ValueError(f"ask_timeout is more than 0 and at most {LONGEST:g}s")
    return found
