"""The `limiter` plugin: asks every limit that applies, before, and settles, after."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, ClassVar

from starlette.requests import Request as HttpRequest
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from proxy.api import (
    COST,
    DRY_RUN,
    ESTIMATE,
    IDENTITY,
    DryRun,
    End,
    Exchange,
    Plugin,
    Reply,
    Server,
    Slot,
)
from proxy.pricing.prompt import ENDPOINTS as ESTIMATED
from proxy.pricing.values import Prices

from .demand import NOTHING, counted, expected, model_of, used
from .grammar import DEFAULTS, read
from .headers import add_headers
from .limit import Limit
from .memory import BUCKETS, MemoryStore
from .metrics import Metrics
from .refusal import not_estimated, refusal, unpriced
from .scope import SERVED_AT, USE, Plan, Scopes, loosely, model_key
from .status import figure, listed, status, terms
from .store import Ask, Hold

Decide = Callable[[Hold], Awaitable[None]]

HELD: Slot[Hold] = Slot("limiter.held")


class Limiter(Plugin):
    """Refuses with 429 what is above a limit; one refused request takes nothing from any limit.

    Without `limits`, those of `grammar.DEFAULTS`. A request is counted when it is admitted; tokens and money
    are reserved then, as ESTIMATE has them, and settled at its end by USAGE and COST. docs/limits.md says
    what counts when.
    """

    requires: ClassVar[tuple[Slot[Any], ...]] = (IDENTITY,)

    def __init__(
        self,
        limits: Sequence[dict[str, Any]] = DEFAULTS,
        store: str = "memory",
        buckets: int = BUCKETS,
    ) -> None:
        """`store` is where counts are kept, `buckets` how many of each limit at most."""
        self._limits = read(limits)
        _check(store, buckets)
        kinds = {limit.kind for limit in self._limits}
        # Per configuration, not per class: only who counts use needs somebody to estimate and to price it.
        if kinds & USE:
            self.requires = (IDENTITY, ESTIMATE)  # type: ignore[misc]
        if "cost" in kinds:
            self.reads_at_end = (COST,)  # type: ignore[misc]
        self._scopes = Scopes(self._limits)
        self._everything = Plan(self._limits)
        self._store = MemoryStore(self._limits, buckets)
        self._metrics = Metrics()
        self._prices: Prices | None = None

    def adopt(self, previous: Plugin) -> None:
        """Go on from the counts of the one that a reload replaces; see `Limit.id`."""
        if isinstance(previous, Limiter):
            self._store.adopt(previous._store)
            self._metrics = previous._metrics

    async def start(self, server: Server) -> None:
        """See `Plugin.start`."""
        if server.workers > 1 and self._limits:
            raise ValueError(
                f"limiter: {server.workers} workers would each count for themselves, since the memory store "
                "is one process's own; run one worker, or share the counts in Redis once that store is there"
            )
        self._prices = server.prices
        try:
            self._metrics.open(self, server.metrics, self._limits, self._store)
        except ValueError as error:
            raise ValueError(
                "limiter stands in the chain twice: put all limits into one, since only one can decide "
                "over them in one step"
            ) from error

    async def stop(self) -> None:
        """See `Plugin.stop`."""
        self._metrics.close(self)

    # -- one exchange ------------------------------------------------------------------------------

    async def on_request(self, ex: Exchange) -> Reply | None:
        """Ask all limits that apply, in one step."""
        request = ex.request
        plan = self._scopes.plan(request.endpoint, request.method == "POST")
        if not plan:
            return None
        model = await self._model(ex) if plan.by_model else None
        demand = await expected(ex) if plan.by_use else NOTHING
        if demand is NOTHING and plan.means_use and loosely(request.endpoint) in ESTIMATED:
            await request.json()  # says what is wrong with it, if that is all
            return not_estimated()
        asks = plan.asks(ex[IDENTITY], model, demand)
        hold = ex[HELD] = Hold(ex.id, asks, plan.settles)  # before the store is asked: on_end must know
        priceless = _on_money(asks) if demand is not NOTHING and demand.cost is None else None
        dry_run = ex.get(DRY_RUN)
        if dry_run is not None:
            await self._decide(ex, plan, model, hold, self._store.peek)
            await self._tell(dry_run, hold, admitted=priceless is None and hold.refused_by is None)
            return None
        if priceless is not None:
            return unpriced(priceless)
        await self._decide(ex, plan, model, hold, self._store.decide)
        at = hold.refused_by
        if at is None:
            return None
        limit, _, amount = hold.asks[at]
        return refusal(limit, amount, hold.taken[at][1])

    async def on_response(self, ex: Exchange) -> None:
        """Tell of the limits."""
        hold = ex.get(HELD)
        if hold is not None:
            add_headers(ex.response.headers, hold)

    async def on_end(self, ex: Exchange, end: End) -> None:
        """Settle what is held, however it ended."""
        hold = ex.get(HELD)
        if hold is not None and hold.held and (hold.settles or not ex.attempts):
            await self._store.settle(hold, used(ex, end))

    async def _decide(self, ex: Exchange, plan: Plan, model: str | None, hold: Hold, decide: Decide) -> None:
        """Ask; and if it is a bound that was too much, once more with the exact count."""
        await decide(hold)
        at = hold.refused_by
        if at is not None and hold.asks[at][0].kind in USE:
            demand = await counted(ex, self._prices)
            if demand is not None:
                hold.asks = plan.asks(ex[IDENTITY], model, demand)
                await decide(hold)

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
        model = await model_of(ex, loosely(ex.request.endpoint))
        return None if model is None else model_key(model)

    # -- what others are told ----------------------------------------------------------------------

    def describe_model(self, ex: Exchange, model: str) -> Mapping[str, Any]:
        """The limits that a request for this model would be held to; of a model that the price table does not
        know, all that may be."""
        known = None if self._prices is None else self._prices.model(model)
        endpoint = None if known is None else SERVED_AT.get(known.kind)
        plan = self._everything if endpoint is None else self._scopes.plan(endpoint, True)
        asks = plan.asks(ex[IDENTITY], model_key(model), NOTHING)
        return {"limits": [terms(limit) for limit, _, _ in asks]}

    # -- the caller's own view ---------------------------------------------------------------------

    def routes(self) -> Sequence[BaseRoute]:
        """`GET /rate-limit/status`: what the caller may still use; `?model=` adds limits that go by it."""
        return [Route("/rate-limit/status", self._status)]

    async def _status(self, request: HttpRequest) -> Response:
        who = request.scope["weir.exchange"][IDENTITY]
        named = request.query_params.get("model")
        asks = self._everything.asks(who, None if named is None else model_key(named), NOTHING)
        now = Hold("", _for_nothing(asks))
        await self._store.peek(now)
        known = {limit.id for limit, _, _ in asks}
        others = [limit for limit in self._limits if limit.id not in known] if named is None else ()
        return Response(status(who, now, others), media_type="application/json")


def _check(store: Any, buckets: Any) -> None:
    if str(store).startswith(("redis:", "rediss:", "unix:")):
        raise ValueError("store: Redis is not there yet; leave it out, or say memory")
    if store != "memory":
        raise ValueError(f'store: "{store}" is not memory, which is the only one yet')
    if not isinstance(buckets, int) or isinstance(buckets, bool) or buckets < 1:
        raise ValueError(f'buckets: "{buckets}" is not a whole number above 0')


def _for_nothing(asks: Sequence[Ask]) -> list[Ask]:
    """The same buckets, asked for nothing: what there is now."""
    return [(limit, key, 0) for limit, key, _ in asks]


def _on_money(asks: Sequence[Ask]) -> Limit | None:
    """The first of these limits that counts money and means it."""
    return next((limit for limit, _, _ in asks if limit.kind == "cost" and not limit.shadow), None)
