"""One call to the script: what it is told, and what its answer means."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple

import orjson

from ..limit import Kind, Limit
from ..meter import NEVER, Taken
from ..store import Ask

LOST: Final = b"lost"
"""What the script says, and nothing else, when Redis no longer knows what this process was told it knew."""


class Give(NamedTuple):
    """What is given back or charged: so much was reserved from this bucket, so much is used.

    `receipt` is the end of a budget's window, a lease's id, and 0 for a rate. A lease in use is renewed.
    """

    limit: Limit
    key: str
    reserved: int
    used: int
    receipt: int | str


class Asked(NamedTuple):
    """One request's asks: to be decided, or only looked at."""

    id: str
    asks: Sequence[Ask]
    decide: bool


class Call:
    """Gives and asks, for the script to do in one step.

    `number` is 0 for a call that changes nothing. Every other has the next number of its process: a call that
    was not answered is sent again without its asks, and what it gives is done once.
    """

    __slots__ = ("asked", "gives", "number")

    def __init__(self, number: int, gives: Sequence[Give], asked: Sequence[Asked]) -> None:
        self.number = number
        self.gives = gives
        self.asked = asked

    def written(
        self,
        prefix: str,
        process: str,
        lease: int,
        answered: int = 0,
        spent: Iterable[tuple[str, int, int]] = (),
    ) -> tuple[list[str], bytes]:
        """The keys and the argument. `prefix` begins every key, `process` is who asks, `lease` is in µs.

        `answered` is the number of the last call that was answered, 0 if Redis need not know of it. `spent`
        is put back first: `(name, end of the window, amount)` of budgets.
        """
        keys = [f"{prefix}process\n{process}"]
        places: dict[str, int] = {}
        limits: list[tuple[str | int, ...]] = []
        known: dict[int, tuple[int, str]] = {}

        def at(limit: Limit, key: str) -> tuple[int, int]:
            found = known.get(id(limit))
            if found is None:
                limits.append(limit.meter.terms)
                found = known[id(limit)] = len(limits), f"{prefix}{limit.meter.sort}\n{limit.id}\n"
            number, begin = found
            name = begin + key
            place = places.get(name)
            if place is None:
                keys.append(name)
                place = places[name] = len(keys)
            return number, place

        restored = []
        for name, ends, amount in spent:
            keys.append(prefix + name)
            places[keys[-1]] = len(keys)
            restored.append((len(keys), ends, amount))
        gives = [
            (*at(limit, key), reserved, used, receipt) for limit, key, reserved, used, receipt in self.gives
        ]
        asks = []
        for id_, asked, decide in self.asked:
            ask: list[int | str] = [1 if decide else 0, id_]
            for limit, key, amount in asked:
                ask += (*at(limit, key), amount, 1 if limit.shadow else 0)
            asks.append(ask)
        return keys, orjson.dumps((self.number, lease, limits, gives, asks, answered, restored))

    def read(self, outcome: bytes) -> list[list[Taken]]:
        """What the limits of each request said."""
        numbers = [int(number) for number in outcome.split()]
        said = []
        at = 0
        for _, asks, _ in self.asked:
            taken: list[Taken] = []
            for _ in asks:
                receipt, wait, remaining, reset = numbers[at : at + 4]
                state = (receipt,) if receipt else None
                taken.append((state, NEVER if wait < 0 else wait, remaining, reset))
                at += 4
            said.append(taken)
        return said


def gives_of(
    id: str, asks: Sequence[Ask], taken: Sequence[Taken], used: Mapping[Kind, int] | None
) -> list[Give]:
    """What the end of a request gives back; with None, as if it had never been admitted."""
    gives = []
    for (limit, key, amount), (receipt, _, _, _) in zip(asks, taken, strict=True):
        if receipt is None:
            continue  # a shadow that would have refused, or a limit that nobody asked
        spent = 0 if used is None else used.get(limit.kind, amount)
        if limit.kind == "in_flight":
            gives.append(Give(limit, key, amount, spent, id))
        elif spent != amount or (limit.kind != "requests" and used is not None):
            gives.append(Give(limit, key, amount, spent, receipt[0] if limit.meter.calendar else 0))
    return gives


def refused_by(asks: Sequence[Ask], taken: Sequence[Taken]) -> int | None:
    """The place of the limit that refuses, of several the one that does so for longest."""
    place = None
    longest = 0
    for at, (_, wait, _, _) in enumerate(taken):
        if wait > longest and not asks[at][0].shadow:
            longest = wait
            place = at
    return place
