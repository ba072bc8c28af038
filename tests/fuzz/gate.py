"""The head of a request at the gate: refused with a `ClientError`, or unambiguous."""

import re
from typing import Final
from urllib.parse import unquote_to_bytes

from proxy.api.errors import ClientError
from proxy.core.gate import METHODS, Paths, check_framing, check_method
from proxy.core.headers import HOP_BY_HOP, Pairs

_PATHS: Final = Paths()
_SEPARATORS: Final = re.compile(rb"[/\\]")


def target(data: bytes) -> None:
    """A request line and header lines: method, path and version, then names and values."""
    first, *lines = data.split(b"\n")
    method, _, rest = first.partition(b" ")
    path, _, version = rest.rpartition(b" ")
    _method(method.decode("latin-1"))
    _path(path)
    _framing(version.decode("latin-1"), lines)


def _method(method: str) -> None:
    try:
        check_method(method)
    except ClientError as error:
        assert error.status == 405
        assert method not in METHODS
    else:
        assert method in METHODS


def _path(path: bytes) -> None:
    try:
        endpoint = _PATHS.endpoint(path)
    except ClientError as error:
        assert (error.status, error.code) == (400, "invalid_path")
        return
    assert path.startswith(b"/")
    assert not path.startswith(b"//")
    assert path.isascii()
    assert endpoint == Paths().endpoint(path), "what is remembered differs"
    for decoded in (path, unquote_to_bytes(path)):
        assert b"\0" not in decoded
        assert b"\\" not in decoded
        for segment in _SEPARATORS.split(decoded):
            assert segment.partition(b";")[0] not in (b".", b".."), "a dot segment"


def _framing(version: str, lines: list[bytes]) -> None:
    headers: Pairs = []
    for line in lines:
        name, _, value = line.partition(b":")
        headers.append((name.lower(), value.strip(b" \t")))
    try:
        has_body, length, named = check_framing(version, headers)
    except ClientError as error:
        assert error.status in (400, 417, 501)
        return
    names = [name for name, _ in headers]
    assert names.count(b"host") == 1 or (version == "1.0" and b"host" not in names)
    assert names.count(b"content-length") + names.count(b"transfer-encoding") <= 1
    assert has_body == (b"content-length" in names or b"transfer-encoding" in names)
    if length is not None:
        assert 0 <= length < 10**18
        assert dict(headers)[b"content-length"].isdigit()
    if b"transfer-encoding" in names:
        assert version != "1.0"
        assert dict(headers)[b"transfer-encoding"].lower() == b"chunked"
    assert not named & {b"host", b"content-length"}, "a client takes away what is not its own"
    assert all(name in named for name in names if name.startswith(b"x-weir-"))
    assert HOP_BY_HOP  # what passes is for `headers`
