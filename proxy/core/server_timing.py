"""The `Server-Timing` header: where the time went until the answer's headers (W3C Server Timing)."""

from typing import Final

from proxy.api.timeline import Timeline

# Writing numbers is most of what this header costs: what takes less than a millisecond, as nearly all hops
# do, is looked up whole, and the digits behind the point of what takes longer.
_SHORT: Final = [f";dur=0.{us:03}" for us in range(1000)]
_FRACTIONS: Final = [f".{us:03}" for us in range(1000)]


def header(timeline: Timeline) -> bytes:
    """`auth;dur=0.021, upstream;dur=312.4`: milliseconds per hop, its request and response side summed."""
    sums = timeline.sums()
    told = [name + (_SHORT[ns // 1000] if ns < 1_000_000 else _long(ns)) for name, ns in sums.items()]
    return ", ".join(told).encode()


def _long(ns: int) -> str:
    return f";dur={ns // 1_000_000}{_FRACTIONS[ns // 1000 % 1000]}"
