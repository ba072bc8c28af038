"""What happens to requests while Redis does not answer: each limit says for itself (`on_failure`)."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Final, NamedTuple

from ..limit import Kind, Limit
from ..memory import MemoryStore
from ..meter import Taken
from ..store import Ask, Hold
from .call import Give, gives_of

TRY_AGAIN: Final = 1_000_000
"""µs after which a request that is refused for want of Redis may try again."""
_KNOWN: Final = 4096
"""Shares that are kept ready; and buckets of keys' own limits that can be handed over: what more of them
count here stays here."""
_REFUSES: Final[Taken] = (None, TRY_AGAIN, 0, 0)


class Local(NamedTuple):
    """What a request holds here: in the memory of this process, under shares of the limits."""

    hold: Hold
    asks: list[Ask]
    """The same of the whole limits, for when it is settled in Redis after all."""
    places: Sequence[int]
    """Where each of them stands among all that the request asks."""
    handed_over: int
    """How often counts had been handed over before."""


class Fallback:
    """Decides without Redis. `local` limits are kept by this process alone, each as its share of the whole;
    `open` ones let pass, `closed` ones refuse."""

    def __init__(self, limits: Sequence[Limit], memory: MemoryStore) -> None:
        self.memory = memory
        self.shares = 1
        """Processes that share the limits."""
        self._limits = {limit.id: limit for limit in limits}
        self._of_keys: dict[tuple[str, str], Limit] = {}
        self._local: dict[Limit, Limit] = {}
        self._handed_over = 0
        self.counted = False
        """Whether something was counted here that Redis does not know of."""

    async def decide(self, hold: Hold) -> None:
        """See `Store.decide`. Where a limit refuses for want of Redis, the hold says which."""
        inner, asks, places = self._asked(hold)
        for limit, _, _ in hold.asks:
            if limit.on_failure == "closed" and not limit.shadow:
                hold.unavailable = limit
                return
        await self.memory.decide(inner)
        self._tell(hold, inner, places)
        if inner.held:
            hold.held = self.counted = True
            hold.local = Local(inner, asks, places, self._handed_over)

    async def peek(self, hold: Hold) -> None:
        """See `Store.peek`."""
        inner, _, places = self._asked(hold)
        await self.memory.peek(inner)
        self._tell(hold, inner, places)

    def charge(self, local: Local, at: int, amount: int) -> int | None:
        """See `Store.charge`; `at` is the place among what is held here. None if the counts were handed over
        meanwhile, and Redis has to be told."""
        limit, key, asked = local.asks[at]
        local.asks[at] = limit, key, asked + amount
        if local.handed_over == self._handed_over:
            return self.memory.charge(local.hold, at, amount)
        return None

    async def settle(self, local: Local, used: Mapping[Kind, int]) -> list[Give]:
        """Settle here; or, where the counts were handed over meanwhile, what Redis has to be told."""
        if local.handed_over == self._handed_over:
            await self.memory.settle(local.hold, used)
            return []
        return gives_of(local.hold.id, local.asks, local.hold.taken, used)

    def hand_over(self) -> Iterator[Give]:
        """What was counted here and is not used up yet, for Redis; here all is forgotten.

        Leases are not among it: whoever holds one renews it.
        """
        self._handed_over += 1
        self.counted = False
        return self._emptied()

    def _emptied(self) -> Iterator[Give]:
        for id_, table in self.memory.tables.items():
            for key, state in table.empty():
                limit = self._limits.get(id_) or self._of_keys.pop((id_, key), None)
                if limit is None or limit.kind == "in_flight":
                    continue
                level, known = limit.meter.level(state, self.memory.moment()[limit.meter.calendar])
                if level:
                    ends = state[0] if limit.meter.calendar else 0
                    yield Give(limit, key, 0 if ends else known - level, known, ends)

    def _asked(self, hold: Hold) -> tuple[Hold, list[Ask], list[int]]:
        """What is asked here, of shares and of the whole limits, and at which places of the hold."""
        shares: list[Ask] = []
        whole: list[Ask] = []
        places = []
        for place, (limit, key, amount) in enumerate(hold.asks):
            if limit.on_failure != "local":
                continue
            if limit.of_key and len(self._of_keys) < _KNOWN:
                self._of_keys[limit.id, key] = limit
            share = self._share(limit)
            amount = min(amount, share.burst)  # who asks for more than the share has takes all of it
            shares.append((share, key, amount))
            whole.append((limit, key, amount))
            places.append(place)
        return Hold(hold.id, shares), whole, places

    def _share(self, limit: Limit) -> Limit:
        if self.shares == 1:
            return limit
        share = self._local.get(limit)
        if share is None:
            if len(self._local) >= _KNOWN:
                self._local.clear()
            share = self._local[limit] = replace(
                limit,
                amount=max(1, limit.amount // self.shares),
                burst=max(1, limit.burst // self.shares),
            )
        return share

    @staticmethod
    def _tell(hold: Hold, inner: Hold, places: Sequence[int]) -> None:
        taken: list[Taken] = [
            _REFUSES if limit.on_failure == "closed" else (None, 0, limit.burst, 0)
            for limit, _, _ in hold.asks
        ]
        for place, said in zip(places, inner.taken, strict=True):
            taken[place] = said
        hold.taken = taken
        hold.refused_by = None if inner.refused_by is None else places[inner.refused_by]
        for place, (limit, _, _) in enumerate(hold.asks):
            if limit.on_failure == "closed" and not limit.shadow:
                hold.refused_by = place
