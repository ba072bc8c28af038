"""Bytes that came in base64 within JSON, decoded only where somebody looks: a picture of 10 MB has its size
in its first bytes."""

import re
from binascii import Error, a2b_base64
from collections.abc import Iterator

PIECE = 96 * 1024
# A media type and its parameters are short, where there are any.
_DATA_URL = re.compile(r"data:([^,;]{0,128})(?:;[^,;]{1,64}){0,4}?;base64,", re.IGNORECASE)


class Encoded:
    """Bytes in base64; `size` is how many there are."""

    __slots__ = ("_at", "_text", "media_type", "size")

    def __init__(self, text: str, at: int = 0, media_type: str = "") -> None:
        """The base64 begins at a place in `text`; `media_type` is what it is declared to be."""
        self._text = text
        self._at = at
        self.media_type = media_type
        padding = 2 if text.endswith("==") else text.endswith("=")
        self.size = max(0, len(text) - at - padding) * 3 // 4

    def read(self, start: int, count: int) -> bytes:
        """These bytes; fewer at the end, and none where this is no base64."""
        first = self._at + start // 3 * 4
        last = self._at + (start + count + 2) // 3 * 4
        try:
            piece = a2b_base64(self._text[first:last] + "==")
        except (Error, ValueError):
            return b""
        return piece[start % 3 : start % 3 + count]

    def pieces(self) -> Iterator[bytes]:
        """All of them, a piece at a time: in between, other threads get their turn."""
        for start in range(0, self.size + 3, PIECE):
            yield self.read(start, PIECE)


def data_url(url: str) -> Encoded | None:
    """What a `data:` URL holds; None if it is another kind of URL, or is not in base64."""
    found = _DATA_URL.match(url)
    return None if found is None else Encoded(url, found.end(), found[1].lower())
