"""All parts of a soak put together: rounds of load, each with a rest at its end at which Weir is measured."""

import asyncio
import os
import random
import sqlite3
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack, closing, suppress
from pathlib import Path
from typing import Any, Final

import redis as redis_py

from tests.faults.process import Process
from tests.faults.relay import Relay
from tests.faults.upstream import RawUpstream, answer, ok_json
from tests.plugins.limiter.redis.servers import server
from tests.ports import free_ports

from .clients import KEY, Book, Client
from .disturbances import Disturbances
from .figures import Figures, Ledger, verdict
from .upstream import script

ROOT: Final = Path(__file__).parent.parent.parent
SETTLED: Final = 15.0
"""Seconds of rest in which all has to be settled: ended, told to Redis, and written to the database."""
HASTY: Final = {"connect": "500ms", "first_byte": "1s", "idle": "1s", "total": "8s"}
IMPATIENT: Final = {"header_time": "1s", "body_idle": "1s", "write_idle": "1s", "json_body": "4MiB"}
LIMITS: Final = [
    {"name": "flying", "in_flight": 200, "per": "user"},
    {"name": "rate", "requests": "100000/minute", "per": "user"},
    {"name": "tight", "requests": "30/second", "per": "user", "on": "chat"},
    {"name": "money", "cost": "1000/day", "per": "team", "on_failure": "local"},
]


def plugins(redis: int, planted: Sequence[str] = ()) -> list[Any]:
    """All of them; those that are planted come first, so that they see the whole of it."""
    return [
        *planted,
        "tracing",
        {"use": "auth", "keys": [{"user": "alice", "team": "a", "key": KEY}]},
        "precost",
        "ledger",
        "validate",
        {
            "use": "limiter",
            "store": f"redis://127.0.0.1:{redis}/0",
            "limits": LIMITS,
            "namespace": "soak",
            "timeout": "50ms",
        },
        {"use": "annotate", "inside": "on"},
    ]


def anonymous(pid: int) -> float:
    """MiB of memory that is of no file: the ledger maps its journal, which fills for an hour or so."""
    for row in Path(f"/proc/{pid}/status").read_text().splitlines():
        if row.startswith("RssAnon:"):
            return int(row.split()[1]) / 1024
    raise AssertionError("the process has ended")


def complaints(weir: Process) -> list[str]:
    """What its log has that no disturbance explains: errors, and lines that are no log at all."""
    found = Counter(each["event"] for each in weir.logs if each["level"] in ("error", "critical"))
    del found["configuration not reloaded"]
    wrong = [f"log: {event!r}, {count} times" for event, count in found.items()]
    odd = [each for each in weir.stderr.splitlines() if each.strip() and not each.startswith("{")]
    return wrong + ([f"log: {len(odd)} lines that are no log, such as {odd[-1][:200]!r}"] if odd else [])


class Soak:
    """One soak: `run` it, and read `wrong`."""

    def __init__(
        self,
        seconds: float,
        seed: int,
        *,
        load: float | None = None,
        clients: int = 8,
        pause: float = 0.05,
        patience: float = SETTLED,
        planted: Sequence[str] = (),
        tell: Callable[[Figures], None] = lambda rest: None,
    ) -> None:
        """`load` is how long a round goes between two rests, and `patience` how long one may take to settle;
        every client waits about `pause` between two things that it does. `planted` are plugins as a
        configuration names them."""
        self._seconds = seconds
        self._seed = seed
        self._load = load if load is not None else min(10.0, max(2.0, seconds / 12))
        self._clients = clients
        self._pause = pause
        self._patience = patience
        self._planted = planted
        self._tell = tell
        self.book = Book()
        self.rests: list[Figures] = []
        self._rows: Counter[str] = Counter()
        self._row = 0
        self.ledger = Ledger(0, 0, 0, 0)
        self.wrong: list[str] = []

    async def run(self) -> None:
        """Fills `rests`, `ledger` and `wrong`. Raises AssertionError for what can only be a bug of Weir."""
        chance = random.Random(self._seed)
        async with AsyncExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="weir-soak-")))
            store = stack.enter_context(server())
            (port,) = free_ports(1)
            to_redis = await stack.enter_async_context(Relay(store.port))
            to_upstream = await stack.enter_async_context(Relay(port))
            collector = await stack.enter_async_context(RawUpstream(answer(ok_json(b"{}")), keep=False))
            self._database = folder / "state" / "weir.db"
            weir = Process(
                f"http://127.0.0.1:{to_upstream.port}/v1",
                upstream={"timeouts": HASTY, "pool": {"max": 64, "idle": "2s"}},
                config={
                    "plugins": plugins(to_redis.port, self._planted),
                    "state_dir": str(folder / "state"),
                    "limits_http": IMPATIENT,
                    "overload": {"loop_lag": "1s"},
                    "drain": {"grace": "3s"},
                },
                env={
                    "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
                    "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{collector.port}",
                    "WEIR_LOG_LEVEL": "warning",
                },
                start_within=60.0,
            )
            self._redis = redis_py.Redis(port=store.port)
            stack.callback(self._redis.close)
            await stack.enter_async_context(weir)
            self._weir, self._upstream = weir, to_upstream
            disturbances = Disturbances(weir, to_redis, to_upstream, random.Random(chance.random()))
            loop = asyncio.get_running_loop()
            self._began = loop.time()
            while loop.time() - self._began < self._seconds or len(self.rests) < 6:
                await self._round(port, disturbances, chance)
            within = max(5.0, self._patience)
            with suppress(AssertionError):
                await weir.stop(within)
            if weir.alive:
                self.wrong.append(f"stop: it had not ended {within:g} s after SIGTERM")
            self.ledger = self._audit()
            self.wrong += complaints(weir)
        self.wrong += verdict(self.rests, self.ledger)
        if self.book.unanswered:
            self.wrong.append(f"answers: {self.book.unanswered} good requests got none at all")

    async def _round(self, port: int, disturbances: Disturbances, chance: random.Random) -> None:
        loop = asyncio.get_running_loop()
        end = loop.time() + self._load
        async with RawUpstream(script, port=port, keep=False) as up:
            clients = [
                Client(self._weir.port, self.book, random.Random(chance.random()))
                for _ in range(self._clients)
            ]
            async with asyncio.TaskGroup() as group:
                for client in clients:
                    group.create_task(client.run(end, self._pause))
                group.create_task(disturbances.run(end))
            await self._serves()
            rest = await self._rest(up)
        self.rests.append(rest)
        self._tell(rest)

    async def _serves(self) -> None:
        """When the faults are over, so are their consequences: good requests are answered."""
        client = Client(self._weir.port, self.book, random.Random(0))
        seen: list[object] = []

        async def good() -> bool:
            async with client.connection() as connection:
                asked = client.ask()
                await connection.send(asked.data)
                got = await client.answer(connection, asked)
            seen.append(got and (got.status, got.body[:200]))
            return got is not None and got.status == 200

        deadline = asyncio.get_running_loop().time() + SETTLED
        row = 0
        while row < 5:
            row = row + 1 if await good() else 0
            assert asyncio.get_running_loop().time() < deadline, f"it does not serve any more: {seen[-5:]}"
            await asyncio.sleep(0.05)

    async def _rest(self, up: RawUpstream) -> Figures:
        """Wait until all is settled, or until it should be; and measure."""
        self._see(up)
        self._upstream.cut()
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._patience
        figures = await self._measure()
        while loop.time() < deadline:
            await asyncio.sleep(0.25)
            before, figures = figures, await self._measure()
            settled = not figures.in_flight and not figures.leases and figures.rows >= figures.requests
            if settled and figures.descriptors == before.descriptors:
                break
        return figures

    def _see(self, up: RawUpstream) -> None:
        """What the upstream has heard of has a row."""
        for request in up.requests:
            if (id_ := request.get("x-request-id")) is not None:
                self.book.due.add(id_.decode())

    async def _measure(self) -> Figures:
        weir = self._weir
        self._look()
        in_flight = (await weir.get("/inflight", management=True)).json()["total"]
        return Figures(
            asyncio.get_running_loop().time() - self._began,
            len(self.book.due),
            len(self._rows.keys() & self.book.due),
            anonymous(weir.pid),
            weir.fds(),
            in_flight,
            self._leases(),
        )

    def _leases(self) -> int:
        now = self._redis.time()
        micros = now[0] * 1_000_000 + now[1]
        count = 0
        for key in self._redis.scan_iter("weir:{soak}:*", count=1000, _type="zset"):
            count += self._redis.zcount(key, f"({micros}", "+inf")
        return count

    def _look(self) -> None:
        """Count the rows that have come since, by the client's request id."""
        with closing(sqlite3.connect(f"file:{self._database}?mode=ro", uri=True, timeout=10)) as database:
            for row, id_ in database.execute(
                "SELECT rowid, client_request_id FROM weir_ledger WHERE rowid > ? ORDER BY rowid", [self._row]
            ):
                self._row = row
                if id_ is not None:
                    self._rows[id_] += 1

    def _audit(self) -> Ledger:
        self._look()
        book, rows = self.book, self._rows
        return Ledger(
            requests=len(book.due),
            missing=len(book.due - rows.keys()),
            twice=sum(count > 1 for count in rows.values()),
            invented=len((rows.keys() - book.made) | (rows.keys() & book.refused)),
        )
