"""Header fields as raw pairs: order, duplicates and values are kept; names are in lower case."""

from collections.abc import Iterable, Iterator
from operator import itemgetter
from typing import Final

_FIRST: Final = itemgetter(0)
CR, LF, NUL = b"\r\n\0"
"""What no field may hold (RFC 9110, 5.5). Numbers, since `in` finds one in a quarter of the time that `find`
takes, and bytes only after it has made and formatted an exception."""


class Names(dict[str | bytes, bytes]):
    """Field names in lower case, as they stand in `raw`. The same few come again and again: one look-up is
    cheaper than a new name, and looking that one up next is cheaper too. Bounded."""

    def __missing__(self, name: str | bytes) -> bytes:
        made = (name if isinstance(name, bytes) else name.encode("latin-1")).lower()
        if len(self) < 4096 and len(name) <= 64:
            self[name] = made
        return made


_NAMES: Final = Names()


def _checked(name: str | bytes, value: str | bytes) -> tuple[bytes, bytes]:
    """The pair as bytes; a CR, LF or NUL would let a value start a header of its own (RFC 9110, 5.5)."""
    pair = _NAMES[name], value if isinstance(value, bytes) else value.encode("latin-1")
    if not pair[0] or any(LF in part or CR in part or NUL in part for part in pair):
        raise ValueError(f"not a header field: {name!r}")
    return pair


class Headers:
    """An editable list of header fields.

    `raw` is the list itself, `(name, value)` in bytes, in the order in which it goes on the wire; names in it
    are in lower case. Everything that is not edited stays as it came. Values are read as latin-1 text
    (RFC 9110, 5.5); names are looked up without regard to case.
    """

    __slots__ = ("raw",)

    def __init__(self, raw: list[tuple[bytes, bytes]] | None = None) -> None:
        self.raw = [] if raw is None else raw

    @classmethod
    def of(cls, pairs: Iterable[tuple[str, str]]) -> "Headers":
        """Headers from text pairs."""
        return cls([_checked(name, value) for name, value in pairs])

    def get(self, name: str | bytes) -> str | None:
        """The first value of a field, or None."""
        want = _NAMES[name]
        for key, value in self.raw:
            if key == want:
                return value.decode("latin-1")
        return None

    def getall(self, name: str | bytes) -> list[str]:
        """All values of a field, in order."""
        want = _NAMES[name]
        return [value.decode("latin-1") for key, value in self.raw if key == want]

    def add(self, name: str | bytes, value: str | bytes) -> None:
        """Append a field; one of the same name stays."""
        self.raw.append(_checked(name, value))

    def remove(self, *names: str | bytes) -> None:
        """Take away every field of these names, if there are any."""
        unwanted = [_NAMES[name] for name in names]
        self.raw = [pair for pair in self.raw if pair[0] not in unwanted]

    def pop(self, name: str | bytes) -> str | None:
        """The first value of a field, or None; takes away every field of that name."""
        value = self.get(name)
        if value is not None:
            self.remove(name)
        return value

    def __setitem__(self, name: str | bytes, value: str | bytes) -> None:
        """Replace all fields of that name by this one."""
        pair = _checked(name, value)
        self.raw = [other for other in self.raw if other[0] != pair[0]]
        self.raw.append(pair)

    def __getitem__(self, name: str | bytes) -> str:
        value = self.get(name)
        if value is None:
            raise KeyError(name)
        return value

    def __contains__(self, name: str | bytes) -> bool:
        return _NAMES[name] in map(_FIRST, self.raw)

    def __iter__(self) -> Iterator[tuple[str, str]]:
        return ((name.decode("latin-1"), value.decode("latin-1")) for name, value in self.raw)

    def __len__(self) -> int:
        return len(self.raw)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Headers) and other.raw == self.raw

    __hash__ = None  # type: ignore[assignment] # editable, so not a key

    def __repr__(self) -> str:
        # Values may be credentials, and a repr ends up in logs.
        return f"Headers({[name.decode('latin-1') for name, _ in self.raw]})"
