"""A load for the ledger: an upstream with and without streams, and clients that know what they got."""

import asyncio
import random
from contextlib import suppress
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Self

import orjson

MODEL = "gpt-4o-2024-08-06"
INPUT, OUTPUT, CACHED = (Decimal(price) / 10**6 for price in ("2.5", "10", "1.25"))
"""Dollars a token of that model, by its price list."""
EMBEDDING_MODEL = "text-embedding-3-small"
EMBEDDED = Decimal("0.02") / 10**6
CHAT, RESPONSES, EMBEDDINGS, FAILING = (
    b"/v1/chat/completions",
    b"/v1/responses",
    b"/v1/embeddings",
    b"/v1/chat/completions?fails",
)


class Upstream:
    """Chat completions with a usage that only it knows; by request id of the client, in `told`.

    Responses and embeddings too, and what it fails, which costs nothing; what each costs is in `paid`.
    Without a `pace` it answers at once.
    """

    def __init__(self, pace: float = 0.01) -> None:
        self.told: dict[str, dict[str, Any]] = {}
        self.paid: dict[str, Decimal] = {}
        self._random = random.Random(5)
        self._pace = pace
        self._writers: list[asyncio.StreamWriter] = []

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.base_url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/v1"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for writer in self._writers:
            writer.close()
        await asyncio.gather(*(writer.wait_closed() for writer in self._writers), return_exceptions=True)

    def _usage(self) -> dict[str, Any]:
        given, made = self._random.randrange(1, 5000), self._random.randrange(1, 3000)
        return {
            "prompt_tokens": given,
            "completion_tokens": made,
            "total_tokens": given + made,
            "prompt_tokens_details": {"cached_tokens": self._random.randrange(0, given + 1)},
        }

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.append(writer)
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            while True:
                head, body = await message(reader)
                usage = self._usage()
                own, path = header(head, "x-request-id"), head.split(" ")[1].encode()
                self.told[own] = usage
                self.paid[own] = price(usage)
                if orjson.loads(body).get("stream"):
                    await self._stream(writer, usage)
                else:
                    await asyncio.sleep(self._random.random() * 2 * self._pace)
                    answer: dict[str, Any] = {"object": "chat.completion", "model": MODEL, "usage": usage}
                    if path == EMBEDDINGS:
                        given = usage["prompt_tokens"]
                        answer = {"object": "list", "model": EMBEDDING_MODEL, "data": []}
                        answer["usage"] = {"prompt_tokens": given, "total_tokens": given}
                        self.paid[own] = given * EMBEDDED
                    elif path == RESPONSES:
                        answer = {"object": "response", "model": MODEL, "output": []}
                        answer["usage"] = {
                            "input_tokens": usage["prompt_tokens"],
                            "input_tokens_details": usage["prompt_tokens_details"],
                            "output_tokens": usage["completion_tokens"],
                            "output_tokens_details": {"reasoning_tokens": 0},
                            "total_tokens": usage["total_tokens"],
                        }
                    elif path == FAILING:
                        answer = {"error": {"message": "It failed."}}
                        self.paid[own] = Decimal(0)
                    self._json(writer, answer, b"500 Oops" if path == FAILING else b"200 OK")
                await writer.drain()
        writer.close()

    def _json(self, writer: asyncio.StreamWriter, value: Any, status: bytes) -> None:
        body = orjson.dumps(value)
        head = b"HTTP/1.1 %b\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
        writer.write(head % (status, len(body)) + body)

    async def _stream(self, writer: asyncio.StreamWriter, usage: dict[str, Any]) -> None:
        writer.write(
            b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
        )
        piece = {
            "object": "chat.completion.chunk",
            "model": MODEL,
            "choices": [{"delta": {"content": "word "}}],
        }
        last = {"object": "chat.completion.chunk", "model": MODEL, "choices": [], "usage": usage}
        for data in (*[orjson.dumps(piece)] * 4, orjson.dumps(last), b"[DONE]"):
            event = b"data: " + data + b"\n\n"
            writer.write(b"%x\r\n%b\r\n" % (len(event), event))
            await asyncio.sleep(self._random.random() * self._pace)
        writer.write(b"0\r\n\r\n")


async def message(reader: asyncio.StreamReader) -> tuple[str, bytes]:
    """Head and body of the next message, whole."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    length = header(head, "content-length")
    if length:
        return head, await reader.readexactly(int(length))
    body = b""
    if header(head, "transfer-encoding") == "chunked":
        while True:
            size = int(await reader.readuntil(b"\r\n"), 16)
            body += (await reader.readexactly(size + 2))[:-2]
            if not size:
                break
    return head, body


def header(head: str, name: str) -> str:
    """The value of a field, or nothing."""
    for line in head.split("\r\n"):
        key, _, value = line.partition(":")
        if key.lower() == name:
            return value.strip()
    return ""


@dataclass
class Load:
    """So many requests a second, each on its turn, with and without streams."""

    port: int
    rate: float = 200.0
    clients: int = 40
    whole: dict[str, str] = field(default_factory=dict)
    """Weir's request ids of answers that came whole, and the clients' own."""
    statuses: dict[int, int] = field(default_factory=dict)
    sent: int = 0
    mixed: bool = False
    """Whether there are other endpoints than chat, and failures."""
    owns: list[str] = field(default_factory=list)
    """The clients' own ids of all that was answered, in whatever way."""

    async def run(self, seconds: float) -> None:
        """Until the time is over; connections that break are made anew while it lasts."""
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds
        tasks = [loop.create_task(self._client(n, end)) for n in range(self.clients)]
        await asyncio.gather(*tasks)

    async def send(self, count: int) -> None:
        """So many requests, as fast as they go."""
        left = iter(range(count))

        async def client(number: int) -> None:
            reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
            for _ in left:
                await self._ask(reader, writer, number)
            writer.close()
            await writer.wait_closed()

        await asyncio.gather(*(client(n) for n in range(self.clients)))

    async def _client(self, number: int, end: float) -> None:
        loop = asyncio.get_running_loop()
        every = self.clients / self.rate
        turn = loop.time() + every * random.random()
        while loop.time() < end:
            with suppress(OSError, asyncio.IncompleteReadError):
                reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
                try:
                    while loop.time() < end:
                        await asyncio.sleep(max(0.0, turn - loop.time()))
                        turn += every
                        await self._ask(reader, writer, number)
                finally:
                    writer.close()
                    await writer.wait_closed()
            await asyncio.sleep(0.02)

    async def _ask(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        self.sent += 1
        own = f"{id(self):x}-{number}-{self.sent}"
        request: dict[str, Any] = {"model": "gpt-4o", "max_tokens": 3000}
        request["messages"] = [{"role": "user", "content": "hello"}]
        path = (CHAT, CHAT, RESPONSES, EMBEDDINGS, FAILING)[self.sent % 5] if self.mixed else CHAT
        if path == RESPONSES:
            request = {"model": "gpt-4o", "input": "hello", "max_output_tokens": 3000}
        elif path == EMBEDDINGS:
            request = {"model": EMBEDDING_MODEL, "input": "hello"}
        elif path == CHAT and self.sent % 2:
            request |= {"stream": True}
        body = orjson.dumps(request)
        writer.write(
            b"POST %b HTTP/1.1\r\nhost: weir\r\ncontent-type: application/json\r\n"
            b"x-request-id: %b\r\nx-user-id: user-%d\r\ncontent-length: %d\r\n\r\n"
            % (path, own.encode(), number % 5, len(body))
            + body
        )
        head, _ = await message(reader)
        status = int(head[9:12])
        self.statuses[status] = self.statuses.get(status, 0) + 1
        self.owns.append(own)
        if status == 200:
            self.whole[header(head, "x-weir-request-id")] = own


def price(usage: dict[str, Any]) -> Decimal:
    """What a usage costs, computed here and not there."""
    cached: int = usage["prompt_tokens_details"]["cached_tokens"]
    given: int = usage["prompt_tokens"]
    made: int = usage["completion_tokens"]
    return (given - cached) * INPUT + cached * CACHED + made * OUTPUT
