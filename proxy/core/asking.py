"""Questions of plugins to the upstream of their exchange: `Exchange.ask`.

A question takes the exchange's way: pool, breaker, deadlines and credential of its upstream. It is no attempt
of the exchange: no hook sees it, it is not tried again elsewhere, and `/health` does not judge by it.
"""

import asyncio
import math
import re
from time import monotonic_ns

from proxy.api.asked import Asked
from proxy.api.exchange import Exchange
from proxy.api.headers import Headers
from proxy.core import gate, headers
from proxy.core.body import Body
from proxy.core.flight import Flight
from proxy.core.routing import Route
from proxy.core.upstream import Answer, Clock, Late, errors

MOST = 8
"""Questions that one exchange may ask: a plugin that asks in a loop is to be found out."""
LIMIT = 64 * 1024
"""Bytes of an answer's body; a longer one is broken off."""

# Whose question it is, and what it may depend on. All else is about another body, or another answer.
_AS_ASKED = frozenset(
    (
        b"authorization",
        b"api-key",
        b"x-api-key",
        b"openai-organization",
        b"openai-project",
        b"openai-beta",
        b"user-agent",
    )
)
_OF_JSON = (
    (b"content-type", b"application/json"),
    (b"accept", b"application/json"),
    (b"accept-encoding", b"identity"),
)
_PRINTABLE = re.compile(r"[\x21-\x7e]+")


class Asker:
    """Asks one upstream, for all exchanges that go there."""

    def __init__(self, route: Route) -> None:
        self._route = route
        self._idle = route.settings.timeouts.idle
        self._paths = gate.Paths()

    async def ask(self, flight: Flight, ex: Exchange, endpoint: str, body: bytes, timeout: float) -> Asked:
        """See `Exchange.ask`."""
        if not 0 < timeout < math.inf:
            raise ValueError("timeout is a number of seconds above 0")
        target = self._target(endpoint)
        questions = flight.questions
        if flight.ending:
            raise errors.ask_too_late()
        if len(questions) >= MOST:
            raise errors.ask_limit()
        question = Question(timeout)
        flight.questions = (*questions, question)
        passing = _AS_ASKED - flight.named
        fields = [pair for pair in ex.request.headers.raw if pair[0] in passing]
        request = self._route.asking(target, [*fields, *_OF_JSON], body)
        if isinstance(ex.request._body, Body):
            ex.request._body.listen()
        start = monotonic_ns()
        try:
            async with question.time:
                answer = await self._route.upstream.open(request, question)
                try:
                    said = await self._read(answer, question)
                finally:
                    await answer.close()
        except TimeoutError:
            raise question.late() from None
        finally:
            question.done = True
            ex.timeline._marks.append(("ask", "upstream", start, monotonic_ns()))
        return Asked(answer.status, Headers(headers.towards_client(answer.headers)), said)

    def _target(self, endpoint: str) -> bytes:
        path, _, query = endpoint.partition("?")
        if not _PRINTABLE.fullmatch(path + query):
            raise ValueError("an endpoint is printable ASCII, such as responses/input_tokens")
        self._paths.endpoint(b"/" + path.encode())  # refuses what would lead elsewhere
        return b"/" + endpoint.encode()

    async def _read(self, answer: Answer, clock: Clock) -> bytes:
        body = bytearray()
        while not answer.complete:
            clock.arm(self._idle, errors.idle_timeout)
            piece = await answer.read()
            if not piece:
                break
            body += piece
            if len(body) > LIMIT:
                raise errors.ask_answer_too_large()
        return bytes(body)


class Question:
    """One question on its way: the clock that it goes by, in whatever task asks it."""

    __slots__ = ("_ends", "_loop", "done", "late", "time")

    def __init__(self, seconds: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._ends = self._loop.time() + seconds
        self.time = asyncio.timeout_at(self._ends)
        self.late: Late = errors.ask_timeout
        self.done = False

    def arm(self, seconds: float, late: Late) -> None:
        """See `Clock.arm`; the time that the plugin gives is never extended."""
        when = self._loop.time() + seconds
        if when >= self._ends:
            when, late = self._ends, errors.ask_timeout
        self._until(when, late)

    def cut(self) -> None:
        """The exchange is over: who still waits for the answer gets an error."""
        self._until(self._loop.time(), errors.ask_too_late)
        self.done = True

    def _until(self, when: float, late: Late) -> None:
        if not self.done and not self.time.expired():
            self.late = late
            self.time.reschedule(when)
