"""The headers that OpenAI puts on every answer, derived from the request instead of from the clock."""

import hashlib
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

_KEY = "weir.demo.digest"


def digest(scope: Scope) -> "hashlib._Hash":
    """The running hash of this request.

    Whoever reads the body adds to it what is the same in each repetition; a multipart boundary is not.
    """
    found: hashlib._Hash = scope[_KEY]
    return found


class Stamp:
    """Middleware: starts the hash with method, path and query, and signs the answer with its outcome."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        start: tuple[Any, ...] = (
            scope["method"].encode(),
            scope["path"].encode(),
            scope.get("query_string", b""),
        )
        scope[_KEY] = hashlib.sha256(b"\0".join((*start, b"")))

        async def stamped(message: Message) -> None:
            if message["type"] == "http.response.start":
                name = digest(scope).hexdigest()
                headers = [*message.get("headers", []), *_headers(name)]
                message = {**message, "headers": headers}
            await send(message)

        await self._app(scope, receive, stamped)


def _headers(name: str) -> list[tuple[bytes, bytes]]:
    return [
        (b"x-request-id", f"req_{name[:32]}".encode()),
        (b"openai-processing-ms", str(20 + int(name[:4], 16) % 80).encode()),
        (b"openai-version", b"2020-10-01"),
    ]
