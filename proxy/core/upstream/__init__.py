"""The way to an upstream: one small interface, two implementations.

`http1` is the lean client for TCP, TLS and unix sockets; `httpx2` serves upstreams behind an HTTP or SOCKS
proxy or with HTTP/2. One suite of faults runs over both. Neither follows redirects, retries a request that
may have been acted on, or adds a header of its own beyond `Host` and framing.
"""

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Protocol

from proxy.api.errors import WeirError
from proxy.core.headers import Pairs

Late = Callable[[], WeirError]
"""Makes the error of a deadline that has passed."""


class Clock(Protocol):
    """Whoever waits for an upstream, and must not wait for ever."""

    def arm(self, seconds: float, late: Late) -> None:
        """From now, `seconds` until `late`; replaces what was armed before."""


class Upload(Protocol):
    """A request body that is streamed through.

    Iterating raises if the client breaks off, and then nothing that was sent may be made to look whole.
    """

    length: int | None
    """What `Content-Length` promised, or None for a chunked body."""

    def __aiter__(self) -> AsyncIterator[bytes]:
        """The pieces, as they come; not empty."""


@dataclass(slots=True)
class Outgoing:
    """A request as it goes upstream. `body` None means that there is none, not even an empty one."""

    method: bytes
    target: bytes
    headers: Pairs
    body: bytes | Upload | None
    resent: bool = False
    """Set when a kept connection was found closed and the request went out again."""


class Answer(Protocol):
    """An upstream's answer: its head has come, its body is to be read. Close it exactly once, always,
    unless it was taken whole."""

    status: int
    headers: Pairs
    """As they came, names in lower case, hop-by-hop ones too."""
    complete: bool
    """Whether what `read` has given is all there is. May turn true with the last piece, not only after it."""

    @property
    def ready(self) -> bool:
        """Whether `read` has something to give without waiting."""

    def whole(self) -> bytes | None:
        """The whole body, if all of it is here and none was read yet, and None otherwise. It closes the
        answer: do not close it again."""

    async def read(self) -> bytes:
        """The next bytes, as they come; b"" only at the end. Raises `UpstreamError` if it breaks."""

    async def close(self) -> None:
        """Keep the connection if the answer was complete, else break it off. Neither raises nor waits."""


class Upstream(Protocol):
    """One place to send requests to."""

    name: str

    async def open(self, request: Outgoing, clock: Clock) -> Answer:
        """Send a request and wait for the head of its answer.

        Raises `UpstreamError`. Cancelling leaves no connection and no place in the pool taken.
        """

    async def aclose(self) -> None:
        """Close every connection."""
