from decimal import Decimal

from proxy.api import WeirError
from proxy.api.fuse import FUSE, Fuse


class Purse:
    """As simple as a fuse can be."""

    def __init__(self, dollars: str) -> None:
        self.left = Decimal(dollars)

    def charge(self, amount: Decimal) -> Decimal:
        self.left -= amount
        return self.left

    def blown(self) -> WeirError:
        return WeirError(429, "insufficient_quota", "The budget is used up.")


def test_a_fuse_is_what_charges_and_can_say_why() -> None:
    fuse: Fuse = Purse("1")
    assert fuse.charge(Decimal("0.25")) == Decimal("0.75")
    assert fuse.blown().code == "insufficient_quota"
    assert repr(FUSE) == "Slot('fuse')"
