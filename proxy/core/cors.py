"""CORS: which pages in browsers may call Weir. Exact origins, no cookies; off without any.

With it on, the upstream's own `access-control-*` fields do not pass: it cannot know who may call Weir, and
of two `access-control-allow-origin` a browser takes neither. https://fetch.spec.whatwg.org/#http-cors-protocol
"""

import re
from collections.abc import Awaitable, Iterable
from typing import Any

from starlette.responses import Response

from proxy.api.errors import ClientError
from proxy.core import gate
from proxy.core.deliver import Send
from proxy.core.headers import Pairs
from proxy.core.seal import sealed

MAX_AGE = b"600"
"""Seconds that a browser may remember a preflight's answer."""

_OURS = b"access-control-"
# What scripts may read; there are no patterns, so each answer names those that it has.
_EXPOSED = frozenset((b"x-request-id", b"retry-after", b"retry-after-ms", b"x-should-retry"))
_EXPOSED_BEGINNINGS = (b"x-weir-", b"x-ratelimit-")
_VARY = (b"vary", b"origin")
_NAMES = re.compile(rb"[A-Za-z0-9!#$%&'*+.^_`|~, \t-]*")
_REFUSAL = ClientError(
    403, "origin_not_allowed", "Pages of this origin may not call Weir: it is not in cors.origins."
)


class Cors:
    """The origins of a configuration, as browsers write them."""

    def __init__(self, origins: Iterable[str]) -> None:
        self._origins = frozenset(origin.encode() for origin in origins)

    def preflight(self, scope: Any) -> Any:
        """The ASGI app that answers a preflight request, with the raw `send`; None for any other request.

        It asks without a credential, so it is answered before anybody could ask for one. All methods and
        field names are allowed: what comes of them is for the request itself to find out.
        """
        if scope["method"] != "OPTIONS":
            return None
        headers = scope["headers"]
        names = {name for name, _ in headers}
        if b"origin" not in names or b"access-control-request-method" not in names:
            return None
        if (origin := self._allowed(headers)) is None:
            return _answer(_REFUSAL.status, [*_REFUSAL.headers(), _VARY], _REFUSAL.body())
        fields = [
            (b"access-control-allow-origin", origin),
            (b"access-control-allow-methods", gate.ALLOW),
            (b"access-control-max-age", MAX_AGE),
            (b"vary", b"origin, access-control-request-headers"),
        ]
        asked = b", ".join(value for name, value in headers if name == b"access-control-request-headers")
        if asked and _NAMES.fullmatch(asked):
            fields.append((b"access-control-allow-headers", asked))
        return _answer(204, fields)

    def sending(self, scope: Any, send: Send) -> Send:
        """An ASGI `send` that tells the browser whether the page may see this answer."""
        origin = self._allowed(scope["headers"])

        def told(message: Any) -> Awaitable[None]:
            if message["type"] == "http.response.start":
                message = {**message, "headers": _told(message.get("headers", ()), origin)}
            return send(message)

        return told

    def _allowed(self, headers: Pairs) -> bytes | None:
        """The one origin that the request says it comes from, if it is one of ours."""
        found = [value for name, value in headers if name == b"origin"]
        return found[0] if len(found) == 1 and found[0] in self._origins else None


def _told(pairs: Iterable[tuple[bytes, bytes]], origin: bytes | None) -> Pairs:
    fields = [pair for pair in pairs if not pair[0].startswith(_OURS)]
    if origin is not None:
        names = dict.fromkeys(
            name for name, _ in fields if name in _EXPOSED or name.startswith(_EXPOSED_BEGINNINGS)
        )
        fields.append((b"access-control-allow-origin", origin))
        if names:
            fields.append((b"access-control-expose-headers", b", ".join(names)))
    fields.append(_VARY)  # where nobody asked too: an answer that is kept is given to others
    return fields


def _answer(status: int, fields: Pairs, body: bytes = b"") -> Response:
    response = Response(body, status)
    response.raw_headers = [*response.raw_headers, *sealed(fields)]
    return response
