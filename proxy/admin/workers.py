"""The management port of several workers, served by their parent: what all of them say, as one answer.

Health, metrics and what is in flight are put together from the answers of all workers; everything else is
answered by one of them, the first that serves. Each has a management port of its own for this, on connections
that only the parent can make. A worker that does not answer in time is told of, and waited for no longer.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import suppress
from typing import Any, NamedTuple, Protocol

import orjson
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from starlette.responses import Response

from proxy.admin.merge import Merged
from proxy.api.errors import ClientError, WeirError
from proxy.core.headers import HOP_BY_HOP
from proxy.core.inflight import LIMIT
from proxy.core.log import log, raised
from proxy.core.seal import sealing
from proxy.core.watch import watch

PATIENCE = 2.0
"""Seconds that all workers together have to say how they are."""
IDLE = 60.0
"""Seconds that a worker may take to begin an answer of a plugin's, and between two pieces of it."""
BODY = 16 * 1024 * 1024
"""Bytes of a request's body at most, and of an answer that is put together with others."""
PEER = b"weir-peer"
"""The header by which a worker hears whose connection it was."""

Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Pairs = list[tuple[bytes, bytes]]


class Workers(Protocol):
    """The workers, as their parent knows them."""

    @property
    def serving(self) -> Iterable[int]:
        """The numbers of those that run and have started."""

    @property
    def absent(self) -> Mapping[int, str]:
        """Why the others do not serve, in words."""

    @property
    def started(self) -> bool:
        """Whether all have started once."""

    @property
    def stopping(self) -> bool:
        """Whether all are to end."""

    @property
    def metrics(self) -> CollectorRegistry:
        """The parent's own figures, of its workers."""

    async def connect(self, number: int) -> Stream:
        """A connection to this worker's management port. Raises `OSError`."""


class Answer(NamedTuple):
    """What a worker said."""

    status: int
    headers: Pairs
    body: bytes


class Front:
    """The ASGI app of the parent's management port. `ended` is to be called when a worker has ended."""

    def __init__(self, workers: Workers) -> None:
        self._workers = workers
        self._merged = Merged()
        self._answers: dict[str, Callable[[Pairs], Awaitable[Response]]] = {
            "/healthz": self._healthz,
            "/readyz": self._readyz,
            "/startupz": self._startupz,
            "/metrics": self._metrics,
            "/inflight": self._inflight,
        }

    def ended(self, worker: int) -> None:
        """This worker is gone; what it had counted stays counted."""
        self._merged.ended(worker)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        answer = self._answers.get(scope["path"])
        if answer is None:
            await self._forward(scope, receive, send)
        elif scope["method"] not in ("GET", "HEAD"):
            response = Response("Method Not Allowed", 405, {"allow": "GET, HEAD"}, "text/plain")
            await response(scope, receive, sealing(send))
        else:
            await (await answer(scope["headers"]))(scope, receive, sealing(send))

    # -- what all say ------------------------------------------------------------------------------

    async def _healthz(self, _: Pairs) -> Response:
        """All that run, live. One that is being started again is not dead: it is looked after."""
        silent = [number for number, answer in (await self._all("/healthz")).items() if answer is None]
        if silent:
            return _json({"status": "not alive", "reasons": [_silent(number) for number in silent]}, 503)
        return _json({"status": "ok"})

    async def _readyz(self, _: Pairs) -> Response:
        workers = self._workers
        reasons = ["shutting down"] if workers.stopping else []
        reasons += [f"worker {number}: {why}" for number, why in workers.absent.items()]
        for number, answer in (await self._all("/readyz")).items():
            if answer is None:
                reasons.append(_silent(number))
            elif answer.status != 200 and not workers.stopping:
                reasons += [f"worker {number}: {reason}" for reason in _loads(answer.body).get("reasons", ())]
        return _json({"status": "not ready", "reasons": reasons}, 503) if reasons else _json({"status": "ok"})

    async def _startupz(self, _: Pairs) -> Response:
        started = self._workers.started
        return _json({"status": "ok" if started else "starting"}, 200 if started else 503)

    async def _metrics(self, _: Pairs) -> Response:
        answered = []
        for number, answer in (await self._all("/metrics")).items():
            if answer is not None and answer.status == 200:
                try:
                    self._merged.take(number, answer.body.decode())
                except ValueError as error:
                    log.error("metrics not read", extra={"fields": {"of_worker": number, **raised(error)}})
                else:
                    answered.append(number)
        text = self._merged.text(answered).encode() + generate_latest(self._workers.metrics)
        return Response(text, media_type=CONTENT_TYPE_LATEST)

    async def _inflight(self, headers: Pairs) -> Response:
        judged = [pair for pair in headers if pair[0] in (b"authorization", b"host", b"origin")]
        answers = await self._all("/inflight", judged)
        refused = [answer for answer in answers.values() if answer is not None and answer.status != 200]
        if refused:
            return _passed(refused[0])
        pages = {number: _loads(answer.body) for number, answer in answers.items() if answer is not None}
        requests = [
            {**request, "worker": number} for number, page in pages.items() for request in page["requests"]
        ]
        requests.sort(key=lambda request: -request["age"])
        return _json(
            {
                "object": "weir.in_flight",
                "total": sum(page["total"] for page in pages.values()),
                "requests": requests[:LIMIT],
                "silent": [number for number, answer in answers.items() if answer is None],
            }
        )

    async def _all(self, path: str, headers: Pairs | None = None) -> dict[int, Answer | None]:
        """The answers of all that serve, by their numbers; None for who does not answer in time."""
        tasks = {
            number: asyncio.ensure_future(self._ask(number, path, headers or []))
            for number in self._workers.serving
        }
        if not tasks:
            return {}
        done, late = await asyncio.wait(tasks.values(), timeout=PATIENCE)
        for task in late:
            task.cancel()
        return {
            number: task.result() if task in done and task.exception() is None else None
            for number, task in tasks.items()
        }

    async def _ask(self, number: int, path: str, headers: Pairs) -> Answer:
        reader, writer = await self._workers.connect(number)
        try:
            writer.write(_head("GET", path.encode(), headers, b""))
            status, pairs = await _read_head(reader)
            body = await reader.read(BODY + 1)
            while piece := await reader.read(BODY + 1):
                body += piece
                if len(body) > BODY:
                    raise ValueError("too large")
            return Answer(status, pairs, body)
        finally:
            writer.close()

    # -- what one says -----------------------------------------------------------------------------

    async def _forward(self, scope: Any, receive: Any, send: Any) -> None:
        """Let the first worker that serves answer."""
        started = False
        try:
            number = next(iter(self._workers.serving), None)
            if number is None:
                raise _unavailable()
            body = await _body(receive)
            target = scope["raw_path"] + (b"?" + scope["query_string"] if scope["query_string"] else b"")
            reader, writer = await self._workers.connect(number)
            # Who leaves during a long answer takes the worker's connection along, and so its answer.
            unwatch = watch(scope, receive, lambda _: writer.transport.abort())
            try:
                headers = [pair for pair in scope["headers"] if pair[0] != PEER]
                if scope.get("client"):
                    headers.append((PEER, scope["client"][0].encode()))
                writer.write(_head(scope["method"], target, headers, body))
                async with asyncio.timeout(IDLE):
                    await writer.drain()
                    status, pairs = await _read_head(reader)
                started = True
                await send({"type": "http.response.start", "status": status, "headers": pairs})
                while True:
                    async with asyncio.timeout(IDLE):
                        piece = await reader.read(64 * 1024)
                    await send({"type": "http.response.body", "body": piece, "more_body": bool(piece)})
                    if not piece:
                        return
            finally:
                unwatch()
                writer.close()
        except _Left:
            return
        except (OSError, EOFError, ValueError, WeirError) as error:
            if started:
                raise  # the server breaks the connection off: what came is not whole
            failure = error if isinstance(error, WeirError) else _unavailable()
            await _passed(_told(failure))(scope, receive, sealing(send))


def with_peer(app: Any) -> Any:
    """A worker's ASGI app, which sees who asked the parent; for connections from there only."""

    async def asked(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            told = [value for name, value in scope["headers"] if name == PEER]
            scope["headers"] = [pair for pair in scope["headers"] if pair[0] != PEER]
            scope["client"] = (told[0].decode(), 0) if told else None
        await app(scope, receive, send)

    return asked


class _Left(Exception):
    """The client did."""


async def _body(receive: Any) -> bytes:
    pieces: list[bytes] = []
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise _Left
        pieces.append(message.get("body", b""))
        more = message.get("more_body", False)
        if sum(map(len, pieces)) > BODY:
            raise ClientError(413, "request_too_large", f"The request body is larger than {BODY} bytes.")
    return b"".join(pieces)


def _head(method: str, target: bytes, headers: Iterable[tuple[bytes, bytes]], body: bytes) -> bytes:
    """A request, whole. By HTTP/1.0 its answer ends with the connection, and has no framing to be read."""
    lines = [f"{method} ".encode() + target + b" HTTP/1.0"]
    lines += [
        name + b": " + value
        for name, value in headers
        if name not in HOP_BY_HOP and name not in (b"content-length", b"expect")
    ]
    if body or method not in ("GET", "HEAD"):
        lines.append(b"content-length: %d" % len(body))
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


async def _read_head(reader: asyncio.StreamReader) -> tuple[int, Pairs]:
    """Status and headers of an answer. Raises `ValueError` or `EOFError`."""
    try:
        raw = await reader.readuntil(b"\r\n\r\n")
    except asyncio.LimitOverrunError as error:
        raise ValueError("the head has no end") from error
    first, *lines = raw[:-4].split(b"\r\n")
    _, _, rest = first.partition(b" ")
    pairs = [(name.lower(), value.strip()) for name, _, value in (line.partition(b":") for line in lines)]
    return int(rest[:3]), [pair for pair in pairs if pair[0] not in HOP_BY_HOP]


def _silent(number: int) -> str:
    return f"worker {number}: does not answer"


def _unavailable() -> WeirError:
    return WeirError(503, "no_worker", "No worker can answer this now.", retry_after=1)


def _told(error: WeirError) -> Answer:
    return Answer(error.status, list(error.headers()), error.body())


def _passed(answer: Answer) -> Response:
    headers = {name.decode(): value.decode("latin-1") for name, value in answer.headers}
    return Response(answer.body, answer.status, headers)


def _loads(body: bytes) -> dict[str, Any]:
    with suppress(orjson.JSONDecodeError):
        found = orjson.loads(body)
        if isinstance(found, dict):
            return found
    return {"reasons": ["unreadable"], "requests": [], "total": 0}


def _json(value: Any, status: int = 200) -> Response:
    return Response(orjson.dumps(value), status, media_type="application/json")
