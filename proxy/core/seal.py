"""What Weir's own answers carry, and those of an upstream do not: nobody keeps, frames or guesses at them.

Own answers are errors, replies of plugins, routes on both ports. OWASP's REST cheat sheet names the fields;
the date is what a server with a clock has to send (RFC 9110, 6.6.1).
"""

import time
from collections.abc import Awaitable, Iterable
from email.utils import formatdate
from functools import lru_cache
from typing import Any

from proxy.core.deliver import Send
from proxy.core.headers import Pairs

FIELDS: Pairs = [
    (b"cache-control", b"no-store"),
    (b"content-security-policy", b"frame-ancestors 'none'"),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
]


def sealed(pairs: Iterable[tuple[bytes, bytes]]) -> Pairs:
    """The fields of an answer of our own: those it has, and the date and `FIELDS` as far as it lacks them."""
    made = list(pairs)
    names = {name for name, _ in made}
    made += [pair for pair in FIELDS if pair[0] not in names]
    if b"date" not in names:
        made.append((b"date", _date(int(time.time()))))
    return made


@lru_cache(maxsize=1)
def _date(second: int) -> bytes:
    return formatdate(second, usegmt=True).encode()


def sealing(send: Send) -> Send:
    """An ASGI `send` for an app all of whose answers are our own."""

    def send_sealed(message: Any) -> Awaitable[None]:
        if message["type"] == "http.response.start":
            message = {**message, "headers": sealed(message.get("headers", ()))}
        return send(message)

    return send_sealed
