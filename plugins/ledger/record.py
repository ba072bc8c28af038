"""What the journal is made of: records with their length and a check sum, and how a torn one is told.

A record is `<length><adler32><kind><payload>`, little-endian; length and sum are those of kind and payload. A
file ends where no record can be read: at zeros, since files are longer than what is in them, or at the
remains of a write that a crash cut short. Adler-32 finds those as CRC-32 does, and needs no table: that of
zlib takes half of a processor's nearest cache, twice a request.
"""

import struct
from collections.abc import Iterator
from typing import Final
from zlib import adler32

OPEN: Final = b"O"
"""A request has begun: its payload is what is known of it then."""
CLOSED: Final = b"E"
"""It has ended: its payload is its row."""
_HEAD: Final = struct.Struct("<II")
HEAD: Final = _HEAD.size
_BEGINNING: Final = struct.Struct("<IIc")
_pack = _BEGINNING.pack
_begins = _BEGINNING.unpack_from
_SUM: Final = {kind: adler32(kind) for kind in (OPEN, CLOSED)}
_unpack = _HEAD.unpack_from


def record(kind: bytes, payload: bytes) -> bytes:
    """One record."""
    return _pack(len(payload) + 1, adler32(payload, _SUM[kind]), kind) + payload


def sorted_out(data: bytes, most: int) -> tuple[list[bytes], list[bytes], int]:
    """The payloads of `OPEN` records and those of `CLOSED` ones, `most` of these, and the place after the
    last record that was looked at. For what this process has written and is whole: no sum is checked.
    """
    begun: list[bytes] = []
    ended: list[bytes] = []
    at, end = 0, len(data)
    while at < end and len(ended) < most:
        length, _, kind = _begins(data, at)
        begin, at = at + _BEGINNING.size, at + HEAD + length
        if kind == CLOSED:
            ended.append(data[begin:at])
        else:
            begun.append(data[begin:at])
    return begun, ended, at


def identity(payload: bytes) -> bytes:
    """The request's id, which the payloads of both kinds begin with: `"<id>",`."""
    return payload[1 : payload.index(b'"', 1)]


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
        if adler32(body) != check:
            return
        yield body[:1], body[1:], at
