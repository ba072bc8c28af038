"""Heads that come again and differ in little: found by comparing bytes, not parsed.

Who keeps a connection sends nearly the same head again and again, and parsing it costs more than all else
that is done for receiving it. So what the parser made of one is kept, and the next that is the same but for
some values is what the parser would make of it. This is no second grammar: which fields there are, in which
order, how they are written, and all that has to do with framing is the parser's reading of the same bytes.
Of framing only the digits of Content-Length may differ, and they must be the length of what came with the
head. Everything else is for the parser.
"""

import re
from collections.abc import Set
from typing import Any

from proxy.core.headers import Pairs

MOST = 16 * 1024
"""Bytes of a message that are looked at; with more of them the head is not what costs."""
DIGITS = len(b"%d" % MOST)
"""The most that the length of such a body is written with."""
_LONGEST = 4 * 1024
"""Bytes of a head that is kept."""
_KINDS = 4
"""Kinds of heads that one upstream's `Shapes` keep: those met last."""
_CREDIT = 32
_FIXED = frozenset((b"connection", b"keep-alive", b"proxy-connection", b"te", b"trailer"))
"""Fields that frame, or nearly: another value of theirs is for the parser."""
_NEVER = frozenset((b"transfer-encoding", b"upgrade"))
"""No head with one of these is kept."""
# Values that every parser reads alike: printable, not empty, no blank at either end.
_VALUES = re.compile(rb"[!-~](?:[ -~]*[!-~])?(?:\r[!-~](?:[ -~]*[!-~])?)*")


class Shape:
    """Heads that are one but for the values of some fields."""

    __slots__ = ("_gaps", "_headers", "_rest", "told")

    def __init__(
        self, lines: list[bytes], headers: Pairs, told: Any, varying: Set[int] = frozenset()
    ) -> None:
        """`lines` are the first and, as `plain` gives them, those of `headers`; `varying` counts in those."""
        self.told = told
        """What else the parser said of the head."""
        self._headers = headers.copy()
        self._gaps: list[tuple[bytes, int, bytes]] = []
        """The bytes before a value that varies, and which field's it is, in order."""
        fixed = lines[0]
        for at, (line, (name, _)) in enumerate(zip(lines[1:], headers, strict=True)):
            if at in varying or name == b"content-length":
                self._gaps.append((fixed + b"\r\n" + line[: len(name) + 2], at, name))
                fixed = b""
            else:
                fixed += b"\r\n" + line
        self._rest = fixed + b"\r\n\r\n"

    def read(self, piece: bytes) -> tuple[Pairs, bytes] | None:
        """Headers and body of a message that is all of `piece`, if its head is one of these."""
        headers = self._headers.copy()
        values = []
        length = b""
        at = 0
        for fixed, place, name in self._gaps:
            if not piece.startswith(fixed, at):
                return None
            start = at + len(fixed)
            at = piece.find(b"\r", start)  # if there is none, what has to follow is not there either
            value = piece[start:at]
            headers[place] = (name, value)
            if name == b"content-length":
                length = value
            else:
                values.append(value)
        if not piece.startswith(self._rest, at):
            return None
        body = piece[at + len(self._rest) :]
        if length != b"%d" % len(body) or (values and _VALUES.fullmatch(b"\r".join(values)) is None):
            return None
        return headers, body


class _Kind:
    """One kind of head, as far as it is known: which of its values vary shows with time."""

    __slots__ = ("_headers", "_lines", "_varying", "shape")

    def __init__(self, lines: list[bytes], headers: Pairs, told: Any) -> None:
        self._lines = lines
        self._headers = headers.copy()
        self._varying: set[int] = set()
        self.shape = Shape(lines, headers, told)

    def widen(self, lines: list[bytes], headers: Pairs) -> bool:
        """Take in a head that has other values in the same fields. Whether it is of this kind."""
        if lines[0] != self._lines[0] or len(lines) != len(self._lines):
            return False
        differing = set()
        for at, (name, value) in enumerate(headers):
            end = len(name) + 2
            if self._headers[at][0] != name or self._lines[at + 1][:end] != lines[at + 1][:end]:
                return False
            if self._headers[at][1] != value:
                if name in _FIXED:
                    return False
                differing.add(at)
        self._varying |= differing
        self.shape = Shape(self._lines, self._headers, self.shape.told, self._varying)
        return True


class Shapes:
    """The kinds of heads that one upstream sends. Bounded, and so is what it costs to learn them: of an
    upstream whose heads never come again only the first few are looked at."""

    def __init__(self) -> None:
        self._kinds: list[_Kind] = []
        self._credit = _CREDIT  # heads that may be learnt; each that was known earns another

    def read(self, piece: bytes) -> tuple[Any, Pairs, bytes] | None:
        """What was told of the head, its headers, and the body, if `piece` is a message with a known one."""
        for kind in self._kinds:
            shape = kind.shape
            read = shape.read(piece)
            if read is not None:
                if kind is not self._kinds[0]:
                    self._kinds.remove(kind)
                    self._kinds.insert(0, kind)
                if self._credit < _CREDIT:
                    self._credit += 1
                return shape.told, *read
        return None

    def learn(self, piece: bytes, headers: Pairs, size: int, told: Any) -> None:
        """Know the head of a message when it comes again. It was parsed, and is all of `piece`."""
        if not self._credit:
            return
        self._credit -= 1
        lines = plain(piece, headers, size)
        if lines is not None and not any(kind.widen(lines, headers) for kind in self._kinds):
            self._kinds.insert(0, _Kind(lines, headers, told))
            del self._kinds[_KINDS:]


def plain(piece: bytes, headers: Pairs, size: int) -> list[bytes] | None:
    """The lines of a head that the parser read as `headers`, followed by `size` bytes and nothing more.

    None for one that is long, that is not written as nearly all are (`name: value`), or that is not framed
    by one Content-Length alone.
    """
    end = len(piece) - size - 4
    if end > _LONGEST:
        return None
    first, *lines = piece[:end].split(b"\r\n")
    written = list(map(b": ".join, headers))
    if b"\r\n".join(lines).lower() != b"\r\n".join(written).lower():  # but for the case of names
        return None
    names = [name for name, _ in headers]
    if names.count(b"content-length") != 1 or not _NEVER.isdisjoint(names):
        return None
    return [first, *lines] if headers[names.index(b"content-length")][1] == b"%d" % size else None
