"""How an upstream's answer reaches the client: passed on as it comes, rewritten by events, or held.

Rules for whoever edits this file:
- What nobody declared to change goes out first, as it came, in the pieces it came in; plugins see it after.
- `finish` (every `on_end`) comes before the last bytes: before the terminal chunk, or with Content-Length
  before the last piece. Who has a whole answer has its settlement.
- While nothing is sent, a failure is still a clean error; so what is held fails cleanly.
"""

from collections.abc import Awaitable, Callable
from time import monotonic_ns
from typing import Any, Protocol

from proxy.api.event import Event
from proxy.api.exchange import Exchange
from proxy.api.response import HOLD_LIMIT
from proxy.core.chain import Run
from proxy.core.config import HttpLimits
from proxy.core.flight import Flight
from proxy.core.sse import Splitter
from proxy.core.upstream import Answer, errors
from proxy.core.view import READABLE, JsonView, StreamView, ended, readable

Send = Callable[[Any], Awaitable[None]]

_TAIL = 16
_BLOCK_ENDS = (b"\n\n", b"\r\r", b"\r\n\r\n", b"\n\r\n", b"\r\n\n", b"\r\r\n", b"\r\n\r", b"\n\r")


class Held:
    """Bytes of answers held back by the whole process."""

    def __init__(self, limit: int) -> None:
        self._left = limit

    def take(self, size: int) -> bool:
        """Reserve room; False if there is none."""
        if size > self._left:
            return False
        self._left -= size
        return True

    def free(self, size: int) -> None:
        """Give room back."""
        self._left += size


class Bounds(Protocol):
    """What of a configuration bounds a delivery."""

    idle: float
    limits: HttpLimits
    held: Held


class Start(Protocol):
    """Sends the head of the answer."""

    def __call__(self, *, body_follows: bool = False) -> Awaitable[None]:
        """`body_follows` promises a piece of the body, or its end, in this very turn of the loop."""


class Delivery:
    """One answer on its way to one client."""

    __slots__ = (
        "_answer",
        "_ex",
        "_finish",
        "_flight",
        "_idle",
        "_run",
        "_send",
        "_send_whole",
        "_setup",
        "_start",
        "_tail",
    )

    def __init__(
        self,
        ex: Exchange,
        flight: Flight,
        run: Run,
        answer: Answer,
        send: Send,
        start: Start,
        send_whole: Callable[[bytes], Awaitable[None]],
        finish: Callable[[], Awaitable[None]],
        setup: Bounds,
    ) -> None:
        self._ex = ex
        self._flight = flight
        self._run = run
        self._answer = answer
        self._send = send
        self._start = start
        self._send_whole = send_whole
        self._finish = finish
        self._setup = setup
        self._idle = setup.idle
        self._tail = b""

    @property
    def tail(self) -> bytes:
        """The last bytes of the body that were sent."""
        return self._tail

    @property
    def between_events(self) -> bool:
        """Whether what was sent ends with a whole event, so that one more can follow."""
        return not self._tail or self._tail.endswith(_BLOCK_ENDS)

    def send_to(self, send: Send) -> None:
        """From here on this gets what the client would have got."""
        self._send = send

    def deliver(self) -> Awaitable[None]:
        """Give the client this answer, whole. Raises what stopped it."""
        response = self._ex.response
        stream = response.is_stream
        if (
            (self._answer.complete and not stream)
            or not (stream or response.is_json)
            or not self._run.sees_events
        ):
            return self._pass(None)
        encoding = response.encoding
        if response.rewriting is not None and encoding not in ("", "identity"):
            raise errors.bad_encoding()
        if stream and response.rewriting is not None:
            return self._rewrite()
        if not stream and (response.rewriting is not None or response.held_limit):
            return self._hold(encoding)
        if encoding not in READABLE:
            return self._pass(None)
        if stream:
            return self._pass(StreamView(self._run, encoding))
        return self._pass(JsonView(self._run, encoding, self._setup.limits.json_body))

    async def _pass(self, view: StreamView | JsonView | None) -> None:
        """Every piece goes out as it came; plugins see it after."""
        sized = self._ex.response.headers.get(b"content-length") is not None
        answer, arm, idle = self._answer, self._flight.arm, self._idle
        if answer.ready:
            piece = await answer.read()  # head and first piece go out together
            await self._start(body_follows=True)
        else:
            await self._start()
            arm(idle, errors.idle_timeout)
            piece = await answer.read()
        while not answer.complete:
            await self._write(piece)
            if view is not None:
                view.see(piece)
            arm(idle, errors.idle_timeout)
            piece = await answer.read()
        if piece and not sized and (view is not None or self._run.ends):
            # The terminal chunk can wait for on_end; the bytes before it need not.
            await self._write(piece)
            if view is not None:
                view.see(piece)
            piece = b""
        elif view is not None and piece:
            view.see(piece)
        if view is not None:
            view.end()
        await self._last(piece)

    async def _rewrite(self) -> None:
        """Events go through the plugins before they go out."""
        self._ex.response.headers.remove(b"content-length")
        splitter = Splitter()
        await self._start()
        while True:
            piece = await self._read()
            out = self._changed(splitter.feed(piece))
            if self._answer.complete:
                out += self._changed(ended(splitter.flush()))
                break
            if out:
                await self._write(out)
        if out:
            await self._write(out)
        await self._last(b"")

    def _changed(self, events: list[Event]) -> bytes:
        if not events:
            return b""
        if self._ex.response.rewriting == "fail" and any(event.kind == "part" for event in events):
            raise errors.too_large_to_change()
        return b"".join([event.raw for event in self._run.events(events)])

    async def _hold(self, encoding: str) -> None:
        """A JSON body is kept until it is complete, so that plugins can still set headers from it."""
        response = self._ex.response
        limit = max(response.held_limit, HOLD_LIMIT if response.rewriting is not None else 0)
        answer, held = self._answer, self._setup.held
        pieces: list[bytes] = []
        size = 0
        try:
            while True:
                piece = await self._read()
                pieces.append(piece)
                fits = size + len(piece) <= limit and held.take(len(piece))
                if not fits:
                    break
                size += len(piece)
                if answer.complete:
                    break
            body = pieces[0] if len(pieces) == 1 else b"".join(pieces)
            await (self._held_whole(body, encoding) if fits else self.release(body, encoding))
        finally:
            held.free(size)

    async def _held_whole(self, body: bytes, encoding: str) -> None:
        response = self._ex.response
        seen = readable(body, encoding) if encoding in READABLE else b""
        if seen:
            out = self._run.body(seen)
            if out != seen:
                if seen is not body:
                    raise errors.bad_encoding()
                body = out
                response.headers[b"content-length"] = b"%d" % len(body)
        timeline = self._ex.timeline
        timeline.first_byte = timeline.last_byte = monotonic_ns()
        await self._finish()
        await self._send_whole(body)

    async def release(self, piece: bytes, encoding: str) -> None:
        """Too large to hold: what came goes out, and the rest as it comes, unless it must not unchanged.

        Plugins that only look still see it, once it is whole.
        """
        rewriting = self._ex.response.rewriting
        if rewriting == "fail":
            raise errors.too_large_to_change()
        view = None
        if rewriting is None and encoding in READABLE:
            view = JsonView(self._run, encoding, self._setup.limits.json_body)
        await self._start()
        while not self._answer.complete:
            await self._write(piece)
            if view is not None:
                view.see(piece)
            piece = await self._read()
        if view is not None:
            view.see(piece)
            view.end()
        await self._last(piece)

    async def _read(self) -> bytes:
        self._flight.arm(self._idle, errors.idle_timeout)
        return await self._answer.read()

    async def _write(self, piece: bytes) -> None:
        self._tail = piece[-_TAIL:] if len(piece) >= _TAIL else (self._tail + piece)[-_TAIL:]
        timeline = self._ex.timeline
        if not timeline.first_byte and piece:
            timeline.first_byte = monotonic_ns()
        self._flight.rest()  # a slow client is not a slow upstream; the server ends one that stalls
        await self._send({"type": "http.response.body", "body": piece, "more_body": True})

    async def _last(self, piece: bytes) -> None:
        timeline = self._ex.timeline
        timeline.last_byte = monotonic_ns()
        if piece:
            timeline.first_byte = timeline.first_byte or timeline.last_byte
            self._tail = piece[-_TAIL:] if len(piece) >= _TAIL else (self._tail + piece)[-_TAIL:]
        await self._finish()
        message: dict[str, Any] = {"type": "http.response.body", "body": piece, "more_body": False}
        trailers = self._ex.response.trailers
        if trailers is not None:
            message["weir.trailers"] = [pair for pair in trailers.raw if pair[1]]
        await self._send(message)
