"""What answers tell of limits: OpenAI's `x-ratelimit-*`, with durations as Go writes them, and the IETF's
`RateLimit` and `RateLimit-Policy` (draft-ietf-httpapi-ratelimit-headers-10), which are structured fields."""

from collections.abc import Sequence
from functools import lru_cache
from operator import itemgetter
from typing import Final
from urllib.parse import quote

from proxy.api import Headers

from .limit import Kind
from .meter import WINDOWS
from .store import Ask, Hold

ANSWERS: Final = 256
"""Lists of an answer's field names that are known; when there are more, all are looked at anew."""
_LONGEST: Final = 4096
"""Bytes of all names of an answer; one with more is looked at each time."""
_UNITS: Final[dict[Kind, int]] = {"requests": 0, "tokens": 1, "input_tokens": 1, "in_flight": 2}
_OPENAI: Final = (
    (b"x-ratelimit-limit-requests", b"x-ratelimit-remaining-requests", b"x-ratelimit-reset-requests"),
    (b"x-ratelimit-limit-tokens", b"x-ratelimit-remaining-tokens", b"x-ratelimit-reset-tokens"),
    (b"", b"", b""),  # the IETF's alone tell of requests in flight
)
_QUOTA_UNITS: Final[dict[Kind, str]] = {
    "tokens": ';qu="tokens"',
    "input_tokens": ';qu="input-tokens"',
    "in_flight": ';qu="concurrent-requests"',
}


_Pairs = tuple[tuple[bytes, bytes], ...]


class _Item:
    """What is known of one limit beforehand: its place among the asks, its burst, OpenAI's names for its
    unit, and its item in `RateLimit`, into which go what is left and the seconds."""

    __slots__ = ("burst", "form", "names", "place")

    def __init__(self, place: int, burst: int, names: tuple[bytes, bytes, bytes], form: bytes) -> None:
        self.place = place
        self.burst = b"%d" % burst
        self.names = names
        self.form = form


class Told:
    """What does not change of these headers, for the limits of a plan: made once, and used often."""

    __slots__ = ("beside", "policy", "units")

    def __init__(self, asks: Sequence[Ask]) -> None:
        items: tuple[list[_Item], ...] = ([], [], [])
        policies = []
        for place, (limit, _, _) in enumerate(asks):
            unit = _UNITS.get(limit.kind)
            if limit.shadow or unit is None:
                continue
            # A structured string is ASCII (RFC 9651, 3.3.3).
            name = quote(limit.name, safe=" !#$&'()*+,-./:;<=>?@[]^_`{|}~")
            window = f";w={WINDOWS[limit.window] // 1_000_000}" if limit.window else ""
            policies.append(f'"{name}";q={limit.burst}{window}{_QUOTA_UNITS.get(limit.kind, "")}')
            form = f'"{name}"'.replace("%", "%%") + ";r=%d;t=%d"
            items[unit].append(_Item(place, limit.burst, _OPENAI[unit], form.encode()))
        self.units = [(of_unit[0], of_unit[1:]) for of_unit in items if of_unit]
        """The limits of each unit, of which one is told: the first, unless one of the others is closer to
        refusing."""
        self.policy = b"ratelimit-policy", ", ".join(policies).encode()
        self.beside = _BESIDE_ALL if any(first.names[0] for first, _ in self.units) else _BESIDE


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
    if not told.units:
        return
    raw = headers.raw
    for place, name in told.beside[tuple(map(_NAME, raw))]:
        raw[place] = name, raw[place][1]
    items = []
    for closest, others in told.units:
        _, _, remaining, reset = taken[closest.place]
        for other in others:
            _, _, left, until = taken[other.place]
            if left < remaining or (left == remaining and until > reset):
                closest, remaining, reset = other, left, until
        fields, item = _said(closest, remaining, (reset + 999) // 1000)
        raw += fields
        items.append(item)
    raw += ((b"ratelimit", b", ".join(items)), told.policy)


# Who is far below a limit is told the same each time: one look-up stands for making three texts (3,000
# instructions less).
@lru_cache(maxsize=4096)
def _said(limit: _Item, remaining: int, ms: int) -> tuple[_Pairs, bytes]:
    """OpenAI's fields of one limit, none if it has none for the unit; and its item in `RateLimit`."""
    remaining = max(0, remaining)
    item = limit.form % (remaining, -(-ms // 1000))
    if not limit.names[0]:
        return (), item
    return tuple(zip(limit.names, (limit.burst, b"%d" % remaining, _written(ms)), strict=True)), item


def go_duration(us: int) -> str:
    """`20ms`, `1.5s`, `6m0s`, `1h0m0s`: as Go prints a duration; rounded up to a whole ms."""
    return _written(-(-us // 1000)).decode()


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


_NAME: Final = itemgetter(0)


class _Beside(dict[tuple[bytes, ...], list[tuple[int, bytes]]]):
    """By the names of all fields of an answer: which of them have another name beside ours, at what places.

    An upstream sends the same fields again and again, so that one look-up stands for a loop over all of them
    (3,000 instructions less). Bounded.
    """

    def __init__(self, *, openai: bool) -> None:
        super().__init__()
        self._openai = openai

    def __missing__(self, names: tuple[bytes, ...]) -> list[tuple[int, bytes]]:
        renamed = []
        for place, name in enumerate(names):
            if self._openai and name.startswith(b"x-ratelimit-"):
                renamed.append((place, b"x-upstream-" + name[2:]))
            elif name in (b"ratelimit", b"ratelimit-policy"):
                renamed.append((place, b"x-upstream-" + name))
        if sum(map(len, names)) <= _LONGEST:
            if len(self) >= ANSWERS:
                self.clear()
            self[names] = renamed
        return renamed


_BESIDE: Final = _Beside(openai=False)
_BESIDE_ALL: Final = _Beside(openai=True)
