"""How long a recording is, from its header: WAV, MP3, FLAC and MP4. No sound is decoded."""

from proxy.pricing.prompt.dimensions import Read

_UNTOLD = 2**32 - 1
PARTS = 100
"""Chunks of a file that are looked at on the way to the one that tells."""

_PLAIN = (1, 3, 6, 7, 0xFFFE)  # formats of WAV in which a sample has so many bytes
# Of MPEG 1 and of MPEG 2 and 2.5, layer III: kbit/s by index.
_KBITS = (
    (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 0),
    (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160, 0),
)
_HERTZ = (44100, 48000, 32000, 0)


ENDLESS = 2**62
"""Bytes of a file of which nobody knows the size."""


def milliseconds(read: Read, size: int = ENDLESS) -> int | None:
    """The length of a file of `size` bytes, rounded up; None if it is none of these, or does not say.

    An MP3 that has one rate throughout, or says how many frames it has, is told right; another is taken for
    one of its first frame's rate.
    """
    head = read(0, 12)
    if head.startswith(b"RIFF") and head[8:] == b"WAVE":
        found = _wav(read, size)
    elif head.startswith(b"fLaC"):
        found = _flac(read(0, 26))
    elif head[4:8] == b"ftyp":
        found = _mp4(read, size)
    else:
        found = _mp3(read, size)
    units, per_second = found
    if per_second <= 0 or not 0 < units < ENDLESS // 2:
        return None
    return -(-units * 1000 // per_second)


def _wav(read: Read, size: int) -> tuple[int, int]:
    at, per_second = 12, 0
    for _ in range(PARTS):
        chunk = read(at, 24)
        if len(chunk) < 8:
            break
        name, length = chunk[:4], _little(chunk[4:8])
        if name == b"fmt ":
            rate, declared, block = _little(chunk[12:16]), _little(chunk[16:20]), _little(chunk[20:22])
            per_second = rate * block if _little(chunk[8:10]) in _PLAIN else declared
        elif name == b"data":
            there = size - at - 8  # one that was written as it was recorded does not know its length
            return (min(length, there) if 0 < length < _UNTOLD else there), per_second
        at += 8 + length + length % 2
    return 0, 0


def _flac(head: bytes) -> tuple[int, int]:
    if len(head) < 26:
        return 0, 0
    packed = _big(head[18:26])  # 20 bits of hertz, 3 of channels, 5 of depth, 36 of samples
    return packed & 0xF_FFFF_FFFF, packed >> 44


def _mp4(read: Read, size: int) -> tuple[int, int]:
    at = 0
    for _ in range(PARTS):
        box = read(at, 40)
        if len(box) < 8 or at >= size:
            break
        length, name = _big(box[:4]), box[4:8]
        if name == b"moov":
            at += 8  # into it
            continue
        if name == b"mvhd" and len(box) == 40:
            return (
                (_big(box[32:40]), _big(box[28:32])) if box[8] == 1 else (_big(box[24:28]), _big(box[20:24]))
            )
        if length == 1:
            length = _big(box[8:16])
        at += length if length >= 8 else size
    return 0, 0


def _mp3(read: Read, size: int) -> tuple[int, int]:
    at = 0
    head = read(0, 10)
    if head.startswith(b"ID3") and len(head) == 10:
        at = 10 + (head[6] << 21 | head[7] << 14 | head[8] << 7 | head[9])
    frame = read(at, 48)
    if len(frame) < 48 or frame[0] != 0xFF or frame[1] & 0xE6 != 0xE2:  # in step, and layer III
        return 0, 0
    version = frame[1] >> 3 & 3  # 3: MPEG 1, 2: MPEG 2, 0: MPEG 2.5
    if version == 1:
        return 0, 0
    first = version == 3
    hertz = _HERTZ[frame[2] >> 2 & 3] // {3: 1, 2: 2, 0: 4}[version]
    mono = frame[3] >> 6 == 3
    tag = frame[4 + ((17 if mono else 32) if first else (9 if mono else 17)) :]
    if tag[:4] in (b"Xing", b"Info") and tag[7] & 1:
        return _big(tag[8:12]) * (1152 if first else 576), hertz
    return (size - at) * 8, _KBITS[not first][frame[2] >> 4] * 1000


def _big(raw: bytes) -> int:
    return int.from_bytes(raw, "big")


def _little(raw: bytes) -> int:
    return int.from_bytes(raw, "little")
