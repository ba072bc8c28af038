"""W3C Trace Context: `traceparent` and `tracestate` as bytes, by the letter.

https://www.w3.org/TR/trace-context/, sections 3.2 and 3.3. What does not parse is no context, silently: a
client must not be able to write to the log. Nothing here touches a header that need not change.
"""

import re
from typing import NamedTuple

Pairs = list[tuple[bytes, bytes]]

SAMPLED = 0x01
RANDOM = 0x02
"""The trace id is random (Trace Context level 2), so ratios may be taken of it."""
STATE_LIMIT = 8192
"""Bytes of `tracestate` that are read; a longer one passes, and is not told to the collector."""
_STATE_MEMBERS = 32

_FORM = re.compile(rb"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?", re.DOTALL)
_MEMBER = re.compile(
    rb"([a-z][a-z0-9_\-*/]{0,255}|[a-z0-9][a-z0-9_\-*/]{0,240}@[a-z][a-z0-9_\-*/]{0,13})"
    rb"=([\x20-\x2b\x2d-\x3c\x3e-\x7e]{0,255}[\x21-\x2b\x2d-\x3c\x3e-\x7e])"
)


class Parent(NamedTuple):
    """The caller's span."""

    trace_id: int
    span_id: int
    flags: int


def parse(value: bytes) -> Parent | None:
    """The caller's span, or None if this is not a `traceparent`.

    A later version is read as far as this one goes; `ff`, an id of zeros and upper case are none.
    """
    found = _FORM.fullmatch(value.strip(b" \t"))
    if found is None:
        return None
    version, trace, span, flags, more = found.groups()
    if version == b"ff" or (version == b"00" and more is not None):
        return None
    trace_id, span_id = int(trace, 16), int(span, 16)
    if not trace_id or not span_id:
        return None
    return Parent(trace_id, span_id, int(flags, 16))


def read(headers: Pairs) -> Parent | None:
    """The caller's span from a request's headers. Two `traceparent` are none: which one counts?"""
    value: bytes | None = None
    for pair in headers:
        if pair[0] == b"traceparent":
            if value is not None:
                return None
            value = pair[1]
    return None if value is None else parse(value)


def read_state(headers: Pairs) -> list[tuple[str, str]]:
    """The members of `tracestate`, in order; empty if any of it is not valid."""
    values = [value for name, value in headers if name == b"tracestate"]
    if not values or sum(map(len, values)) > STATE_LIMIT:
        return []
    members: dict[str, str] = {}
    for part in b",".join(values).split(b","):
        member = part.strip(b" \t")
        if not member:
            continue
        found = _MEMBER.fullmatch(member)
        if found is None or (key := found[1].decode()) in members:
            return []
        members[key] = found[2].decode()
    return list(members.items()) if len(members) <= _STATE_MEMBERS else []


def render(trace_id: int, span_id: int, flags: int) -> bytes:
    """A `traceparent` of version 00."""
    return b"00-%032x-%016x-%02x" % (trace_id, span_id, flags)


def continued(headers: Pairs, value: bytes) -> Pairs:
    """The headers with this `traceparent` in the place of the caller's; everything else as it came."""
    return [(name, value) if name == b"traceparent" else (name, old) for name, old in headers]


def restarted(headers: Pairs, value: bytes) -> Pairs:
    """The headers with this `traceparent` alone: a trace that begins here has no state from elsewhere."""
    kept = [pair for pair in headers if pair[0] not in (b"traceparent", b"tracestate")]
    kept.append((b"traceparent", value))
    return kept
