"""OpenAI's `x-ratelimit-*` headers, with durations as Go writes them."""

from typing import Final

from proxy.api import Headers

from .limit import Kind
from .store import Hold

_REQUESTS: Final = tuple(b"x-ratelimit-%s-requests" % word for word in (b"limit", b"remaining", b"reset"))
_TOKENS: Final = tuple(b"x-ratelimit-%s-tokens" % word for word in (b"limit", b"remaining", b"reset"))
_NAMES: Final[dict[Kind, tuple[bytes, ...]]] = {
    "requests": _REQUESTS,
    "tokens": _TOKENS,
    "input_tokens": _TOKENS,
}
_THEIRS: Final = b"x-ratelimit-"


def add_headers(headers: Headers, hold: Hold) -> None:
    """Tell of the limits that were asked; of several of a unit, of the one that is closest to refusing.

    What an upstream says under the same names then goes out under `x-upstream-ratelimit-*`. Where no limit on
    requests or tokens was asked, nothing is added and nothing renamed.
    """
    closest: dict[tuple[bytes, ...], tuple[int, int, int]] = {}
    for (limit, _, _), (_, _, remaining, reset) in zip(hold.asks, hold.taken, strict=False):
        names = _NAMES.get(limit.kind)
        if names is None or limit.shadow:
            continue
        found = (remaining, -reset, limit.burst)
        if names not in closest or found < closest[names]:
            closest[names] = found
    if not closest:
        return
    raw = [
        pair if pair[0][:12] != _THEIRS else (b"x-upstream-" + pair[0][2:], pair[1]) for pair in headers.raw
    ]
    for (limit_name, remaining_name, reset_name), (remaining, minus_reset, burst) in closest.items():
        raw.append((limit_name, b"%d" % burst))
        raw.append((remaining_name, b"%d" % remaining))
        raw.append((reset_name, go_duration(-minus_reset).encode()))
    headers.raw = raw


def go_duration(us: int) -> str:
    """`20ms`, `1.5s`, `6m0s`, `1h0m0s`: as Go prints a duration; rounded up to a whole ms."""
    ms = -(-us // 1000)
    if ms < 1000:
        return f"{ms}ms" if ms else "0s"
    seconds, ms = divmod(ms, 1000)
    rest = f".{ms:03}".rstrip("0") if ms else ""
    minutes, seconds = divmod(seconds, 60)
    if not minutes:
        return f"{seconds}{rest}s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes}m{seconds}{rest}s" if hours else f"{minutes}m{seconds}{rest}s"
