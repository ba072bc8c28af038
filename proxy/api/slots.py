"""Typed state of one exchange: plugins meet at a slot, never by importing each other."""

from dataclasses import dataclass, field
from typing import Any, Generic, NamedTuple, TypeVar

from proxy.pricing.values import Cost, Estimate, Usage

T = TypeVar("T")


class Slot(Generic[T]):
    """A key of `Exchange`: `ex[SLOT] = value`, `ex[SLOT]`, `ex.get(SLOT)`.

    Two slots are the same only if they are the same object; the name is for messages.
    """

    __slots__ = ("name", "provider")

    def __init__(self, name: str, provider: str = "") -> None:
        """`provider` is the plugin that usually fills it, for messages."""
        self.name = name
        self.provider = provider

    def __repr__(self) -> str:
        return f"Slot({self.name!r})"


class Identity(NamedTuple):
    """Who is asking, as `auth` found it.

    `key_id` names the client key (never the key itself), `user` and `team` come with it; `end_user` is what
    the client said in `x-user-id`. `address` is the peer's, or the one in `x-forwarded-for` when the peer is
    a trusted proxy. `limits` are the key's own limits, `models` the patterns it may use (empty: all).
    """

    user: str
    address: str
    key_id: str | None = None
    team: str | None = None
    end_user: str | None = None
    limits: tuple[Any, ...] = ()
    models: tuple[str, ...] = ()


@dataclass(slots=True)
class DryRun:
    """Set by `precost` when the client only wants to know the price; the limiter writes its verdict here.

    When this slot is filled after the last `on_request`, Weir answers `body` itself and forwards nothing.
    """

    body: dict[str, Any] = field(default_factory=dict)


IDENTITY: Slot[Identity] = Slot("identity", "auth")
ESTIMATE: Slot[Estimate] = Slot("estimate", "precost")
USAGE: Slot[list[Usage]] = Slot("usage", "annotate")
"""A list, since one realtime session has many."""
COST: Slot[Cost] = Slot("cost", "annotate")
DRY_RUN: Slot[DryRun] = Slot("dry_run", "precost")
