"""What is refused before a request becomes an exchange with anybody: pure functions, OpenAI-shaped errors.

Anything that two servers could read differently is refused; everything else passes, unknown paths too.
"""

import re
from typing import Any

from proxy.api.errors import ClientError
from proxy.core.headers import OURS, Pairs, named_by

METHODS = frozenset(("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"))
ALLOW = ", ".join(sorted(METHODS)).encode()
"""The `Allow` of a 405."""
_KNOWN_PATHS = 1024

# A dot segment, raw or encoded, with or without parameters; %00; a backslash, raw or encoded.
_UNSAFE = re.compile(rb"(?:^|/|%2f)(?:\.|%2e){1,2}(?:[/;]|%2f|$)|%00|\\|%5c", re.IGNORECASE)
_PRINTABLE = re.compile(rb"/[\x21-\x7e]*")


def _invalid(code: str, message: str) -> ClientError:
    return ClientError(400, code, message)


def check_method(method: str) -> None:
    """RFC 9110's methods and PATCH; CONNECT and TRACE are not for a reverse proxy."""
    if method not in METHODS:
        raise ClientError(405, "method_not_allowed", f"The method {method[:32]} is not allowed here.")


Framing = tuple[bool, int | None, frozenset[bytes]]
"""Whether a request has a body, its length if that was promised, and the fields that go no further: those
that `Connection` names, `x-weir-*`, and the `te` of a client that takes trailers."""

_LOOKED_AT = frozenset(
    (b"host", b"content-length", b"transfer-encoding", b"connection", b"upgrade", b"expect", b"te")
)
_PLAIN: set[bytes] = set()
"""Names that were met and are nothing to look at: the same few come again and again. Bounded."""


def check_framing(http_version: str, headers: Pairs) -> Framing:
    """What frames a request. Raises `ClientError` for what is ambiguous.

    One Host, no unknown transfer coding, never both lengths (RFC 9112, 3.2 and 6.3), no upgrade.
    """
    hosts = 0
    length: int | None = None
    chunked = False
    upgrade = False
    named: frozenset[bytes] = frozenset()
    for name, value in headers:
        if name in _PLAIN:
            continue
        if name not in _LOOKED_AT:
            if name[:7] == OURS:
                named |= {name}
            elif len(_PLAIN) < 4096 and len(name) <= 64:
                _PLAIN.add(name)
            continue
        if name == b"host":
            hosts += 1
        elif name == b"content-length":
            value = value.strip(b" \t")
            if length is not None or not value.isdigit() or len(value) > 18:
                raise _invalid("invalid_framing", "Content-Length must be one decimal number.")
            length = int(value)
        elif name == b"connection":
            named |= named_by(value)
        elif name == b"transfer-encoding":
            if chunked or value.strip(b" \t").lower() != b"chunked":
                raise ClientError(501, "unsupported_transfer_coding", "Only `chunked` is understood.")
            chunked = True
        elif name == b"upgrade":
            upgrade = True
        elif name == b"te":
            if b"trailers" in [coding.strip(b" \t") for coding in value.lower().split(b",")]:
                named |= {name}
        elif value.lower() != b"100-continue":
            raise ClientError(417, "expectation_failed", "Only `Expect: 100-continue` is understood.")
    if hosts != 1 and not (hosts == 0 and http_version == "1.0"):
        raise _invalid("invalid_host", "A request has exactly one Host header.")
    if chunked and (length is not None or http_version == "1.0"):
        raise _invalid("invalid_framing", "A request has either Content-Length or Transfer-Encoding.")
    if upgrade and b"upgrade" in named:
        raise ClientError(
            501, "upgrade_not_supported", "Weir speaks HTTP/1.1 alone: no WebSocket, no h2c upgrade."
        )
    return chunked or length is not None, length, named


class Paths:
    """Checks raw paths and finds the endpoint they name; remembers the last thousand."""

    def __init__(self) -> None:
        self._known: dict[bytes, str] = {}

    def endpoint(self, raw_path: bytes) -> str:
        """`/v1/chat/completions` and `/chat/completions` are both `chat/completions`.

        Refused with 400: a path that does not start with exactly one slash, dot segments, backslash, `%00`
        and bytes outside printable ASCII. `%2F`, `;` and an inner `//` pass untouched.
        """
        endpoint = self._known.get(raw_path)
        if endpoint is None:
            if not _PRINTABLE.fullmatch(raw_path) or raw_path.startswith(b"//") or _UNSAFE.search(raw_path):
                raise _invalid("invalid_path", "The path is not one that Weir forwards.")
            path = raw_path.decode("ascii")
            endpoint = path[4:] if path.startswith("/v1/") else "" if path == "/v1" else path[1:]
            if len(self._known) >= _KNOWN_PATHS:
                self._known.clear()
            if len(raw_path) <= 256:
                self._known[raw_path] = endpoint
        return endpoint


def raw_path(scope: Any) -> bytes:
    """The path as it came; servers that do not give it get it encoded from the decoded one."""
    raw: bytes | None = scope.get("raw_path")
    return scope["path"].encode("utf-8") if raw is None else raw
