"""What the journal is made of: records with their length and a check sum, and how a torn one is told.

A record is `<length><crc32><kind><payload>`, little-endian; length and sum are those of kind and payload. A
file ends where no record can be read: at zeros, since files are longer than what is in them, or at the
remains of a write that a crash cut short.
"""

import struct
from collections.abc import Iterator
from typing import Final
from zlib import crc32

OPEN: Final = b"o"
"""A request has begun: its payload is what is known of it then."""
CLOSED: Final = b"e"
"""It has ended: its payload is its row."""
CLOSED_1: Final = b"c"
"""The same of older versions, which kept its hops in microseconds."""
_HEAD: Final = struct.Struct("<II")
HEAD: Final = _HEAD.size
_BEGINNING: Final = struct.Struct("<IIc")
_pack = _BEGINNING.pack
_begins = _BEGINNING.unpack_from
_SUM: Final = {kind: crc32(kind) for kind in (OPEN, CLOSED, CLOSED_1)}
_unpack = _HEAD.unpack_from


def record(kind: bytes, payload: bytes) -> bytes:
    """One record."""
    return _pack(len(payload) + 1, crc32(payload, _SUM[kind]), kind) + payload


def ended(data: bytes, most: int) -> tuple[list[bytes], int]:
    """The payloads of `CLOSED` records, `most` of them, and the place after the last record that was looked
    at. For what this process has written and is whole: no sum is checked, which takes longer than the rest.
    """
    payloads: list[bytes] = []
    at, end = 0, len(data)
    while at < end and len(payloads) < most:
        length, _, kind = _begins(data, at)
        begin, at = at + _BEGINNING.size, at + HEAD + length
        if kind == CLOSED:
            payloads.append(data[begin:at])
    return payloads, at


def records(data: bytes, at: int = 0) -> Iterator[tuple[bytes, bytes, int]]:
    """Kind, payload and end of each whole record from `at` on; stops where there is none."""
    end = len(data)
    while at + HEAD < end:
        length, check = _unpack(data, at)
        begin = at + HEAD
        at = begin + length
        if not length or at > end:
            return
        body = data[begin:at]
        if crc32(body) != check:
            return
        yield body[:1], body[1:], at
