"""From an exchange to its row: what is known when it begins, and all of it when it has ended.

In the journal, out of which the database gets it, a row is three lines of JSON: `columns.OWN`, `WHO` and
`COMMON`, each without the brackets of an array, so that rows of one caller are found without reading them and
what is their own is read at once. What is JSON in a column is text here.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Any, Final

import orjson

from proxy.api import COST, ESTIMATE, IDENTITY, USAGE, End, Exchange, Identity, Usage

from .columns import COMMON, COMMON_FIRST, COMMON_THEN, KEPT, OWN, OWN_FIRST, OWN_THEN, TEXT, TOKENS, WHO
from .money import MOST, ceiling, floor, pico

_NOBODY: Final = Identity("", "")
_NOTHING_USED: Final = Usage()
_UNKNOWN: Final[dict[str, Any]] = dict.fromkeys(TOKENS)
_NO_USAGE: Final = replace(_NOTHING_USED, **_UNKNOWN)
_UNREACHED: Final = frozenset(
    (
        "upstream_connect_failed",
        "upstream_connect_timeout",
        "upstream_dns_failed",
        "upstream_tls_failed",
        "upstream_busy",
    )
)
"""Outcomes of an attempt that an upstream has not heard of."""
_LIMIT: Final = OWN_FIRST.index("estimate_pico")
_IDS: Final = frozenset((b"x-request-id", b"traceparent"))
_dumps = orjson.dumps

First = tuple[bytes, bytes, bytes]
"""What is known of a request that has come: the beginnings of its row's lines, which are a row of their own
when they are joined."""


class _Names(dict[str, str]):
    """What JSON of a stranger calls something, as it is kept: the same few models and tiers come again and
    again. Bounded."""

    def __missing__(self, text: str) -> str:
        made = text[:TEXT] if "\0" not in text else text[:TEXT].replace("\0", "\ufffd")
        if len(self) < 1024 and len(text) <= 64:
            self[text] = made
        return made


_NAMES: Final = _Names()

LINES: Final = 1024
"""Callers, and what is asked for, that are remembered."""


class _Lines(dict[tuple[str | bytes | None, ...], bytes]):
    """What the same callers ask for again and again, as it is written: made once, and in memory once.
    Bounded: when it is full it begins anew."""

    def __missing__(self, values: tuple[str | bytes | None, ...]) -> bytes:
        texts = [value.decode("latin-1") if isinstance(value, bytes) else value for value in values]
        made = b"\n" + _line(texts)
        if len(made) <= TEXT:
            if len(self) >= LINES:
                self.clear()
            self[values] = made
        return made


_WHO: Final = _Lines()
_WHAT: Final = _Lines()

_NUL: Final = b"\\u0000"
"""As JSON has it; PostgreSQL does not take it in a text. Headers and paths cannot have it (RFC 9110, 5.5)."""
_AT_ONCE: Final = 100
"""Lines that are read in one go: orjson keeps the interpreter to itself meanwhile, and requests wait."""
_WORSE: Final = {"measured": 0, "estimated": 1, "bounded": 2, "none": 3}


def opened(ex: Exchange) -> First:
    """What is known when the request has come: enough for the row of one that is never seen to end."""
    request, slots = ex.request, ex._slots  # a method for each slot would cost more than what is in it
    who = slots.get(IDENTITY, _NOBODY)
    estimate = slots.get(ESTIMATE)
    trace = client = model = limit = None
    for name, value in request.headers.raw:
        if name not in _IDS:
            continue
        if name == b"x-request-id":
            client = value[:TEXT].decode("latin-1")
        elif len(value) >= 55:  # W3C Trace Context: version, trace, span, flags
            trace = value[3:35].decode("latin-1")
    if estimate is not None:
        limit = ceiling(estimate.max_cost)
        if estimate.model is not None:
            model = _NAMES[estimate.model]
    elif isinstance(request._json, dict):  # where some plugin has read it; for its row alone no body is
        said = request._json.get("model")
        if isinstance(said, str):
            model = _NAMES[said]
    return (
        _line((ex.id, ex.timeline.started_at // 1000, limit, trace, client)),
        _WHO[who.key_id, who.user, who.team, who.end_user, request.address],
        _WHAT[request.endpoint[:TEXT], request.method, request._path[:TEXT], model],
    )


def closed(ex: Exchange, end: End, first: First) -> bytes:
    """The row of a request that has ended; `first` is what `opened` said of it."""
    response, timeline, attempts, slots = ex.response, ex.timeline, ex.attempts, ex._slots
    received, begun = timeline.received, timeline.first_byte
    took = timeline.finished - received
    hops = _dumps(timeline.sums()).decode()  # a fifth of what it takes in microseconds
    usages = slots.get(USAGE)
    cost = slots.get(COST)
    model = tier = units = version = upstream = upstream_id = None
    if usages:
        used = usages[0] if len(usages) == 1 else _together(usages)
        provenance: str = used.provenance
        if used.model is not None:
            model = _NAMES[used.model]
        if used.service_tier is not None:
            tier = _NAMES[used.service_tier]
        if used.other_units:
            units = _dumps({_NAMES[name]: str(n) for name, n in used.other_units.items()}).decode()
    else:
        used, provenance = _NO_USAGE, "none"
    amount: int | None
    low: int | None
    high: int | None
    if cost is not None:
        if not usages:
            provenance = cost.provenance
        version = cost.price_version
        amount = low = high = pico(cost.amount) if cost.picodollars is None else min(cost.picodollars, MOST)
        if cost.low is not cost.amount and cost.low is not None:
            low = floor(cost.low)
        if cost.high is not cost.amount and cost.high is not None:
            high = ceiling(cost.high)
    elif not attempts or _untouched(ex, end):
        used = _NOTHING_USED
        amount = low = high = 0
    else:
        amount = low = high = None
        estimate = slots.get(ESTIMATE)
        if not usages and estimate is not None and estimate.max_cost is not None:
            low, high, provenance = 0, ceiling(estimate.max_cost), "bounded"
    if attempts:
        upstream = attempts[-1].upstream
        if response.request_id is not None:
            upstream_id = response.request_id[:TEXT].decode("latin-1")
    own, who, what = first
    return b"".join(
        (
            own,
            b",",
            _line(
                (
                    (timeline.started_at + took) // 1000,
                    used.input_tokens,  # one by one costs half of what a getter of all does
                    used.cached_tokens,
                    used.output_tokens,
                    used.reasoning_tokens,
                    amount,
                    low,
                    high,
                    (begun - received) // 1000 if begun else None,
                    took // 1000,
                    hops,
                    upstream_id,
                )
            ),
            who,
            what,
            b",",
            _line(
                (
                    model,
                    upstream,
                    len(attempts),
                    response.status or None,
                    end.reason,
                    end.code,
                    response.is_stream,
                    used.cache_write_tokens,
                    used.audio_input_tokens,
                    used.image_input_tokens,
                    used.audio_output_tokens,
                    used.image_output_tokens,
                    units,
                    provenance,
                    version,
                    tier,
                    None,
                )
            ),
        )
    )


def crashed(payload: bytes) -> bytes:
    """The row of a request whose process died before it ended, by its open record: what it cost lies between
    nothing and its estimate."""
    own, who, what = payload.split(b"\n")
    limit = values((own,))[_LIMIT]
    then = dict.fromkeys((*OWN_THEN, *COMMON_THEN)) | {"end_reason": "crashed", "end_code": "process_died"}
    then["usage_provenance"] = "none" if limit is None else "bounded"
    if limit is not None:
        then |= {"cost_low_pico": 0, "cost_high_pico": limit}
    return b"%b,%b\n%b\n%b,%b" % (
        own,
        _line([then[name] for name in OWN_THEN]),
        who,
        what,
        _line([then[name] for name in COMMON_THEN]),
    )


def stored(payloads: Sequence[bytes]) -> Iterator[Sequence[Any]]:
    """Rows of the journal as a database takes them, in the order of `KEPT`."""
    found, width = values([payload.replace(b"\n", b",") for payload in payloads]), len(KEPT)
    for at in range(0, len(found), width):
        yield found[at : at + width]


def values(lines: Sequence[bytes]) -> list[Any]:
    """What is in these lines, all in one, as a database takes it."""
    found: list[Any] = []
    for at in range(0, len(lines), _AT_ONCE):
        together = b",".join(lines[at : at + _AT_ONCE])
        read = orjson.loads(b"[" + together + b"]")
        found += read if together.find(_NUL) < 0 else cleaned(read)
    return found


def tidied(payload: bytes) -> bytes:
    """A row without anything that some database does not take."""
    return b"\n".join(_line(cleaned(values((line,)))) for line in payload.split(b"\n"))


def readable(payload: bytes, *, ended: bool) -> bool:
    """Whether a record of the journal has the columns that this version has."""
    expected = (OWN, WHO, COMMON) if ended else (OWN_FIRST, WHO, COMMON_FIRST)
    try:
        found = [values((line,)) for line in payload.split(b"\n")]
    except orjson.JSONDecodeError:
        return False
    return [*map(len, found)] == [*map(len, expected)] and isinstance(found[0][0], str)


def cleaned(found: Sequence[Any]) -> list[Any]:
    """Values that any database takes, whatever strangers have put into them."""
    return [_clean(value) for value in found]


def _untouched(ex: Exchange, end: End) -> bool:
    """Whether the upstream has not worked on the request: it was not reached, or refused it with an error."""
    outcome = ex.attempts[-1].outcome
    if outcome in _UNREACHED:
        return True
    return end.reason == "complete" and outcome >= "400" and outcome.isdigit()


def _together(usages: list[Usage]) -> Usage:
    """The sum of several, as good as the worst of them."""
    units: dict[str, Decimal] = {}
    for usage in usages:
        for name, n in usage.other_units.items():
            units[name] = units.get(name, Decimal(0)) + n
    summed: dict[str, Any] = {name: sum(getattr(usage, name) for usage in usages) for name in TOKENS}
    return replace(
        usages[-1],
        **summed,
        provenance=max((usage.provenance for usage in usages), key=_WORSE.__getitem__),
        other_units=units,
    )


def _line(found: Sequence[Any]) -> bytes:
    try:
        return _dumps(found)[1:-1]
    except TypeError:  # half a character, or an integer above 64 bits
        return _dumps(cleaned(found))[1:-1]


def _clean(value: Any) -> Any:
    """As it can be stored: no half characters, no NUL, no integer above 64 bits."""
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode().replace("\0", "\ufffd")
    if isinstance(value, int) and not isinstance(value, bool):
        return max(-MOST, min(value, MOST))
    return value
