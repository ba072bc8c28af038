"""One limit: how much of what, over how long, for whom, and where."""

from dataclasses import dataclass, field
from typing import Final, Literal

from .budget import Budget
from .gcra import Gcra
from .leases import Leases
from .meter import WINDOWS, Meter
from .money import dollars

Kind = Literal["requests", "input_tokens", "tokens", "cost", "in_flight"]
Fuse = Literal["off", "warn", "on"]
OnFailure = Literal["local", "open", "closed"]
Per = Literal["address", "key", "user", "end_user", "team", "model", "all"]

_NOUNS: Final = {"requests": "request", "input_tokens": "input token", "tokens": "token"}


@dataclass(frozen=True, slots=True)
class Queue:
    """How many requests may wait for a limit, each for how many seconds at most."""

    max: int
    wait: float


@dataclass(frozen=True, slots=True)
class Limit:
    """A limit as configured. `amount` and `burst` are units of `kind`; `window` is "" for requests in flight.

    Without `on` it counts on every endpoint, without `models` for every model. A `shadow` counts and never
    refuses.
    """

    name: str
    kind: Kind
    amount: int
    window: str = ""
    burst: int = 0
    """0: as many as `amount`."""
    per: Per = "user"
    on: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    shadow: bool = False
    rolling: bool = False
    """Of `cost`: it comes back steadily, instead of all at once with the next day or month."""
    fuse: Fuse = "off"
    """Of `cost`: whether streams are charged as they come, rather than in advance for all they may give; and
    ended when nothing is left, or only told of in the log."""
    on_failure: OnFailure = "local"
    """What it does while the store that is shared does not answer."""
    queue: Queue | None = None
    of_key: bool = False
    """It came with a client key: what it counts is that key's alone, and its name too."""
    id: str = field(init=False)
    """What is counted: a limit that has the same id after a reload goes on from the same counts."""
    meter: Meter = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        meter = self._meter()
        # All keys' limits of a sort are counted in one table, so that there are as many tables as limits.
        name, per = ("", "") if self.of_key else (self.name, self.per)
        id = f"{name}\n{self.kind}\n{per}" + ("\nrolling" if self.rolling else "")
        for name, value in (("burst", self.burst or self.amount), ("id", id), ("meter", meter)):
            object.__setattr__(self, name, value)

    def _meter(self) -> Meter:
        if self.kind == "in_flight":
            return Leases(self.amount)
        if self.kind == "cost" and not self.rolling:
            return Budget(self.amount, self.window)
        return Gcra(self.amount, WINDOWS[self.window], self.burst or self.amount)

    def __str__(self) -> str:
        """As a client is told: `100 requests a minute per user`."""
        if self.kind == "in_flight":
            what = f"{_many(self.amount, 'request')} at a time"
        else:
            a = "an" if self.window == "hour" else "a"
            one = _NOUNS.get(self.kind)
            what = (
                f"{_many(self.amount, one) if one else dollars(self.amount) + ' dollars'} {a} {self.window}"
            )
        if self.rolling:
            what += ", rolling"
        return what if self.per == "all" else f"{what} per {self.per.replace('_', ' ')}"


def _many(amount: int, noun: str) -> str:
    return f"{amount} {noun}" if amount == 1 else f"{amount} {noun}s"


OF_KEYS: Final = (
    Limit("keys: requests", "requests", 1, "month", of_key=True),
    Limit("keys: input_tokens", "input_tokens", 1, "month", of_key=True),
    Limit("keys: tokens", "tokens", 1, "month", of_key=True),
    Limit("keys: cost", "cost", 1, "month", of_key=True),
    Limit("keys: rolling cost", "cost", 1, "month", rolling=True, of_key=True),
    Limit("keys: in_flight", "in_flight", 1, of_key=True),
)
"""One for each table of client keys' own limits, by whose names these are told in the metrics."""
