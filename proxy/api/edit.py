"""Edits of one JSON object in its bytes: a member goes in, comes out or gets another value.

    find_member(body, "usage")                   where it stands, or None
    insert_member(body, "seed", b"7")            {"a": 1}           →  {"seed":7,"a": 1}
    replace_member(body, "seed", b"8")           {"seed":7,"a": 1}  →  {"seed":8,"a": 1}
    remove_member(body, "seed")                  {"seed":8,"a": 1}  →  {"a": 1}

Every other byte stays as it is: white space, order, 2^64, escapes, duplicates. A member is one of the object
itself, not of what is nested in it, and `"us\\u0061ge"` is `usage`. Where a name stands twice the last one
counts, as it does for parsers.

The body must be JSON, which somebody has parsed before; of anything else the outcome is `ValueError` or
rubbish, but no crash and no endless loop. Time is linear: some 10 ms for a MB of text, up to 0.3 s for a MB
that was made to be slow. So what is large and a stranger's belongs into a thread.
"""

import re
import sys
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import NamedTuple

import orjson

# Rules for whoever edits this file: the work is done by `re`, in C, and a Python loop turns only once per
# member that is looked for and per bracket of what is nested deeper than _DEPTH. Every repetition is
# possessive: there is one way to read JSON, so nothing is ever tried again.

# Before CPython 3.11.5 a possessive repetition went wrong when one of its turns failed midway (gh-106052).
# Patterns in which none does, of valid JSON, are slower where there are many brackets, and right.
_FAILS_WELL = sys.version_info >= (3, 11, 5)
_DEPTH = 8 if _FAILS_WELL else 0

_STRING = rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"'
_PLAIN = rb'[^"\[\]{}]*+'


def _content(depth: int) -> bytes:
    """What stands between two brackets, with brackets in it up to `depth`."""
    inner = rb"" if not depth else rb"|[\[{]" + _content(depth - 1) + rb"[\]}]"
    return _PLAIN + rb"(?:(?:" + _STRING + inner + rb")" + _PLAIN + rb")*+"


_VALUE = (
    _STRING + (rb"|[\[{]" + _content(_DEPTH - 1) + rb"[\]}]" if _DEPTH else rb"") + rb"|[^\s\"\[\]{},:]++"
)

_opening = re.compile(rb"\s*+\{\s*+").match
_name = re.compile(rb"(" + _STRING + rb")\s*+:\s*+", re.DOTALL).match
_value = re.compile(_VALUE, re.DOTALL).match
_rest = re.compile(_content(_DEPTH), re.DOTALL).match
_next = re.compile(rb"\s*+(?:(,)\s*+|\})").match


class Member(NamedTuple):
    """Where a member stands: `body[start:end]` is the whole of it, `body[value:end]` its value."""

    start: int
    value: int
    end: int


def find_member(body: bytes, name: str) -> Member | None:
    """The last member of this name, or None. Raises `ValueError` if the body is no JSON object."""
    found = None
    for member, _ in _members(body, name):
        found = member
    return found


def insert_member(body: bytes, name: str, value: bytes) -> bytes:
    """The object with one more member, in front; `value` is JSON.

    Raises `ValueError` if there is one of this name: which of the two counts would be anybody's guess.
    """
    for _ in _members(body, name):
        raise ValueError(f"the object has a member {name!r} already")
    at = _start(body)
    comma = b"" if body.startswith(b"}", at) else b","
    return b"".join((body[:at], orjson.dumps(name), b":", value, comma, body[at:]))


def replace_member(body: bytes, name: str, value: bytes) -> bytes:
    """The object with another value for this member; `value` is JSON. Raises `KeyError` if there is none."""
    member = find_member(body, name)
    if member is None:
        raise KeyError(name)
    return b"".join((body[: member.value], value, body[member.end :]))


def remove_member(body: bytes, name: str) -> bytes:
    """The object without any member of this name, and without the comma and the white space before it, or
    for the first of an object after it. `body` itself if there is none."""
    pieces = []
    done = 0
    first = -1  # where the next member would have nothing before it
    for member, following in _members(body, name):
        first = _start(body) if first < 0 else first
        if member.start == first:
            first = until = following or member.end
            pieces.append(body[done : member.start])
        else:
            until = member.end
            pieces.append(body[done : body.rindex(b",", done, member.start)].rstrip())
        done = until
    return b"".join([*pieces, body[done:]]) if pieces else body


def _members(body: bytes, name: str) -> Iterator[tuple[Member, int]]:
    """The members of this name, and where the member after each begins (0 after the last of the object)."""
    at = _start(body)
    escapes = b"\\u" in body or not name.isidentifier()
    if not escapes and name.encode() not in body:
        return
    look = _look(name, escapes)
    while not body.startswith(b"}", at):
        skipped = look.past_others(body, at)
        at = at if skipped is None else skipped.end()
        key = _name(body, at)
        if key is None:
            raise _not_an_object()
        end = _end(body, key.end())
        then = _next(body, end)
        if then is None:
            raise _not_an_object()
        if look.is_name(key[1]):
            yield Member(at, key.end(), end), then.end() if then[1] else 0
        if not then[1]:
            return
        at = then.end()


class _Look(NamedTuple):
    """How to find members of one name in bodies with, or without, a `\\u` in them."""

    past_others: Callable[[bytes, int], "re.Match[bytes] | None"]
    """Goes over members of other names, as far as it can."""
    is_name: Callable[[bytes], "re.Match[bytes] | None"]


@lru_cache(maxsize=256)
def _look(name: str, escapes: bool) -> _Look:
    spelled = b'"' + b"".join(map(_spellings, name)) + b'"' if escapes else re.escape(orjson.dumps(name))
    other = rb"(?!" + spelled + rb")" + _STRING + rb"\s*+:\s*+(?:" + _VALUE + rb")\s*+,\s*+"
    others = rb"(?:" + other + (rb")*+" if _FAILS_WELL else rb")?")
    return _Look(re.compile(others, re.DOTALL).match, re.compile(spelled).fullmatch)


_SHORT = {'"': '"', "\\": "\\", "/": "/", "\b": "b", "\f": "f", "\n": "n", "\r": "r", "\t": "t"}


def _spellings(character: str) -> bytes:
    """A pattern for each way to write a character in a JSON string (RFC 8259, 7)."""
    units = character.encode("utf-16-be").hex()
    ways = [b"".join(rb"\\u(?i:%b)" % units[at : at + 4].encode() for at in range(0, len(units), 4))]
    if character in _SHORT:
        ways.append(re.escape(b"\\" + _SHORT[character].encode()))
    if character >= " " and character not in '"\\':
        ways.append(re.escape(character.encode()))
    return b"(?:" + b"|".join(ways) + b")"


def _start(body: bytes) -> int:
    """Where the first member begins, or the closing bracket stands."""
    found = _opening(body)
    if found is None:
        raise _not_an_object()
    return found.end()


def _end(body: bytes, at: int) -> int:
    """Where the value that begins at `at` ends."""
    found = _value(body, at)
    if found is not None:
        return found.end()
    depth = 0
    while True:
        bracket = body[at : at + 1]
        if bracket in (b"[", b"{"):
            depth += 1
        elif depth and bracket in (b"]", b"}"):
            depth -= 1
        else:
            raise _not_an_object()
        at += 1
        if not depth:
            return at
        inside = _rest(body, at)
        at = at if inside is None else inside.end()


def _not_an_object() -> ValueError:
    return ValueError("not a JSON object")
