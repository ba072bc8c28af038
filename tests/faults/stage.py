"""One process for many tests, its upstream planted anew for each on the same port; and what holds after all.

After each test (`Stage.at_rest`; the numbers are those of docs/faults.md):
- I1: each request has ended once in the log and, where the ledger is in the chain, once in there, alike;
- I2: nothing is in flight; where the limiter is in the chain, no lease is held, and what is charged is to the
  nanodollar what the ledger says was used;
- I3: no key and no word of a prompt or an answer is in the log;
- I5: memory is what it was, but for `GROWTH`;
- I6: no socket is held that was not held before;
- I7: the event loop was not late again and again, which the process itself finds and says;
- I8: `/healthz` answers;
- and no error and no warning was logged.

I4 is for the tests themselves: they compare every byte. tests/faults/test_stage.py plants each of these.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from decimal import ROUND_CEILING, Decimal
from pathlib import Path
from typing import Any, NamedTuple, Self, TypeVar

import orjson
import pytest

from tests.ports import free_ports

from .client import RawClient, chat, get, request
from .framing import RawResponse
from .process import Process
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
UPSTREAM_KEY = "sk-of-the-upstream"
BEARER = ("authorization", f"Bearer {KEY}")
KEYS = [{"use": "auth", "keys": [{"user": "alice", "key": KEY}]}]
CANARIES = (KEY, UPSTREAM_KEY, "Say hi.", 'ok":true', 'ok\\":true', "data: ")
"""What tests send and must not find in the log: keys, the prompt of `chat()`, the answer `OK`, events."""
GROWTH = 64 << 20
"""Bytes of memory that tests may leave behind, all together: the allocator keeps what was once needed."""
LIMITS = [
    {"name": "flying", "in_flight": 1000, "per": "all"},
    {"name": "money", "cost": "1000000/month", "per": "all"},
]
BOOKS = ["auth", "precost", "ledger", {"use": "limiter", "limits": LIMITS}, "annotate"]
"""All that keeps account of a request."""
LATE = "500ms"
"""How late the event loop may be, five times in a row."""
NANO = Decimal("0.000000001")


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
        books: bool = False,
        env: Mapping[str, str] | None = None,
    ) -> None:
        """With `books` the chain is `BOOKS`, with a ledger of its own."""
        (self.upstream_port,) = free_ports(1)
        # What one test does to the upstream is not to keep the next one from it.
        upstream = {"breaker": {"failures": "off"}, **(upstream or {})}
        # A machine that does other things too is no event loop that is held up.
        config = {"overload": {"loop_lag": LATE}, **(config or {})}
        if books:
            config = {"plugins": BOOKS, "state_dir": "state", **config}
        base_url = f"http://127.0.0.1:{self.upstream_port}{path}"
        self.p = Process(base_url, upstream=upstream, config=config, env=env)
        self.books = books
        self._fds = 0
        self._rss = 0
        self._mark = 0
        self._flushed = 0
        self._clean = False

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
        for line in self._said().splitlines():
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
        if self.books or not self._clean:  # else the look after the last test was the last to be logged
            await self._flush()
        self._clean = False
        self._mark = self._log.stat().st_size

    async def at_rest(self, timeout: float = 3.0) -> None:
        """Nothing is left of what the test did, and nothing went wrong inside: see the top of this file."""
        fds = self._fds
        try:
            await until(
                lambda: self.p.fds() <= fds, timeout, lambda: f"{self.p.fds() - fds} sockets to be closed"
            )
        except AssertionError:
            await self._settle()
            raise
        await self._is_alive()
        assert (running := await self.in_flight()) == [], f"still in flight: {running}"
        self._is_quiet()
        await self._flush()
        self._is_quiet()
        lines = [line for line in self.lines if line["event"] in ("request", "refused")]
        ids = [line["id"] for line in lines if "id" in line]  # many that are turned away are told in one line
        assert len(ids) == len(set(ids)), "a request ended twice"
        assert all(line["end_reason"] and line["end_code"] for line in lines)
        grown = self.p.rss() - self._rss
        assert grown < GROWTH, f"{grown >> 20} MiB of memory are left behind"
        if self.books:
            await self._balance({line["id"]: line for line in lines if "id" in line})
        self._clean = True

    async def warmed(self) -> None:
        """The vocabulary of `chat()`'s model is loaded, which on a busy machine takes a while."""
        for _ in range(10):  # longer than some stage's `total`, perhaps
            answered = await self.ask(chat([("x-weir-dry-run", "true")]), timeout=30)
            if answered.status == 200:
                return
        raise AssertionError(f"a dry run ends with {answered}")

    async def in_flight(self, timeout: float = 1.0) -> list[dict[str, Any]]:
        """What still runs after so many seconds."""
        end = time.monotonic() + timeout
        while True:
            running = (await self.p.get("/inflight", management=True)).json()
            if not running["total"] or time.monotonic() > end:
                assert running["total"] >= len(running["requests"])
                return list(running["requests"])
            await asyncio.sleep(0.02)

    async def rows(self) -> dict[str, dict[str, Any]]:
        """The ledger's rows, by the ids of their requests."""
        told = (await self.p.get("/usage/rows", management=True)).body.splitlines()
        rows = {row["id"]: row for row in map(orjson.loads, told)}
        assert len(rows) == len(told), "a request has two rows"
        return rows

    async def row(self, n: int = 1) -> dict[str, Any]:
        """The row of the test's one request, or of the last of `n`."""
        id_: str = (await self.ends(n))[-1]["id"]
        return (await self._rows_with({id_}))[id_]

    async def _rows_with(self, ids: set[str], timeout: float = 5.0) -> dict[str, dict[str, Any]]:
        """All rows, once these are among them or the time is over."""
        end = time.monotonic() + timeout
        while True:
            rows = await self.rows()
            if ids <= rows.keys() or time.monotonic() > end:
                return rows
            await asyncio.sleep(0.05)

    async def _balance(self, ended: Mapping[str, dict[str, Any]]) -> None:
        """The ledger has what the log has, and the limits have charged what it says."""
        due = {
            id_: line
            for id_, line in ended.items()
            if line.get("attempts") or line["end_reason"] == "complete"
        }
        rows = await self._rows_with(set(due), timeout=2.0)
        for id_, line in ended.items():
            assert id_ in rows or id_ not in due, f"no row for {line}"
            if id_ in rows:
                for name in ("status", "end_reason", "end_code", "attempts"):
                    assert (name, rows[id_][name]) == (name, line[name])
        limits = (await self.p.get("/rate-limit/status")).json()["limits"]
        used = {limit["name"]: Decimal(str(limit["used"])) for limit in limits}
        assert used["flying"] == 0, f"{used['flying']} leases are held"
        charged = sum((billed(row) for row in rows.values()), Decimal(0))
        assert used["money"] == charged, f"{used['money']} are charged, {charged} were used"

    async def _is_alive(self) -> None:
        for tries_left in (2, 1, 0):  # this machine has other things to do too
            start = time.monotonic()
            assert (await self.p.get("/healthz", management=True)).status == 200
            if (took := time.monotonic() - start) < 0.5:
                return
            assert tries_left, f"/healthz took {took} s"

    def _is_quiet(self) -> None:
        assert not [line for line in self.lines if line["level"] in ("error", "critical", "warning")]
        said = self._said()
        assert [canary for canary in CANARIES if canary in said] == [], "a secret was logged"

    @property
    def _log(self) -> Path:
        return self.p.folder / "stderr"

    def _said(self) -> str:
        with self._log.open("rb") as log:
            log.seek(self._mark)
            whole, line_end, _ = log.read().rpartition(b"\n")  # the last one may still be written
            return (whole + line_end).decode(errors="replace")

    async def _flush(self) -> None:
        """Wait until what has been logged so far can be read."""
        self._flushed += 1
        mark = f"flush-{self._flushed}"
        await self.ask(request("TRACE", "/v1/flush", [("x-request-id", mark)]))
        await until(lambda: mark in self._said(), what="the log")

    async def _settle(self) -> None:
        """Learn how many files and how much memory it holds when nothing goes on."""
        await self.ask(get("/v1/warm-up"))
        same = 0
        while same < 20:
            await asyncio.sleep(0.005)
            now = self.p.fds()
            same = same + 1 if now == self._fds else 0
            self._fds = now
        self._rss = self.p.rss()

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


def billed(row: Mapping[str, Any]) -> Decimal:
    """What a limit on money charges for a request, by its row: the cost, or the most that it can be where
    that is not known, and for a client that left before its answer began."""
    unseen = row["cost_usd"] is None or (row["end_reason"] == "client_gone" and row["status"] is None)
    cost = row["cost_high_usd"] if unseen else row["cost_usd"]
    return Decimal(cost or 0).quantize(NANO, ROUND_CEILING)


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
