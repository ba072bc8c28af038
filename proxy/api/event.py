"""One server-sent event, or one whole JSON body, with the exact bytes that came.

The grammar is that of the WHATWG HTML standard, 9.2.6: lines end with CR, LF or CRLF; an empty line ends the
event; `data:` lines are joined with LF.
"""

import re
from typing import Any, Literal

import orjson

from proxy.api.headers import CR

_LINE = re.compile(rb"[^\r\n]*(?:\r\n|\n|\r|$)")
_BOM = b"\xef\xbb\xbf"
_UNPARSED: Any = object()


class Event:
    """One server-sent event with the empty line that ends it, one whole JSON body, or the end of the events.

    `raw` is forwarded untouched unless a hook returns something else. After the last event of a stream that
    ended cleanly comes one more with `kind == "end"` and no bytes: the moment to give out what was held back.
    (`kind == "part"`, a piece of an event that is too large to keep, never reaches a hook.)
    """

    __slots__ = ("_json", "_opens", "kind", "raw")

    def __init__(
        self, raw: bytes, kind: Literal["sse", "json", "end", "part"] = "sse", *, opens: bool = False
    ) -> None:
        self.raw = raw
        self.kind = kind
        self._opens = opens  # a byte order mark is one at the very start of a stream, else it is text
        self._json = _UNPARSED

    @classmethod
    def of(cls, data: bytes, *, name: str | None = None) -> "Event":
        """A new event with this data, and `event: name` if a name is given."""
        head = b"" if name is None else b"event: %s\n" % name.encode()
        return cls(head + b"".join(b"data: %s\n" % line for line in data.split(b"\n")) + b"\n")

    @classmethod
    def comment(cls, text: bytes) -> "Event":
        """A comment block of its own: clients skip it."""
        if b"\n" in text or b"\r" in text:
            raise ValueError("a comment is one line")
        return cls(b": " + text + b"\n\n")

    @property
    def data(self) -> bytes:
        """The `data:` lines joined with LF, or the whole body of a JSON answer."""
        raw = self.raw
        if self.kind == "json":
            return raw
        # Nearly every event there is: one data line, LF LF.
        if raw.startswith(b"data: ") and raw.find(b"\n") == len(raw) - 2 and CR not in raw:
            return raw[6:-2]
        return b"\n".join(value for name, value in self.fields() if name == b"data")

    @property
    def name(self) -> str | None:
        """The value of the last `event:` line, or None."""
        return self._last(b"event")

    @property
    def id(self) -> str | None:
        """The value of the last `id:` line, or None."""
        return self._last(b"id")

    def json(self) -> Any:
        """The data as JSON, parsed once for all plugins and not to be modified; None if it is not JSON."""
        if self._json is _UNPARSED:
            try:
                self._json = orjson.loads(self.data)
            except orjson.JSONDecodeError:
                self._json = None
        return self._json

    def with_data(self, data: bytes) -> "Event":
        """This event with other data; every other line, and how lines end, is kept.

        The new data takes the place of the first `data:` line, or comes first if there was none.
        """
        if self.kind == "json":
            return Event(data, "json")
        kept: list[bytes] = []
        at = None
        ending = b"\n"
        for line in self._lines():
            body = line.rstrip(b"\r\n")
            ending = line[len(body) :] or ending
            if _field(body)[0] == b"data":
                at = len(kept) if at is None else at
            else:
                kept.append(line)
        lines = [b"data: " + part + ending for part in data.split(b"\n")]
        at = 0 if at is None else at
        mark = _BOM if self._opens and self.raw.startswith(_BOM) else b""
        return Event(mark + b"".join(kept[:at] + lines + kept[at:]), opens=self._opens)

    def fields(self) -> list[tuple[bytes, bytes]]:
        """The lines as (name, value); a comment has the empty name."""
        return [_field(body) for line in self._lines() if (body := line.rstrip(b"\r\n"))]

    def _lines(self) -> list[bytes]:
        raw = self.raw.removeprefix(_BOM) if self._opens else self.raw
        return [line for line in _LINE.findall(raw) if line]

    def _last(self, name: bytes) -> str | None:
        if self.kind != "sse":
            return None
        values = [value for key, value in self.fields() if key == name]
        return values[-1].decode("utf-8", "replace") if values else None

    def __repr__(self) -> str:
        # The bytes may be a completion, and a repr ends up in logs.
        return f"Event({self.kind}, {len(self.raw)} bytes)"


def _field(line: bytes) -> tuple[bytes, bytes]:
    name, _, value = line.partition(b":")
    return name, value.removeprefix(b" ")


END_OF_EVENTS = Event(b"", "end")
