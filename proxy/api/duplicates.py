"""Members of a JSON object that two servers could read differently: one that stands twice, or `Model`.

Of `{"model":"a","model":"b"}` one parser takes the last and another the first, and some take `Model` for
`model`. Who is metered by one and served by the other has got around an allow-list, a price or a limit.

Nearly every body is cleared by one search over its bytes. That may only say "look closer", since a tool or a
prompt can hold these words too: then each of them gets a name of its own, and the parser says which of those
are members of the object itself.
"""

import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

import orjson

METERED = frozenset(
    (
        *("model", "models", "messages", "input", "prompt", "instructions", "suffix", "tools", "functions"),
        *("max_tokens", "max_completion_tokens", "max_output_tokens", "n", "best_of", "stream"),
        *("stream_options", "service_tier", "size", "quality", "dimensions", "image", "images"),
        *("mask", "input_fidelity"),
    )
)
"""Members by which requests are let in, counted and priced. Others may stand as often as they like."""

AT_ONCE = 256 * 1024
"""Bytes of a body that are looked at on the event loop: 0.3 ms of prose, 8 ms at worst."""
AT_A_GLANCE = 1024
"""Bytes of a body that is searched for its own few names, one by one: in a longer one they are looked for
together."""
_LONG = 16 * 1024
"""Bytes of a body in which a text that is nearly all of it is looked for. A shorter is written as soon."""
_FEW = 32
"""Values of a body among which that text is looked for."""
_EDGE = 32
"""Of so many bytes one at most may be outside of that text: twice as many are searched."""
NAMES = 100_000
"""Names that are told apart. Only a body that was made to be slow has more of them, and it is refused."""
_SLICE = 64 * 1024
"""Bytes that are searched between two moments in which other threads may run."""
_MOST = max(map(len, METERED))
_LONGEST = 6 * _MOST + 2
"""Bytes that a name can take, every letter escaped."""

_FIRST = b"".join(sorted({name[:1].encode() for name in METERED}))
_PLAIN = b"|".join(name.encode() for name in sorted(METERED))
_ESCAPED = rb"\\u00[4-7]"  # every letter, and the underscore
_BACKSLASH = ord("\\")
_QUOTED = {name: b'"%b"' % name.encode() for name in METERED}
# A name that is not spelled plainly has its first escape behind plain letters.
_quick = re.compile(rb'"(?=[%b\\])(?:(%b)"|[a-z_]{0,%d}%b)' % (_FIRST, _PLAIN, _MOST, _ESCAPED))
_spelled = re.compile(rb'"((?:[a-z_]|%b[0-9a-fA-F]){1,%d})"' % (_ESCAPED, _MOST))


def ambiguous(raw: bytes, body: Any) -> str | None:
    """What is wrong with a body that was parsed from `raw`, in one sentence; None if nothing is.

    What is no object has no members. Takes 1 µs for 500 bytes; with more than `AT_ONCE` bytes a thread is the
    place, where it takes some ms for a MB, and 0.2 s for one that was made to be slow.
    """
    if not isinstance(body, dict):
        return None
    size = len(raw)
    if (size <= AT_A_GLANCE and _each_once(raw, body)) or (size >= _LONG and _beside_a_text(raw, body)):
        return None
    names = "".join(body)
    if not (names.islower() and names.isascii()):
        for name in body:
            if name not in METERED and (meant := name.casefold()) in METERED:
                return f"Write `{meant}` in lower case: servers differ in what other spellings mean."
    if size <= AT_ONCE and _as_written(raw, body):
        return None
    # The name that each match has spelled plainly; empty for an escape.
    found = _quick.findall(raw) if size <= AT_ONCE else [m[1] or b"" for m in _sliced(_quick, raw)]
    once = set(found)
    if b"" not in once and (
        len(once) == len(found)
        or not any(times > 1 and name.decode() in body for name, times in Counter(found).items())
    ):
        return None
    return _closer_look(raw, body)


def _each_once(raw: bytes, body: dict[str, Any]) -> bool:
    """Whether each name of the object stands in these bytes just once, however many blanks there are between
    (4 µs less for 500 bytes), and none is written in capitals. No other way to spell it does without this
    escape."""
    if _BACKSLASH in raw and raw.find(b"\\u00") >= 0:  # a number is found in a fifth of the time
        return False
    for name in body:
        quoted = _QUOTED.get(name)
        if quoted is None:
            if not (name.islower() and name.isascii()):
                return False
        elif raw.count(quoted) != 1:
            return False
    return True


def _beside_a_text(raw: bytes, body: dict[str, Any]) -> bool:
    """Whether one text is nearly all of these bytes, and `_each_once` holds for the rest (9 of 10 µs less for
    a prompt of 100 KB, and a ms for a picture of one MB).

    In JSON no text takes fewer bytes than it has characters. So it begins no further from the start than the
    body is longer than the text, and ends no further from the end; whatever else is in the body stands there.
    """
    size = len(raw)
    nearly = size - size // _EDGE
    values: list[Any] = list(body.values()) if len(body) <= _FEW else []
    for value in values:
        if isinstance(value, str):
            if len(value) >= nearly:
                rest = size - len(value)
                return _each_once(raw[:rest] + raw[-rest:], body)
        elif isinstance(value, dict):
            if len(values) + len(value) <= _FEW:
                values += value.values()
        elif isinstance(value, list) and len(values) + len(value) <= _FEW:
            values += value
    return False


def _as_written(raw: bytes, body: dict[str, Any]) -> bool:
    """Whether these are just the bytes that the parsed body is written as, by most SDKs too: then no member
    of it was lost. Their number alone would prove nothing: a float that grows could make up for one."""
    try:
        return orjson.dumps(body) == raw
    except TypeError:
        return False  # deeper than it writes


def _closer_look(raw: bytes, body: dict[str, Any]) -> str | None:
    """As `ambiguous`, of names that stand somewhere twice."""
    mark = "weir-"
    while any(key.startswith(mark) for key in body):
        mark += "-"
    pieces: list[bytes] = []
    names: list[str] = []
    done = looked_at = 0
    for match in _sliced(_spelled, raw):
        name = orjson.loads(match[0]) if b"\\" in match[1] else match[1].decode()
        looked_at += name in METERED or b"\\" in match[1]
        if looked_at > NAMES:
            return f"The body has more than {NAMES} members or words by which it could be metered."
        if name in METERED:
            pieces += raw[done : match.start()], f'"{mark}{len(names)}"'.encode()
            names.append(name)
            done = match.end()
    pieces.append(raw[done:])
    # What stands between two quotes was replaced by letters, so the structure is what it was.
    members = orjson.loads(b"".join(pieces))
    own = Counter(name for at, name in enumerate(names) if f"{mark}{at}" in members)
    for name, times in own.items():
        if times > 1:
            return f"The body has `{name}` twice, and servers differ in which one counts."
    return None


def _sliced(pattern: "re.Pattern[bytes]", raw: bytes) -> Iterator["re.Match[bytes]"]:
    """All matches, in pieces of work: `re` does not let other threads run while it searches."""
    at = 0
    for start in range(0, len(raw), _SLICE):
        end = start + _SLICE
        for match in pattern.finditer(raw, max(at, start), end + _LONGEST):
            if match.start() >= end:
                break
            at = match.end()
            yield match
