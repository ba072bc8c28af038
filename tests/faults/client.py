"""A client on raw sockets that says exactly what came and exactly how it ended."""

import re
import ssl
from typing import Self

import orjson

from .framing import HeaderLines, RawResponse, parse_response, to_bytes
from .wire import Link, connect, within

_EVENT_END = re.compile(rb"(?:\r\n|\r(?!\n)|\n)(?:\r\n|\r|\n)")


class NoAnswer(AssertionError):
    """The peer left before a whole head had come."""


class RawClient(Link):
    """One connection: entering connects, leaving closes. `keep=False` counts bodies and stores none."""

    def __init__(
        self,
        port: int | None = None,
        *,
        unix: str | None = None,
        tls: ssl.SSLContext | None = None,
        server_hostname: str = "localhost",
        rcvbuf: int | None = None,
        sndbuf: int | None = None,
        keep: bool = True,
    ) -> None:
        self._port, self._unix = port, unix
        self._rcvbuf, self._sndbuf = rcvbuf, sndbuf
        self._context = tls
        self._hostname = server_hostname
        self._keep = keep
        self._now: RawResponse | None = None
        self._interim: list[RawResponse] = []
        self._events = b""

    async def __aenter__(self) -> Self:
        sock = await connect(self._port, self._unix, rcvbuf=self._rcvbuf, sndbuf=self._sndbuf)
        super().__init__(sock)
        if self._context is not None:
            try:
                await self.start_tls(self._context, server_side=False, server_hostname=self._hostname)
            except BaseException:
                self.close(notify=False)
                raise
        return self

    async def __aexit__(self, *exc: object) -> None:
        self.close()

    async def head(self, *, bodyless: bool = False, timeout: float | None = 5.0) -> RawResponse:
        """The next head, 1xx included; its body then comes by chunk(), read_events() or response().

        NoAnswer when the peer leaves first. `bodyless` for the answer to a HEAD request.
        """
        assert self._now is None or self._now.ended, "the answer before was not read to its end"
        self._events = b""
        async with within(timeout, lambda: f"an answer's head; got {bytes(self.buffer[:500])!r}"):
            raw = await self.read_head()
        if raw is None:
            raise NoAnswer(f"the peer left ({self.left}); got {bytes(self.buffer[:500])!r}")
        self._now = parse_response(raw, self._keep, bodyless)
        return self._now

    async def response(self, *, bodyless: bool = False, timeout: float = 5.0) -> RawResponse:
        """The answer begun or the next one, to its end; `ended` says how that came.

        An answer that breaks off is no exception here; one that does not end within `timeout` is.
        """
        async with within(timeout, lambda: f"the end of an answer; so far {self._now}"):
            answer = await self._final(bodyless)
            while await self.read_piece(answer):
                pass
        self._now, self._interim, self._events = None, [], b""
        return answer

    async def chunk(self, timeout: float = 5.0) -> bytes:
        """The next body bytes, out of their framing, as they come; b"" at the end, however it came."""
        async with within(timeout, lambda: f"body bytes; so far {self._now}"):
            return await self.read_piece(await self._final())

    async def read_events(self, n: int, timeout: float = 5.0) -> list[bytes]:
        """The next `n` server-sent events, each with the blank line that ends it; together byte-exact.

        AssertionError when the stream ends first.
        """
        events: list[bytes] = []
        async with within(timeout, lambda: f"{n} events; got {events} and {self._events!r}"):
            answer = await self._final()
            while len(events) < n:
                match = _EVENT_END.search(self._events)
                if match and (
                    match.end() < len(self._events) or match[0][-1:] == b"\n" or match[0] == b"\r\r"
                ):
                    events.append(self._events[: match.end()])
                    self._events = self._events[match.end() :]
                    continue  # a CR at the very end may be half a CRLF: that needs one byte more
                piece = await self.read_piece(answer)
                assert piece, f"{answer.ended} after {len(events)} of {n} events; left over: {self._events!r}"
                self._events += piece
        return events

    async def ask(self, data: bytes, *, timeout: float = 5.0) -> RawResponse:
        """Send and read the whole answer."""
        await self.send(data)
        return await self.response(timeout=timeout)

    async def _final(self, bodyless: bool = False) -> RawResponse:
        while self._now is None or (self._now.status < 200 and self._now.status != 101):
            if self._now is not None:
                self._interim.append(self._now)
            await self.head(bodyless=bodyless, timeout=None)
        self._now.interim = self._interim
        return self._now


def request(method: str, path: str, headers: HeaderLines = (), body: bytes | None = None) -> bytes:
    """A request. `host` and, with a body, `content-type` and `content-length` go in unless they are given.

    With a `transfer-encoding` among the headers `body` goes out as it is: the caller frames it.
    """
    lines = [(to_bytes(name), to_bytes(value)) for name, value in headers]
    given = {name.lower() for name, _ in lines}
    own = [(b"host", b"127.0.0.1")]
    if body is not None:
        own.append((b"content-type", b"application/json"))
        if b"transfer-encoding" not in given:
            own.append((b"content-length", b"%d" % len(body)))
    lines = [line for line in own if line[0] not in given] + lines
    first = b"%b %b HTTP/1.1" % (method.encode(), to_bytes(path))
    return (
        b"\r\n".join([first, *(name + b": " + value for name, value in lines)]) + b"\r\n\r\n" + (body or b"")
    )


def post(path: str, body: bytes, headers: HeaderLines = ()) -> bytes:
    """A POST, as JSON by Content-Length unless the headers say otherwise."""
    return request("POST", path, headers, body)


def get(path: str, headers: HeaderLines = ()) -> bytes:
    """A GET."""
    return request("GET", path, headers)


def chat(headers: HeaderLines = (), **fields: object) -> bytes:
    """A chat completion; `fields` are added to its JSON or replace what is there."""
    body = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Say hi."}], **fields}
    return post("/v1/chat/completions", orjson.dumps(body), headers)
