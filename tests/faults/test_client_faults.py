"""Clients that leave, stall, flood and pipeline: what is left of them, and who else notices (B1-B20)."""

import asyncio
import random
import socket
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from statistics import median

import pytest

from .client import RawClient, chat, get, post, request
from .framing import RawResponse
from .stage import BEARER, OK, ONE, TEN, MakeProcess, Stage, all_at_once, is_error, meanwhile, once
from .upstream import (
    Conn,
    RawUpstream,
    answer,
    chunk,
    event,
    head,
    json_answer,
    last_chunk,
    ok_json,
    planted,
    sse_head,
)
from .wire import until

CHUNKED = [("transfer-encoding", "chunked")]
LEAVING = [RawClient.close, RawClient.reset, RawClient.fin]
Leave = Callable[[RawClient], None]


# -- leaving in the upload: B1


@pytest.mark.fault("B1", "B5")
@pytest.mark.parametrize("leave", LEAVING)
@pytest.mark.parametrize("framing", [CHUNKED, [("content-length", "1000")]], ids=["chunked", "sized"])
async def test_leaving_in_an_upload_never_makes_it_whole(
    stage: Stage, framing: list[tuple[str, str]], leave: Leave
) -> None:
    async with stage.plant(answer(OK)) as up, stage.client() as c:
        await c.send(post("/v1/files", chunk(b"half") if framing == CHUNKED else b"half", framing))
        asked = await up.seen()
        await until(lambda: asked.body == b"half")
        leave(c)
        await up.closed(1)
        await up.seen(ended=True)
        assert asked.ended in ("truncated", "reset")
        assert await stage.end() == ("client_gone", "client_closed_upload")
        assert len(up.requests) == 1


@pytest.mark.fault("B1")
@pytest.mark.parametrize("leave", LEAVING)
async def test_leaving_before_the_first_byte_of_a_body(stage: Stage, leave: Leave) -> None:
    async with stage.plant(answer(OK)) as up, stage.client() as c:
        await c.send(post("/v1/files", b"", [("content-length", "10")]))
        leave(c)
        assert await stage.end() == ("client_gone", "client_closed_upload")
        assert [r for r in up.requests if r.ended in ("length", "chunked")] == []


@once
@pytest.mark.parametrize(
    "part", [b"", b"POST /v1/files", b"POST /v1/files HTTP/1.1\r\nhost: x\r\ncontent-le"]
)
@pytest.mark.parametrize("leave", LEAVING)
async def test_leaving_before_a_whole_head(stage: Stage, part: bytes, leave: Leave) -> None:
    async with stage.plant(answer(OK)) as up:
        async with stage.client() as c:
            await c.send(part)
            leave(c)
        await stage.ask(get("/v1/after"))
        assert [line["path"] for line in await stage.ends()] == ["/v1/after"]
        assert [r.target for r in up.requests] == [b"/v1/after"]


@pytest.mark.parametrize("leave", LEAVING)
async def test_leaving_in_an_upload_that_is_answered_already(stage: Stage, leave: Leave) -> None:
    async with stage.plant() as up, stage.client() as c:
        await c.send(post("/v1/files", chunk(b"half"), CHUNKED))
        conn = await up.accept()
        await conn.head()
        await conn.body_bytes(4)
        await conn.send(sse_head() + chunk(ONE))
        assert await c.read_events(1) == [ONE]
        leave(c)
        assert await conn.wait_closed(1.5) < 1
        (line,) = await stage.ends()
        assert line["end_reason"] == "client_gone"


# -- leaving later: B2, B3, B5


@pytest.mark.fault("B2", "B5")
@pytest.mark.parametrize("leave", LEAVING)
async def test_leaving_before_the_answer_is_seen_upstream_at_once(stage: Stage, leave: Leave) -> None:
    async with stage.plant() as up, stage.client() as c:
        await c.send(chat(stream=True))
        conn = await up.accept()
        await conn.request()
        leave(c)
        assert await conn.wait_closed(1.5) < 1
        assert await stage.end() == ("client_gone", "client_closed")


@pytest.mark.fault("B3", "B5")
@pytest.mark.parametrize("leave", LEAVING)
async def test_leaving_in_a_stream_is_seen_upstream_at_once(stage: Stage, leave: Leave) -> None:
    async with stage.plant() as up, stage.client() as c:
        await c.send(chat(stream=True))
        conn = await up.accept()
        await conn.request()
        await conn.send(sse_head() + chunk(ONE))
        assert await c.read_events(1) == [ONE]
        leave(c)
        assert await conn.wait_closed(1.5) < 1
        assert await stage.end() == ("client_gone", "client_closed")


@pytest.mark.parametrize("leave", LEAVING)
async def test_leaving_in_a_stream_that_goes_on_without_pause(stage: Stage, leave: Leave) -> None:
    async def script(conn: Conn) -> None:
        await conn.request()
        await conn.send(sse_head())
        while True:
            await conn.send(chunk(ONE))
            await asyncio.sleep(0.001)

    async with stage.plant(script) as up, stage.client() as c:
        await c.send(chat(stream=True))
        await c.read_events(5)
        leave(c)
        await up.closed(1)
        assert await stage.end() == ("client_gone", "client_closed")


@pytest.mark.parametrize("size", [1_000, 100_000, 200_000, 261_000, 300_000, 400_000, 600_000, 3_000_000])
async def test_leaving_after_an_upload_of_any_size(stage: Stage, size: int) -> None:
    """All of it has been taken; that reading was paused for back-pressure must not blind us."""
    async with stage.plant() as up, stage.client() as c:
        await c.send(post("/v1/files", bytes(size)))
        conn = await up.accept()
        assert (await conn.request()).size == size
        c.close()
        assert await conn.wait_closed(1.5) < 1
        assert await stage.end() == ("client_gone", "client_closed")


@pytest.mark.parametrize("size", range(300_000, 1_500_000, 200_000))
async def test_leaving_after_an_upload_that_was_held_back(stage: Stage, size: int) -> None:
    """The upstream reads only when the client has sent everything."""
    async with stage.plant(rcvbuf=4096) as up, stage.client() as c:
        await c.send(post("/v1/files", bytes(size)))
        conn = await up.accept()
        assert (await conn.request()).size == size
        c.close()
        assert await conn.wait_closed(1.5) < 1
        assert await stage.end() == ("client_gone", "client_closed")


@pytest.mark.parametrize("leave", LEAVING)
async def test_leaving_with_a_request_in_waiting(stage: Stage, leave: Leave) -> None:
    """A second request has been pipelined: who sent it is still seen to leave."""
    async with stage.plant() as up, stage.client() as c:
        await c.send(chat(stream=True) + chat())
        conn = await up.accept()
        await conn.request()
        await conn.send(sse_head() + chunk(ONE))
        assert await c.read_events(1) == [ONE]
        leave(c)
        assert await conn.wait_closed(1.5) < 1
        assert len(up.requests) == 1


@pytest.mark.fault("B2")
@pytest.mark.parametrize("leave", LEAVING)
async def test_leaving_while_connecting(stage: Stage, leave: Leave) -> None:
    async with stage.plant(backlog=1, accepting=False) as up:
        await up.fill_backlog()
        async with stage.client() as c:
            assert (await c.ask(get("/health"))).status == 200
            fds = stage.p.fds()
            await c.send(chat())
            await until(lambda: stage.p.fds() > fds)
            leave(c)
            await stage.ends(timeout=1)
            assert await stage.end() == ("client_gone", "client_closed")
            await until(lambda: stage.p.fds() < fds, 1)


async def test_leaving_while_in_line_for_a_connection(small: Stage) -> None:
    async with small.plant() as up, small.client() as a, small.client() as b:
        conns = []
        for n, c in enumerate((a, b)):
            await c.send(chat())
            conns.append(await up.accept())
            await conns[n].request()
        async with small.client() as third, small.client() as fourth:
            await third.send(chat(n=3))
            await fourth.send(chat(n=4))
            is_error(await small.ask(chat(n=5)), 503, "upstream_busy")
            third.close()
            assert [line["end_code"] for line in await small.ends(2)] == ["upstream_busy", "client_closed"]
            await conns[0].send(OK)
            assert (await a.response()).status == 200
            assert (await conns[0].request()).json()["n"] == 4
            await conns[0].send(OK)
            assert (await fourth.response()).status == 200
            await conns[1].send(OK)
            assert (await b.response()).status == 200
        assert up.connections == 2


@pytest.mark.parametrize("leave", LEAVING)
async def test_leaving_all_together(small: Stage, leave: Leave) -> None:
    """Who has the connections and who waits for them leave in one moment."""
    async with small.plant(planted(b"", None)) as up, AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(small.client()) for _ in range(4)]
        for c in clients[:2]:
            await c.send(chat())
        await up.seen(2)
        for c in clients[2:]:
            await c.send(chat())
        is_error(await small.ask(chat()), 503, "upstream_busy")
        for c in clients:
            leave(c)
        lines = await small.ends(5)
        assert [line["end_code"] for line in lines[1:]] == ["client_closed"] * 4
    async with small.plant(answer(OK)):
        assert (await small.ask(chat())).status == 200


# -- slow readers: B6, B7


@pytest.mark.fault("B6")
@pytest.mark.slow
async def test_a_slow_reader_holds_up_its_upstream_and_no_memory(stage: Stage) -> None:
    piece = chunk(b"data: " + b"x" * 10_000 + b"\n\n")
    async with (
        stage.plant(sndbuf=64 << 10) as up,
        stage.client(rcvbuf=64 << 10, keep=False) as c,
    ):
        await c.send(chat(stream=True))
        conn = await up.accept()
        await conn.request()
        await conn.send(sse_head())
        await c.head()
        before = stage.p.rss()
        taken = await conn.send_until_paused(piece, limit=64 << 20)
        assert stage.p.rss() - before < 4 << 20
        pieces = taken // len(piece) + 1  # the last one is in part still here
        async with meanwhile(conn.send(last_chunk, timeout=None)):
            answered = await c.response(timeout=20)
        assert (answered.ended, answered.size) == ("chunked", pieces * 10_008)


@pytest.mark.fault("B6")
@pytest.mark.slow
async def test_many_slow_readers_hold_little(stage: Stage) -> None:
    """256 KiB a stream, by the contracts."""

    async def script(conn: Conn) -> None:
        await conn.request()
        await conn.send(sse_head())
        await conn.send_until_paused(chunk(ONE * 1000), limit=64 << 20)
        paused.append(conn)
        await conn.hang()

    paused: list[Conn] = []
    async with stage.plant(script, sndbuf=64 << 10) as up, AsyncExitStack() as stack:
        clients: list[RawClient] = []
        held = []
        for some in (10, *[25] * 6):
            before = stage.p.rss()
            for _ in range(some):
                clients.append(await stack.enter_async_context(stage.client(rcvbuf=16 << 10)))
                await clients[-1].send(chat(stream=True))
            await until(lambda: len(paused) == len(clients), 60)
            held.append(round((stage.p.rss() - before) / some / 1024))
            # What the first ones cost is not each one's. malloc's share is in it, which is more now and then.
            if len(held) > 3 and median(held[-3:]) < 256 + 128:
                break
        else:
            pytest.fail(f"{held} KiB a stream")
        for c in clients:
            c.reset()
        await up.closed(10)


@pytest.mark.fault("B7")
async def test_a_reader_that_stalls_is_cut_off(impatient: Stage) -> None:
    async with impatient.plant() as up, impatient.client(rcvbuf=4096) as c:
        await c.send(chat(stream=True))
        conn = await up.accept()
        await conn.request()
        await conn.send(sse_head())
        await c.head()
        async with meanwhile(conn.send_until_paused(chunk(ONE * 1000), quiet=5)):
            assert await impatient.end() == ("client_gone", "client_stalled")
        await conn.wait_closed(1)


@pytest.mark.fault("B7")
async def test_a_reader_that_stalls_over_a_sized_answer(impatient: Stage) -> None:
    big = 30 << 20
    async with impatient.plant() as up, impatient.client(rcvbuf=4096) as c:
        await c.send(get("/v1/files/1/content"))
        conn = await up.accept()
        await conn.request()
        async with meanwhile(
            conn.send(head(headers=[("content-length", str(big))]) + bytes(big), timeout=None)
        ):
            assert await impatient.end() == ("client_gone", "client_stalled")
        await conn.wait_closed(1)


async def test_a_slow_reader_that_reads_on_is_not_cut_off(impatient: Stage) -> None:
    """It takes several times write_idle, but never does it read nothing for so long."""
    body = bytes(2 << 20)
    async with impatient.plant(answer(ok_json(body))), impatient.client(rcvbuf=4096) as c:
        await c.send(get("/v1/files/1/content"))
        await c.head()
        start = time.monotonic()
        got = 0
        while time.monotonic() - start < 1.5:
            piece = await c.chunk()
            assert piece, f"cut off after {got} bytes"
            got += len(piece)
            await asyncio.sleep(0.05)
        assert (await c.response()).ended == "length"


async def test_a_stalled_reader_is_not_a_late_upstream(process: MakeProcess) -> None:
    """The upstream's idle timeout does not run while it is the client that holds things up."""
    async with (
        RawUpstream(sndbuf=16 << 10) as up,
        process(up.base_url, timeouts={"idle": "300ms"}) as p,
        p.client(rcvbuf=4096, keep=False) as c,
    ):
        await c.send(chat(stream=True))
        conn = await up.accept()
        await conn.request()
        await conn.send(sse_head())
        await c.head()
        await conn.send_until_paused(chunk(ONE * 1000), quiet=0.6)
        async with meanwhile(conn.send(last_chunk, timeout=None)):
            assert (await c.response()).ended == "chunked"


# -- slow writers: B8, B9, B10, B13


@pytest.mark.fault("B8")
@once
@pytest.mark.parametrize("part", [b"P", b"POST /v1/files HTTP/1.1\r\n", b"GET / HTTP/1.1\r\nhost: x\r\nx-a"])
async def test_a_head_that_does_not_come(impatient: Stage, part: bytes) -> None:
    async with impatient.plant() as up, impatient.client() as c:
        answered = await c.ask(part)
        is_error(answered, 408, "request_timeout")
        assert answered.get("connection") == b"close"
        await c.wait_closed(3)
        assert up.connections == 0
        assert await impatient.end() == ("rejected", "request_timeout")


@pytest.mark.fault("B8")
@once
async def test_a_head_that_drips_has_no_longer(impatient: Stage) -> None:
    async with impatient.client() as c, meanwhile(c.send_slowly(get("/v1/models"), gap=0.1)):
        is_error(await c.response(timeout=2), 408, "request_timeout")


async def test_the_second_head_has_its_time_too(impatient: Stage) -> None:
    async with impatient.plant(answer(OK)), impatient.client() as c:
        assert (await c.ask(chat())).status == 200
        is_error(await c.ask(b"GET /v1/mod"), 408, "request_timeout")


@pytest.mark.fault("B10")
@once
async def test_a_connection_without_a_byte_is_closed(impatient: Stage) -> None:
    async with impatient.client() as c:
        assert 0.2 < await c.wait_closed(2) < 1.2
        assert (c.left, bytes(c.buffer)) == ("fin", b"")
    assert impatient.lines == []


@pytest.mark.fault("B9", "B13")
@pytest.mark.parametrize("body", [b"", b"half"])
@pytest.mark.parametrize("framing", [CHUNKED, [("content-length", "1000")]], ids=["chunked", "sized"])
async def test_a_body_that_does_not_come(
    impatient: Stage, framing: list[tuple[str, str]], body: bytes
) -> None:
    async with impatient.plant(answer(OK)) as up, impatient.client() as c:
        await c.send(post("/v1/files", chunk(body) if body and framing == CHUNKED else body, framing))
        is_error(await c.response(timeout=2), 408, "request_timeout")
        assert await impatient.end() == ("rejected", "request_timeout")
        await up.closed(1)
        assert [r for r in up.requests if r.ended in ("length", "chunked")] == []
        await c.wait_closed(4)


async def test_a_body_that_drips_goes_on(impatient: Stage) -> None:
    async with impatient.plant(answer(OK)) as up, impatient.client() as c:
        await c.send(post("/v1/files", b"", [("content-length", "10")]))
        await c.send_slowly(b"0123456789", gap=0.05)
        assert (await c.response()).status == 200
        assert up.requests[0].body == b"0123456789"


@pytest.mark.fault("B13")
async def test_what_exceeds_a_content_length_is_the_next_request(stage: Stage) -> None:
    async with stage.plant(answer(OK)) as up, stage.client() as c:
        await c.send(post("/v1/x", b"0123EXTRA", [("content-length", "4")]) + b"\r\n\r\n")
        assert (await c.response()).status == 200
        is_error(await c.response(), 400, "invalid_http")
        await c.wait_closed(4)
        assert [r.body for r in up.requests] == [b"0123"]


# -- many that leave: B4


@pytest.mark.fault("B4")
@pytest.mark.slow
async def test_two_thousand_that_leave_take_no_place_along(upstream_client: str) -> None:
    async def script(conn: Conn) -> None:
        while True:
            await conn.request()
            await asyncio.sleep(dice.random() * 0.02)
            await conn.send(sse_head())
            for _ in range(dice.randrange(5)):
                await conn.send(chunk(ONE))
                await asyncio.sleep(dice.random() * 0.005)
            await conn.send(chunk(event("[DONE]")) + last_chunk)

    async def leaver() -> None:
        async with room, stage.client() as c:
            ask = dice.choice([chat(stream=True), get("/v1/models"), post("/v1/files", bytes(300_000))])
            await c.send(ask[: dice.choice([len(ask), len(ask), len(ask), dice.randrange(len(ask))])])
            try:
                async with asyncio.timeout(dice.random() * 0.04):
                    await c.response()
            except TimeoutError:
                pass
            dice.choice(LEAVING)(c)

    async def good() -> RawResponse:
        async with stage.client() as c:
            return await c.ask(chat(stream=True), timeout=20)

    dice = random.Random(1)
    room = asyncio.Semaphore(80)
    async with Stage(upstream={"client": upstream_client, "pool": {"max": 50}}) as stage:
        await stage.begin()
        async with stage.plant(script, keep=False) as up:
            await all_at_once([leaver() for _ in range(2000)], within=60)
            lines = [line for line in stage.lines if line["event"] == "request"]
            assert {line["end_reason"] for line in lines} <= {"client_gone", "complete", "rejected"}
            assert {line["end_code"] for line in lines if line["end_reason"] == "rejected"} <= set()
            answers = await all_at_once([good() for _ in range(200)])
            assert [a.status for a in answers] == [200] * 200
            assert {a.ended for a in answers} == {"chunked"}
            assert up.open_connections <= 50
        await stage.at_rest()


async def test_a_crowd_larger_than_the_pool_is_served_in_turn(small: Stage) -> None:
    async with small.plant(answer(OK)) as up:
        answers = await all_at_once([small.ask(chat()) for _ in range(4)])
        assert [a.status for a in answers] == [200] * 4
        assert up.connections == 2


# -- many at once


@pytest.mark.slow
async def test_two_hundred_streams_at_once_get_their_first_event_at_once(stage: Stage) -> None:
    async def script(conn: Conn) -> None:
        await conn.request()
        await conn.send(sse_head() + chunk(ONE))
        await go.wait()
        await conn.send(chunk(event("[DONE]")) + last_chunk)

    async def stream() -> RawResponse:
        async with stage.client() as c:
            start = time.monotonic()
            await c.send(chat(stream=True))
            assert await c.read_events(1) == [ONE]
            late.append(time.monotonic() - start)
            if len(late) == 200:
                go.set()
            return await c.response()

    go = asyncio.Event()
    late: list[float] = []
    async with stage.plant(script, backlog=512):
        answers = await all_at_once([stream() for _ in range(200)])
        assert max(late) < 2
        assert {(a.ended, a.body) for a in answers} == {("chunked", ONE + b"data: [DONE]\n\n")}
        assert {line["end_code"] for line in await stage.ends(200)} == {"completed"}


@pytest.mark.fault("B18")
@pytest.mark.slow
async def test_a_thousand_requests_on_one_connection(stage: Stage) -> None:
    async with stage.plant(answer(OK)) as up, stage.client(keep=False) as c:
        for _ in range(100):
            assert (await c.ask(chat())).status == 200
        fds, rss = stage.p.fds(), stage.p.rss()
        for n in range(1000):
            answered = await c.ask(chat(n=n))
            assert (answered.status, answered.size) == (200, 11)
        assert stage.p.fds() == fds
        assert stage.p.rss() - rss < 1 << 20
        assert up.connections == 1


@pytest.mark.fault("B18")
@pytest.mark.slow
@once
async def test_a_thousand_connections_leave_nothing(stage: Stage) -> None:
    async with stage.plant(answer(OK), keep=False) as up:
        for n in range(1000):
            async with stage.client() as c:
                assert (await c.ask(chat())).status == 200
            if n == 200:
                rss = stage.p.rss()
        assert stage.p.rss() - rss < 2 << 20
        assert up.connections == 1


# -- expecting: B14


@pytest.mark.fault("B14")
async def test_a_client_is_told_to_go_on(stage: Stage) -> None:
    async with stage.plant(answer(OK)) as up, stage.client() as c:
        await c.send(post("/v1/files", b"", [("expect", "100-continue"), ("content-length", "4")]))
        assert (await c.head()).status == 100
        await c.send(b"0123")
        answered = await c.response()
        assert (answered.status, len(answered.interim)) == (200, 1)
        assert up.requests[0].body == b"0123"
        assert up.requests[0].get("expect") is None
        assert (await c.ask(chat())).interim == []


@pytest.mark.fault("B14")
async def test_only_who_is_let_in_is_told_to_go_on(keyed: Stage) -> None:
    expecting = [("expect", "100-continue"), ("content-length", "4")]
    async with keyed.plant(answer(OK)) as up:
        for lines in (expecting, [*expecting, ("authorization", "Bearer no-such-key")]):
            async with keyed.client() as c:
                answered = await c.ask(post("/v1/files", b"", lines))
                assert (answered.status, answered.interim) == (401, [])
                assert answered.json()["error"]["code"] in ("missing_api_key", "invalid_api_key")
                await c.wait_closed(4)
        assert up.connections == 0
        async with keyed.client() as c:
            await c.send(post("/v1/files", b"", [*expecting, BEARER]))
            assert (await c.head()).status == 100
            await c.send(b"0123")
            assert (await c.response()).status == 200
        assert up.requests[0].body == b"0123"


async def test_a_client_that_does_not_wait_is_served(stage: Stage) -> None:
    async with stage.plant(answer(OK)) as up, stage.client() as c:
        answered = await c.ask(post("/v1/files", b"0123", [("expect", "100-continue")]))
        assert answered.status == 200
        assert len(answered.interim) <= 1
        assert up.requests[0].body == b"0123"


@pytest.mark.fault("B14")
@once
async def test_an_unknown_expectation_fails(stage: Stage) -> None:
    async with stage.plant(answer(OK)) as up:
        is_error(
            await stage.ask(post("/v1/files", b"0123", [("expect", "200-ok")])), 417, "expectation_failed"
        )
        assert up.connections == 0


async def test_an_old_client_is_never_told_to_go_on(stage: Stage) -> None:
    """RFC 9110, 10.1.1: an HTTP/1.0 client would take the 100 for its answer."""
    async with stage.plant(answer(OK)), stage.client() as c:
        await c.send(b"POST /v1/files HTTP/1.0\r\nexpect: 100-continue\r\ncontent-length: 4\r\n\r\n0123")
        assert (await c.head()).status == 200


async def test_an_expecting_client_that_leaves(stage: Stage) -> None:
    async with stage.plant(answer(OK)) as up, stage.client() as c:
        await c.send(post("/v1/files", b"", [("expect", "100-continue"), ("content-length", "4")]))
        assert (await c.head()).status == 100
        c.close()
        assert await stage.end() == ("client_gone", "client_closed_upload")
        assert [r for r in up.requests if r.ended in ("length", "chunked")] == []


# -- pipelining: B15


@pytest.mark.fault("B15")
async def test_pipelined_requests_are_answered_in_order(stage: Stage) -> None:
    async def script(conn: Conn) -> None:
        while True:
            asked = await conn.request()
            await conn.send(ok_json(b"%d" % asked.json()["n"]))

    async with stage.plant(script) as up, stage.client() as c:
        await c.send(b"".join(chat(n=n) for n in range(5)))
        assert [(await c.response()).json() for _ in range(5)] == list(range(5))
        assert [r.json()["n"] for r in up.requests] == list(range(5))
        assert [line["end_code"] for line in await stage.ends(5)] == ["completed"] * 5


@pytest.mark.fault("B15")
async def test_pipelined_requests_of_all_kinds(stage: Stage) -> None:
    async with stage.plant(answer(OK)) as up, stage.client() as c:
        big = bytes(range(256)) * 4000
        await c.send(get("/v1/a"))
        async with meanwhile(
            c.send(
                post("/v1/b", chunk(big) + chunk(b"x") + last_chunk, CHUNKED)
                + request("DELETE", "/v1/c")
                + post("/v1/d", big)
                + get("/v1/../e")
                + get("/v1/f")
            )
        ):
            statuses = [(await c.response()).status for _ in range(6)]
        assert statuses == [200, 200, 200, 200, 400, 200]
        assert [r.target for r in up.requests] == [b"/v1/a", b"/v1/b", b"/v1/c", b"/v1/d", b"/v1/f"]
        assert (up.requests[1].body, up.requests[3].body) == (big + b"x", big)


async def test_a_pipelined_request_waits_for_the_stream_before_it(stage: Stage) -> None:
    async with stage.plant() as up, stage.client() as c:
        await c.send(chat(stream=True) + chat(n=2))
        conn = await up.accept()
        await conn.request()
        await conn.send(sse_head() + chunk(ONE))
        assert await c.read_events(1) == [ONE]
        assert len(up.requests) == 1
        await conn.send(last_chunk)
        assert (await c.response()).ended == "chunked"
        assert (await conn.request()).json()["n"] == 2
        await conn.send(OK)
        assert (await c.response()).status == 200


async def test_what_is_pipelined_behind_rubbish_is_not_served(stage: Stage) -> None:
    async with stage.plant(answer(OK)) as up, stage.client() as c:
        await c.send(chat(n=1) + chat(n=2) + b"RUBBISH\r\n\r\n" + chat(n=3))
        assert [(await c.response()).status for _ in range(3)] == [200, 200, 400]
        await c.wait_closed(4)
        assert [r.json()["n"] for r in up.requests] == [1, 2]


async def test_nothing_is_served_after_a_request_to_close(stage: Stage) -> None:
    async with stage.plant(answer(OK)) as up, stage.client() as c:
        await c.send(chat([("connection", "close")]) + chat())
        assert (await c.response()).get("connection") == b"close"
        await c.wait_closed(1)
        assert (len(up.requests), bytes(c.buffer)) == (1, b"")


async def test_a_broken_stream_answers_nothing_behind_it(stage: Stage) -> None:
    async with stage.plant(planted(sse_head() + chunk(ONE), Conn.reset)) as up, stage.client() as c:
        await c.send(chat(stream=True) + chat())
        assert (await c.response()).ended in ("truncated", "reset")
        assert len(up.requests) == 1


async def test_many_pipelined_requests(stage: Stage) -> None:
    async with stage.plant(answer(OK), keep=False) as up, stage.client() as c:
        async with meanwhile(c.send(get("/v1/models") * 200)):
            for _ in range(200):
                assert (await c.response()).status == 200
        assert up.connections == 1


# -- old clients: B16

OLD = b"POST /v1/chat/completions HTTP/1.0\r\nhost: x\r\ncontent-length: 2\r\n\r\n{}"


@pytest.mark.fault("B16")
@pytest.mark.parametrize("lines", [b"", b"connection: keep-alive\r\n", b"connection: close\r\n"])
async def test_an_old_client_gets_no_chunks(stage: Stage, lines: bytes) -> None:
    async with (
        stage.plant(planted(sse_head() + chunk(ONE) + chunk(ONE) + last_chunk, None)),
        stage.client() as c,
    ):
        answered = await c.ask(OLD.replace(b"host: x\r\n", b"host: x\r\n" + lines))
        assert (answered.ended, answered.body) == ("close", ONE * 2)
        assert answered.get("transfer-encoding") is None


@pytest.mark.fault("B16")
async def test_an_old_client_needs_no_host(stage: Stage) -> None:
    async with stage.plant(answer(OK)) as up:
        answered = await stage.ask(b"GET /v1/models HTTP/1.0\r\n\r\n")
        assert (answered.status, answered.ended) == (200, "length")
        assert up.requests[0].version == b"HTTP/1.1"
        assert up.requests[0].get("host") == stage.host


@pytest.mark.parametrize("end", [Conn.close, Conn.reset])
async def test_a_broken_answer_to_an_old_client_is_a_reset(stage: Stage, end: Callable[[Conn], None]) -> None:
    """The end of its connection would be the end of its answer."""
    async with stage.plant() as up, stage.client() as c:
        await c.send(OLD)
        conn = await up.accept()
        await conn.request()
        await conn.send(sse_head() + chunk(ONE))
        await c.head()
        assert await c.chunk() == ONE
        end(conn)
        assert (await c.response()).ended == "reset"


async def test_a_short_answer_to_an_old_client_is_short(stage: Stage) -> None:
    async with stage.plant(planted(TEN + b"01234")):
        assert (await stage.ask(OLD)).ended in ("truncated", "reset")


@pytest.mark.fault("B16")
@pytest.mark.parametrize("ask", [chat([("connection", "close")]), chat([("Connection", "Close, x-a")])])
async def test_a_client_that_asks_to_close_is_closed(stage: Stage, ask: bytes) -> None:
    async with stage.plant(answer(OK)) as up, stage.client() as c:
        answered = await c.ask(ask)
        assert (answered.status, answered.get("connection")) == (200, b"close")
        await c.wait_closed(1)
        assert c.left == "fin"
        assert (await stage.ask(chat())).status == 200
        assert up.connections == 1


# -- leaving in our own answers: B19


@pytest.mark.fault("B19")
@once
@pytest.mark.parametrize("leave", LEAVING)
async def test_leaving_in_a_refusal(stage: Stage, leave: Leave) -> None:
    for bad in (b"RUBBISH\r\n\r\n", get("/v1/../x"), request("TRACE", "/v1/x"), chat()):
        for _ in range(5):
            async with stage.client() as c:
                await c.send(bad)
                leave(c)
    await stage.ends(20)


# -- leaving while a plugin waits: B2


PATIENT = {"plugins": ["auth", {"use": "tests.faults.patient:Patient"}]}
HERE = {"PYTHONPATH": str(Path(__file__).parents[2])}
SOON = {**PATIENT, "limits_http": {"body_idle": "300ms"}}


@pytest.mark.fault("B2")
@pytest.mark.parametrize("leave", LEAVING)
@pytest.mark.parametrize("settings", [{}, {"on_disconnect": "drain"}], ids=["cancel", "drain"])
@pytest.mark.parametrize("pieces", [1, 3])
async def test_leaving_while_a_plugin_waits(leave: Leave, settings: dict[str, str], pieces: int) -> None:
    """Nothing was asked for yet, so nothing goes upstream, and there is nothing to drain."""
    async with Stage(config=PATIENT, upstream=settings, env=HERE) as stage:
        await stage.begin()
        asked = chat([("x-wait", "20")])
        async with stage.plant(answer(OK)) as up, stage.client() as c:
            size = len(asked) // pieces + 1
            for at in range(0, len(asked), size):
                await c.send(asked[at : at + size])
                await asyncio.sleep(0.05)
            assert len(await stage.in_flight(timeout=0)) == 1
            left = time.monotonic()
            leave(c)
            assert (await stage.end())[0] == "client_gone"
            assert time.monotonic() - left < 5
            assert up.requests == []


async def test_what_a_plugin_waits_for_is_no_slow_upload() -> None:
    async with Stage(config=SOON, env=HERE) as stage:
        await stage.begin()
        asked = chat([("x-wait", "1")])
        async with stage.plant(answer(OK)), stage.client() as c:
            await c.send(asked[:-10])
            await asyncio.sleep(0.1)
            await c.send(asked[-10:])
            assert (await c.response()).status == 200


@once
async def test_sending_on_after_a_refusal_does_not_lose_it(stage: Stage) -> None:
    """Closing at once would reset the connection and take the answer along."""
    async with stage.client(sndbuf=4096) as c:
        big = post("/v1/../files", bytes(4 << 20))
        async with meanwhile(c.send(big)):
            await asyncio.sleep(0.2)
            is_error(await c.response(), 400, "invalid_path")


# -- upgrades: B20

UPGRADES = {
    "websocket": [
        ("connection", "Upgrade"),
        ("upgrade", "websocket"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ("sec-websocket-version", "13"),
    ],
    "h2c": [
        ("connection", "Upgrade, HTTP2-Settings"),
        ("upgrade", "h2c"),
        ("http2-settings", "AAMAAABkAAQAAP__"),
    ],
}


@pytest.mark.fault("B20")
@once
@pytest.mark.parametrize("lines", UPGRADES.values(), ids=UPGRADES)
@pytest.mark.parametrize("body", [None, b"{}"], ids=["get", "post"])
async def test_an_upgrade_is_refused(stage: Stage, lines: list[tuple[str, str]], body: bytes | None) -> None:
    async with stage.plant(answer(OK)) as up, stage.client() as c:
        ask = request("POST" if body else "GET", "/v1/realtime", lines, body)
        is_error(await c.ask(ask), 501, "upgrade_not_supported")
        assert up.connections == 0


@once
@pytest.mark.parametrize("lines", UPGRADES.values(), ids=UPGRADES)
async def test_after_a_refused_upgrade_the_connection_serves_or_ends(
    stage: Stage, lines: list[tuple[str, str]]
) -> None:
    async with stage.plant(answer(OK)), stage.client() as c:
        refused = await c.ask(get("/v1/realtime", lines))
        if refused.get("connection") == b"close":
            await c.wait_closed(4)
        else:
            assert (await c.ask(chat())).status == 200


@pytest.mark.fault("B20")
@once
@pytest.mark.parametrize("late", [False, True])
async def test_nothing_smuggles_behind_a_refused_upgrade(stage: Stage, late: bool) -> None:
    async with stage.plant(answer(OK)) as up, stage.client() as c:
        ask = get("/v1/realtime", UPGRADES["h2c"])
        preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + get("/v1/smuggled")
        await c.send(ask if late else ask + preface)
        assert (await c.response()).status == 501
        if late:
            await c.send(preface)
        await c.read_until_paused(0.2)
        await stage.ask(chat())
        assert [r.target for r in up.requests] == [b"/v1/chat/completions"]


@pytest.mark.fault("B20")
async def test_an_upgrade_that_is_only_offered_passes_without_it(stage: Stage) -> None:
    async with stage.plant(answer(OK)) as up, stage.client() as c:
        assert (await c.ask(chat([("upgrade", "h2c")]))).status == 200
        assert (await c.ask(chat())).status == 200
        assert up.requests[0].get("upgrade") is None


# -- odd connections


async def test_a_client_on_a_unix_like_trickle(stage: Stage) -> None:
    """Head and body byte by byte, both ways."""

    async def script(conn: Conn) -> None:
        assert (await conn.request()).json()["stream"] is True
        await conn.send_slowly(sse_head() + chunk(ONE) + last_chunk)

    async with stage.plant(script), stage.client() as c:
        await c.send_slowly(chat(stream=True))
        answered = await c.response()
        assert (answered.ended, answered.body) == ("chunked", ONE)


@once
async def test_connections_that_say_nothing_cost_nobody_anything(stage: Stage) -> None:
    idle = [socket.create_connection(("127.0.0.1", stage.p.port)) for _ in range(300)]
    try:
        async with stage.plant(answer(OK)), stage.client() as c:
            took = []
            for _ in range(3):  # of which the machine may stall one
                start = time.monotonic()
                assert (await c.ask(chat())).status == 200
                took.append(time.monotonic() - start)
            assert min(took) < 0.5
            assert (await stage.ask(get("/health"))).status == 200
    finally:
        for sock in idle:
            sock.close()


async def test_errors_of_the_upstream_do_not_end_pipelining(stage: Stage) -> None:
    scripts = [planted(b"rubbish\r\n\r\n"), answer(json_answer({}, 500), OK)]
    async with stage.plant(scripts), stage.client() as c:
        await c.send(chat() * 3)
        assert [(await c.response()).status for _ in range(3)] == [502, 500, 200]


@pytest.mark.fault("B3")
async def test_who_leaves_with_all_that_was_promised_has_left_nothing_undone(stage: Stage) -> None:
    """By its length the client knows that it has all, maybe before Weir has looked again."""
    async with stage.plant(answer(TEN + b"0123456789")) as up:
        for _ in range(30):
            async with stage.client() as c:
                await c.send(get("/v1/files/a"))
                assert (await c.response()).body == b"0123456789"
                c.reset()
        ends = await stage.ends(30)
        assert {(end["end_reason"], end["end_code"]) for end in ends} == {("complete", "completed")}
        assert len(up.requests) == 30
