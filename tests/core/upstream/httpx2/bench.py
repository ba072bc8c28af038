"""What the tests of this client share: requests, a clock that only listens, and the client itself."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from proxy.api.errors import UpstreamError
from proxy.core.config import UpstreamSettings
from proxy.core.upstream import Answer, Late, Outgoing
from proxy.core.upstream.httpx2 import Httpx2Upstream
from tests.core.proxies import H2Script, H2Stream, H2Upstream
from tests.faults.certificates import Certificates
from tests.faults.upstream import Conn, ok_json

OK = ok_json(b'{"ok":true}')
BIG = os.urandom(300_000)
End = Callable[[Conn], None] | None


class Recorder:
    """A clock that only writes down what it is told."""

    def __init__(self) -> None:
        self.armed: list[tuple[float, str]] = []

    def arm(self, seconds: float, late: Late) -> None:
        self.armed.append((seconds, late().code))

    @property
    def codes(self) -> list[str]:
        return [code for _, code in self.armed]


class Pieces:
    """An upload of these pieces; an exception among them is raised, an event waited for."""

    def __init__(
        self, *pieces: bytes | Exception | asyncio.Event, length: int | None = None, forever: bool = False
    ) -> None:
        self.pieces = pieces
        self.length = length
        self.forever = forever
        self.taken = 0

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self.pieces:
            self.taken += 1
            if isinstance(piece, Exception):
                raise piece
            if isinstance(piece, asyncio.Event):
                await piece.wait()
            else:
                yield piece
        while self.forever:
            await asyncio.sleep(0)
            yield b"x" * 65536


def get(target: bytes = b"/v1/models") -> Outgoing:
    return Outgoing(b"GET", target, [], None)


def post(body: Any = b"{}") -> Outgoing:
    return Outgoing(b"POST", b"/v1/chat/completions", [(b"content-type", b"application/json")], body)


@asynccontextmanager
async def client(base_url: str, **settings: Any) -> AsyncIterator[Httpx2Upstream]:
    """The thing under test; nothing of it is left afterwards."""
    upstream = Httpx2Upstream(UpstreamSettings(base_url=base_url, name="up", **settings))
    try:
        yield upstream
    finally:
        async with asyncio.timeout(5):
            await upstream.aclose()
        assert not upstream.waiting


async def opened(upstream: Httpx2Upstream, request: Outgoing, clock: Recorder | None = None) -> Answer:
    async with asyncio.timeout(10):
        return await upstream.open(request, clock or Recorder())


async def rest(answered: Answer) -> bytes:
    """The body to its end."""
    body = b""
    async with asyncio.timeout(10):
        while not answered.complete:
            body += await answered.read()
    return body


async def ask(
    upstream: Httpx2Upstream, request: Outgoing, clock: Recorder | None = None
) -> tuple[int, bytes]:
    """Status and body of a whole exchange."""
    answered = await opened(upstream, request, clock)
    try:
        return answered.status, await rest(answered)
    finally:
        await answered.close()


async def failing(upstream: Httpx2Upstream, request: Outgoing) -> UpstreamError:
    """What `open` raises."""
    with pytest.raises(UpstreamError) as error:
        await opened(upstream, request)
    return error.value


@asynccontextmanager
async def http2(
    tls: Certificates, script: H2Script, *, max_streams: int = 0, **settings: Any
) -> AsyncIterator[tuple[H2Upstream, Httpx2Upstream]]:
    async with (
        H2Upstream(script, tls.context, max_streams=max_streams) as up,
        client(up.base_url, tls=tls.trusted, http2=True, **settings) as c,
    ):
        yield up, c


async def plain(stream: H2Stream) -> None:
    await stream.whole()
    await stream.answer()
