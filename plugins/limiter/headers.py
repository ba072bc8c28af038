"""What answers tell of limits: OpenAI's `x-ratelimit-*`, with durations as Go writes them, and the IETF's
`RateLimit` and `RateLimit-Policy` (draft-ietf-httpapi-ratelimit-headers-10), which are structured fields."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Final
from urllib.parse import quote

from proxy.api import Headers

from .limit import Kind
from .meter import WINDOWS
from .store import Ask, Hold

_UNITS: Final[dict[Kind, int]] = {"requests": 0, "tokens": 1, "input_tokens": 1, "in_flight": 2}
_OPENAI: Final = tuple(
    tuple(b"x-ratelimit-%s-%s" % (word, unit) for word in (b"limit", b"remaining", b"reset"))
    for unit in (b"requests", b"tokens")
)
_QUOTA_UNITS: Final[dict[Kind, str]] = {
    "tokens": ';qu="tokens"',
    "input_tokens": ';qu="input-tokens"',
    "in_flight": ';qu="concurrent-requests"',
}


class Told:
    """What does not change of these headers, for the limits of a plan: made once, and used often."""

    __slots__ = ("limits", "policy")

    def __init__(self, asks: Sequence[Ask]) -> None:
        self.limits: list[tuple[int, int, bytes, str]] = []
        """Of each limit that is told: its place among the asks, its unit, its burst, and how its item in
        `RateLimit` begins."""
        policies = []
        for place, (limit, _, _) in enumerate(asks):
            unit = _UNITS.get(limit.kind)
            if limit.shadow or unit is None:
                continue
            # A structured string is ASCII (RFC 9651, 3.3.3).
            name = quote(limit.name, safe=" !#$&'()*+,-./:;<=>?@[]^_`{|}~")
            window = f";w={WINDOWS[limit.window] // 1_000_000}" if limit.window else ""
            policies.append(f'"{name}";q={limit.burst}{window}{_QUOTA_UNITS.get(limit.kind, "")}')
            self.limits.append((place, unit, b"%d" % limit.burst, f'"{name}";r='))
        self.policy = ", ".join(policies).encode()


def add_headers(headers: Headers, hold: Hold) -> None:
    """Tell of the limits that were asked; of several of a unit, of the one that is closest to refusing.

    What an upstream says under the same names then goes out under `x-upstream-ratelimit-*`. Where no limit on
    requests, tokens or requests in flight was asked, nothing is added and nothing renamed. Money is told to
    nobody but its owner, in `GET /rate-limit/status`.
    """
    taken = hold.taken
    if not taken:
        return
    told: Told = hold.told or Told(hold.asks)
    if not told.limits:
        return
    closest: list[tuple[int, int, bytes, str] | None] = [None, None, None]
    for place, unit, burst, item in told.limits:
        _, _, remaining, reset = taken[place]
        best = closest[unit]
        if best is None or remaining < best[0] or (remaining == best[0] and reset > best[1]):
            closest[unit] = remaining, reset, burst, item
    raw = _renamed(headers.raw, closest[0] is not None or closest[1] is not None)
    limits = ""
    for unit, found in enumerate(closest):
        if found is None:
            continue
        remaining, reset, burst, item = found
        if remaining < 0:
            remaining = 0
        if unit < 2:
            fields = _OPENAI[unit]
            raw += (
                (fields[0], burst),
                (fields[1], str(remaining).encode()),
                (fields[2], _written(-(-reset // 1000))),
            )
        item = f"{item}{remaining};t={-(-reset // 1_000_000)}"
        limits = f"{limits}, {item}" if limits else item
    raw += ((b"ratelimit", limits.encode()), (b"ratelimit-policy", told.policy))
    headers.raw = raw


def go_duration(us: int) -> str:
    """`20ms`, `1.5s`, `6m0s`, `1h0m0s`: as Go prints a duration; rounded up to a whole ms."""
    return _written(-(-us // 1000)).decode()


@lru_cache(maxsize=4096)
def _written(ms: int) -> bytes:
    if ms < 1000:
        return b"%dms" % ms if ms else b"0s"
    seconds, ms = divmod(ms, 1000)
    rest = f".{ms:03}".rstrip("0") if ms else ""
    minutes, seconds = divmod(seconds, 60)
    if not minutes:
        return f"{seconds}{rest}s".encode()
    hours, minutes = divmod(minutes, 60)
    return (f"{hours}h{minutes}m{seconds}{rest}s" if hours else f"{minutes}m{seconds}{rest}s").encode()


def _renamed(raw: list[tuple[bytes, bytes]], openai: bool) -> list[tuple[bytes, bytes]]:
    beside = _BESIDE_ALL if openai else _BESIDE
    return [(beside[name], value) for name, value in raw]


class _Beside(dict[bytes, bytes]):
    """What an upstream's field is called beside ours. Names repeat. Bounded."""

    def __init__(self, *, openai: bool) -> None:
        super().__init__()
        self._openai = openai

    def __missing__(self, name: bytes) -> bytes:
        beside = name
        if self._openai and name.startswith(b"x-ratelimit-"):
            beside = b"x-upstream-" + name[2:]
        elif name in (b"ratelimit", b"ratelimit-policy"):
            beside = b"x-upstream-" + name
        if len(self) < 4096 and len(name) <= 64:
            self[name] = beside
        return beside


_BESIDE: Final = _Beside(openai=False)
_BESIDE_ALL: Final = _Beside(openai=True)
