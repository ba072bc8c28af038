"""Wrong keys by address: after so many in a window there are no more answers to guesses."""

from collections.abc import Callable, Collection
from ipaddress import IPv6Address
from time import monotonic

ADDRESSES = 10_000
"""Addresses that are remembered, some 300 bytes each. Above it the one whose window began first is forgotten:
whoever has that many addresses is not stopped by counting them."""


class Failures:
    """Counts failures per address in windows that begin with the first. An IPv6 address counts as its /64."""

    def __init__(
        self,
        most: int,
        window: float,
        *,
        addresses: int = ADDRESSES,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        """`most` failures are allowed in `window` seconds."""
        self.most = most
        self.window = window
        self._addresses = addresses
        self._clock = clock
        self._seen: dict[str, tuple[int, float]] = {}

    @property
    def addresses(self) -> Collection[str]:
        """Who has failed of late, always as it is now; while there are none, nothing needs to be asked."""
        return self._seen

    def __len__(self) -> int:
        return len(self._seen)

    def count(self, address: str) -> float:
        """One more failure; the seconds to wait as `wait` would say if it was one too many."""
        name, now = _network(address), self._clock()
        self._forget(now)
        count, ends = self._seen.get(name, (0, now + self.window))
        if name not in self._seen and len(self._seen) >= self._addresses:
            del self._seen[next(iter(self._seen))]
        self._seen[name] = (min(count + 1, self.most + 1), ends)
        return ends - now if count >= self.most else 0.0

    def wait(self, address: str) -> float:
        """Seconds until an address may guess again; 0 while it may."""
        now = self._clock()
        count, ends = self._seen.get(_network(address), (0, 0.0))
        return ends - now if count >= self.most and ends > now else 0.0

    def adopt(self, other: "Failures") -> None:
        """Go on with what another one has counted, if its windows are as long."""
        if other.window == self.window:
            self._seen.update(other._seen)

    def _forget(self, now: float) -> None:
        """Take out windows that are over: all are equally long, so they end in the order they are kept in."""
        while self._seen:
            name = next(iter(self._seen))
            if self._seen[name][1] > now:
                return
            del self._seen[name]


def _network(address: str) -> str:
    if ":" not in address:
        return address
    try:
        parsed = IPv6Address(address.partition("%")[0])
    except ValueError:
        return address
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(IPv6Address(int(parsed) >> 64 << 64))
