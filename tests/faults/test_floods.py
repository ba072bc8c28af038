"""Clients in great numbers, and bodies beyond their bound: who is served meanwhile, and what is left."""

import asyncio
import resource
import socket
import sys
from collections import Counter
from contextlib import AsyncExitStack

import pytest

from .client import RawClient, chat, get, post
from .process import Process
from .stage import OK, ONE, Stage, is_error, meanwhile, once
from .upstream import Conn, RawUpstream, answer, chunk, event, head, last_chunk, sse_head

CHUNKED = [("transfer-encoding", "chunked")]
JSON = "/v1/chat/completions"
LARGE = 17 << 20
"""Above `limits_http.json_body`."""


# -- bodies beyond their bound: B11, B12


@once
@pytest.mark.fault("B11")
@pytest.mark.parametrize("expects", [False, True])
async def test_a_body_that_says_it_is_too_large_is_not_read(books: Stage, expects: bool) -> None:
    lines = [("content-length", str(LARGE)), *([("expect", "100-continue")] if expects else [])]
    async with books.plant(answer(OK)) as up, books.client() as c:
        answered = await c.ask(post(JSON, b"" if expects else b'{"model":', lines))
        is_error(answered, 413, "request_too_large")
        assert (answered.get("connection"), answered.interim) == (b"close", [])
        await c.wait_closed(4)
        assert up.connections == 0
        assert await books.end() == ("rejected", "request_too_large")


@once
@pytest.mark.fault("B12")
async def test_a_body_that_grows_too_large_is_cut_and_takes_no_more_memory(books: Stage) -> None:
    before = books.p.peak_rss()
    async with books.plant(answer(OK)) as up, books.client(sndbuf=64 << 10) as c:
        await c.send(post(JSON, b"", CHUNKED))
        async with meanwhile(c.send_until_paused(chunk(b"x" * 60_000), limit=200 << 20)):
            is_error(await c.response(timeout=10), 413, "request_too_large")
        assert up.connections == 0
        assert await books.end() == ("rejected", "request_too_large")
    assert books.p.peak_rss() - before < 24 << 20  # the bound, and pieces that were on their way


@once
@pytest.mark.fault("B11", "B12")
@pytest.mark.parametrize("chunked", [False, True])
async def test_what_nobody_reads_may_be_of_any_size(books: Stage, chunked: bool) -> None:
    body = bytes(LARGE)
    framed = b"".join(chunk(body[at : at + 60_000]) for at in range(0, LARGE, 60_000)) + last_chunk
    before = books.p.peak_rss()
    lines = [("content-type", "application/octet-stream"), *(CHUNKED if chunked else [])]
    async with books.plant(answer(OK), keep=False) as up, books.client(keep=False) as c:
        assert (await c.ask(post("/v1/files", framed if chunked else body, lines), timeout=20)).status == 200
        assert up.requests[0].size == LARGE
    assert books.p.peak_rss() - before < 8 << 20


# -- slow heads in great numbers: B8


@pytest.mark.fault("B8", "B10")
async def test_three_hundred_slow_heads_and_as_many_silent_ones_hold_nobody_up() -> None:
    async def drips() -> int:
        async with weir.client() as c, meanwhile(c.send_slowly(get("/v1/slow"), gap=0.3)):
            return (await c.response(timeout=20)).status

    async def silent() -> None:
        async with weir.client() as c:
            await c.wait_closed(20)

    async def good() -> list[float]:
        late = []
        async with weir.client() as c:
            for _ in range(50):
                began = loop.time()
                assert (await c.ask(chat())).status == 200
                late.append(loop.time() - began)
                await asyncio.sleep(0.01)
        return late

    loop = asyncio.get_running_loop()
    async with Stage(config={"limits_http": {"header_time": "2s"}}) as weir:
        await weir.begin()
        async with weir.plant(answer(OK)) as up:
            slow = [asyncio.create_task(drips()) for _ in range(300)]
            mute = [asyncio.create_task(silent()) for _ in range(300)]
            late = await good()
            assert sorted(late)[len(late) // 2] < 0.2
            assert await asyncio.gather(*slow) == [408] * 300
            await asyncio.gather(*mute)
            assert {asked.target for asked in up.requests} == {b"/v1/chat/completions"}
        codes = Counter(line["end_code"] for line in await weir.ends(350))
        assert codes == {"completed": 50, "request_timeout": 300}
        await weir.at_rest()


# -- more than there are descriptors: B17

DESCRIPTORS = 1024
PLACES = 480
"""Of these, for clients."""


async def flood(port: int, n: int, places: int) -> tuple[list[socket.socket], int, int]:
    """So many connections that say nothing: those that stay, and how many were told, and closed.

    Waits for a busy machine until no more stay than there are `places`, for some seconds.
    """
    kept: list[socket.socket] = []
    told = closed = 0
    come, looks = 0, 100
    while come < n or (len(kept) > places and (looks := looks - 1)):
        for _ in range(min(250, n - come)):
            sock = socket.socket()
            sock.setblocking(False)
            sock.connect_ex(("127.0.0.1", port))
            kept.append(sock)
            come += 1
        await asyncio.sleep(0.03)
        left = []
        for sock in kept:
            try:
                said = sock.recv(4096)
            except BlockingIOError:
                left.append(sock)
                continue
            except OSError:
                said = b""
            told += said.startswith(b"HTTP/1.1 503 ")
            closed += not said
            sock.close()
        kept = left
    return kept, told, closed


@pytest.mark.fault("B17")
async def test_ten_thousand_connections_leave_room_for_who_is_served() -> None:
    """Upstream connections are new ones throughout: they need descriptors too."""

    async def script(conn: Conn) -> None:
        asked = await conn.request()
        if asked.json().get("stream"):
            await conn.send(sse_head() + chunk(ONE))
            await over.wait()
            await conn.send(chunk(event("[DONE]")) + last_chunk)
        else:
            await conn.send(head(headers=[("content-length", "0"), ("connection", "close")]))

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(4096, hard)), hard))
    over = asyncio.Event()
    limited = ("bash", "-c", f'ulimit -n {DESCRIPTORS}; exec {sys.executable} -m proxy serve "$@"', "weir")
    async with RawUpstream(script) as up, Process(up.base_url, command=limited) as p:
        async with p.client() as streaming, p.client() as c:
            await streaming.send(chat(stream=True))
            assert await streaming.read_events(1) == [ONE]
            assert (await c.ask(chat())).status == 200
            kept, told, closed = await flood(p.port, 10_000, PLACES + 2)
            try:
                assert PLACES - 50 < len(kept) <= PLACES + 2
                assert told > 0
                assert len(kept) + told + closed == 10_000
                for _ in range(20):
                    assert (await c.ask(chat())).status == 200
                assert (await p.get("/healthz", management=True)).status == 200
                assert p.fds() < DESCRIPTORS / 2 + 64
                async with p.client() as late:
                    answered = await late.response()
                    is_error(answered, 503, "too_many_connections")
                    assert answered.get("connection") == b"close"
                over.set()
                assert (await streaming.response()).ended == "chunked"
            finally:
                for sock in kept:
                    sock.close()
        assert (await asks_anew(p)) == 200
        metrics = (await p.get("/metrics", management=True)).body.decode()
        assert turned_away(metrics) >= told + closed
        assert [line["level"] for line in p.logs if line["event"].startswith("too many")] == ["warning"]
        assert len(p.stderr.splitlines()) < 40


def turned_away(metrics: str) -> float:
    """How many Weir says that it had no place for."""
    (line,) = [each for each in metrics.splitlines() if each.startswith("weir_connections_turned_away_total")]
    return float(line.split()[1])


async def asks_anew(p: Process) -> int:
    """The status of a request on a new connection, once there is a place for it."""
    while True:
        async with p.client() as c:
            status = (await c.ask(chat())).status
        if status != 503:
            return status
        await asyncio.sleep(0.05)


@pytest.mark.fault("B17")
async def test_who_finds_no_place_among_few_is_told_and_can_come_again() -> None:
    limited = ("bash", "-c", f'ulimit -n 84; exec {sys.executable} -m proxy serve "$@"', "weir")
    async with RawUpstream(answer(OK)) as up, Process(up.base_url, command=limited) as p:
        async with AsyncExitStack() as stack:
            clients: list[RawClient] = [await stack.enter_async_context(p.client()) for _ in range(10)]
            for c in clients:
                assert (await c.ask(chat())).status == 200
            is_error(
                await (await stack.enter_async_context(p.client())).response(), 503, "too_many_connections"
            )
            assert (await clients[0].ask(chat())).status == 200
            assert turned_away((await p.get("/metrics", management=True)).body.decode()) == 1
        assert await asks_anew(p) == 200
