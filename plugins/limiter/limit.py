"""One limit: how much of what, over how long, for whom, and where."""

from dataclasses import dataclass, field
from typing import Final, Literal

from .budget import Budget
from .gcra import Gcra
from .leases import Leases
from .meter import WINDOWS, Meter
from .money import dollars

Kind = Literal["requests", "input_tokens", "tokens", "cost", "in_flight"]
Per = Literal["address", "key", "user", "end_user", "team", "model", "all"]

_NOUNS: Final = {"requests": "request", "input_tokens": "input token", "tokens": "token"}


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
    id: str = field(init=False)
    """What is counted: a limit that has the same id after a reload goes on from the same counts."""
    meter: Meter = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        for name, value in (
            ("burst", self.burst or self.amount),
            ("id", f"{self.name}\n{self.kind}\n{self.per}"),
            ("meter", self._meter()),
        ):
            object.__setattr__(self, name, value)

    def _meter(self) -> Meter:
        if self.kind == "in_flight":
            return Leases(self.amount)
        if self.kind == "cost":
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
        return what if self.per == "all" else f"{what} per {self.per.replace('_', ' ')}"


def _many(amount: int, noun: str) -> str:
    return f"{amount} {noun}" if amount == 1 else f"{amount} {noun}s"
