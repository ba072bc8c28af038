"""The bytes of a connection at the data port: what gets through does not depend on how they were cut, is sent
whole or not at all, and every answer is HTTP/1.1 to the letter."""

import asyncio
import atexit
from types import SimpleNamespace
from typing import Any, Final, NamedTuple

from proxy.api.errors import WeirError
from proxy.core.config import HttpLimits
from proxy.core.deadlines import Deadlines
from proxy.core.server.protocol import bound
from proxy.core.server.run import listener
from tests.faults.framing import parse_response

_LOOP: Final = asyncio.new_event_loop()
atexit.register(_LOOP.close)
LIMITS: Final = HttpLimits(header_bytes=2048, headers=20, uri=512)
ANSWER: Final = b"answered"


class Seen(NamedTuple):
    """A request that came whole."""

    method: str
    path: bytes
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes


class Wire(asyncio.Transport):
    """The other side of the protocol: keeps what is written."""

    def __init__(self, protocol: Any) -> None:
        super().__init__({"peername": ("192.0.2.1", 5000), "sockname": ("192.0.2.2", 3006)})
        self.written = bytearray()
        self.closed = False
        self._protocol = protocol

    def write(self, data: Any) -> None:
        assert not self.closed, "written to after its end"
        self.written += data

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            _LOOP.call_soon(self._protocol.connection_lost, None)

    def abort(self) -> None:
        self.close()

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        """What is written later would be a bug that `answers` sees."""

    def pause_reading(self) -> None:
        """The fuzzer pushes on: what comes has to be kept, in bounds."""

    def resume_reading(self) -> None:
        """See `pause_reading`."""

    def get_write_buffer_size(self) -> int:
        return 0


def target(data: bytes) -> None:
    """The first byte says how the rest is cut."""
    how, stream = (data[:1] or b"\0")[0], data[1:]
    whole, methods, told = _LOOP.run_until_complete(_played([stream]))
    size = 1 + how % 32
    cut = [stream[at : at + size] for at in range(0, len(stream), size)]
    seen, cut_methods, cut_told = _LOOP.run_until_complete(_played(cut))
    _answers(told, methods)
    _answers(cut_told, cut_methods)
    # In one cut a request may be refused that another lets by, if its line is none but stands as one in what
    # came before it in the same piece: llhttp takes lines that Weir does not, and does not say where.
    both = min(len(seen), len(whole))
    assert seen[:both] == whole[:both], "what gets through depends on the cuts"
    if len(seen) != len(whole):
        assert _refused(told if len(whole) == both else cut_told), "a request was lost, and nobody told"


async def _played(pieces: list[bytes]) -> tuple[list[Seen], list[str], bytes]:
    """What the application saw whole, the methods of what it answered, and the bytes that went out."""
    seen: list[Seen] = []
    methods: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        status, content, body, more = 200, ANSWER, b"", True
        try:
            while more:
                message = await receive()
                if message["type"] == "http.disconnect":
                    return
                body += message["body"]
                more = message["more_body"]
        except WeirError as error:  # the body broke
            status, content = error.status, error.body()
        else:
            seen.append(Seen(scope["method"], scope["raw_path"], tuple(scope["headers"]), body))
        methods.append(scope["method"])
        length = (b"content-length", b"%d" % len(content))
        await send({"type": "http.response.start", "status": status, "headers": [length]})
        await send({"type": "http.response.body", "body": content, "more_body": False})

    deadlines = Deadlines()
    state = SimpleNamespace(connections=set(), tasks=set())
    config = listener(app, bound(LIMITS, deadlines)).config
    config.load()
    made: Any = config.http_protocol_class
    protocol = made(config=config, server_state=state, app_state={}, _loop=_LOOP)
    wire = Wire(protocol)
    protocol.connection_made(wire)
    try:
        for piece in pieces:
            if wire.closed:
                break
            while piece:
                buffer = protocol.get_buffer(-1)
                count = min(len(buffer), len(piece))
                buffer[:count] = piece[:count]
                protocol.buffer_updated(count)
                piece = piece[count:]
            await _settled()
        await _settled()
        wire.close()
        await _settled()
        assert all(task.done() for task in state.tasks), "a request outlives its connection"
    finally:
        deadlines.close()
    return seen, methods, bytes(wire.written)


async def _settled() -> None:
    """Let everything run that can."""
    for _ in range(5):
        await asyncio.sleep(0)


def _refused(told: bytes) -> bool:
    return told.find(b"HTTP/1.1 4") >= 0 or told.find(b"HTTP/1.1 5") >= 0


def _answers(told: bytes, methods: list[str]) -> None:
    """Read what went out as strictly as can be."""
    answered = 0
    while told:
        end = told.find(b"\r\n\r\n")
        assert end >= 0, told
        answer = parse_response(
            told[: end + 4], bodyless=answered < len(methods) and methods[answered] == "HEAD"
        )
        _, told = answer.feed(told[end + 4 :])
        if answer.status == 100:
            continue
        assert answer.ended == "length", answer
        bodyless = answered < len(methods) and methods[answered] == "HEAD"
        answered += 1
        if answer.status == 200:
            assert answer.body == (b"" if bodyless else ANSWER)
        else:
            assert 400 <= answer.status < 600
            assert bodyless or answer.json()["error"]["code"]
            assert not told, "something follows a refusal"
    assert answered <= len(methods) + 1
