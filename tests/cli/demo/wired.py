"""The real SDK on a wire that a test holds the other end of."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import httpx2
import openai

Answer = Callable[[httpx2.Request], httpx2.Response]


@contextmanager
def sdk(answer: Answer) -> Iterator[openai.OpenAI]:
    """An SDK whose requests are answered here."""
    http = openai.DefaultHttpxClient(transport=httpx2.MockTransport(answer))
    with openai.OpenAI(
        base_url="http://weir.test/v1", api_key="k", max_retries=0, http_client=http
    ) as client:
        yield client


class Pieces(httpx2.SyncByteStream):
    """A body that arrives in pieces, and may break."""

    def __init__(self, *pieces: bytes, breaks: Exception | None = None) -> None:
        self._pieces = pieces
        self._breaks = breaks

    def __iter__(self) -> Iterator[bytes]:
        yield from self._pieces
        if self._breaks is not None:
            raise self._breaks


def sse(*pieces: bytes, breaks: Exception | None = None, **headers: str) -> httpx2.Response:
    """A stream; headers by their names with underscores."""
    fields = {name.replace("_", "-"): value for name, value in headers.items()}
    return httpx2.Response(
        200, headers={"content-type": "text/event-stream", **fields}, stream=Pieces(*pieces, breaks=breaks)
    )
