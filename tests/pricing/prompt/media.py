"""Heads of pictures and recordings, put together as their formats say."""

import struct
from base64 import b64encode


def png(width: int, height: int) -> bytes:
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sII5s", 13, b"IHDR", width, height, b"\x08\x06\0\0\0")


def gif(width: int, height: int) -> bytes:
    return b"GIF89a" + struct.pack("<HH", width, height) + b"\xf7\0\0"


def jpeg(width: int, height: int, *before: bytes, frame: int = 0xC0) -> bytes:
    """`before` are segments that come first, such as a profile or a thumbnail."""
    return b"\xff\xd8" + b"".join(before) + segment(frame, struct.pack(">BHHB", 8, height, width, 3))


def segment(marker: int, data: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(data) + 2) + data


def webp(kind: str, width: int, height: int) -> bytes:
    match kind:
        case "VP8X":
            data = b"\x10\0\0\0" + (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
        case "VP8L":
            data = b"\x2f" + struct.pack("<I", (height - 1) << 14 | (width - 1)) + b"\0" * 5
        case _:
            data = b"\x30\x01\0\x9d\x01\x2a" + struct.pack("<HH", width, height)
    return b"RIFF" + struct.pack("<I4s4sI", len(data) + 12, b"WEBP", kind.encode(), len(data)) + data


def url(data: bytes, media_type: str = "image/png") -> str:
    return f"data:{media_type};base64,{b64encode(data).decode()}"


def wav(seconds: int, *, rate: int = 24_000, channels: int = 1, told: int | None = None) -> bytes:
    """16 bit. `told` is the length that the header claims."""
    block = 2 * channels
    data = bytes(seconds * rate * block)
    form = struct.pack("<HHIIHH", 1, channels, rate, rate * block, block, 16)
    chunks = [(b"LIST", b"odd", 3), (b"fmt ", form, 16), (b"data", data, len(data) if told is None else told)]
    body = b"".join(
        name + struct.pack("<I", size) + data + b"\0" * (len(data) % 2) for name, data, size in chunks
    )
    return b"RIFF" + struct.pack("<I", len(body) + 4) + b"WAVE" + body


def flac(samples: int, rate: int) -> bytes:
    stream = struct.pack(">HH6s", 4096, 4096, bytes(6)) + (
        rate << 44 | 1 << 41 | 15 << 36 | samples
    ).to_bytes(8, "big")
    return b"fLaC" + b"\x80" + (34).to_bytes(3, "big") + stream + bytes(16)


def mp3(size: int, *, frames: int | None = None, tagged: int = 0, head: bytes = b"\xff\xfb\x90\xc0") -> bytes:
    """MPEG 1, 128 kbit/s, 44.1 kHz, one channel unless the head says otherwise; behind a tag."""
    tag = (
        b"ID3\x04\0\0" + bytes(tagged >> shift & 127 for shift in (21, 14, 7, 0)) + bytes(tagged)
        if tagged
        else b""
    )
    info = b"" if frames is None else bytes(17) + b"Xing" + struct.pack(">II", 1, frames)
    return (tag + head + info).ljust(size, b"\0")


def mp4(units: int, per_second: int, *, version: int = 0, before: bytes = b"") -> bytes:
    times = (8, 8, 8) if version else (4, 4, 4)
    fields = bytes(2 * times[0]) + struct.pack(">I", per_second) + units.to_bytes(times[2], "big") + bytes(80)
    return (
        box(b"ftyp", b"M4A \0\0\0\0")
        + before
        + box(b"moov", box(b"mvhd", bytes([version, 0, 0, 0]) + fields))
    )


def box(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data) + 8) + name + data


def pdf(pages: int) -> bytes:
    page = b"3 0 obj\n<< /Type /Page /Parent 1 0 R >>\nendobj\n"
    return b"%%PDF-1.4\n1 0 obj\n<< /Type /Pages /Count %d >>\nendobj\n" % pages + page * pages


def field(name: str, value: str) -> bytes:
    return f'Content-Disposition: form-data; name="{name}"\r\n\r\n{value}'.encode()


def file(name: str, filename: str, data: bytes) -> bytes:
    head = (
        f'Content-Disposition: form-data; name="{name}"; filename="{filename}"\r\nContent-Type: a/b\r\n\r\n'
    )
    return head.encode() + data


def multipart(boundary: str, *parts: bytes) -> bytes:
    mark = b"--" + boundary.encode()
    return b"".join(mark + b"\r\n" + part + b"\r\n" for part in parts) + mark + b"--\r\n"
