"""Clients that ask, leave, stall and lie, at random; and the book of what they asked."""

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from tests.faults.client import NoAnswer, RawClient, get, post
from tests.faults.framing import RawResponse

from .upstream import ASKS, FAULTY, SOUND

KEY: Final = "key-of-alice-0123456789"
WHO: Final = ("authorization", f"Bearer {KEY}")
PATIENCE: Final = 30.0
"""Seconds in which every answer has ended, however it went: far above all timeouts of Weir in `world.py`."""
NO_ROW: Final = frozenset(("server_overloaded", "request_timeout", "request_too_large", "connection_limit"))
"""Codes of refusals from before the ledger hears of a request."""


@dataclass
class Book:
    """What was asked, by the client's own request ids."""

    made: set[str] = field(default_factory=set)
    due: set[str] = field(default_factory=set)
    """Answered by the chain: they have a row, exactly one. So has what the upstream saw."""
    refused: set[str] = field(default_factory=set)
    """Without a valid key: they have none."""
    statuses: Counter[str] = field(default_factory=Counter)
    """How many answers of each status and code; `none` where the client or the server left before."""
    unanswered: int = 0
    """Requests that nothing was wrong with, on a new connection, that got no answer at all."""

    def new(self) -> str:
        """The id of one more request."""
        id_ = f"soak-{len(self.made)}"
        self.made.add(id_)
        return id_

    def answered(self, id_: str, answer: RawResponse) -> None:
        """Note an answer; its body may be broken off."""
        code = ""
        if answer.status >= 400:
            with suppress(orjson.JSONDecodeError, TypeError, KeyError):
                code = answer.json()["error"]["code"]
        self.statuses[f"{answer.status} {code}".strip()] += 1
        if answer.status == 401:
            self.refused.add(id_)
        elif code not in NO_ROW:
            self.due.add(id_)


class Client:
    """One client that does one thing after the other, each on a connection of its own or on a kept one."""

    def __init__(self, port: int, book: Book, chance: random.Random) -> None:
        self._port = port
        self._book = book
        self._random = chance

    async def run(self, until: float, pause: float) -> None:
        """Until that time of the loop, with about so many seconds between two things."""
        loop = asyncio.get_running_loop()
        names = list(DEEDS)
        weights = [DEEDS[name][1] for name in names]
        while loop.time() < until:
            (name,) = self._random.choices(names, weights)
            try:
                await DEEDS[name][0](self)
            except ConnectionError:
                self._book.statuses["none"] += 1
            await asyncio.sleep(pause * 2 * self._random.random())

    def connection(self, **options: Any) -> RawClient:
        """A new one."""
        return RawClient(self._port, **options)

    def ask(self, asks: str = "whole", *, key: str = KEY, text: str = "Say hi.", **headers: str) -> "Asked":
        """A chat completion that has the upstream do this."""
        id_ = self._book.new()
        stream = asks not in ("whole", "late", "interim", "refused", "broken", "truncate", "bomb", "hang")
        body = {"model": "gpt-4o", "max_tokens": 50, "messages": [{"role": "user", "content": text}]}
        if stream:
            body["stream"] = True
        own = [("authorization", f"Bearer {key}"), ("x-request-id", id_), (ASKS, asks)]
        more = [(name.replace("_", "-"), value) for name, value in headers.items()]
        return Asked(id_, post("/v1/chat/completions", orjson.dumps(body), [*own, *more]))

    async def answer(self, client: RawClient, asked: "Asked") -> RawResponse | None:
        """Read the answer to its end; None if there was none."""
        try:
            answer = await client.response(timeout=PATIENCE)
        except NoAnswer:
            self._book.statuses["none"] += 1
            return None
        self._book.answered(asked.id, answer)
        return answer

    # -- what it does

    async def sound(self) -> None:
        """A few good requests on one connection."""
        async with self.connection() as client:
            for turn in range(self._random.randrange(1, 6)):
                asked = self.ask(self._random.choice(list(SOUND)))
                await client.send(asked.data)
                answer = await self.answer(client, asked)
                if answer is None and not turn:
                    self._book.unanswered += 1
                if answer is None or answer.ended not in ("length", "chunked") or not client.at_rest:
                    return

    async def faulty(self) -> None:
        """A good request to an upstream that goes wrong."""
        async with self.connection() as client:
            asked = self.ask(self._random.choice(list(FAULTY)))
            await client.send(asked.data)
            await self.answer(client, asked)

    async def dry_run(self) -> None:
        async with self.connection() as client:
            asked = self.ask(x_weir_dry_run="true")
            await client.send(asked.data)
            await self.answer(client, asked)

    async def long_prompt(self) -> None:
        """A text that is counted off the event loop, in a body that comes in two pieces."""
        async with self.connection() as client:
            asked = self.ask(text="a b c d e " * 30_000)
            await client.send(asked.data[:1000])
            await asyncio.sleep(0.01)
            await client.send(asked.data[1000:], PATIENCE)
            await self.answer(client, asked)

    async def two_at_once(self) -> None:
        """Pipelining."""
        async with self.connection() as client:
            first, second = self.ask("whole"), self.ask("stream")
            await client.send(first.data + second.data)
            if await self.answer(client, first) is not None:
                await self.answer(client, second)

    async def own_routes(self) -> None:
        async with self.connection() as client:
            for path in ("/health", "/models", "/rate-limit/status", "/usage"):
                await client.send(get(path, [WHO]))
                await client.response(timeout=PATIENCE)

    async def wrong_key(self) -> None:
        async with self.connection() as client:
            asked = self.ask(key="not-a-key-0123456789")
            await client.send(asked.data)
            await self.answer(client, asked)

    async def too_large(self) -> None:
        """A body that is refused by its length alone, and never sent."""
        async with self.connection() as client:
            id_ = self._book.new()
            headers = [WHO, ("x-request-id", id_), ("content-length", str(1 << 30))]
            await client.send(post("/v1/chat/completions", b"", headers))
            await self.answer(client, Asked(id_, b""))

    async def leave_at_once(self) -> None:
        """Gone before there can be an answer, or just then."""
        async with self.connection() as client:
            await client.send(self.ask(self._random.choice(["whole", "late", "hang", "stream"])).data)
            await asyncio.sleep(self._random.random() * 0.02)
            self._leave(client)

    async def leave_in_stream(self) -> None:
        async with self.connection(keep=False) as client:
            asked = self.ask(self._random.choice(["hang-in-stream", "drip", "flood"]))
            await client.send(asked.data)
            with suppress(NoAnswer):
                self._book.answered(asked.id, await client.head(timeout=PATIENCE))
                for _ in range(self._random.randrange(1, 4)):
                    await client.chunk(timeout=PATIENCE)
            self._leave(client)

    async def leave_in_body(self) -> None:
        """A body that never becomes whole."""
        async with self.connection() as client:
            data = self.ask().data
            await client.send(data[: self._random.randrange(len(data) - 60, len(data))])
            await asyncio.sleep(self._random.random() * 0.02)
            self._leave(client)

    async def stall_in_body(self) -> None:
        async with self.connection() as client:
            asked = self.ask()
            await client.send(asked.data[:-20])
            await self.answer(client, asked)

    async def stall_in_head(self) -> None:
        async with self.connection() as client:
            await client.send(b"POST /v1/chat/completions HTTP/1.1\r\nhost: weir\r\nx-slow: ")
            with suppress(NoAnswer):
                await client.response(timeout=PATIENCE)

    async def read_slowly(self) -> None:
        async with self.connection(keep=False, rcvbuf=8192) as client:
            asked = self.ask("flood")
            await client.send(asked.data)
            with suppress(NoAnswer):
                self._book.answered(asked.id, await client.head(timeout=PATIENCE))
                for _ in range(50):
                    if not await client.chunk(timeout=PATIENCE):
                        return
                    await asyncio.sleep(0.01)
            self._leave(client)

    async def read_nothing(self) -> None:
        """Weir gives up."""
        async with self.connection(keep=False, rcvbuf=8192) as client:
            asked = self.ask("flood")
            await client.send(asked.data)
            await asyncio.sleep(2.0)
            await self.answer(client, asked)

    async def nonsense(self) -> None:
        """What the front door refuses."""
        async with self.connection() as client:
            await client.send(
                self._random.choice(
                    [
                        get("/v1/../admin", [WHO]),
                        b"NONSENSE\r\n\r\n",
                        b"POST /v1/x HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\n"
                        b"transfer-encoding: chunked\r\n\r\n",
                        b"GET /v1/models HTTP/1.1\r\n" + b"x-a: b\r\n" * 200 + b"\r\n",
                        self._random.randbytes(300),
                    ]
                )
            )
            with suppress(NoAnswer):
                client.fin()
                await client.response(timeout=PATIENCE)

    def _leave(self, client: RawClient) -> None:
        if self._random.random() < 0.5:
            client.reset()
        else:
            client.close()


@dataclass
class Asked:
    """A request: its id, and its bytes."""

    id: str
    data: bytes


DEEDS: Final[dict[str, tuple[Callable[[Client], Awaitable[None]], float]]] = {
    "sound": (Client.sound, 30),
    "faulty": (Client.faulty, 20),
    "dry_run": (Client.dry_run, 2),
    "long_prompt": (Client.long_prompt, 0.5),
    "two_at_once": (Client.two_at_once, 2),
    "own_routes": (Client.own_routes, 2),
    "wrong_key": (Client.wrong_key, 1),
    "too_large": (Client.too_large, 1),
    "leave_at_once": (Client.leave_at_once, 5),
    "leave_in_stream": (Client.leave_in_stream, 5),
    "leave_in_body": (Client.leave_in_body, 2),
    "stall_in_body": (Client.stall_in_body, 1),
    "stall_in_head": (Client.stall_in_head, 1),
    "read_slowly": (Client.read_slowly, 1),
    "read_nothing": (Client.read_nothing, 0.5),
    "nonsense": (Client.nonsense, 2),
}
"""What clients do, and how often."""
