"""Connections that rest, are left, and are shared: nothing stays taken, and nobody disturbs another."""

import asyncio
import os
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from proxy.api.errors import UpstreamError
from proxy.core.upstream.httpx2 import MAX_STREAMS, Httpx2Upstream
from proxy.core.upstream.httpx2 import wire as wire_module
from proxy.core.upstream.httpx2.link import WINDOW
from proxy.core.upstream.httpx2.wire import Wire
from tests.core.proxies import H2Script, H2Stream, H2Upstream, HttpProxy, SocksProxy
from tests.faults.certificates import Certificates
from tests.faults.upstream import Conn, RawUpstream, answer, chunk, last_chunk, planted, sse_head
from tests.faults.wire import until

from .bench import BIG, OK, Pieces, Recorder, ask, client, failing, get, http2, opened, plain, post, rest

# -- resting


async def test_an_idle_connection_is_closed_in_time() -> None:
    async with RawUpstream(answer(OK)) as up, client(up.base_url, pool={"idle": 0.1}) as c:
        await ask(c, get())
        assert up.open_connections == 1
        await up.closed(1)
        await ask(c, get())
        assert up.connections == 2


@pytest.mark.parametrize("end", [Conn.close, Conn.reset])
async def test_an_idle_connection_whose_peer_leaves_is_closed_at_once(end: Callable[[Conn], None]) -> None:
    fds = len(os.listdir("/proc/self/fd"))
    async with RawUpstream() as up, client(up.base_url) as c:
        asking = asyncio.create_task(ask(c, get()))
        conn = await up.accept()
        await conn.request()
        await conn.send(OK)
        await asking
        end(conn)
        await until(lambda: len(os.listdir("/proc/self/fd")) <= fds + 1)  # the listener


async def test_an_idle_http2_connection_whose_peer_leaves_is_not_used(tls: Certificates) -> None:
    async with http2(tls, plain) as (up, c):
        for n in (1, 2):
            request = get()
            assert (await ask(c, request))[0] == 200
            assert not request.resent
            assert up.connections == n
            up.conns[-1].writer.close()
            await up.closed()


# -- leaving


@dataclass
class Way:
    """How an upstream is reached."""

    up: RawUpstream | H2Upstream
    settings: dict[str, Any]


@asynccontextmanager
async def direct(folder: Path) -> AsyncIterator[Way]:
    async with RawUpstream(_random) as up:
        yield Way(up, {})


@asynccontextmanager
async def over_tls(folder: Path) -> AsyncIterator[Way]:
    certificates = Certificates(folder)
    async with RawUpstream(_random, tls=certificates.context) as up:
        yield Way(up, {"tls": certificates.trusted})


@asynccontextmanager
async def tunnelled(folder: Path) -> AsyncIterator[Way]:
    async with over_tls(folder) as way, HttpProxy() as proxy:
        yield Way(way.up, way.settings | {"proxy": f"http://127.0.0.1:{proxy.port}"})


@asynccontextmanager
async def over_socks(folder: Path) -> AsyncIterator[Way]:
    async with over_tls(folder) as way, SocksProxy() as proxy:
        yield Way(way.up, way.settings | {"proxy": f"socks5://127.0.0.1:{proxy.port}"})


@asynccontextmanager
async def over_http2(folder: Path) -> AsyncIterator[Way]:
    async def script(stream: H2Stream) -> None:
        await stream.whole()
        await asyncio.sleep(random.random() * 0.005)
        await stream.head()
        for _ in range(3):
            await stream.send(b"x" * 100)
            await asyncio.sleep(random.random() * 0.003)
        await stream.send(b"", end=True)

    certificates = Certificates(folder)
    async with H2Upstream(script, certificates.context) as up:
        yield Way(up, {"tls": certificates.trusted, "http2": True})
        left = [stream.id for stream in up.streams if not (stream.over or stream.conn.lost)]
        assert not left, "neither ended nor reset"


@asynccontextmanager
async def tunnelled_http2(folder: Path) -> AsyncIterator[Way]:
    async with over_http2(folder) as way, HttpProxy() as proxy:
        yield Way(way.up, way.settings | {"proxy": f"http://127.0.0.1:{proxy.port}"})


async def _random(conn: Conn) -> None:
    """Answers each request at random moments."""
    while True:
        await conn.request()
        await asyncio.sleep(random.random() * 0.005)
        await conn.send(sse_head())
        for _ in range(3):
            await conn.send(chunk(b"x" * 100))
            await asyncio.sleep(random.random() * 0.003)
        await conn.send(last_chunk)


WAYS = [direct, over_tls, tunnelled, over_socks, over_http2, tunnelled_http2]


@pytest.mark.parametrize("reach", WAYS)
async def test_500_cancellations_leave_nothing_taken(
    reach: Callable[[Path], AbstractAsyncContextManager[Way]], tmp_path: Path
) -> None:
    async with reach(tmp_path) as way:
        fds = len(os.listdir("/proc/self/fd"))
        async with client(way.up.base_url, pool={"max": 5, "idle": 5}, **way.settings) as c:

            async def one(n: int) -> None:
                with suppress(TimeoutError, UpstreamError):
                    async with asyncio.timeout(random.random() * 0.02):
                        body = [None, b"{}", Pieces(b"a", b"b")][n % 3]
                        answered = await c.open(post(body), Recorder())
                        try:
                            await rest(answered)
                        finally:
                            await answered.close()

            for at in range(0, 500, 10):
                await asyncio.gather(*(one(n) for n in range(at, at + 10)))
            for _ in range(3):
                answers = await asyncio.gather(*(opened(c, post()) for _ in range(5)))
                assert [await rest(each) for each in answers] == [b"x" * 300] * 5
                for each in answers:
                    await each.close()
            assert not c.waiting
            await until(
                lambda: way.up.open_connections <= 5,
                what=lambda: f"{way.up.open_connections} of 5 to be left",
            )
        await until(lambda: len(os.listdir("/proc/self/fd")) <= fds, what="every socket to be closed")


@pytest.mark.parametrize("scheme", ["http", "socks5"])
async def test_behind_a_proxy_the_upstream_is_told_from_it(scheme: str, tls: Certificates) -> None:
    make: Callable[[], Any] = HttpProxy if scheme == "http" else SocksProxy
    async with RawUpstream(planted(b""), tls=tls.context) as up, make() as proxy:
        settings = {"proxy": f"{scheme}://127.0.0.1:{proxy.port}", "pool": {"max": 1}}
        async with client(up.base_url, **settings) as c:
            for _ in range(3):  # httpcore2 alone loses the place in the pool
                assert (await failing(c, post())).code == "upstream_tls_failed"
            await proxy.closed()
        async with client(up.base_url, **settings, tls=tls.trusted) as c:
            assert (await failing(c, post())).code == "upstream_closed"


@pytest.mark.parametrize("where", ["http", "socks5", "tls"])
async def test_cancelled_while_connecting_nothing_is_left(where: str, tls: Certificates) -> None:
    async def silent(conn: Conn) -> None:
        await conn.hang()

    async with RawUpstream(silent) as up:
        settings = {} if where == "tls" else {"proxy": f"{where}://127.0.0.1:{up.port}"}
        async with client(f"https://127.0.0.1:{up.port}/v1", pool={"max": 1}, **settings) as c:
            for n in (1, 2, 3):
                opening = asyncio.create_task(opened(c, post()))
                await until(lambda n=n: up.connections == n)  # type: ignore[misc]
                await asyncio.sleep(0.02)
                opening.cancel()
                await asyncio.gather(opening, return_exceptions=True)
                await up.closed()


async def test_who_waits_for_a_connection_may_leave(
    tls: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    """httpcore2 takes this for a connection that failed, and forgets to close it."""
    go_on = _gate(monkeypatch, wire_module, "connect_tcp")
    async with http2(tls, plain) as (up, c):
        first, second = [asyncio.create_task(ask(c, get())) for _ in range(2)]
        await asyncio.sleep(0.01)
        second.cancel()
        await asyncio.wait([second])
        third = asyncio.create_task(ask(c, get()))
        await asyncio.sleep(0.01)
        go_on.set()
        assert await first == await third == await ask(c, get()) == (200, b"ok")
        await until(lambda: up.open_connections == len(c._pool.connections))


@pytest.mark.parametrize("step", ["connect", "settings"])
async def test_who_makes_a_connection_may_leave(
    tls: Certificates, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    place, name = (wire_module, "connect_tcp") if step == "connect" else (Wire, "write")
    go_on = _gate(monkeypatch, place, name)
    async with http2(tls, plain) as (up, c):
        await _first_leaves(c, go_on)
        await until(lambda: up.open_connections == 1)


async def test_who_makes_a_connection_may_leave_that_turns_out_to_be_http1(
    tls: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on = _gate(monkeypatch, wire_module, "connect_tcp")
    async with RawUpstream(answer(OK), tls=tls.context) as up:
        async with client(up.base_url, tls=tls.trusted, http2=True) as c:
            await _first_leaves(c, go_on)
            assert up.open_connections == len(c._pool.connections)
        await up.closed()


async def _first_leaves(c: Httpx2Upstream, go_on: asyncio.Event) -> None:
    first, second, third = [asyncio.create_task(ask(c, get())) for _ in range(3)]
    await asyncio.sleep(0.1)
    first.cancel()
    await asyncio.wait([first])
    go_on.set()
    assert (await second)[0] == (await third)[0] == (await ask(c, get()))[0] == 200


def _gate(monkeypatch: pytest.MonkeyPatch, place: Any, name: str) -> asyncio.Event:
    """Nobody gets through this function before the event is set."""
    go_on = asyncio.Event()
    real = getattr(place, name)

    async def gated(*args: Any, **kwargs: Any) -> Any:
        await go_on.wait()
        return await real(*args, **kwargs)

    monkeypatch.setattr(place, name, gated)
    return go_on


# -- streams that share


def waits_first(then: Callable[[H2Stream], Awaitable[None]]) -> tuple[H2Script, asyncio.Event]:
    """A script for streams that go on together."""
    go_on = asyncio.Event()

    async def script(stream: H2Stream) -> None:
        await go_on.wait()
        await then(stream)

    return script, go_on


async def test_streams_share_a_connection_up_to_the_upstreams_limit(tls: Certificates) -> None:
    script, go_on = waits_first(plain)
    async with http2(tls, script, max_streams=2, pool={"max": 2}) as (up, c):
        go_on.set()
        await ask(c, get())
        go_on.clear()
        asking = [asyncio.create_task(ask(c, get())) for _ in range(5)]
        await up.seen(5)
        assert [len(conn.streams) for conn in up.conns] == [3, 2]
        go_on.set()
        assert await asyncio.gather(*asking) == [(200, b"ok")] * 5
        assert up.connections == 2


async def test_an_unread_answer_resets_its_stream_and_no_other(tls: Certificates) -> None:
    async def script(stream: H2Stream) -> None:
        await stream.head()
        with suppress(ConnectionError):
            while True:
                await stream.send(b"x")
                await asyncio.sleep(0.001)

    async with http2(tls, script) as (up, c):
        one, other = await opened(c, get()), await opened(c, get())
        await one.read()
        await one.close()
        assert await up.streams[0].gone() == 8
        async with asyncio.timeout(5):
            for _ in range(20):
                assert await other.read()
        assert up.connections == 1
        await other.close()
        assert await up.streams[1].gone() == 8


@pytest.mark.parametrize("body", [None, b"{}", BIG, Pieces(b"half", asyncio.Event())])
async def test_a_cancelled_request_resets_its_stream(tls: Certificates, body: Any) -> None:
    async def script(stream: H2Stream) -> None:
        await asyncio.Event().wait()

    async with http2(tls, script) as (up, c):
        asking = asyncio.create_task(opened(c, post(body)))
        stream = await up.seen()
        sent = body if isinstance(body, bytes) else b"half" if body else b""
        await until(lambda: stream.body == sent and stream.ended.is_set() == isinstance(body, bytes | None))
        asking.cancel()
        assert await stream.gone() == 8
        assert stream.ended.is_set() == isinstance(body, bytes | None)
        assert up.open_connections == 1


async def test_what_nobody_reads_does_not_starve_the_connection(tls: Certificates) -> None:
    """httpcore2 gives 16 MiB of flow control to a connection, and forgets what it does not hand on."""

    async def script(stream: H2Stream) -> None:
        await stream.head()
        with suppress(ConnectionError):
            await stream.send(bytes(1 << 20), end=True)

    async with http2(tls, script) as (up, c):
        for _ in range(40):
            answered = await opened(c, get())
            await answered.read()
            await answered.close()
        assert await ask(c, get()) == (200, bytes(1 << 20))
        assert up.connections == 1


async def test_what_was_read_for_nobody_does_not_starve_it_either(tls: Certificates) -> None:
    async def script(stream: H2Stream) -> None:
        await stream.head()
        if stream.path == b"/v1/large":
            await stream.send(bytes(WINDOW), end=True)
        else:
            with suppress(ConnectionError):
                while True:
                    await stream.send(b"x")
                    await asyncio.sleep(0.001)

    async with http2(tls, script) as (up, c):
        drip = await opened(c, get(b"/v1/drip"))
        for _ in range(2**24 // WINDOW + 10):
            large = await opened(c, get(b"/v1/large"))
            async with asyncio.timeout(10):
                while not up.streams[-1].answered:
                    await drip.read()
            await large.close()
        assert await ask(c, get(b"/v1/large")) == (200, bytes(WINDOW))
        assert up.connections == 1
        await drip.close()


async def test_a_reader_that_stalls_holds_little_and_nobody_up(tls: Certificates) -> None:
    async def script(stream: H2Stream) -> None:
        await stream.head()
        with suppress(ConnectionError):
            if stream.path == b"/v1/large":
                while True:
                    await stream.send(b"x" * 1000)
            await stream.send(bytes(1 << 20), end=True)

    async with http2(tls, script) as (up, c):
        large = await opened(c, get(b"/v1/large"))
        for _ in range(20):
            assert await ask(c, get()) == (200, bytes(1 << 20))
        (stream,) = [stream for stream in up.streams if stream.path == b"/v1/large"]
        room = stream.conn.h2.local_flow_control_window(stream.id)
        assert (room, up.connections) == (0, 1)
        assert stream.sent == WINDOW
        await large.close()


def test_all_streams_of_a_connection_fit_into_its_window() -> None:
    assert MAX_STREAMS * WINDOW <= 2**24


async def test_who_waits_for_a_stream_goes_elsewhere_when_the_connection_breaks(tls: Certificates) -> None:
    async def script(stream: H2Stream) -> None:
        if len(up.conns) > 1:
            await plain(stream)
        elif len(up.streams) == 2:
            stream.conn.writer.transport.abort()

    async with http2(tls, script, max_streams=2) as (up, c):
        asking = [asyncio.create_task(ask(c, post())) for _ in range(3)]
        done = await asyncio.gather(*asking, return_exceptions=True)
        assert done[2] == (200, b"ok")
        assert all(isinstance(each, UpstreamError) for each in done[:2])


async def test_cancellations_do_not_disturb_other_streams(tls: Certificates) -> None:
    async def script(stream: H2Stream) -> None:
        await stream.head()
        with suppress(ConnectionError):
            for n in range(50):
                await stream.send(b"%03d" % n)
                await asyncio.sleep(0.001)
            await stream.send(b"", end=True)

    async with http2(tls, script) as (up, c):

        async def leaves() -> None:
            with suppress(TimeoutError):
                async with asyncio.timeout(random.random() * 0.01):
                    answered = await c.open(post(os.urandom(2000)), Recorder())
                    try:
                        await rest(answered)
                    finally:
                        await answered.close()

        await ask(c, get())
        steady = [asyncio.create_task(ask(c, get())) for _ in range(5)]
        for _ in range(20):
            await asyncio.gather(*(leaves() for _ in range(10)))
        await asyncio.wait(steady)
        whole = b"".join(b"%03d" % n for n in range(50))
        assert [task.result() for task in steady] == [(200, whole)] * 5
        assert up.connections == 1
