"""What comes back: an answer that can be passed on, read as it comes.

Its connection goes back to the pool with the last piece, if the answer was whole and nothing came behind it,
and is closed otherwise. An answer in many small pieces does not keep the event loop from others.
"""

import asyncio

import httpcore2

from proxy.api.errors import WeirError
from proxy.core.headers import Pairs
from proxy.core.upstream import errors
from proxy.core.upstream.httpx2 import failures
from proxy.core.upstream.httpx2.attempt import Attempt
from proxy.core.upstream.httpx2.head import FIELD_NAME, MAX_HEAD, MAX_HEADERS, UNSAFE
from proxy.core.upstream.httpx2.link import Link

PIECES = 32
"""Pieces that are given without a turn for others in between. h11 takes 25 microseconds for each."""


class Httpx2Answer:
    """See `Answer`."""

    def __init__(self, attempt: Attempt, link: Link, response: httpcore2.Response) -> None:
        self._attempt = attempt
        self._link = link
        self._response = response
        self._pieces = response.aiter_stream()
        self._error: WeirError | None = None
        self._end: asyncio.Task[None] | None = None
        self.status = response.status
        self.headers: Pairs = [(name.lower(), value) for name, value in response.headers]
        self.complete = False
        self.ready = False  # whether h11 or h2 holds something is known when it is asked for
        self._given = 0
        self._left: int | None = None
        """Bytes of the body that are still to come, where that was promised."""

    def check(self, forwarded: bool) -> None:
        """Raise unless this is an answer that can be passed on."""
        if self.status == 101:
            raise errors.bad_response()
        if not 200 <= self.status <= 599:
            raise errors.bad_status()
        if self.status == 407 and forwarded:
            raise failures.of_proxy(httpcore2.ProxyError("407"))
        headers = self.headers
        if len(headers) > MAX_HEADERS:
            raise errors.headers_too_large()
        if self._attempt.stream_id:
            if sum(len(name) + len(value) for name, value in headers) > MAX_HEAD:
                raise errors.headers_too_large()
            if any(not FIELD_NAME.fullmatch(name) or UNSAFE.search(value) for name, value in headers):
                raise errors.bad_response()
        names = {name for name, _ in headers}
        if b"transfer-encoding" in names and b"content-length" in names:
            # RFC 9112, 6.3: the transfer coding counts, and the sender is not to be trusted further.
            self.headers = [pair for pair in headers if pair[0] != b"content-length"]
            self._link.distrusted = True
        elif b"content-length" in names:
            promised = next(value for name, value in headers if name == b"content-length")
            self._left = int(promised) if promised.isdigit() else None

    def whole(self) -> bytes | None:
        """See `Answer.whole`."""
        return None

    async def read(self) -> bytes:
        """See `Answer.read`."""
        if self._error is not None:
            raise self._error
        if self.complete:
            return b""
        self._given += 1
        if self._given % PIECES == 0:
            await asyncio.sleep(0)  # what h11 holds it gives without waiting
        self._error = errors.reset()  # for whoever reads on after a cancellation
        try:
            piece = await self._next()
            if self._left is not None and piece:
                self._left -= len(piece)
                if self._left <= 0:
                    # Who has all that was promised may leave: it has to be known by then that it was all.
                    piece += await self._next()
        except WeirError as error:
            self._error = error
            raise
        except Exception as error:
            self._error = self._attempt.breakage(error)
            raise self._error from error
        self._error = None
        if self.complete and not self._attempt.uploading:
            await asyncio.shield(self._finish_soon())
        return piece

    async def _next(self) -> bytes:
        """What comes next; nothing when the answer is complete."""
        try:
            while not (piece := await anext(self._pieces)):
                pass
        except StopAsyncIteration:
            self.complete = self.ready = True
            return b""
        return piece

    async def close(self) -> None:
        """See `Answer.close`."""
        self._attempt.stop()
        self._finish_soon()

    def _finish_soon(self) -> "asyncio.Task[None]":
        if self._end is None:
            self._end = self._link.background(self._finish())
        return self._end

    async def _finish(self) -> None:
        link = self._link
        try:
            await self._pieces.aclose()
        except Exception:  # noqa: BLE001 # it is being read: a connection in doubt is not kept
            link.distrusted = True
        if link.distrusted or link.surplus():
            await link.cut()
        self._attempt.leave()  # first: the pool looks for room as soon as the answer is closed
        await self._response.aclose()
        link.rest()
