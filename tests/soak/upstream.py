"""An upstream that does what each request asks for: answer, or go wrong in one of many ways."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from tests.faults.upstream import Conn, chunk, event, head, json_answer, last_chunk, sse_head

ASKS: Final = "x-soak"
"""The request header that says what to do."""
MODEL: Final = "gpt-4o-2024-08-06"
USAGE: Final = {"prompt_tokens": 9, "completion_tokens": 12, "total_tokens": 21}
PIECE: Final = event(
    {
        "object": "chat.completion.chunk",
        "model": MODEL,
        "choices": [{"index": 0, "delta": {"content": "word "}}],
    }
)
LAST: Final = event({"object": "chat.completion.chunk", "model": MODEL, "choices": [], "usage": USAGE})
WHOLE: Final = json_answer(
    {
        "object": "chat.completion",
        "model": MODEL,
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "four words of text"}}],
        "usage": USAGE,
    }
)
FLOOD: Final = chunk(b"data: " + b"x" * 60_000 + b"\n\n")


async def _whole(conn: Conn) -> None:
    await conn.send(WHOLE, None)


async def _stream(conn: Conn) -> None:
    await conn.send(sse_head(), None)
    for _ in range(8):
        await conn.send(chunk(PIECE), None)
        await asyncio.sleep(0.002)
    await conn.send(chunk(LAST) + chunk(event("[DONE]")) + last_chunk, None)


async def _late(conn: Conn) -> None:
    await asyncio.sleep(0.3)
    await conn.send(WHOLE, None)


async def _drip(conn: Conn) -> None:
    whole = sse_head() + chunk(PIECE + LAST + event("[DONE]")) + last_chunk
    for at in range(0, len(whole), 16):
        await conn.send(whole[at : at + 16], None)
        await asyncio.sleep(0.005)


async def _flood(conn: Conn) -> None:
    await conn.send(sse_head(), None)
    for _ in range(100):  # 6 MB
        await conn.send(FLOOD, None)
    await conn.send(chunk(event("[DONE]")) + last_chunk, None)


async def _endless_event(conn: Conn) -> None:
    await conn.send(sse_head() + chunk(b"data: "), None)
    for _ in range(40):  # 2.4 MB without the end of an event
        await conn.send(chunk(b"x" * 60_000), None)
    await conn.send(last_chunk, None)


async def _refused(conn: Conn) -> None:
    await conn.send(json_answer({"error": {"message": "slow down"}}, 429, [("retry-after", "1")]), None)


async def _broken(conn: Conn) -> None:
    await conn.send(json_answer({"error": {"message": "oh"}}, 500), None)


async def _interim(conn: Conn) -> None:
    await conn.send(b"HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n" * 3 + WHOLE, None)


async def _hang(conn: Conn) -> None:
    await conn.hang()


async def _hang_in_stream(conn: Conn) -> None:
    await conn.send(sse_head() + chunk(PIECE), None)
    await conn.hang()


async def _hang_in_body(conn: Conn) -> None:
    await conn.send(WHOLE[:-10], None)
    await conn.hang()


async def _reset(conn: Conn) -> None:
    conn.reset()


async def _close(conn: Conn) -> None:
    conn.close()


async def _reset_in_stream(conn: Conn) -> None:
    await conn.send(sse_head() + chunk(PIECE) * 3, None)
    await asyncio.sleep(0.005)
    conn.reset()


async def _truncate(conn: Conn) -> None:
    await conn.send(WHOLE[:-10], None)
    conn.close()


async def _truncate_stream(conn: Conn) -> None:
    await conn.send(sse_head() + chunk(PIECE) * 3 + chunk(PIECE)[:-20], None)
    conn.close()


async def _garbage(conn: Conn) -> None:
    await conn.send(b"\x16\x03\x01\x02\x00\x01\x00 not HTTP at all\r\n\r\n", None)
    await conn.hang()


async def _bad_chunk(conn: Conn) -> None:
    await conn.send(sse_head() + chunk(PIECE) + b"zz\r\n", None)
    await conn.hang()


async def _many_headers(conn: Conn) -> None:
    await conn.send(head(headers=[(f"x-{n}", "y" * 100) for n in range(3000)]), None)
    await conn.hang()


async def _split(conn: Conn) -> None:
    await conn.send(head(headers=[("content-length", "2"), ("x-a", b"b\x00c")]) + b"{}", None)
    await conn.hang()


async def _bomb(conn: Conn) -> None:
    bomb = BOMB
    await conn.send(
        head(
            headers=[
                ("content-type", "application/json"),
                ("content-encoding", "gzip"),
                ("content-length", str(len(bomb))),
            ]
        )
        + bomb,
        None,
    )


def _bomb_bytes() -> bytes:
    import gzip

    return gzip.compress(b'{"x":"' + b" " * 20_000_000 + b'"}', 9)


BOMB: Final = _bomb_bytes()

Answer = Callable[[Conn], Awaitable[None]]
SOUND: Final[dict[str, Answer]] = {
    "whole": _whole,
    "stream": _stream,
    "late": _late,
    "drip": _drip,
    "interim": _interim,
    "refused": _refused,
    "broken": _broken,
    "flood": _flood,
}
"""Answers that come to their end; the connection is kept."""
FAULTY: Final[dict[str, Answer]] = {
    "hang": _hang,
    "hang-in-stream": _hang_in_stream,
    "hang-in-body": _hang_in_body,
    "reset": _reset,
    "close": _close,
    "reset-in-stream": _reset_in_stream,
    "truncate": _truncate,
    "truncate-stream": _truncate_stream,
    "garbage": _garbage,
    "bad-chunk": _bad_chunk,
    "many-headers": _many_headers,
    "split": _split,
    "endless-event": _endless_event,
    "bomb": _bomb,
}
"""What goes wrong. The connection is of no more use, whoever ends it."""


async def script(conn: Conn) -> None:
    """Play what each request asks for, until it is a fault."""
    while True:
        request = await conn.request()
        asked = (request.get(ASKS) or b"whole").decode()
        if asked in FAULTY:
            await FAULTY[asked](conn)
            return
        await SOUND[asked](conn)
