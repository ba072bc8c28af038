"""The `Server-Timing` header: where the time went until the answer's headers (W3C Server Timing)."""

from proxy.api.timeline import Timeline


def header(timeline: Timeline) -> bytes:
    """`auth;dur=0.021, upstream;dur=312.4`: milliseconds per hop, its request and response side summed."""
    spent: dict[str, int] = {}
    for name, _, start, end in timeline.hops:
        spent[name] = spent.get(name, 0) + end - start
    return ", ".join([_entry(name, ns // 1000) for name, ns in spent.items()]).encode()


def _entry(name: str, us: int) -> str:
    return f"{name};dur={us // 1000}.{us % 1000:03}"  # a float's repr costs five times as much
