"""A client that takes its time with the head of an answer is no slow upstream."""

import asyncio

from tests.faults.process import Process
from tests.faults.upstream import RawUpstream, answer

BODY = b"y" * 60_000
ANSWER = b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: %d\r\n\r\n" % len(BODY) + BODY
MANY = 150


async def test_answers_that_wait_for_their_reader_do_not_time_out() -> None:
    short = {"timeouts": {"first_byte": "300ms", "idle": "300ms"}}
    async with RawUpstream(answer(ANSWER)) as up, Process(up.base_url, upstream=short) as weir:
        reader, writer = await asyncio.open_connection("127.0.0.1", weir.port, limit=2**16)
        last = MANY - 1
        for number in range(MANY):
            close = b"connection: close\r\n" if number == last else b""
            writer.write(b"GET /v1/n HTTP/1.1\r\nhost: x\r\n%b\r\n" % close)
        await asyncio.sleep(1.5)
        got = b""
        while piece := await asyncio.wait_for(reader.read(2**16), 10):
            got += piece
        writer.close()
        assert got.count(BODY) == MANY
        assert not [line for line in weir.logs if line.get("end_reason") == "upstream_error"]
