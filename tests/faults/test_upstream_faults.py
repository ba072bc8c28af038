"""Upstreams that refuse, hang, break off and lie: what the client is told, and what is left (A1-A39)."""

import asyncio
import gzip
import ssl
from collections.abc import Callable
from pathlib import Path

import pytest

from .certificates import Certificates
from .client import chat, get, post, request
from .framing import RawResponse
from .stage import (
    HASTY,
    OK,
    ONE,
    TEN,
    MakeProcess,
    Stage,
    Traits,
    all_at_once,
    broke_off,
    is_error,
    meanwhile,
)
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
    sse,
    sse_head,
)
from .wire import until

End = Callable[[Conn], None] | None
CHUNKED = [("transfer-encoding", "chunked")]


# -- not reached: A1, A2


@pytest.mark.fault("A1")
async def test_a_refused_connection_is_told_at_once(stage: Stage) -> None:
    start = asyncio.get_running_loop().time()
    is_error(await stage.ask(chat()), 502, "upstream_connect_failed")
    assert asyncio.get_running_loop().time() - start < 1
    assert await stage.end() == ("upstream_error", "upstream_connect_failed")


async def test_a_client_stays_connected_over_errors(stage: Stage) -> None:
    async with stage.client() as c:
        is_error(await c.ask(chat()), 502, "upstream_connect_failed")
        async with stage.plant(answer(OK)):
            assert (await c.ask(chat())).body == b'{"ok":true}'
        is_error(await c.ask(chat()), 502, "upstream_connect_failed")


async def test_the_answer_to_head_is_an_error_without_its_body(stage: Stage) -> None:
    async with stage.client() as c:
        await c.send(request("HEAD", "/v1/models"))
        answered = await c.response(bodyless=True)
        assert answered.status == 502
        assert int(answered.get("content-length") or 0) > 0
        is_error(await c.ask(chat()), 502, "upstream_connect_failed")


@pytest.mark.fault("A2")
async def test_a_connection_that_is_not_accepted_times_out(hasty: Stage) -> None:
    async with hasty.plant(backlog=1, accepting=False) as up:
        await up.fill_backlog()
        is_error(await hasty.ask(chat()), 504, "upstream_connect_timeout")
        assert await hasty.end() == ("upstream_error", "upstream_connect_timeout")


@pytest.mark.fault("A2")
@pytest.mark.slow
async def test_a_name_that_does_not_resolve(process: MakeProcess) -> None:
    async with process("http://no-such-host.invalid/v1") as p, p.client() as c:
        answered = await c.ask(chat(), timeout=10)
        assert answered.json()["error"]["code"] in ("upstream_dns_failed", "upstream_connect_timeout")
        assert b"no-such-host" not in answered.raw


# -- TLS: A3


async def test_tls_with_an_authority_of_our_own(process: MakeProcess, tmp_path: Path) -> None:
    tls = Certificates(tmp_path)
    async with RawUpstream(answer(OK, sse(1)), tls=tls.context) as up:
        async with process(up.base_url, tls=tls.trusted) as p, p.client() as c:
            assert (await c.ask(chat())).body == b'{"ok":true}'
            assert (await c.ask(chat(stream=True))).ended == "chunked"
            big = bytes(3 << 20)
            assert (await c.ask(post("/v1/files", big), timeout=10)).ended == "chunked"
            assert up.requests[2].body == big
        assert (up.connections, up.tls_errors) == (1, [])


async def test_tls_streams_each_event_and_is_closed_when_the_client_leaves(
    process: MakeProcess, tmp_path: Path
) -> None:
    tls = Certificates(tmp_path)
    async with (
        RawUpstream(tls=tls.context) as up,
        process(up.base_url, tls=tls.trusted) as p,
        p.client() as c,
    ):
        await c.send(chat(stream=True))
        conn = await up.accept()
        await conn.request()
        await conn.send(sse_head() + chunk(ONE))
        assert await c.read_events(1) == [ONE]
        c.close()
        assert await conn.wait_closed(1.5) < 1.1
        await p.logged(end_reason="client_gone", end_code="client_closed")


@pytest.mark.fault("A3")
@pytest.mark.parametrize("names", [(), ("other.example",)], ids=["unknown authority", "another name"])
async def test_a_bad_certificate(process: MakeProcess, tmp_path: Path, names: tuple[str, ...]) -> None:
    tls = Certificates(tmp_path, *names)
    trust = {"tls": tls.trusted} if names else {}
    async with RawUpstream(answer(OK), tls=tls.context) as up:
        async with process(up.base_url, **trust) as p, p.client() as c:
            answered = await c.ask(chat())
            is_error(answered, 502, "upstream_tls_failed")
            for leak in (b"other.example", b"trustme", b"CERTIFICATE", b"self-signed", b"127.0.0.1"):
                assert leak not in answered.raw
            await p.logged(end_reason="upstream_error", end_code="upstream_tls_failed")
        assert (up.connections, up.requests) == (1, [])


async def test_verification_can_be_turned_off(process: MakeProcess, tmp_path: Path) -> None:
    tls = Certificates(tmp_path, "other.example")
    async with (
        RawUpstream(answer(OK), tls=tls.context) as up,
        process(up.base_url, tls={"verify": False}) as p,
        p.client() as c,
    ):
        assert (await c.ask(chat())).status == 200


async def test_the_server_name_is_asked_for_and_checked(process: MakeProcess, tmp_path: Path) -> None:
    tls = Certificates(tmp_path, "api.example.test")
    async with RawUpstream(answer(OK), tls=tls.context) as up:
        settings = {**tls.trusted, "server_name": "api.example.test"}
        async with process(up.base_url, tls=settings) as p, p.client() as c:
            assert (await c.ask(chat())).status == 200
        assert tls.asked_for == ["api.example.test"]
        assert up.requests[0].get("host") == b"127.0.0.1:%d" % up.port


async def test_the_server_name_is_the_urls_host(process: MakeProcess, tmp_path: Path) -> None:
    tls = Certificates(tmp_path)
    async with RawUpstream(answer(OK), tls=tls.context) as up:
        base_url = f"https://localhost:{up.port}/v1"
        async with process(base_url, tls=tls.trusted) as p, p.client() as c:
            assert (await c.ask(chat())).status == 200
        assert tls.asked_for == ["localhost"]
        assert up.requests[0].get("host") == b"localhost:%d" % up.port


async def test_a_client_certificate(process: MakeProcess, tmp_path: Path) -> None:
    tls = Certificates(tmp_path)
    tls.context.verify_mode = ssl.CERT_REQUIRED
    tls.authority.configure_trust(tls.context)
    ours = tls.authority.issue_cert("weir@example.test")
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    cert.write_bytes(b"".join(blob.bytes() for blob in ours.cert_chain_pems))
    ours.private_key_pem.write_to_path(key)
    async with RawUpstream(answer(OK), tls=tls.context) as up:
        settings = {**tls.trusted, "cert": str(cert), "key": str(key)}
        async with process(up.base_url, tls=settings) as p, p.client() as c:
            assert (await c.ask(chat())).status == 200
        assert len(up.requests) == 1
        async with process(up.base_url, tls=tls.trusted) as p, p.client() as c:
            answered = await c.ask(chat())  # in TLS 1.3 the refusal comes after the handshake
            assert answered.status == 502
            assert answered.json()["error"]["code"] in ("upstream_tls_failed", "upstream_reset")
        assert len(up.requests) == 1


@pytest.mark.fault("A3")
async def test_handshakes_that_fail_otherwise(process: MakeProcess, tmp_path: Path) -> None:
    async def plain(conn: Conn) -> None:
        await conn.fill()
        await conn.send(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n")
        await conn.hang()

    async def silent(conn: Conn) -> None:
        await conn.hang()

    async def leaves(conn: Conn) -> None:
        await conn.fill()
        conn.close()

    async def resets(conn: Conn) -> None:
        await conn.fill()
        conn.reset()

    async with RawUpstream([plain, silent, leaves, resets]) as up:
        base_url = f"https://127.0.0.1:{up.port}/v1"
        async with process(base_url, timeouts=HASTY) as p, p.client() as c:
            is_error(await c.ask(chat()), 502, "upstream_tls_failed")
            is_error(await c.ask(chat()), 504, "upstream_connect_timeout")
            for _ in range(2):
                answered = await c.ask(chat())
                code = answered.json()["error"]["code"]
                assert code in ("upstream_tls_failed", "upstream_connect_failed")
                is_error(answered, 502, code)
            await up.closed()


@pytest.mark.parametrize(("notify", "whole"), [(True, True), (False, False)])
async def test_over_tls_a_close_delimited_answer_needs_close_notify(
    process: MakeProcess, tmp_path: Path, notify: bool, whole: bool
) -> None:
    async def script(conn: Conn) -> None:
        await conn.request()
        await conn.send(sse_head(chunked=False) + ONE)
        conn.close(notify=notify)

    tls = Certificates(tmp_path)
    async with (
        RawUpstream(script, tls=tls.context) as up,
        process(up.base_url, tls=tls.trusted) as p,
        p.client() as c,
    ):
        answered = await c.ask(chat(stream=True))
        if whole:
            assert (answered.ended, answered.body) == ("chunked", ONE)
        else:  # RFC 9112, 9.8: anybody on the way can cut a connection
            broke_off(answered, ONE, "upstream_reset")


# -- unix sockets


async def test_an_upstream_on_a_unix_socket(process: MakeProcess, tmp_path: Path) -> None:
    path = str(tmp_path / "up.sock")
    async with process("http://api.example.test/base", unix_socket=path) as p, p.client() as c:
        is_error(await c.ask(chat()), 502, "upstream_connect_failed")
        async with RawUpstream(answer(OK, sse(1)), unix=path) as up:
            assert (await c.ask(chat())).body == b'{"ok":true}'
            assert (await c.ask(chat(stream=True))).body == ONE.replace(
                b'{"n":1}', b"1"
            ) + b"data: [DONE]\n\n"
            assert up.connections == 1
            assert up.requests[0].target == b"/base/chat/completions"
            assert up.requests[0].get("host") == b"api.example.test"
        is_error(await c.ask(chat()), 502, "upstream_connect_failed")


# -- gone before the head: A4, A5, A15


@pytest.mark.fault("A4", "A5")
@pytest.mark.parametrize(
    ("data", "end", "code"),
    [
        (b"", Conn.reset, "upstream_reset"),
        (b"", Conn.close, "upstream_closed"),
        (b"", Conn.fin, "upstream_closed"),
        (b"HTTP/1.1 200 OK\r\ncontent-le", Conn.close, "upstream_closed"),
        (b"HTTP/1.1 200 OK\r\ncontent-le", Conn.reset, "upstream_reset"),
        (b"HTTP/1.1 103 Early Hints\r\n\r\n", Conn.close, "upstream_closed"),
    ],
)
async def test_leaving_before_a_whole_head_is_never_tried_again(
    stage: Stage, data: bytes, end: Callable[[Conn], None], code: str
) -> None:
    async with stage.plant(planted(data, end)) as up:
        is_error(await stage.ask(chat()), 502, code)
        assert await stage.end() == ("upstream_error", code)
        assert (up.connections, len(up.requests)) == (1, 1)
        await up.closed()


async def test_leaving_before_the_request_is_read(stage: Stage) -> None:
    async def script(conn: Conn) -> None:
        conn.reset()

    async with stage.plant(script) as up:
        answered = await stage.ask(post("/v1/files", bytes(5 << 20)))
        assert answered.json()["error"]["code"] in ("upstream_reset", "upstream_closed")
        assert up.connections == 1


# -- kept connections: A6


@pytest.mark.fault("A6")
@pytest.mark.parametrize("end", [Conn.close, Conn.reset])
async def test_a_kept_connection_that_was_closed_meanwhile_is_not_used(
    stage: Stage, end: Callable[[Conn], None]
) -> None:
    async with stage.plant() as up, stage.client() as c:
        for n in range(3):
            await c.send(chat())
            conn = await up.accept()
            await conn.request()
            await conn.send(OK)
            assert (await c.response()).status == 200
            end(conn)
            assert up.connections == n + 1


@pytest.mark.fault("A6")
@pytest.mark.parametrize("end", [Conn.close, Conn.reset])
@pytest.mark.parametrize(
    "ask",
    [chat(), get("/v1/models"), post("/v1/x", chunk(b"ab") + last_chunk, CHUNKED)],
    ids=["post", "get", "chunked"],
)
async def test_a_stale_connection_costs_one_replay_and_no_more(
    stage: Stage, end: Callable[[Conn], None], ask: bytes
) -> None:
    async def stale(conn: Conn) -> None:
        await conn.request()
        await conn.send(OK)
        await conn.request()
        end(conn)

    async with (
        stage.plant([stale, planted(b"HTTP/1.1 204 No Content\r\n\r\n", None)]) as up,
        stage.client() as c,
    ):
        assert (await c.ask(chat())).status == 200
        assert (await c.ask(ask)).status == 204
        assert [r.connection for r in up.requests] == [0, 0, 1]
        assert up.requests[1].raw == up.requests[2].raw
        first, second = await stage.ends(2)
        assert (first["resent"], second["resent"]) == (False, True)
        assert (second["end_code"], second["attempts"]) == ("completed", 1)


@pytest.mark.fault("A6")
@pytest.mark.parametrize("end", [Conn.close, Conn.reset])
async def test_a_replay_is_not_replayed(stage: Stage, end: Callable[[Conn], None]) -> None:
    async def stale(conn: Conn) -> None:
        await conn.request()
        await conn.send(OK)
        await conn.request()
        end(conn)

    async with stage.plant([stale, planted(b"", end)]) as up, stage.client() as c:
        assert (await c.ask(chat())).status == 200
        code = "upstream_reset" if end is Conn.reset else "upstream_closed"
        is_error(await c.ask(chat()), 502, code)
        assert (up.connections, len(up.requests)) == (2, 3)


@pytest.mark.fault("A6")
async def test_after_one_byte_of_an_answer_nothing_is_replayed(stage: Stage) -> None:
    async def script(conn: Conn) -> None:
        await conn.request()
        await conn.send(OK)
        await conn.request()
        await conn.send(b"H")
        conn.close()

    async with stage.plant(script) as up, stage.client() as c:
        assert (await c.ask(chat())).status == 200
        is_error(await c.ask(chat()), 502, "upstream_closed")
        assert (up.connections, len(up.requests)) == (1, 2)


@pytest.mark.fault("A6")
@pytest.mark.parametrize("end", [Conn.close, Conn.reset])
async def test_a_streamed_upload_is_never_replayed(stage: Stage, end: Callable[[Conn], None]) -> None:
    async def stale(conn: Conn) -> None:
        await conn.request()
        await conn.send(OK)
        await conn.head()
        assert await conn.body_bytes(5) == b"first"
        end(conn)

    async with stage.plant(stale) as up, stage.client() as c:
        assert (await c.ask(chat())).status == 200
        await c.send(post("/v1/files", chunk(b"first"), CHUNKED))
        answered = await c.response()
        code = "upstream_reset" if end is Conn.reset else "upstream_closed"
        is_error(answered, 502, code)
        assert (up.connections, len(up.requests)) == (1, 2)


async def test_many_stale_connections_at_once(stage: Stage) -> None:
    async def stale(conn: Conn) -> None:
        await conn.request()
        await gate.wait()
        await conn.send(OK)
        await conn.request()
        conn.close()

    async def session() -> list[int]:
        async with stage.client() as c:
            first = await c.ask(chat())
            await idle.wait()
            return [first.status, (await c.ask(chat())).status]

    gate, idle = asyncio.Event(), asyncio.Event()
    async with (
        stage.plant([*[stale] * 20, answer(OK)]) as up,
        meanwhile(all_at_once([session() for _ in range(20)])) as sessions,
    ):
        await up.seen(20)
        gate.set()
        await stage.ends(20)
        idle.set()
        assert await sessions == [[200, 200]] * 20
        assert len(await stage.ends(40)) == 40


@pytest.mark.parametrize(
    "extra",
    [OK, b"HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\nconnection: close\r\n\r\n", b"x", b"\r\n"],
)
async def test_bytes_nobody_asked_for_answer_nobody(stage: Stage, extra: bytes) -> None:
    async with stage.plant() as up, stage.client() as c:
        await c.send(chat())
        conn = await up.accept()
        await conn.request()
        await conn.send(ok_json(b"1"))
        assert (await c.response()).body == b"1"
        await stage.ends(1)
        await conn.send(extra)
        await conn.wait_closed(1)
        await c.send(chat())
        conn = await up.accept()
        await conn.request()
        await conn.send(ok_json(b"2"))
        assert (await c.response()).body == b"2"


async def test_an_idle_connection_is_closed_in_time(process: MakeProcess) -> None:
    async with (
        RawUpstream(answer(OK)) as up,
        process(up.base_url, pool={"idle": "300ms"}) as p,
        p.client() as c,
    ):
        assert (await c.ask(chat())).status == 200
        assert 0.2 < await up.closed(2) < 1
        assert (await c.ask(chat())).status == 200
        assert up.connections == 2


@pytest.mark.parametrize(
    "kept",
    [
        head(200, [("content-length", "0"), ("connection", "close")]),
        b"HTTP/1.0 200 OK\r\ncontent-length: 0\r\n\r\n",
    ],
)
async def test_a_connection_that_the_upstream_will_close_is_not_kept(stage: Stage, kept: bytes) -> None:
    async with stage.plant(answer(kept)) as up, stage.client() as c:
        for n in range(3):
            assert (await c.ask(chat())).status == 200
            assert up.connections == n + 1
        await up.closed()


# -- too late: A7, A8, A9, A18


@pytest.mark.fault("A7")
async def test_an_answer_that_never_begins(hasty: Stage) -> None:
    async with hasty.plant(planted(b"", None)) as up, hasty.client() as c:
        start = asyncio.get_running_loop().time()
        is_error(await c.ask(chat()), 504, "upstream_header_timeout")
        assert 0.25 < asyncio.get_running_loop().time() - start < 0.8
        await up.closed()
        assert await hasty.end() == ("upstream_error", "upstream_header_timeout")
        assert len(up.requests) == 1


@pytest.mark.fault("A7")
async def test_a_head_that_drips_is_late_all_the_same(hasty: Stage) -> None:
    async def script(conn: Conn) -> None:
        await conn.request()
        await conn.send_slowly(head(headers=[("x-a", "b" * 400)]), size=1, gap=0.05)

    async with hasty.plant(script) as up:
        is_error(await hasty.ask(chat()), 504, "upstream_header_timeout")
        await up.closed()


@pytest.mark.fault("A8")
async def test_a_json_answer_that_hangs_is_cut_off(hasty: Stage) -> None:
    async with hasty.plant(planted(TEN + b"01234", None)) as up:
        answered = await hasty.ask(chat())
        assert (answered.status, answered.ended, answered.body) == (200, "truncated", b"01234")
        await up.closed()
        assert await hasty.end() == ("upstream_error", "upstream_idle_timeout")


@pytest.mark.fault("A9")
async def test_a_stream_that_hangs_ends_with_an_error_event(hasty: Stage) -> None:
    async with hasty.plant(planted(sse_head() + chunk(ONE), None)) as up:
        broke_off(await hasty.ask(chat(stream=True)), ONE, "upstream_idle_timeout")
        await up.closed()
        assert await hasty.end() == ("upstream_error", "upstream_idle_timeout")


async def test_a_stream_that_hangs_before_its_first_event(hasty: Stage) -> None:
    async with hasty.plant(planted(sse_head(), None)) as up:
        broke_off(await hasty.ask(chat(stream=True)), b"", "upstream_idle_timeout")
        await up.closed()


@pytest.mark.fault("A18")
async def test_every_byte_resets_the_idle_timeout_but_not_the_total(hasty: Stage) -> None:
    async def script(conn: Conn) -> None:
        await conn.request()
        await conn.send(sse_head())
        while True:
            await conn.send(chunk(ONE))
            await asyncio.sleep(0.1)

    async with hasty.plant(script) as up:
        answered = await hasty.ask(chat(stream=True))
        events = answered.body.count(ONE)
        assert 10 <= events <= 17
        broke_off(answered, ONE * events, "max_duration")
        assert await hasty.end() == ("upstream_error", "max_duration")
        await up.closed()


@pytest.mark.fault("A18")
async def test_a_drip_passes_byte_by_byte(stage: Stage) -> None:
    loop = asyncio.get_running_loop()
    async with stage.plant() as up, stage.client() as c:
        await c.send(chat(stream=True))
        conn = await up.accept()
        await conn.request()
        await conn.send(sse_head())
        await c.head()
        late = []
        for byte in ONE * 3:
            start = loop.time()
            await conn.send(chunk(bytes([byte])))
            assert await c.chunk() == bytes([byte])
            late.append(loop.time() - start)
        assert sorted(late)[len(late) // 2] < 0.03  # less than by Nagle's algorithm
        await conn.send(last_chunk)
        assert (await c.response()).ended == "chunked"


async def test_an_upstream_that_stops_reading_an_upload(hasty: Stage) -> None:
    async def script(conn: Conn) -> None:
        await conn.head()
        await late.wait()

    late = asyncio.Event()
    async with hasty.plant(script, rcvbuf=4096) as up, hasty.client() as c:
        async with meanwhile(c.send(post("/v1/files", bytes(8 << 20)))):
            is_error(await c.response(), 504, "upstream_write_timeout")
            assert await hasty.end() == ("upstream_error", "upstream_write_timeout")
        late.set()
        await up.closed()


# -- broken off in the middle: A10, A11, A12, A13


@pytest.mark.fault("A10", "A13")
@pytest.mark.parametrize("end", [Conn.close, Conn.reset, Conn.fin])
@pytest.mark.parametrize("framed", [chunk(ONE), chunk(ONE)[:-2], b"ff\r\n" + ONE, chunk(ONE) + b"0\r\n"])
async def test_a_stream_that_breaks_between_events(
    stage: Stage, framed: bytes, end: Callable[[Conn], None]
) -> None:
    async with stage.plant() as up, stage.client() as c:
        await c.send(chat(stream=True))
        conn = await up.accept()
        await conn.request()
        await conn.send(sse_head() + framed)
        assert await c.read_events(1) == [ONE]
        end(conn)
        broke_off(await c.response(), ONE, "upstream_reset")
        assert await stage.end() == ("upstream_error", "upstream_reset")
        await up.closed()


@pytest.mark.fault("A10")
@pytest.mark.parametrize("sent", [b"data: {", b"data: 1\n", b"data: 1\n\ndata: 2", b"\r", b": c"])
async def test_a_stream_that_breaks_within_an_event_gets_none_glued_on(stage: Stage, sent: bytes) -> None:
    async with stage.plant(planted(sse_head() + chunk(sent))):
        answered = await stage.ask(chat(stream=True))
        assert (answered.ended, answered.body) == ("truncated", sent)
        assert await stage.end() == ("upstream_error", "upstream_reset")


@pytest.mark.fault("A11")
@pytest.mark.parametrize("end", [Conn.close, Conn.reset, Conn.fin])
@pytest.mark.parametrize("body", [b"", b"0", b"012345678"])
async def test_a_sized_answer_that_breaks_ends_short(
    stage: Stage, end: Callable[[Conn], None], body: bytes
) -> None:
    async with stage.plant() as up, stage.client() as c:
        await c.send(chat())
        conn = await up.accept()
        await conn.request()
        await conn.send(TEN + body)
        answered = await c.head()
        while len(answered.body) < len(body):
            await c.chunk()
        end(conn)
        answered = await c.response()
        assert (answered.ended, answered.body) == ("truncated", body)
        assert await stage.end() == ("upstream_error", "upstream_reset")
        await up.closed()


async def test_a_chunked_json_answer_that_breaks_is_not_mended(stage: Stage) -> None:
    broken = head(headers=[("content-type", "application/json"), *CHUNKED]) + chunk(b'{"a":1}')
    async with stage.plant(planted(broken)):
        answered = await stage.ask(chat())
        assert (answered.ended, answered.body) == ("truncated", b'{"a":1}')


async def test_a_reset_is_no_end_of_a_close_delimited_answer(stage: Stage) -> None:
    async with stage.plant() as up, stage.client() as c:
        await c.send(chat(stream=True))
        conn = await up.accept()
        await conn.request()
        await conn.send(sse_head(chunked=False) + ONE)
        assert await c.read_events(1) == [ONE]
        conn.reset()
        broke_off(await c.response(), ONE, "upstream_reset")


@pytest.mark.fault("A12")
@pytest.mark.parametrize("sent", [sse(1, done=False), sse_head(chunked=False) + ONE])
async def test_a_clean_end_without_done_stays_one(stage: Stage, sent: bytes) -> None:
    async with stage.plant(planted(sent)):
        assert (await stage.ask(chat(stream=True))).ended == "chunked"
        assert await stage.end() == ("complete", "completed_no_done")


async def test_a_clean_end_with_done(stage: Stage) -> None:
    async with stage.plant(planted(sse(1))):
        assert (await stage.ask(chat(stream=True))).ended == "chunked"
        assert await stage.end() == ("complete", "completed")


# -- framing that lies: A14, A19, A20, A21, A22


@pytest.mark.fault("A14")
@pytest.mark.parametrize(
    "bad", [b"zz\r\n", b"-1\r\n", b"0x1\r\na\r\n", b"1\r\nab\r\n", b"\r\n\r\n", b"1_0\r\n"]
)
async def test_a_malformed_chunk(stage: Stage, bad: bytes) -> None:
    await breaks_at_a_chunk(stage, bad)


async def test_a_chunk_of_a_size_beyond_bounds(stage: Stage, traits: Traits) -> None:
    await breaks_at_a_chunk(stage, b"1" * (traits.size_digits + 1) + b"\r\n")


async def breaks_at_a_chunk(stage: Stage, bad: bytes) -> None:
    """A stream of one event is broken off at these bytes, and its connection closed."""

    async def script(conn: Conn) -> None:
        await conn.request()
        await conn.send(sse_head() + chunk(ONE))
        await first.wait()
        await conn.send(bad)
        await conn.hang()

    first = asyncio.Event()
    async with stage.plant(script) as up, stage.client() as c:
        await c.send(chat(stream=True))
        events = await c.read_events(1)
        first.set()
        answered = await c.response()
        sent = ONE + b"a" if answered.body.startswith(ONE + b"a") else ONE
        assert events == [ONE]
        if sent == ONE:
            broke_off(answered, ONE, "upstream_bad_framing")
        else:
            assert (answered.ended, answered.body) == ("truncated", sent)
        await up.closed()
        assert await stage.end() == ("upstream_error", "upstream_bad_framing")


@pytest.mark.fault("A14")
@pytest.mark.parametrize("bad", [b"zz\r\n", b"-1\r\n", b"\r\n\r\n"])
async def test_a_malformed_chunk_right_behind_the_head(stage: Stage, bad: bytes) -> None:
    async with stage.plant(planted(sse_head() + bad, None)) as up:
        is_error(await stage.ask(chat(stream=True)), 502, "upstream_bad_framing")
        await up.closed()


BAD_FRAMING = {
    "conflicting lengths": [("content-length", "2"), ("content-length", "3")],
    "signed length": [("content-length", "+2")],
    "negative length": [("content-length", "-2")],
    "list of lengths": [("content-length", "2, 3")],
    "hexadecimal length": [("content-length", "0x2")],
    "two numbers": [("content-length", "2 2")],
    "empty length": [("content-length", "")],
    "huge length": [("content-length", "1" + "0" * 23)],
    "gzip coding": [("transfer-encoding", "gzip")],
    "gzip, chunked": [("transfer-encoding", "gzip, chunked")],
    "chunked, gzip": [("transfer-encoding", "chunked, gzip")],
    "chunked twice": [("transfer-encoding", "chunked"), ("transfer-encoding", "chunked")],
    "chunked, chunked": [("transfer-encoding", "chunked, chunked")],
    "identity": [("transfer-encoding", "identity")],
    "xchunked": [("transfer-encoding", "xchunked")],
}


@pytest.mark.fault("A20", "A22")
@pytest.mark.parametrize("headers", BAD_FRAMING.values(), ids=BAD_FRAMING)
async def test_framing_that_cannot_be_trusted(stage: Stage, headers: list[tuple[str, str]]) -> None:
    async with stage.plant(planted(head(headers=headers) + b"2\r\nok\r\n0\r\n\r\n", None)) as up:
        is_error(await stage.ask(chat()), 502, "upstream_bad_framing")
        await up.closed()
        assert await stage.end() == ("upstream_error", "upstream_bad_framing")


@pytest.mark.fault("A19")
@pytest.mark.parametrize("split", [False, True])
@pytest.mark.parametrize("extra", [b"EXTRA", ok_json(b'"planted"'), b"HTTP/1.1 100 Continue\r\n\r\n"])
async def test_what_follows_a_sized_answer_is_not_of_it(stage: Stage, extra: bytes, split: bool) -> None:
    async def script(conn: Conn) -> None:
        await conn.request()
        await conn.send(TEN + b"01234")
        if split:
            await half.wait()
        await conn.send(b"56789" + extra)
        await conn.hang()

    half = asyncio.Event()
    async with stage.plant([script, answer(ok_json(b"2"))]) as up, stage.client() as c:
        await c.send(chat())
        await c.head()
        await c.chunk()
        half.set()
        assert (await c.response()).body == b"0123456789"
        assert (await c.ask(chat())).body == b"2"
        assert up.connections == 2


@pytest.mark.fault("A21")
async def test_a_length_beside_chunks_does_not_count(stage: Stage) -> None:
    both = head(headers=[("content-length", "3"), *CHUNKED]) + chunk(b"hello") + last_chunk
    turned = head(headers=[*CHUNKED, ("content-length", "3")]) + chunk(b"hello") + last_chunk
    async with stage.plant([planted(both, None), planted(turned, None)]) as up, stage.client() as c:
        for n in range(2):
            answered = await c.ask(chat())
            assert (answered.body, answered.ended) == (b"hello", "chunked")
            assert answered.get("content-length") is None
            assert up.connections == n + 1
        await up.closed()


# -- answers that are none: A15, A16, A17, A24, A25, A27, A28

BAD_ANSWERS = {
    "garbage": b"garbage\r\n\r\n",
    "another protocol": b"SSH-2.0-OpenSSH_9.2p1\r\n",
    "a TLS alert": b"\x15\x03\x01\x00\x02\x02\x16",
    "no status": b"HTTP/1.1 OK\r\n\r\n",
    "HTTP/2": b"HTTP/2.0 200 OK\r\ncontent-length: 0\r\n\r\n",
    "HTTP/1.2": b"HTTP/1.2 200 OK\r\ncontent-length: 0\r\n\r\n",
    "HTTP/0.9": b"<html>hello</html>",
    "a request": b"GET / HTTP/1.1\r\nhost: x\r\n\r\n",
    "101 unasked": head(101, [("connection", "upgrade"), ("upgrade", "websocket")]),
    "101 without upgrade": head(101),
    "NUL in a value": b"HTTP/1.1 200 OK\r\nx-a: b\0c\r\ncontent-length: 0\r\n\r\n",
    "NUL in a name": b"HTTP/1.1 200 OK\r\nx\0a: b\r\ncontent-length: 0\r\n\r\n",
    "bare CR": b"HTTP/1.1 200 OK\r\nx-a: b\rx-c: d\r\ncontent-length: 0\r\n\r\n",
    "no colon": b"HTTP/1.1 200 OK\r\nno colon here\r\ncontent-length: 0\r\n\r\n",
    "no name": b"HTTP/1.1 200 OK\r\n: b\r\ncontent-length: 0\r\n\r\n",
    "a blank before the colon": b"HTTP/1.1 200 OK\r\nx-a : b\r\ncontent-length: 0\r\n\r\n",
    "a blank before the first name": b"HTTP/1.1 200 OK\r\n x-a: b\r\ncontent-length: 0\r\n\r\n",
}


@pytest.mark.fault("A15", "A24", "A28")
@pytest.mark.parametrize("data", BAD_ANSWERS.values(), ids=BAD_ANSWERS)
async def test_what_is_no_answer(stage: Stage, data: bytes) -> None:
    async with stage.plant(planted(data, None)) as up:
        is_error(await stage.ask(chat()), 502, "upstream_bad_response")
        await up.closed()
        assert await stage.end() == ("upstream_error", "upstream_bad_response")
        assert len(up.requests) == 1


@pytest.mark.fault("A25")
@pytest.mark.parametrize("status", [b"99", b"099", b"000", b"600", b"601", b"999", b"1000"])
async def test_a_status_that_does_not_exist(stage: Stage, status: bytes) -> None:
    odd = b"HTTP/1.1 " + status + b" Odd\r\ncontent-length: 0\r\n\r\n"
    async with stage.plant(planted(odd, None)) as up:
        answered = await stage.ask(chat())
        code = answered.json()["error"]["code"]
        assert code in ("upstream_bad_status", "upstream_bad_response")
        is_error(answered, 502, code)
        await up.closed()


async def test_a_status_that_nobody_registered_passes(stage: Stage) -> None:
    async with stage.plant(answer(json_answer({"error": {}}, 529))):
        answered = await stage.ask(chat())
        assert (answered.status, answered.body) == (529, b'{"error":{}}')


@pytest.mark.fault("A27")
@pytest.mark.parametrize(
    "data",
    [
        b"HTTP/1.1 200 OK\r\nx-a: b\r\n c\r\ncontent-length: 2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nx-a: b\r\n\tc\r\ncontent-length: 2\r\n\r\nok",
        b"HTTP/1.1 200 OK\nx-a: b\ncontent-length: 2\n\nok",
        b"HTTP/1.1 200 OK\r\nx-a: b\ncontent-length: 2\r\n\r\nok",
    ],
)
async def test_folded_and_badly_ended_lines_never_pass(stage: Stage, data: bytes) -> None:
    async with stage.plant(planted(data, None)) as up:
        answered = await stage.ask(chat())  # the bench itself refuses a folded or badly ended line
        if answered.status == 200:
            assert answered.body == b"ok"
            assert answered.get("x-a") in (b"b", b"b c")
        else:
            is_error(answered, 502, "upstream_bad_response")
            await up.closed()


@pytest.mark.fault("A16")
@pytest.mark.parametrize(
    ("line", "gap"), [(b"x-" + b"a" * 1000 + b": b\r\n", b""), (b"a", b"x-a: "), (b"x-a: b\r\n", b"")]
)
async def test_heads_without_end(stage: Stage, line: bytes, gap: bytes) -> None:
    async def script(conn: Conn) -> None:
        await conn.request()
        await conn.send(b"HTTP/1.1 200 OK\r\n" + gap)
        await conn.send_until_paused(line * (60_000 // len(line)), limit=100 << 20)

    before = stage.p.rss()
    async with stage.plant(script) as up:
        is_error(await stage.ask(chat()), 502, "upstream_headers_too_large")
        await up.closed()
    assert stage.p.rss() - before < 8 << 20


@pytest.mark.fault("A17")
@pytest.mark.parametrize(("count", "passes"), [(190, True), (210, False), (10_000, False)])
async def test_a_bound_on_the_number_of_headers(stage: Stage, count: int, passes: bool) -> None:
    many = head(headers=[("a", "b")] * count + [("content-length", "0")])
    async with stage.plant(planted(many, None)) as up:
        answered = await stage.ask(chat())
        if passes:
            assert len(answered.all("a")) == count
        else:
            is_error(answered, 502, "upstream_headers_too_large")
            await up.closed()


async def test_one_large_header_passes(stage: Stage) -> None:
    value = "v" * 60_000
    async with stage.plant(answer(head(headers=[("x-large", value), ("content-length", "0")]))):
        assert (await stage.ask(chat())).get("x-large") == value.encode()


# -- interim answers: A23

HINT = b"HTTP/1.1 103 Early Hints\r\nlink: </x>; rel=preload\r\n\r\n"


@pytest.mark.fault("A23")
@pytest.mark.parametrize(
    "before", [b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 102 Processing\r\n\r\n", HINT, HINT * 30]
)
@pytest.mark.parametrize("split", [False, True])
async def test_interim_answers_do_not_pass(stage: Stage, before: bytes, split: bool) -> None:
    async def script(conn: Conn) -> None:
        while True:
            await conn.request()
            if split:
                await conn.send_slowly(before, size=40)
            await conn.send(OK if split else before + OK)

    async with stage.plant(script) as up, stage.client() as c:
        for _ in range(2):
            await c.send(chat())
            answered = await c.response()
            assert (answered.status, answered.interim, answered.get("link")) == (200, [], None)
            assert answered.body == b'{"ok":true}'
        assert up.connections == 1


@pytest.mark.fault("A23")
async def test_interim_answers_without_end(stage: Stage) -> None:
    async def script(conn: Conn) -> None:
        await conn.request()
        await conn.send(HINT * 1000)
        await conn.hang()

    async with stage.plant(script) as up:
        answered = await stage.ask(chat())
        code = answered.json()["error"]["code"]
        assert code in ("upstream_bad_response", "upstream_headers_too_large")
        is_error(answered, 502, code)
        await up.closed()


@pytest.mark.fault("A23")
async def test_an_interim_answer_does_not_lengthen_the_wait(hasty: Stage) -> None:
    async def script(conn: Conn) -> None:
        await conn.request()
        while True:
            await conn.send(b"HTTP/1.1 102 Processing\r\n\r\n")
            await asyncio.sleep(0.1)

    async with hasty.plant(script) as up:
        is_error(await hasty.ask(chat()), 504, "upstream_header_timeout")
        await up.closed()


# -- answers without a body: A26


@pytest.mark.fault("A26")
@pytest.mark.parametrize("status", [204, 304])
@pytest.mark.parametrize("body", [b"", b"hello", ok_json(b'"planted"')])
async def test_an_answer_without_a_body_has_none(stage: Stage, status: int, body: bytes) -> None:
    bare = head(status, [("content-length", str(len(body))), ("etag", '"1"')]) + body
    async with stage.plant([planted(bare, None), answer(ok_json(b"2"))]) as up, stage.client() as c:
        answered = await c.ask(get("/v1/models"))
        assert (answered.status, answered.body, answered.get("etag")) == (status, b"", b'"1"')
        if body:
            assert (await c.ask(chat())).body == b"2"
            assert up.connections == 2


@pytest.mark.parametrize("status", [204, 304])
async def test_an_answer_without_a_body_keeps_its_connection(stage: Stage, status: int) -> None:
    async with stage.plant(answer(head(status), OK)) as up, stage.client() as c:
        assert (await c.ask(get("/v1/models"))).status == status
        assert (await c.ask(chat())).status == 200
        assert up.connections == 1


@pytest.mark.fault("A26")
@pytest.mark.parametrize("status", [204, 304])
async def test_chunks_where_no_body_can_be(stage: Stage, status: int) -> None:
    bare = head(status, CHUNKED) + chunk(b"hello") + last_chunk
    async with stage.plant([planted(bare, None), answer(ok_json(b"2"))]), stage.client() as c:
        answered = await c.ask(get("/v1/models"))
        assert (answered.status, answered.body, answered.get("transfer-encoding")) == (status, b"", None)
        assert (await c.ask(chat())).body == b"2"


@pytest.mark.fault("A26")
@pytest.mark.parametrize("late", [False, True])
async def test_a_body_behind_the_answer_to_head_answers_nobody(stage: Stage, late: bool) -> None:
    async def script(conn: Conn) -> None:
        await conn.request()
        await conn.send(TEN if late else TEN + b"0123456789")
        if late:
            await asked.wait()
            await conn.send(b"0123456789")
        await conn.hang()

    asked = asyncio.Event()
    async with stage.plant([script, answer(ok_json(b"2"))]) as up, stage.client() as c:
        await c.send(request("HEAD", "/v1/models"))
        answered = await c.response(bodyless=True)
        assert (answered.status, answered.get("content-length")) == (200, b"10")
        asked.set()
        if late:
            await up.closed()
        assert (await c.ask(chat())).body == b"2"


# -- answers before the upload is done: A31

REFUSAL = json_answer({"error": {"message": "too large", "type": "x", "param": None, "code": "x"}}, 413)


@pytest.mark.fault("A31")
@pytest.mark.parametrize("framing", ["sized", "chunked"])
@pytest.mark.parametrize("end", [None, Conn.fin])
async def test_an_early_answer_comes_while_the_upload_goes_on(stage: Stage, framing: str, end: End) -> None:
    """The upstream holds the connection open, or ends its side, and reads no more either way."""
    async with stage.plant() as up, stage.client() as c:
        if framing == "sized":
            await c.send(post("/v1/files", bytes(1000), [("content-length", "1000000")]))
        else:
            await c.send(post("/v1/files", chunk(bytes(1000)), CHUNKED))
        conn = await up.accept()
        await conn.head()
        await conn.body_bytes(1000)
        await conn.send(REFUSAL)
        if end is not None:
            end(conn)
        answered = await c.response()
        assert (answered.status, answered.raw.endswith(REFUSAL.partition(b"\r\n\r\n")[2])) == (413, True)
        assert await stage.end() == ("complete", "completed")
        await conn.wait_closed(1)
        assert len(up.requests) == 1
        await c.wait_closed(4)


async def test_an_early_answer_to_an_upload_that_floods(stage: Stage) -> None:
    async with stage.plant(rcvbuf=4096) as up, stage.client(sndbuf=4096) as c:
        async with meanwhile(c.send(post("/v1/files", bytes(20 << 20)))):
            conn = await up.accept()
            await conn.head()
            await conn.send(REFUSAL)
            assert (await c.response()).status == 413
        conn.close()


@pytest.mark.fault("A31")
async def test_an_early_answer_then_a_reset(stage: Stage) -> None:
    async def script(conn: Conn) -> None:
        await conn.head()
        await conn.send(REFUSAL)
        conn.reset()

    async with stage.plant(script) as up, stage.client() as c:
        async with meanwhile(c.send(post("/v1/files", bytes(8 << 20)))):
            answered = await c.response()
        if answered.status != 413:
            is_error(answered, 502, "upstream_reset")
        assert len(up.requests) == 1


async def test_an_early_answer_may_go_on_with_the_upload(stage: Stage) -> None:
    """An upstream that answers as it reads: each piece comes back before the next one goes out."""

    async def echo(conn: Conn) -> None:
        await conn.head()
        await conn.send(head(headers=[("content-type", "application/octet-stream"), *CHUNKED]))
        for n in range(5):
            await conn.send(chunk(await conn.body_bytes(1 + n)))
        assert await conn.rest_of_body() == b""
        await conn.send(last_chunk)
        await conn.request()
        await conn.send(OK)

    async with stage.plant(echo) as up, stage.client() as c:
        await c.send(post("/v1/realtime", chunk(b"x"), CHUNKED))
        assert (await c.head()).status == 200
        assert await c.chunk() == b"x"
        for n in range(1, 5):
            await c.send(chunk(b"x" * (1 + n)))
            assert await c.chunk() == b"x" * (1 + n)
        await c.send(last_chunk)
        assert (await c.response()).ended == "chunked"
        assert (await stage.ask(chat())).status == 200
        assert up.connections == 1


@pytest.mark.parametrize("framing", [CHUNKED, [("content-length", "5")]])
async def test_a_head_without_its_body_can_be_answered(stage: Stage, framing: list[tuple[str, str]]) -> None:
    """As it would be without a proxy: the upstream need not wait for the first byte of an upload."""
    async with stage.plant() as up, stage.client() as c:
        await c.send(post("/v1/files", b"", framing))
        conn = await up.accept(timeout=2)
        await conn.head()
        await conn.send(REFUSAL)
        assert (await c.response()).status == 413


async def test_an_early_answer_to_a_small_body_costs_the_client_no_connection(stage: Stage) -> None:
    """Clients send head and body one after the other."""
    async with stage.plant() as up, stage.client() as c:
        for _ in range(2):
            await c.send(post("/v1/files", b"", [("content-length", "5")]))
            conn = await up.accept(timeout=2)
            await conn.head()
            await conn.send(REFUSAL)
            answered = await c.response()
            assert (answered.status, answered.get("connection")) == (413, None)
            await c.send(b"12345")


async def test_an_early_answer_that_hangs_while_the_upload_is_stuck(hasty: Stage) -> None:
    """Nothing moves in either direction: the upstream is late. The client, still sending, gets to know."""

    async def script(conn: Conn) -> None:
        await conn.head()
        await conn.send(sse_head() + chunk(ONE))
        await stuck.wait()

    stuck = asyncio.Event()
    async with hasty.plant(script, rcvbuf=4096) as up, hasty.client(sndbuf=4096) as c:
        async with meanwhile(c.send(post("/v1/files", bytes(8 << 20)))):
            broke_off(await c.response(), ONE, "upstream_idle_timeout")
        stuck.set()
        await up.closed()


async def test_after_an_early_answer_the_client_can_go_on_if_its_upload_was_whole(stage: Stage) -> None:
    """Not one byte is read upstream, but all of it has been taken from the client."""

    async def script(conn: Conn) -> None:
        await conn.head()
        await conn.send(json_answer({}, 413, [("connection", "close")]))
        await conn.hang()

    async with stage.plant([script, answer(OK)]), stage.client() as c:
        assert (await c.ask(post("/v1/files", bytes(30_000)))).status == 413
        assert (await c.ask(chat())).status == 200


# -- what passes untouched: A32, A33, A34, A36, A38


@pytest.mark.fault("A32")
@pytest.mark.parametrize(
    "status", [400, 401, 403, 404, 408, 409, 413, 418, 422, 429, 499, 500, 501, 502, 503, 504]
)
async def test_an_upstreams_own_errors_pass(stage: Stage, status: int) -> None:
    body = b'{ "error": {"message": "no \xc3\xa9", "type": null, "code": 18446744073709551616} }\n'
    lines = [
        ("content-type", "application/json"),
        ("content-length", str(len(body))),
        ("retry-after", "17"),
        ("retry-after-ms", "16500"),
        ("x-should-retry", "true"),
        ("x-ratelimit-limit-requests", "60"),
        ("x-ratelimit-reset-tokens", "6m0s"),
        ("x-request-id", "req_1"),
        ("www-authenticate", "Bearer"),
    ]
    async with stage.plant(answer(head(status, lines) + body)) as up, stage.client() as c:
        for _ in range(2):
            answered = await c.ask(chat())
            assert (answered.status, answered.body) == (status, body)
            for name, value in lines:
                assert answered.get(name) == value.encode()
        assert (up.connections, len(up.requests)) == (1, 2)
        assert [line["status"] for line in await stage.ends(2)] == [status] * 2


@pytest.mark.fault("A33")
@pytest.mark.parametrize("status", [300, 301, 302, 303, 307, 308])
async def test_a_redirect_is_passed_on_and_not_followed(stage: Stage, status: int) -> None:
    async with RawUpstream(answer(OK)) as other:
        to = f"{other.base_url}/evil"
        async with stage.plant(answer(head(status, [("location", to), ("content-length", "0")]))) as up:
            answered = await stage.ask(chat())
            assert (answered.status, answered.get("location")) == (status, to.encode())
            assert len(up.requests) == 1
        assert other.connections == 0


@pytest.mark.fault("A36")
async def test_trailers_are_dropped(stage: Stage) -> None:
    trailers = b"0\r\nx-checksum: 1\r\ncontent-length: 3\r\nset-cookie: a=b\r\n\r\n"
    ask = chat(stream=True)
    async with stage.plant(
        answer(sse_head(headers=[("trailer", "x-checksum")]) + chunk(ONE) + trailers)
    ) as up:
        async with stage.client() as c:
            for _ in range(2):
                answered = await c.ask(ask)
                assert (answered.ended, answered.body, answered.trailers) == ("chunked", ONE, [])
                for name in ("x-checksum", "content-length", "set-cookie", "trailer"):
                    assert answered.get(name) is None
        assert up.connections == 1


@pytest.mark.fault("A35")
async def test_a_bomb_passes_as_the_little_that_it_is(stage: Stage) -> None:
    bomb = gzip.compress(bytes(100 << 20), 9)
    before = stage.p.rss()
    lines = [
        ("content-type", "application/json"),
        ("content-encoding", "gzip"),
        ("content-length", str(len(bomb))),
    ]
    async with stage.plant(answer(head(headers=lines) + bomb)):
        answered = await stage.ask(chat())
        assert answered.body == bomb
    assert stage.p.rss() - before < 10 << 20


@pytest.mark.fault("A38")
@pytest.mark.slow
async def test_an_event_of_20_mb_passes_in_flat_memory(stage: Stage) -> None:
    piece = b"x" * 65_000

    async def script(conn: Conn) -> None:
        await conn.request()
        await conn.send(sse_head() + chunk(b"data: "))
        for _ in range(320):
            await conn.send(chunk(piece))
        await conn.send(chunk(b"\n\n") + last_chunk)

    before = stage.p.rss()
    async with stage.plant(script), stage.client(keep=False) as c:
        answered = await c.ask(chat(stream=True), timeout=30)
        assert (answered.ended, answered.size) == ("chunked", 320 * len(piece) + 8)
    assert stage.p.rss() - before < 4 << 20


# -- one of many


async def test_one_broken_stream_breaks_no_other(stage: Stage) -> None:
    async def script(conn: Conn) -> None:
        asked = await conn.request()
        await conn.send(sse_head() + chunk(ONE))
        await go.wait()
        if asked.json()["n"] % 2:
            conn.reset()
        else:
            await conn.send(chunk(event("[DONE]")) + last_chunk)

    async def session(n: int) -> RawResponse:
        async with stage.client() as c:
            await c.send(chat(stream=True, n=n))
            await c.read_events(1)
            return await c.response()

    go = asyncio.Event()
    async with (
        stage.plant(script) as up,
        meanwhile(all_at_once([session(n) for n in range(40)])) as sessions,
    ):
        await up.seen(40)
        await until(lambda: all(r.ended for r in up.requests))
        go.set()
        for n, answered in enumerate(await sessions):
            if n % 2:
                broke_off(answered, ONE, "upstream_reset")
            else:
                assert (answered.ended, answered.body) == ("chunked", ONE + b"data: [DONE]\n\n")


async def test_a_full_pool_says_so(process: MakeProcess) -> None:
    async with RawUpstream() as up:
        settings = {"pool": {"max": 1, "waiting": 1}, "timeouts": {"connect": "300ms"}}
        async with process(up.base_url, **settings) as p, p.client() as a, p.client() as b:
            await a.send(chat())
            conn = await up.accept()
            await conn.request()
            is_error(await b.ask(chat()), 504, "upstream_connect_timeout")
            await b.send(chat())
            async with p.client() as c:
                is_error(await c.ask(chat()), 503, "upstream_busy")
            await conn.send(OK)
            assert (await a.response()).status == 200
            await conn.request()
            await conn.send(OK)
            assert (await b.response()).status == 200
            assert up.connections == 1


async def test_an_upstream_without_a_path(process: MakeProcess) -> None:
    async with RawUpstream(answer(OK)) as up:
        async with process(f"http://127.0.0.1:{up.port}") as p, p.client() as c:
            for path in ("/v1/models", "/models", "/v1", "/v1?a=1", "/"):
                assert (await c.ask(get(path))).status == 200
        assert [r.target for r in up.requests] == [b"/models", b"/models", b"/", b"/?a=1", b"/"]
