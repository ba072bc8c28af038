"""Limits in Redis: the same for every process that shares it, and what happens while it does not answer."""

import asyncio
import logging
import secrets
from collections.abc import Callable, Mapping, Sequence
from time import monotonic_ns, time_ns
from typing import Final

from ..limit import Kind, Limit
from ..memory import BUCKETS, MemoryStore
from ..meter import UNLIMITED
from ..store import Hold, Store
from ..table import Table
from .breaker import Breaker
from .call import gives_of
from .connection import Connection, is_refusal
from .fallback import Fallback, Local
from .known import Known
from .line import TIMEOUT, Line
from .mirrors import Mirrors
from .settlements import Settlements
from .url import place

log = logging.getLogger("weir.limiter")

PROBES: Final = 0.25
"""Seconds between two probes of a Redis that does not answer."""
PATIENCE: Final = 3.0
"""Seconds that a process that stops waits for a Redis that does not answer, if it has something to tell."""
LEASE: Final = 30.0
"""Seconds that the lease of a request outlives its process."""
BEATS: Final = 3
"""How often leases are renewed in that time."""


class RedisStore:
    """A `Store` that many processes share: one script decides, by Redis's own clock.

    All keys of a namespace have one hash tag, so that one script sees them, in a Cluster too. While Redis
    does not answer, each limit does what its `on_failure` says; what was counted here is told to Redis
    afterwards.
    """

    def __init__(
        self,
        url: str,
        limits: Sequence[Limit],
        buckets: int = BUCKETS,
        *,
        namespace: str = "weir",
        lease: float = LEASE,
        timeout: float = TIMEOUT,
        connection: Connection | None = None,
        monotonic: Callable[[], int] = monotonic_ns,
        wall: Callable[[], int] = time_ns,
    ) -> None:
        """`buckets` bounds what each limit counts here meanwhile, `lease` and `timeout` are in seconds.

        Raises `ValueError` for a URL that will not do.
        """
        where = place(url)
        self.shown = where.shown
        self._limits = limits
        self._lease = lease
        self._breaker = Breaker()
        self._settlements = Settlements()
        self._fallback = Fallback(limits, MemoryStore(limits, buckets, monotonic=monotonic, wall=wall))
        self._known = Known(wall)
        self._where = where, namespace
        self._connection = connection or Connection(where)
        self._line = Line(
            self._connection,
            self._settlements,
            self._breaker,
            self._known,
            self._changed,
            self._restored,
            prefix=f"weir:{{{namespace}}}:",
            process=secrets.token_hex(8),
            lease=round(lease * 1e6),
            timeout=timeout,
        )
        self._mirrors = Mirrors(self._line, self._settlements, lambda: self._breaker.open, wall)
        self._beating: asyncio.Task[None] | None = None
        self._probing: asyncio.Task[None] | None = None

    @property
    def memory(self) -> MemoryStore:
        """What is counted here while Redis does not answer."""
        return self._fallback.memory

    @property
    def tables(self) -> Mapping[str, Table]:
        """See `Store.tables`."""
        return self._fallback.memory.tables

    @property
    def mode(self) -> str:
        """See `Store.mode`."""
        return "local" if self._breaker.open else "shared"

    @property
    def shares(self) -> int:
        """See `Store.shares`."""
        return self._fallback.shares

    @property
    def figures(self) -> Mapping[str, int]:
        """See `Store.figures`."""
        return {
            "calls": self._line.calls,
            "decisions": self._line.decisions,
            "lost": self._settlements.lost,
        }

    def adopt(self, previous: Store) -> None:
        """See `Store.adopt`."""
        self._fallback.memory.adopt(previous.memory)
        if isinstance(previous, RedisStore) and previous._where == self._where:
            self._known.adopt(previous._known)

    async def start(self, shares: int) -> None:
        """See `Store.start`. Redis need not be there: then requests are decided without it from the first."""
        self._fallback.shares = self._mirrors.shares = shares
        self._beating = asyncio.create_task(self._beat())
        if await self._line.probe():
            self._tell()
        else:
            while not self._breaker.open:
                if self._breaker.failed(self._breaker.reason or TimeoutError()):
                    self._changed(True)

    async def stop(self) -> None:
        """See `Store.stop`."""
        for task in (self._beating, self._probing):
            if task is not None:
                task.cancel()
        self._mirrors.close()
        await self._line.flush()
        until = monotonic_ns() + round(PATIENCE * 1e9)
        while (self._line.owed or self._fallback.counted) and monotonic_ns() < until:
            await asyncio.sleep(PROBES)
            await self._line.probe()
            await self._line.flush()
        if self._line.owed or self._fallback.counted:
            self._settlements.lost += self._line.owed
            log.warning(
                "Redis at %s does not answer and Weir stops: %d settlements are lost%s",
                self.shown,
                self._line.owed,
                ", and what was counted here" if self._fallback.counted else "",
            )
        self._line.close()
        await self._connection.close()

    def ready(self) -> str | None:
        """See `Store.ready`."""
        reason = self._breaker.reason
        if reason is not None and is_refusal(reason):
            return f"limiter: Redis at {self.shown} refuses us: its password or its ACL is another"
        if self._breaker.open:
            for limit in self._limits:
                if limit.on_failure == "closed" and not limit.shadow:
                    return f'limiter: Redis at {self.shown} does not answer, and "{limit.name}" needs it'
        return None

    async def decide(self, hold: Hold) -> None:
        """See `Store.decide`."""
        if not hold.asks:
            hold.held = True
        elif await self._line.ask(hold, True):
            self._count(hold)
        else:
            await self._fallback.decide(hold)
            if hold.held:
                self._settlements.run(hold.id, [ask for ask in hold.asks if ask[0].on_failure == "local"])

    async def peek(self, hold: Hold) -> None:
        """See `Store.peek`."""
        if hold.asks and not await self._line.ask(hold, False):
            await self._fallback.peek(hold)

    async def settle(self, hold: Hold, used: Mapping[Kind, int]) -> None:
        """See `Store.settle`. It is told to Redis with the next decision, or very soon."""
        if not hold.held:
            return
        hold.held = False
        leases = self._settlements.stop(hold.id)
        self._mirrors.release(hold)
        if hold.local is None:
            gives = gives_of(hold.id, hold.asks, hold.taken, used)
        else:
            gives = await self._fallback.settle(hold.local, used) or leases
        if gives:
            self._settlements.put(gives)
            self._line.nudge()

    def charge(self, hold: Hold, place: int, amount: int) -> int | None:
        """See `Store.charge`. It is told to Redis with what others charge, every `mirrors.LAG`."""
        if not hold.held:
            return UNLIMITED
        limit, key, _ = hold.asks[place]
        local: Local | None = hold.local
        if local is None:
            state, _, left, _ = hold.taken[place]
        elif place not in local.places:
            return UNLIMITED  # it passes while Redis does not answer
        else:
            at = local.places.index(place)
            kept = self._fallback.charge(local, at, amount)
            if kept is not None:
                return kept
            state, _, left, _ = local.hold.taken[at]
        if state is None or self._mirrors.is_over(limit, state):
            return UNLIMITED
        if local is None:
            hold.raise_by(place, amount)
        return self._mirrors.charge(hold, place, limit, key, state, left, amount)

    async def renew(self) -> None:
        """Renew the leases of all requests that run, and tell what streams have used, now."""
        await self._mirrors.tell()
        self._settlements.beat()
        await self._line.flush()

    def _count(self, hold: Hold) -> None:
        tables = self._fallback.memory.tables
        if hold.held:
            for (limit, _, _), (receipt, _, _, _) in zip(hold.asks, hold.taken, strict=True):
                if receipt is None:
                    tables[limit.id].refused += 1
                else:
                    tables[limit.id].admitted += 1
        else:
            for (limit, _, _), (_, wait, _, _) in zip(hold.asks, hold.taken, strict=True):
                if wait:
                    tables[limit.id].refused += 1

    # -- Redis comes and goes ----------------------------------------------------------------------

    def _changed(self, breaker: bool) -> None:
        if not self._breaker.open:
            if breaker:
                log.info("Redis at %s answers again: limits are shared again", self.shown)
            if breaker or self._fallback.counted:
                self._tell()
            return
        log.warning(
            "Redis at %s does not answer (%s): until it does, %s",
            self.shown,
            _said(self._breaker.reason),
            _policies(self._limits, self._fallback.shares),
        )
        if self._probing is None or self._probing.done():
            self._probing = asyncio.create_task(self._probe())

    def _restored(self, budgets: int) -> None:
        log.warning(
            "Redis at %s had lost its data: it was told of %d budgets again; all other limits begin anew",
            self.shown,
            budgets,
        )

    def _tell(self) -> None:
        """Tell Redis what was counted here, and which requests run."""
        self._settlements.hand_over(self._fallback.hand_over())
        self._settlements.beat()
        self._line.nudge(0)

    async def _probe(self) -> None:
        while self._breaker.open:
            await asyncio.sleep(PROBES)
            await self._line.probe()

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(self._lease / BEATS)
            self._settlements.beat()
            self._line.nudge(0)


def _said(reason: BaseException | None) -> str:
    """Why, in a word. What Redis says may quote what it was sent, so it is not repeated."""
    if reason is not None and is_refusal(reason):
        return "it refuses us: its password or its ACL is another"
    return "no answer in time" if isinstance(reason, TimeoutError) else type(reason).__name__


def _policies(limits: Sequence[Limit], shares: int) -> str:
    names: dict[str, list[str]] = {}
    for limit in limits:
        names.setdefault(limit.on_failure, []).append(limit.name)
    share = "all of each" if shares == 1 else f"1/{shares} of each"
    says = {
        "local": f"this process counts for itself and admits {share}",
        "open": "everything passes",
        "closed": "everything is refused",
    }
    return "; ".join(f"{says[policy]} ({', '.join(of)})" for policy, of in names.items()) or "nothing changes"
