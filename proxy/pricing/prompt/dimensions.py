"""Width and height of a picture, from the first bytes of PNG, JPEG, GIF and WebP. No picture is decoded."""

from collections.abc import Callable

Read = Callable[[int, int], bytes]
"""The bytes of a file from a place on, up to so many."""

SEGMENTS = 100
"""Of a JPEG that are looked at on the way to its frame. Photographs have twenty at most."""
_FRAMES = frozenset({*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC})
_ALONE = frozenset((0x01, *range(0xD0, 0xD9)))  # markers without a length


def dimensions(read: Read) -> tuple[int, int] | None:
    """Width and height in pixels, each at least 1; None for what is none of these, or is damaged."""
    head = read(0, 30)
    if head.startswith(b"\x89PNG\r\n\x1a\n") and head[12:16] == b"IHDR":
        found = _big(head[16:20]), _big(head[20:24])
    elif head.startswith((b"GIF87a", b"GIF89a")):
        found = _little(head[6:8]), _little(head[8:10])
    elif head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        found = _webp(head)
    elif head.startswith(b"\xff\xd8"):
        found = _jpeg(read)
    else:
        return None
    return found if found[0] and found[1] else None


def _webp(head: bytes) -> tuple[int, int]:
    kind = head[12:16]
    if len(head) < 30:
        return 0, 0
    if kind == b"VP8X":  # the canvas
        return _little(head[24:27]) + 1, _little(head[27:30]) + 1
    if kind == b"VP8L" and head[20] == 0x2F:
        packed = _little(head[21:25])
        return (packed & 0x3FFF) + 1, (packed >> 14 & 0x3FFF) + 1
    if kind == b"VP8 " and head[23:26] == b"\x9d\x01\x2a":
        return _little(head[26:28]) & 0x3FFF, _little(head[28:30]) & 0x3FFF
    return 0, 0


def _jpeg(read: Read) -> tuple[int, int]:
    """Profiles and thumbnails come before the frame: from segment to segment, without reading them."""
    at = 2
    for _ in range(SEGMENTS):
        segment = read(at, 9)
        if len(segment) < 4 or segment[0] != 0xFF:
            break
        marker = segment[1]
        if marker == 0xFF:  # a byte of padding
            at += 1
        elif marker in _ALONE:
            at += 2
        elif marker in _FRAMES:
            return _big(segment[7:9]), _big(segment[5:7])
        else:
            at += 2 + _big(segment[2:4])
    return 0, 0


def _big(raw: bytes) -> int:
    return int.from_bytes(raw, "big")


def _little(raw: bytes) -> int:
    return int.from_bytes(raw, "little")
