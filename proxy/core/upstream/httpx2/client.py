"""The upstream: its pool, and one request after the other on it."""

import asyncio
from collections.abc import Coroutine
from typing import Any
from urllib.parse import unquote_to_bytes

import httpcore2

from proxy.api.errors import WeirError
from proxy.core.config import UpstreamSettings
from proxy.core.settings.values import read_authority
from proxy.core.upstream import Answer, Clock, Outgoing, errors, tls
from proxy.core.upstream.breaker import Breaker
from proxy.core.upstream.httpx2.answer import Httpx2Answer
from proxy.core.upstream.httpx2.attempt import Attempt
from proxy.core.upstream.httpx2.link import MAX_STREAMS, Pool
from proxy.core.upstream.httpx2.wire import Network

CLOSE_LIMIT = 5.0
"""Seconds that what goes on in the background may take before connections are cut."""


def _proxy(url: str) -> httpcore2.Proxy:
    scheme, _, rest = url.partition("://")
    scheme = scheme.lower()
    user_info, at, authority = rest.rpartition("@")
    host, port = read_authority(authority)
    user, _, password = user_info.partition(":")
    return httpcore2.Proxy(
        httpcore2.URL(scheme=scheme, host=host, port=port, target="/"),
        auth=(unquote_to_bytes(user), unquote_to_bytes(password)) if at else None,
        ssl_context=tls.authorities() if scheme == "https" else None,
    )


class Httpx2Upstream:
    """An upstream behind a proxy, or one that is spoken to in HTTP/2 if it wants to."""

    def __init__(self, settings: UpstreamSettings) -> None:
        self.name = settings.name
        self.settings = settings
        self.idle = settings.pool.idle
        self.proxied = settings.proxy is not None
        self.stream_limit = MAX_STREAMS
        self.breaker = Breaker(settings, asyncio.get_running_loop().time)
        self.waiting: set[Attempt] = set()
        """The requests that have no connection yet."""
        self._background: set[asyncio.Task[None]] = set()
        proxy = None if settings.proxy is None else _proxy(settings.proxy)
        through_http = proxy is not None and proxy.url.scheme.startswith(b"http")
        self._authority = settings.base_url.partition("://")[2].partition("/")[0].encode()
        self._forwarded = through_http and settings.scheme == "http"
        # A proxy that forwards wants the whole URL; one that tunnels, a literal IPv6 address in brackets.
        self._before_target = b"http://" + self._authority if self._forwarded else b""
        host = settings.host
        self._host = f"[{host}]" if through_http and ":" in host else host
        self._server_name = settings.tls.server_name or host
        self._pool = Pool(
            self,
            ssl_context=tls.context(settings) if settings.scheme == "https" else None,
            proxy=proxy,
            max_connections=settings.pool.max,
            keepalive_expiry=settings.pool.idle,
            http2=settings.http2,
            uds=None if settings.unix_socket is None else str(settings.unix_socket),
            network_backend=Network(),
        )

    async def open(self, request: Outgoing, clock: Clock) -> Answer:
        """See `Upstream.open`."""
        if len(self.waiting) >= self.settings.pool.waiting:
            raise errors.busy()
        while True:
            clock.arm(self.settings.timeouts.connect, errors.connect_timeout)
            attempt = Attempt(self, request, clock)
            self.waiting.add(attempt)
            try:
                response = await self._pool.handle_async_request(self._message(request, attempt))
            except BaseException as error:
                self.waiting.discard(attempt)
                attempt.connected(error)
                attempt.stop()
                if isinstance(error, WeirError) or not isinstance(error, Exception):
                    raise
                if not attempt.may_replay(error):
                    raise attempt.failure(error) from error
                request.resent = True
                continue
            answer = Httpx2Answer(attempt, attempt.link, response)
            try:
                answer.check(self._forwarded)
            except WeirError:
                await answer.close()
                raise
            return answer

    async def aclose(self) -> None:
        """See `Upstream.aclose`."""
        if self._background:
            await asyncio.wait(self._background, timeout=CLOSE_LIMIT)
        await self._pool.aclose()
        if self._background:
            await asyncio.wait(self._background, timeout=CLOSE_LIMIT)

    def background(self, work: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
        """Run something to its end that nobody waits for; `aclose` does."""
        task = asyncio.get_running_loop().create_task(work)
        self._background.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: "asyncio.Task[None]") -> None:
        self._background.discard(task)
        if not task.cancelled():
            task.exception()  # told to whoever waits for it, if anybody does

    def _message(self, request: Outgoing, attempt: Attempt) -> httpcore2.Request:
        headers = [(b"host", self._authority), *request.headers]
        body = request.body
        length = len(body) if isinstance(body, bytes) else None if body is None else body.length
        if length is not None:
            headers.append((b"content-length", b"%d" % length))
        elif body is not None:
            headers.append((b"transfer-encoding", b"chunked"))
        url = httpcore2.URL(
            scheme=self.settings.scheme,
            host=self._host,
            port=self.settings.port,
            target=self._before_target + request.target,
        )
        return httpcore2.Request(
            request.method,
            url,
            headers=headers,
            content=attempt,
            extensions={"attempt": attempt, "trace": attempt.trace, "sni_hostname": self._server_name},
        )
