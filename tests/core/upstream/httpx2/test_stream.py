"""A connection takes in one read and no more, on both event loops; of addresses the first to answer wins."""

import asyncio
import fcntl
import os
import socket
import struct
import termios
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import anyio
import pytest
import uvloop

from proxy.core.upstream.httpx2 import stream as module
from proxy.core.upstream.httpx2.stream import READ, SocketStream, connect_tcp, connect_unix
from tests.faults.wire import Link, Listener, until

Test = Callable[[SocketStream, Link], Coroutine[Any, Any, None]]
Play = Callable[[Test], None]
LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "asyncio": asyncio.new_event_loop,
    "uvloop": uvloop.new_event_loop,
}
BUFFER = memoryview(bytearray(READ))
DATA = os.urandom(300_000)


@asynccontextmanager
async def nothing_left() -> AsyncIterator[None]:
    """No socket more than before."""
    before = sockets()
    yield
    await until(lambda: sockets() <= before, what="every socket to be closed")


def sockets() -> int:
    """How many this process holds."""
    links = []
    for fd in os.listdir("/proc/self/fd"):
        with suppress(FileNotFoundError):  # the listing's own
            links.append(os.readlink(f"/proc/self/fd/{fd}"))
    return sum(link.startswith("socket:") for link in links)


async def with_a_peer(test: Test, unix: str | None) -> None:
    """A connection, and its other end on a raw socket."""
    async with asyncio.timeout(10), nothing_left():
        listener = Listener(unix=unix)
        connecting = connect_unix(unix, BUFFER) if unix else connect_tcp("127.0.0.1", listener.port, BUFFER)
        stream = await connecting
        peer = Link(await listener.accept())
        try:
            await test(stream, peer)
        finally:
            listener.close()
            peer.close()
            await stream.aclose()


@pytest.fixture(params=LOOPS)
def over_tcp(request: pytest.FixtureRequest) -> Play:
    """Plays a test on a connection, in each event loop."""

    def play(test: Test) -> None:
        with asyncio.Runner(loop_factory=LOOPS[request.param]) as runner:
            runner.run(with_a_peer(test, None))

    return play


@pytest.fixture(params=[(kind, unix) for kind in LOOPS for unix in (False, True)], ids=str)
def play(request: pytest.FixtureRequest, tmp_path: Path) -> Play:
    """Plays a test on a connection of each kind, in each event loop."""
    kind, unix = request.param

    def play(test: Test) -> None:
        with asyncio.Runner(loop_factory=LOOPS[kind]) as runner:
            runner.run(with_a_peer(test, str(tmp_path / "s") if unix else None))

    return play


# -- reading


def test_what_nobody_asks_for_stays_in_the_kernel(over_tcp: Play) -> None:
    async def test(stream: SocketStream, peer: Link) -> None:
        ours = stream._transport.get_extra_info("socket")
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        sent = await peer.send_until_paused(quiet=0.1)

        def taken() -> int:
            return sent - queued(peer.sock, termios.TIOCOUTQ) - queued(ours, termios.FIONREAD)

        assert queued(ours, termios.FIONREAD) > 2 * READ
        assert taken() == 0
        for _ in range(3):
            await stream.receive(1)
            sent += await peer.send_until_paused(quiet=0.1)
            assert taken() == READ

    over_tcp(test)


def queued(sock: Any, which: int) -> int:
    """Bytes in one of a socket's queues."""
    (n,) = struct.unpack("i", fcntl.ioctl(sock.fileno(), which, bytes(4)))
    return int(n)


def test_bytes_come_in_order_and_no_more_than_asked_for(play: Play) -> None:
    async def test(stream: SocketStream, peer: Link) -> None:
        sending = asyncio.create_task(peer.send(DATA))
        got = b""
        while len(got) < len(DATA):
            asked = len(got) % 5000 + 1
            piece = await stream.receive(asked)
            assert 1 <= len(piece) <= asked
            got += piece
        assert got == DATA
        await sending

    play(test)


def test_a_reader_that_is_cancelled_loses_nothing(play: Play) -> None:
    async def test(stream: SocketStream, peer: Link) -> None:
        for _ in range(3):
            with suppress(TimeoutError):
                async with asyncio.timeout(0.01):
                    await stream.receive()
        await peer.send(b"abc")
        await asyncio.sleep(0.02)
        assert await stream.receive(1) == b"a"
        assert await stream.receive() == b"bc"

    play(test)


def test_at_a_clean_end_all_was_read_and_our_side_is_still_open(play: Play) -> None:
    async def test(stream: SocketStream, peer: Link) -> None:
        await peer.send(b"last")
        peer.fin()
        assert await stream.receive() == b"last"
        for _ in range(2):
            with pytest.raises(anyio.EndOfStream):
                await stream.receive()
        await stream.send(b"still")
        assert await peer.read(5) == b"still"
        await stream.send_eof()
        await peer.wait_closed(1)
        assert peer.left == "fin"

    play(test)


def test_a_reset_is_no_clean_end(over_tcp: Play) -> None:
    async def test(stream: SocketStream, peer: Link) -> None:
        reading = asyncio.create_task(stream.receive())
        await asyncio.sleep(0.01)
        peer.reset()
        with pytest.raises(anyio.BrokenResourceError):
            await reading
        with pytest.raises(anyio.BrokenResourceError):
            await stream.receive()
        with pytest.raises(anyio.BrokenResourceError):
            await stream.send(b"x")

    over_tcp(test)


def test_closing_here_ends_every_wait(play: Play) -> None:
    async def test(stream: SocketStream, peer: Link) -> None:
        waits = [asyncio.create_task(stream.receive()), asyncio.create_task(stream.send(bytes(32 << 20)))]
        await asyncio.sleep(0.02)
        await stream.aclose()
        for wait in waits:
            with pytest.raises(anyio.ClosedResourceError):
                await wait
        with pytest.raises(anyio.ClosedResourceError):
            await stream.send(b"x")
        with pytest.raises(anyio.ClosedResourceError):
            await stream.receive()

    play(test)


def test_it_is_readable_when_bytes_or_an_end_wait(play: Play) -> None:
    async def test(stream: SocketStream, peer: Link) -> None:
        assert not stream.readable
        await peer.send(b"ab")
        await until(lambda: stream.readable)
        assert await stream.receive(1) == b"a"
        assert stream.readable, "one byte is left"
        assert await stream.receive(1) == b"b"
        assert not stream.readable
        peer.fin()
        await until(lambda: stream.readable)

    play(test)


def test_what_is_closed_is_readable(play: Play) -> None:
    async def test(stream: SocketStream, peer: Link) -> None:
        await stream.aclose()
        assert stream.readable
        await asyncio.sleep(0.01)
        assert stream.readable

    play(test)


# -- writing


def test_sending_ends_when_the_kernel_has_all_of_it(play: Play) -> None:
    async def test(stream: SocketStream, peer: Link) -> None:
        body = DATA * 60
        sending = asyncio.create_task(stream.send(body))
        await asyncio.sleep(0.1)
        assert not sending.done()
        assert await peer.read(len(body)) == body
        await sending

    play(test)


# -- connecting


@pytest.fixture
def addresses(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Makes every name have these addresses."""

    def has(*found: str) -> None:
        async def getaddrinfo(host: str, port: int, **_: Any) -> list[tuple[Any, ...]]:
            assert host == "some.name"
            families = [socket.AF_INET6 if ":" in address else socket.AF_INET for address in found]
            return [
                (family, socket.SOCK_STREAM, 6, "", (address, port))
                for family, address in zip(families, found, strict=True)
            ]

        monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo)

    return has


async def test_an_address_that_refuses_costs_no_time(addresses: Callable[..., None]) -> None:
    listener = Listener()
    addresses("127.0.0.2", "127.0.0.3", "127.0.0.1")
    async with asyncio.timeout(module.STAGGER):
        stream = await connect_tcp("some.name", listener.port, BUFFER)
    (await listener.accept()).close()
    await stream.aclose()
    listener.close()


@asynccontextmanager
async def silent(address: str, port: int) -> AsyncIterator[None]:
    """An address that neither accepts nor refuses."""
    loop = asyncio.get_running_loop()
    socks = [socket.socket()]
    socks[0].bind((address, port))
    socks[0].listen(0)
    try:
        with suppress(TimeoutError):
            while True:
                socks.append(socket.socket())
                socks[-1].setblocking(False)
                async with asyncio.timeout(0.1):
                    await loop.sock_connect(socks[-1], (address, port))
        yield
    finally:
        for sock in socks:
            sock.close()


async def test_an_address_that_does_not_answer_is_not_waited_for(addresses: Callable[..., None]) -> None:
    listener = Listener()
    async with nothing_left(), silent("127.0.0.2", listener.port):
        addresses("127.0.0.2", "127.0.0.1")
        async with asyncio.timeout(5):
            stream = await connect_tcp("some.name", listener.port, BUFFER)
        (await listener.accept()).close()
        await stream.aclose()
    listener.close()


async def test_of_two_that_answer_together_one_is_closed(
    addresses: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = asyncio.get_running_loop()
    connect = loop.create_connection
    both = asyncio.Event()
    made = 0

    async def together(*args: Any) -> Any:
        nonlocal made
        connection = await connect(*args)
        made += 1
        if made == 2:
            both.set()
        await both.wait()
        return connection

    monkeypatch.setattr(loop, "create_connection", together)
    addresses("127.0.0.1", "127.0.0.1")
    listener = Listener()
    async with nothing_left():
        stream = await connect_tcp("some.name", listener.port, BUFFER)
        peers = [Link(await listener.accept()) for _ in range(2)]
        await until(lambda: sum(peer.peer_open for peer in peers) == 1)
        for peer in peers:
            peer.close()
        await stream.aclose()
    listener.close()


async def test_who_is_cancelled_while_connecting_leaves_nothing(addresses: Callable[..., None]) -> None:
    listener = Listener()
    async with silent("127.0.0.2", listener.port), silent("127.0.0.3", listener.port), nothing_left():
        addresses("127.0.0.2", "127.0.0.3")
        connecting = asyncio.create_task(connect_tcp("some.name", listener.port, BUFFER))
        await asyncio.sleep(module.STAGGER * 1.5)
        connecting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await connecting
    listener.close()


async def test_the_second_address_is_of_the_other_family(
    addresses: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[str] = []

    async def refuses(_: Any, address: str, port: int) -> Any:
        tried.append(address)
        raise ConnectionRefusedError(address)

    monkeypatch.setattr(asyncio.get_running_loop(), "create_connection", refuses)
    addresses("2001:db8::1", "2001:db8::2", "192.0.2.1", "192.0.2.2")
    with pytest.raises(ConnectionRefusedError):
        await connect_tcp("some.name", 80, BUFFER)
    assert tried == ["2001:db8::1", "192.0.2.1", "2001:db8::2", "192.0.2.2"]


async def test_nobody_there() -> None:
    listener = Listener()
    listener.close()
    with pytest.raises(ConnectionRefusedError):
        await connect_tcp("127.0.0.1", listener.port, BUFFER)
    with pytest.raises(FileNotFoundError):
        await connect_unix("/nonexistent/socket", BUFFER)
