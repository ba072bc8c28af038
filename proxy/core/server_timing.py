"""The `Server-Timing` header: where the time went until the answer's headers (W3C Server Timing)."""

from collections.abc import Iterable

from proxy.api.timeline import Timeline

# Writing numbers is most of what this header costs: the digits behind the point are looked up.
_FRACTIONS = [f".{us:03}" for us in range(1000)]


def header(timeline: Timeline) -> bytes:
    """`auth;dur=0.021, upstream;dur=312.4`: milliseconds per hop, its request and response side summed."""
    spent: Iterable[tuple[str, int]]
    if "response" in [mark[1] for mark in timeline._marks]:
        summed: dict[str, int] = {}
        for name, _, start, end in timeline._marks:
            summed[name] = summed.get(name, 0) + end - start
        spent = summed.items()
    else:
        spent = [(name, end - start) for name, _, start, end in timeline._marks]
    text = ""
    for name, ns in spent:
        text += f", {name};dur={ns // 1_000_000}{_FRACTIONS[ns // 1000 % 1000]}"
    return text[2:].encode()
