"""Heads of HTTP/1 answers: what is refused besides what h11 refuses."""

import re

from proxy.core.upstream import errors

MAX_HEADERS = 200
MAX_HEAD = 128 * 1024
"""Bytes of an answer's head, interim answers included. h11 stops at 100 KiB for each of them."""
MAX_INTERIM = 32
FIELD_NAME = re.compile(rb"[!#$%&'*+.^_`|~0-9a-z-]+")
UNSAFE = re.compile(rb"[\r\n\0]")
_VERSIONS = (b"HTTP/1.1 ", b"HTTP/1.0 ")
_BLANK_LINE = re.compile(rb"\n\r?\n")
_CHUNK_HEADER = re.compile(rb"[0-9A-Fa-f]{1,20}(?:;[^\n]*)?[ \t]*\r\n")  # as h11 has it


def check_begun(head: bytes | bytearray) -> None:
    """Raise if this cannot become a proper head any more. h11 would wait for the rest of it."""
    start = bytes(head[:9])
    if not any(version.startswith(start) for version in _VERSIONS):
        raise errors.bad_response()
    if len(head) > MAX_HEAD:
        raise errors.headers_too_large()
    if len(_BLANK_LINE.findall(head)) > MAX_INTERIM:
        raise errors.bad_response()


def check_whole(raw: bytes) -> None:
    """Raise for what h11 lets pass in a head, interim answers before it, or finds with the next read only.

    `raw` is all that has come, what came behind the head with it.
    """
    at = 0
    interims = -1
    status = b"1"
    while status == b"1":
        interims += 1
        if not raw.startswith(_VERSIONS, at):
            raise errors.bad_response()
        status = raw[at + 9 : at + 10]
        end = _BLANK_LINE.search(raw, at)
        if end is None:
            return
        head, at = raw[at : end.end()], end.end()
    if interims > MAX_INTERIM:
        raise errors.bad_response()
    line_end = raw.find(b"\n", at)
    if b"\ntransfer-encoding:" in head.lower() and line_end >= 0 and not _CHUNK_HEADER.match(raw, at):
        raise errors.bad_framing()  # still time to say so properly
