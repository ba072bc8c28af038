"""One process for many tests, its upstream planted anew for each on the same port; and what holds after all.

After each test the process must hold no socket that it did not hold before, must have logged no error, and
must have said exactly once how each request ended (`Stage.ends`).
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, NamedTuple, Self, TypeVar

import orjson
import pytest

from .client import RawClient, get
from .framing import RawResponse
from .process import Process, free_ports
from .upstream import RawUpstream, Script, event, head, ok_json
from .wire import until

T = TypeVar("T")
MakeProcess = Callable[..., Process]
"""What the fixture `process` gives: a base URL, and settings of that upstream."""
TYPES = {
    403: "permission_error",
    429: "rate_limit_error",
    500: "internal_error",
    501: "api_error",
    502: "upstream_error",
    503: "service_unavailable",
    504: "upstream_timeout",
    505: "api_error",
}
RETRYABLE = (408, 409, 429, 502, 503, 504)
OK = ok_json(b'{"ok":true}')
TEN = head(headers=[("content-type", "application/json"), ("content-length", "10")])
ONE = event({"n": 1})
HASTY = {"connect": "300ms", "first_byte": "300ms", "idle": "300ms", "total": "1500ms"}
KEY = "client-key-0123456789"
BEARER = ("authorization", f"Bearer {KEY}")
KEYS = [{"use": "auth", "keys": [{"user": "alice", "key": KEY}]}]


class Traits(NamedTuple):
    """Where the two clients differ, and both are right."""

    size_digits: int
    """Hex digits of a chunk's size. Sixteen fill 64 bits, which is where llhttp stops. h11 stops at twenty;
    it counts in Python's integers, and awaits such a chunk."""
    keeps_after_bare_head: bool
    """Whether a connection is kept after an answer to HEAD that names no framing. It ends with its head
    (RFC 9112, 6.3), as h11 knows; llhttp cannot be told of HEAD, and sees an answer that ends with its
    connection."""


TRAITS = {"http1": Traits(16, False), "httpx2": Traits(20, True)}
once = pytest.mark.parametrize("upstream_client", ["http1"], indirect=True, scope="module")
"""For a test that ends before an upstream is spoken to: whose client it is proves nothing."""


class Stage:
    """A process, and the port that its upstream is planted on."""

    def __init__(
        self,
        *,
        upstream: Mapping[str, object] | None = None,
        config: Mapping[str, object] | None = None,
        path: str = "/v1",
    ) -> None:
        (self.upstream_port,) = free_ports(1)
        self.p = Process(f"http://127.0.0.1:{self.upstream_port}{path}", upstream=upstream, config=config)
        self._fds = 0
        self._mark = 0
        self._flushed = 0

    @property
    def host(self) -> bytes:
        """What the upstream is called by."""
        return b"127.0.0.1:%d" % self.upstream_port

    def plant(self, script: Script | Sequence[Script] | None = None, **options: Any) -> RawUpstream:
        """The upstream of one test; as RawUpstream."""
        return RawUpstream(script, port=self.upstream_port, **options)

    def client(self, **options: Any) -> RawClient:
        return self.p.client(**options)

    async def ask(self, data: bytes, timeout: float = 5.0) -> RawResponse:
        """One request on a connection of its own."""
        async with self.client() as c:
            return await c.ask(data, timeout=timeout)

    @property
    def lines(self) -> list[dict[str, Any]]:
        """What has been logged since the test began."""
        found = []
        for line in self.p.stderr[self._mark :].splitlines():
            try:
                found.append(orjson.loads(line))
            except orjson.JSONDecodeError:
                found.append({"level": "error", "event": line})
        return found

    async def ends(self, n: int = 1, timeout: float = 3.0) -> list[dict[str, Any]]:
        """The lines that say how requests ended, once there are `n`; more of them is a failure."""

        def said() -> list[dict[str, Any]]:
            return [line for line in self.lines if line["event"] in ("request", "refused")]

        await until(lambda: len(said()) >= n, timeout, lambda: f"{n} ends of requests: {said()}")
        assert len(said()) == n, said()
        return said()

    async def end(self) -> tuple[str, str]:
        """How the test's one request ended: reason and code."""
        (line,) = await self.ends()
        return line["end_reason"], line["end_code"]

    async def begin(self) -> None:
        """Count from here: what went before is in the log."""
        if not self._fds:
            await self._settle()
        await self._flush()
        self._mark = len(self.p.stderr)

    async def at_rest(self, timeout: float = 3.0) -> None:
        """Nothing is left of what the test did, and nothing went wrong inside."""
        fds = self._fds
        try:
            await until(
                lambda: self.p.fds() <= fds, timeout, lambda: f"{self.p.fds() - fds} sockets to be closed"
            )
        except AssertionError:
            await self._settle()
            raise
        await self._flush()
        lines = self.lines
        assert not [line for line in lines if line["level"] in ("error", "critical", "warning")]
        ids = [line["id"] for line in lines if line["event"] == "request"]
        assert len(ids) == len(set(ids)), "a request ended twice"

    async def _flush(self) -> None:
        """Wait until what has been logged so far can be read."""
        self._flushed += 1
        mark = f"flush-{self._flushed}"
        await self.ask(get("/v1/flush", [("x-request-id", mark)]))
        await until(lambda: mark in self.p.stderr, what="the log")

    async def _settle(self) -> None:
        """Learn how many files it holds when nothing goes on."""
        await self.ask(get("/v1/warm-up"))
        same = 0
        while same < 20:
            await asyncio.sleep(0.005)
            now = self.p.fds()
            same = same + 1 if now == self._fds else 0
            self._fds = now

    async def __aenter__(self) -> Self:
        await self.p.__aenter__()
        return self

    async def __aexit__(self, *exc: Any) -> None:
        await self.p.__aexit__(*exc)


@asynccontextmanager
async def a_test(stage: Stage) -> AsyncIterator[Stage]:
    """The part of a stage's life that is one test."""
    await stage.begin()
    yield stage
    await stage.at_rest()


def is_error(answered: RawResponse, status: int, code: str) -> None:
    """An OpenAI-shaped error with all that a client needs to decide whether to try again."""
    assert (answered.status, answered.ended) == (status, "length"), answered
    assert answered.get("content-type") == b"application/json"
    body = answered.json()
    error = body["error"]
    assert list(error) == ["message", "type", "param", "code"]
    assert error["code"] == code
    assert error["type"] == TYPES.get(status, "invalid_request_error")
    assert error["message"]
    assert body["message"] == error["message"]
    if status in RETRYABLE:
        assert answered.get("x-should-retry") is None
        assert int(answered.get("retry-after") or 0) == body["retryAfter"] >= 1
        assert int(answered.get("retry-after-ms") or 0) >= 1
    else:
        assert answered.get("x-should-retry") == b"false"
        assert answered.get("retry-after") is None
        assert "retryAfter" not in body


def broke_off(answered: RawResponse, sent: bytes, code: str) -> None:
    """A stream that ends with one error event and no clean end."""
    assert answered.ended == "truncated"
    assert answered.body.startswith(sent)
    tail = answered.body[len(sent) :]
    assert tail.startswith(b"data: {")
    assert tail.endswith(b"}\n\n")
    assert tail.count(b"\n") == 2
    error = orjson.loads(tail[6:])["error"]
    assert list(error) == ["message", "type", "param", "code"]
    assert error["code"] == code


async def all_at_once(jobs: Sequence[Awaitable[T]], within: float = 30.0) -> list[T]:
    """Run them together, in bounded time; what they gave, in order."""
    async with asyncio.timeout(within):
        return list(await asyncio.gather(*jobs))


@asynccontextmanager
async def meanwhile(job: Coroutine[Any, Any, T]) -> AsyncIterator["asyncio.Task[T]"]:
    """Run something beside the block. What is left of it then is of no interest; its failures neither."""
    task = asyncio.create_task(job)
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
