"""Answers that come in pieces."""

import asyncio
from collections.abc import Iterable

import orjson
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

EVENT_STREAM = "text/event-stream"
DONE = b"data: [DONE]\n\n"


def sse(data: object, event: str = "") -> bytes:
    """One server-sent event, with an `event:` line when it has a name."""
    name = f"event: {event}\n".encode() if event else b""
    return b"%bdata: %b\n\n" % (name, orjson.dumps(data))


class Stream(Response):
    """Sends each chunk as an ASGI message of its own, `pace` seconds apart, and stops when the client goes.

    The chunks come from a plain iterator with nothing to close: to stop is just not to ask for more.
    """

    def __init__(self, chunks: Iterable[bytes], media_type: str = EVENT_STREAM, *, pace: float = 0.0) -> None:
        self.status_code = 200
        self.media_type = media_type
        self.background = None
        self._chunks = chunks
        self._pace = pace
        self.init_headers()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        gone = asyncio.create_task(_disconnect(receive))
        try:
            await send(
                {"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers}
            )
            for chunk in self._chunks:
                # With no pace this still lets the loop run once, so that chunks leave one by one.
                await asyncio.wait([gone], timeout=self._pace)
                if gone.done():
                    return
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            gone.cancel()


async def _disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
