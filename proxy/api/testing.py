"""Play plugins over a scripted exchange: the real engine, no network.

    played = await play(
        [Redactor(word="secret")],
        post("/v1/chat/completions", {"model": "gpt-4o", "stream": True}),
        sse(b'data: {"choices":[{"delta":{"content":"a secret"}}]}\\n\\n', b"data: [DONE]\\n\\n"),
    )
    assert b"secret" not in played.body
    assert played.end.reason == "complete"

What runs is Weir's own chain, forwarder and delivery, so order, short circuits, holding, rewriting, errors
and `on_end` are those of the server. Only the two ends are scripted: what the client sends and when it
leaves, and what the upstream answers and where it breaks.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

import orjson

from proxy.api.errors import UpstreamError, WeirError
from proxy.api.event import Event
from proxy.api.exchange import End, Exchange
from proxy.api.headers import Headers
from proxy.api.plugin import Plugin
from proxy.api.response import Reply
from proxy.api.server import Server
from proxy.api.slots import Slot

Pairs = Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Sent:
    """What the client sends. `pieces` is the body as it arrives; it may leave before the last."""

    method: str = "POST"
    path: str = "/v1/chat/completions"
    query: str = ""
    headers: Pairs = ()
    pieces: Sequence[bytes] = (b"",)
    leaves_while_sending: bool = False


def post(path: str, body: Any, headers: Pairs = ()) -> Sent:
    """A POST of JSON, or of bytes as they are."""
    raw = body if isinstance(body, bytes) else orjson.dumps(body)
    return Sent("POST", path, headers=[("content-type", "application/json"), *headers], pieces=[raw])


def get(path: str, headers: Pairs = ()) -> Sent:
    """A GET."""
    return Sent("GET", path, headers=headers)


@dataclass(frozen=True)
class Script:
    """What the upstream answers: a head, then the body in these pieces, then its end or `breaks`.

    With `refuses` there is no head at all. `hangs` waits for ever after the last piece.
    """

    status: int = 200
    headers: Pairs = ()
    pieces: Sequence[bytes] = ()
    breaks: UpstreamError | None = None
    refuses: UpstreamError | None = None
    hangs: bool = False

    def cut(self, size: int) -> "Script":
        """The same bytes in pieces of `size` bytes."""
        body = b"".join(self.pieces)
        return replace(self, pieces=[body[at : at + size] for at in range(0, len(body), size)])

    def cut_at(self, *places: int) -> "Script":
        """The same bytes cut at these places."""
        body = b"".join(self.pieces)
        at = [0, *sorted(place for place in places if 0 < place < len(body)), len(body)]
        return replace(self, pieces=[body[a:b] for a, b in pairwise(at) if a < b])


def json(value: Any, status: int = 200, headers: Pairs = ()) -> Script:
    """A JSON answer with its length, of a value, or of bytes as they are."""
    body = value if isinstance(value, bytes) else orjson.dumps(value)
    framing = [("content-type", "application/json"), ("content-length", str(len(body)))]
    return Script(status, [*framing, *headers], [body])


def sse(*events: bytes, headers: Pairs = ()) -> Script:
    """A stream; each event is exact bytes, with its empty line, and arrives as one piece."""
    return Script(200, [("content-type", "text/event-stream"), *headers], events)


@dataclass
class Played:
    """What came of it."""

    ex: Exchange
    end: End
    """How the exchange ended; `ended` counts how often that was told."""
    ended: int
    status: int
    """What the client saw; 0 if it saw no answer."""
    headers: Headers
    pieces: list[bytes]
    """The body as it went out, piece by piece."""
    complete: bool
    """Whether the client got a whole answer, as opposed to one that was broken off."""
    forwarded: "Forwarded | None"
    """What the upstream got, or None if nothing was sent there."""
    asked: "list[Forwarded]"
    """What the upstream got of what plugins asked it (`Exchange.ask`)."""

    @property
    def body(self) -> bytes:
        """The body that the client got."""
        return b"".join(self.pieces)

    @property
    def events(self) -> list[Event]:
        """The body as events."""
        return [Event(raw + b"\n\n") for raw in self.body.split(b"\n\n") if raw]

    def json(self) -> Any:
        """The body as JSON."""
        return orjson.loads(self.body)


@dataclass
class Forwarded:
    """A request as the upstream got it. `complete` is False if the client broke it off."""

    method: str
    target: str
    headers: Headers
    body: bytes = b""
    complete: bool = True


async def play(
    plugins: Sequence[Plugin],
    request: Sent | None = None,
    answer: Script | None = None,
    *,
    asked: Sequence[Script] = (),
    given: Mapping[Slot[Any], Any] | None = None,
    leaves_after: int | None = None,
    server: Server | None = None,
    settings: Mapping[str, Any] | None = None,
) -> Played:
    """Run one exchange through these plugins, in this order, from their `start` to their `stop`.

    `asked` are the upstream's answers to what plugins ask it (`Exchange.ask`), in turn and the last again and
    again; with none it says 404, as one that does not know the endpoint. `given` fills slots that plugins
    outside the test would provide. `leaves_after` makes the client leave once it has that many pieces of the
    body (0: before the answer's first). `settings` are keys of the configuration, such as `limits_http`.
    """
    # The kit drives the real engine, so that what it shows is what happens. Nothing imports the kit.
    from proxy.core.testing import drive

    recorder = _Recorder(given or {})
    for plugin in plugins:
        plugin.name = plugin.name or type(plugin).__name__.lower()
    client = _Client(request or post("/v1/chat/completions", {"model": "gpt-4o"}), leaves_after)
    upstream = _Upstream(answer or json({"object": "chat.completion"}), client)
    questions = _Questions(asked or [json({"error": {"message": "Unknown path."}}, 404)], client)
    await drive([recorder, *plugins], client, upstream, server, dict(settings or {}), questions)
    assert recorder.ex is not None  # noqa: S101 # the first plugin of the chain
    assert recorder.end is not None, "the engine did not end the exchange"  # noqa: S101
    return Played(
        recorder.ex,
        recorder.end,
        recorder.ended,
        client.status,
        client.headers,
        client.pieces,
        client.complete,
        upstream.forwarded,
        [each.forwarded for each in questions.got if each.forwarded is not None],
    )


class _Recorder(Plugin):
    """First in the chain, so entered whatever happens and ended last."""

    name = "recorder"

    def __init__(self, given: Mapping[Slot[Any], Any]) -> None:
        self._given = given
        self.provides = tuple(given)  # type: ignore[misc] # per test, not per class
        self.ex: Exchange | None = None
        self.end: End | None = None
        self.ended = 0

    async def on_request(self, ex: Exchange) -> Reply | None:
        self.ex = ex
        for slot, value in self._given.items():
            ex[slot] = value
        return None

    async def on_end(self, ex: Exchange, end: End) -> None:
        self.end = end
        self.ended += 1


@dataclass
class _Client:
    """ASGI's other side."""

    sent: Sent
    leaves_after: int | None
    status: int = 0
    headers: Headers = field(default_factory=Headers)
    pieces: list[bytes] = field(default_factory=list)
    complete: bool = False

    def __post_init__(self) -> None:
        self._unsent = list(self.sent.pieces) or [b""]
        self.left = asyncio.Event()

    def scope(self) -> dict[str, Any]:
        body = b"".join(self.sent.pieces)
        headers = [(name.lower().encode(), value.encode("latin-1")) for name, value in self.sent.headers]
        if not any(name == b"host" for name, _ in headers):
            headers.insert(0, (b"host", b"weir.test"))
        if body or self.sent.method == "POST":
            headers.append((b"content-length", b"%d" % len(body)))
        return {
            "type": "http",
            "http_version": "1.1",
            "method": self.sent.method,
            "scheme": "http",
            "path": self.sent.path,
            "raw_path": self.sent.path.encode(),
            "query_string": self.sent.query.encode(),
            "headers": headers,
            "client": ("192.0.2.1", 50000),
            "server": ("192.0.2.2", 3006),
        }

    async def receive(self) -> dict[str, Any]:
        if self._unsent:
            piece = self._unsent.pop(0)
            last = not self._unsent
            if last and self.sent.leaves_while_sending:
                self._unsent.clear()
                self.left.set()
            else:
                return {"type": "http.request", "body": piece, "more_body": not last}
        await self.left.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: dict[str, Any]) -> None:
        if self.left.is_set():
            return  # as servers do: silence
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.headers = Headers(list(message["headers"]))
        else:
            if message.get("body"):
                self.pieces.append(message["body"])
            self.complete = not message.get("more_body", False)
        await self.may_leave()

    async def may_leave(self) -> None:
        if self.leaves_after is not None and not self.complete and len(self.pieces) >= self.leaves_after:
            self.left.set()
            await asyncio.sleep(0)  # whoever listens hears it now
            await asyncio.sleep(0)


class _Upstream:
    """An upstream of one scripted answer: the engine's `Upstream` and `Answer` in one."""

    name = "scripted"

    def __init__(self, script: Script, client: _Client) -> None:
        self._script = script
        self._client = client
        self._pieces = [piece for piece in script.pieces if piece]
        self.status = script.status
        self.headers = [(name.lower().encode(), value.encode("latin-1")) for name, value in script.headers]
        self.complete = not self._pieces and script.breaks is None and not script.hangs
        self.ready = False
        self.forwarded: Forwarded | None = None
        self.closed = 0

    async def open(self, request: Any, clock: Any) -> Any:
        forwarded = self.forwarded = Forwarded(
            request.method.decode(), request.target.decode("latin-1"), Headers(request.headers)
        )
        try:
            if isinstance(request.body, bytes):
                forwarded.body = request.body
            elif request.body is not None:
                async for piece in request.body:
                    forwarded.body += piece
        except WeirError:
            forwarded.complete = False
            raise
        await asyncio.sleep(0)
        if self._script.refuses is not None:
            raise self._script.refuses
        return self

    def whole(self) -> bytes | None:
        return None

    async def read(self) -> bytes:
        await asyncio.sleep(0)
        if self._pieces:
            piece = self._pieces.pop(0)
            self.complete = not self._pieces and self._script.breaks is None and not self._script.hangs
            return piece
        if self._script.hangs:
            await asyncio.Event().wait()
        if self._script.breaks is not None:
            raise self._script.breaks
        self.complete = True
        return b""

    async def close(self) -> None:
        self.closed += 1

    async def aclose(self) -> None:
        pass


class _Questions:
    """The same upstream, as plugins ask it: with a script for each question."""

    name = "scripted"

    def __init__(self, scripts: Sequence[Script], client: _Client) -> None:
        self._scripts = scripts
        self._client = client
        self.got: list[_Upstream] = []

    async def open(self, request: Any, clock: Any) -> Any:
        script = self._scripts[min(len(self.got), len(self._scripts) - 1)]
        self.got.append(_Upstream(script, self._client))
        return await self.got[-1].open(request, clock)

    async def aclose(self) -> None:
        pass
