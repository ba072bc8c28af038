"""The `limiter` plugin: asks every limit that applies, before, and settles, after."""

import re
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from typing import Any, ClassVar, Final

from starlette.requests import Request as HttpRequest
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from proxy.api import (
    COST,
    DRY_RUN,
    ESTIMATE,
    FUSE,
    IDENTITY,
    DryRun,
    End,
    Exchange,
    Identity,
    Plugin,
    Reply,
    Server,
    Slot,
)
from proxy.pricing.prompt import ENDPOINTS as ESTIMATED
from proxy.pricing.values import Prices

from .demand import NOTHING, NOTHING_USED, counted, expected, model_of, used
from .fuse import Fuses
from .grammar import DEFAULTS, read, seconds
from .headers import add_headers
from .keys import KeyLimits
from .leases import TRY_AGAIN
from .limit import Kind, Limit
from .memory import BUCKETS, MemoryStore
from .metrics import Metrics
from .queue import Queues
from .refusal import not_estimated, refusal, unavailable, unpriced, unreadable
from .scope import SERVED_AT, USE, Plan, Scopes, endpoint_of, model_key
from .status import figure, listed, status, terms
from .store import Ask, Hold, Store

_NAMESPACE: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")
Decide = Callable[[Hold], Awaitable[None]]

HELD: Slot[Hold] = Slot("limiter.held")


class Limiter(Plugin):
    """Refuses with 429 what is above a limit; one refused request takes nothing from any limit.

    Without `limits`, those of `grammar.DEFAULTS`. A request is counted when it is admitted; tokens and money
    are reserved then, as ESTIMATE has them, and settled at its end by USAGE and COST. docs/limits.md says
    what counts when.
    """

    requires: ClassVar[tuple[Slot[Any], ...]] = (IDENTITY,)
    provides = (FUSE,)

    def __init__(
        self,
        limits: Sequence[dict[str, Any]] = DEFAULTS,
        store: str = "memory",
        buckets: int = BUCKETS,
        namespace: str = "weir",
        lease: str = "30s",
        timeout: str = "50ms",
    ) -> None:
        """`store` is where counts are kept: `memory`, or the URL of a Redis, or `redis` for the one that the
        server is configured with. `buckets` is how many of each limit are kept in memory at most. In Redis,
        limits of one `namespace` are shared, a `lease` is how long a request in flight outlives its process,
        and `timeout` how long a request waits for an answer.
        """
        self._limits = read(limits)
        _check(buckets, namespace)
        self._url = _url(store)
        self._namespace = namespace
        self._lease = seconds(lease, "lease", 3600.0)
        self._timeout = seconds(timeout, "timeout", 10.0)
        self._buckets = buckets
        kinds = {limit.kind for limit in self._limits}
        # Per configuration, not per class: only who counts use needs somebody to estimate and to price it.
        if kinds & USE:
            self.requires = (IDENTITY, ESTIMATE)  # type: ignore[misc]
        if "cost" in kinds:
            self.reads_at_end = (COST,)  # type: ignore[misc]
        self._scopes = Scopes(self._limits)
        self._keys = KeyLimits(self._limits)
        self._store: Store = MemoryStore(self._limits, buckets)
        if self._url not in ("", "redis"):
            self._store = self._shared(self._url)
        self._queueing = any(limit.queue is not None for limit in self._limits)
        self._queues = Queues(self._ask, self._undo)
        self._metrics = Metrics()
        self._fuses = Fuses()
        self._previous: Store | None = None
        self._prices: Prices | None = None

    def adopt(self, previous: Plugin) -> None:
        """Go on from the counts of the one that a reload replaces; see `Limit.id`."""
        if isinstance(previous, Limiter):
            self._previous = previous._store
            self._metrics = previous._metrics
            self._fuses = previous._fuses

    async def start(self, server: Server) -> None:
        """See `Plugin.start`."""
        if self._url == "redis":
            if server.redis_url is None:
                raise ValueError(
                    "limiter: store: redis needs the URL of one; write redis: redis://host beside plugins"
                )
            self._store = self._shared(server.redis_url)
        if not self._url and server.workers > 1 and self._limits:
            raise ValueError(
                f"limiter: {server.workers} workers would each count for themselves, since the memory store "
                "is one process's own; run one worker, or share the counts with store: redis://host:6379"
            )
        if self._previous is not None:
            self._store.adopt(self._previous)
            self._previous = None
        self._prices = server.prices
        try:
            self._metrics.open(self, server.metrics, self._limits, self._store)
        except ValueError as error:
            raise ValueError(
                "limiter stands in the chain twice: put all limits into one, since only one can decide "
                "over them in one step"
            ) from error

        await self._store.start(server.workers * server.replicas)

    async def stop(self) -> None:
        """See `Plugin.stop`."""
        await self._store.stop()
        self._metrics.close(self)

    def ready(self) -> str | None:
        """See `Plugin.ready`."""
        return self._store.ready()

    def _shared(self, url: str) -> Store:
        from .redis import RedisStore  # redis-py is loaded by those who use it

        try:
            return RedisStore(
                url,
                self._limits,
                self._buckets,
                namespace=self._namespace,
                lease=self._lease,
                timeout=self._timeout,
            )
        except ValueError as error:
            raise ValueError(f"store: the Redis URL {error}") from None

    # -- one exchange ------------------------------------------------------------------------------

    async def on_request(self, ex: Exchange) -> Reply | None:
        """Ask all limits that apply, in one step."""
        request = ex.request
        who = ex[IDENTITY]
        own = who.limits
        try:
            scopes = self._keys.scopes(own) if own else self._scopes
        except ValueError as error:
            return unreadable(str(error))
        plan = scopes.plans[request.endpoint, request.method == "POST"]
        if not plan.limits:
            return None
        model = await self._model(ex) if plan.by_model else None
        demand = await expected(ex, self._prices if plan.burns else None) if plan.by_use else NOTHING
        if demand is NOTHING and plan.means_use and endpoint_of(request.endpoint) in ESTIMATED:
            await request.json()  # says what is wrong with it, if that is all
            return not_estimated()
        asks = plan.asks(who, model, demand) if plan.varies or own else plan.counted[who]
        hold = Hold(ex.id, asks, plan.settles, plan.told or plan.told_of(asks))
        ex[HELD] = hold  # before the store is asked: on_end must know
        priceless = _on_money(asks) if demand is not NOTHING and demand.cost is None else None
        dry_run = ex.get(DRY_RUN)
        if dry_run is not None:
            await self._store.peek(hold)
            await self._count(ex, plan, model, hold, self._store.peek)
            await self._tell(dry_run, hold, admitted=priceless is None and hold.refused_by is None)
            return None
        if priceless is not None:
            return unpriced(priceless)
        if not plan.queues or self._queues.line(hold) is None:
            if isinstance(self._store, MemoryStore):  # saves a coroutine
                self._store.decide_now(hold)
            else:
                await self._store.decide(hold)
            if hold.refused_by is not None:
                await self._count(ex, plan, model, hold, self._store.decide)
        if plan.queues:
            await self._wait(ex, hold, who.user)
        if hold.held:
            if demand.input_cost is not None and (share := self._fuses.light(hold, self._store)):
                ex[FUSE] = hold.share = share
            return None
        if hold.unavailable is not None:
            return unavailable(hold.unavailable)
        assert hold.refused_by is not None  # noqa: S101 # a store says one or the other
        limit, _, amount = hold.asks[hold.refused_by]
        return refusal(limit, amount, hold.taken[hold.refused_by][1] or TRY_AGAIN)

    def on_response(self, ex: Exchange) -> None:
        """Tell of the limits."""
        hold = ex.get(HELD)
        if hold is not None:
            add_headers(ex.response.headers, hold)

    def on_end(self, ex: Exchange, end: End) -> Coroutine[Any, Any, None] | None:
        """Settle what is held, however it ended."""
        hold = ex.get(HELD)
        if hold is None:
            return None
        if hold.share is not None:
            hold.share.end()
        if hold.held and (hold.settles or not ex.attempts):
            if not isinstance(self._store, MemoryStore):
                return self._settle(hold, used(ex, end))
            self._store.settle_now(hold, used(ex, end))
        if self._queueing:
            self._queues.ended(hold)
        return None

    async def _settle(self, hold: Hold, used: Mapping[Kind, int]) -> None:
        await self._store.settle(hold, used)
        if self._queueing:
            self._queues.ended(hold)

    async def _count(self, ex: Exchange, plan: Plan, model: str | None, hold: Hold, decide: Decide) -> None:
        """Where it is a bound that was too much, ask once more with the exact count."""
        at = hold.refused_by
        if at is not None and hold.asks[at][0].kind in USE:
            demand = await counted(ex, self._prices)
            if demand is not None:
                hold.asks = plan.asks(ex[IDENTITY], model, demand)
                await decide(hold)

    async def _ask(self, hold: Hold) -> None:
        await self._store.decide(hold)

    async def _undo(self, hold: Hold) -> None:
        await self._store.settle(hold, NOTHING_USED)

    async def _wait(self, ex: Exchange, hold: Hold, user: str) -> None:
        """Stand in line, where those that refuse have one; and be counted among those that run."""
        if not hold.held and hold.unavailable is None:
            place = self._queues.line(hold)
            if place is None:
                place = hold.refused_by
                refusing = [
                    (limit, wait)
                    for (limit, _, _), (_, wait, _, _) in zip(hold.asks, hold.taken, strict=True)
                    if wait and not limit.shadow
                ]
                for limit, wait in refusing:
                    # When a request in flight will end is not known; of all else it is.
                    if limit.queue is None or (limit.kind != "in_flight" and wait > limit.queue.wait * 1e6):
                        return
            assert place is not None  # noqa: S101 # what is not held is refused
            if not await self._queues.wait(hold, place, user):
                await self._store.peek(hold)  # what is in the way now? At least those who still wait
                if hold.refused_by is None:
                    hold.refused_by = place
        if hold.held:
            estimate = ex.get(ESTIMATE)
            tokens = 1 if estimate is None else estimate.input_bound + (estimate.max_output_tokens or 0)
            self._queues.began(hold, user, max(1, tokens))

    async def _tell(self, dry_run: DryRun, hold: Hold, *, admitted: bool) -> None:
        """Write the verdict of a dry run, beside the limits as they are now."""
        asked = [
            {"asked": figure(limit, amount), "admitted": not wait}
            for (limit, _, amount), (_, wait, _, _) in zip(hold.asks, hold.taken, strict=True)
        ]
        hold.asks = _for_nothing(hold.asks)
        await self._store.peek(hold)
        dry_run.body["admitted"] = admitted
        dry_run.body["limits"] = [{**limit, **more} for limit, more in zip(listed(hold), asked, strict=True)]

    @staticmethod
    async def _model(ex: Exchange) -> str | None:
        model = await model_of(ex, endpoint_of(ex.request.endpoint))
        return None if model is None else model_key(model)

    # -- what others are told ----------------------------------------------------------------------

    def describe_model(self, ex: Exchange, model: str) -> Mapping[str, Any]:
        """The limits that a request for this model would be held to; of a model that the price table does not
        know, all that may be."""
        known = None if self._prices is None else self._prices.model(model)
        endpoint = None if known is None else SERVED_AT.get(known.kind)
        scopes = self._known(ex[IDENTITY])
        plan = scopes.everything if endpoint is None else scopes.plan(endpoint, True)
        asks = plan.asks(ex[IDENTITY], model_key(model), NOTHING)
        return {"limits": [terms(limit) for limit, _, _ in asks]}

    def _known(self, who: Identity) -> Scopes:
        """The limits that apply to somebody; where a key's own cannot be read, those of the configuration."""
        try:
            return self._keys.scopes(who.limits) if who.limits else self._scopes
        except ValueError:
            return self._scopes

    # -- the caller's own view ---------------------------------------------------------------------

    def routes(self) -> Sequence[BaseRoute]:
        """`GET /rate-limit/status`: what the caller may still use; `?model=` adds limits that go by it."""
        return [Route("/rate-limit/status", self._status)]

    async def _status(self, request: HttpRequest) -> Response:
        who = request.scope["weir.exchange"][IDENTITY]
        named = request.query_params.get("model")
        scopes = self._known(who)
        asks = scopes.everything.asks(who, None if named is None else model_key(named), NOTHING)
        now = Hold("", _for_nothing(asks))
        await self._store.peek(now)
        told = {(limit.id, limit.name) for limit, _, _ in asks}
        others = [limit for limit in scopes.limits if (limit.id, limit.name) not in told]
        return Response(status(who, now, others if named is None else ()), media_type="application/json")


def _check(buckets: Any, namespace: Any) -> None:
    if not isinstance(buckets, int) or isinstance(buckets, bool) or buckets < 1:
        raise ValueError(f'buckets: "{buckets}" is not a whole number above 0')
    if not isinstance(namespace, str) or not _NAMESPACE.fullmatch(namespace):
        raise ValueError(f'namespace: "{namespace}" is not a word of letters, digits, ".", "_" and "-"')


def _url(store: Any) -> str:
    """The URL of a Redis, "redis" for the server's, or "" for memory. It may hold a password."""
    if store == "memory":
        return ""
    if store == "redis" or (isinstance(store, str) and "://" in store):
        return str(store)
    raise ValueError("store is memory, redis, or a URL like redis://localhost:6379/0")


def _for_nothing(asks: Sequence[Ask]) -> list[Ask]:
    """The same buckets, asked for nothing: what there is now."""
    return [(limit, key, 0) for limit, key, _ in asks]


def _on_money(asks: Sequence[Ask]) -> Limit | None:
    """The first of these limits that counts money and means it."""
    return next((limit for limit, _, _ in asks if limit.kind == "cost" and not limit.shadow), None)
