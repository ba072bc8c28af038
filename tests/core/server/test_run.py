"""Weir in this process, on real sockets, from its start to its stop."""

import asyncio
import os
import signal
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import orjson
import pytest
from prometheus_client import CollectorRegistry

from proxy.api import End, Exchange, Plugin, Server
from proxy.core.app import App
from proxy.core.chain import Chain
from proxy.core.config import Address, DrainSettings, Settings, UpstreamSettings
from proxy.core.server.run import StartError, Weir, listen, listener
from tests.faults.client import RawClient, chat, get
from tests.faults.wire import until

FREE = Address("127.0.0.1", 0)


# -- sockets -------------------------------------------------------------------------------------------


def test_a_socket_that_listens_already() -> None:
    with listen(FREE) as sock:
        port = sock.getsockname()[1]
        assert port > 0
        assert not sock.getblocking()
        with socket.create_connection(("127.0.0.1", port), timeout=2):
            pass


def test_a_port_that_is_taken_is_told_and_not_shared() -> None:
    with listen(FREE) as sock:
        port = sock.getsockname()[1]
        with pytest.raises(StartError) as caught:
            listen(Address("127.0.0.1", port))
        assert f"cannot listen on 127.0.0.1:{port}: " in str(caught.value)
        assert "--port" in str(caught.value)
        with pytest.raises(StartError, match="try this"):
            listen(Address("127.0.0.1", port), "try this")


def test_a_port_that_others_share_is_taken_too() -> None:
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind(("127.0.0.1", 0))
        sock.listen()
        with pytest.raises(StartError):
            listen(Address("127.0.0.1", sock.getsockname()[1]))


def test_a_port_that_was_left_a_moment_ago_is_free() -> None:
    with listen(FREE) as sock:
        address = Address("127.0.0.1", sock.getsockname()[1])
        with socket.create_connection(("127.0.0.1", address.port), timeout=2) as client:
            accepted, _ = sock.accept()
            accepted.close()  # ours ends first, and stays behind in TIME_WAIT
            client.recv(1)
    listen(address).close()


@pytest.mark.parametrize(
    "address",
    [Address("192.0.2.1", 3006), Address("no-such-host.invalid", 3006), Address("127.0.0.1", 70_000)],
    ids=str,
)
def test_what_cannot_be_listened_on_is_one_line(address: Address) -> None:
    with pytest.raises(StartError) as caught:
        listen(address)
    assert str(address) in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_ipv6() -> None:
    if not socket.has_ipv6:
        pytest.skip("no IPv6 here")
    try:
        with listen(Address("::1", 0)) as sock:
            assert sock.family == socket.AF_INET6
    except StartError as error:
        assert "[::1]:0" in str(error)  # noqa: PT017 # a machine without IPv6


async def test_the_listener_adds_no_header_of_its_own() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body", "body": b""})

    sock = listen(FREE)
    server = listener(app)
    task = asyncio.get_running_loop().create_task(server.serve(sockets=[sock]))
    await until(lambda: server.started)
    async with RawClient(sock.getsockname()[1]) as client:
        answer = await client.ask(get("/", [("x-forwarded-for", "192.0.2.1")]))
    server.should_exit = server.force_exit = True
    await asyncio.wait_for(task, 5)
    assert answer.headers == [(b"content-length", b"0")]


# -- a running Weir ------------------------------------------------------------------------------------


class Diary(Plugin):
    name = "diary"

    def __init__(self, diary: list[str]) -> None:
        self.diary = diary

    async def start(self, server: Server) -> None:
        self.diary.append("start")

    async def on_end(self, ex: Exchange, end: End) -> None:
        await asyncio.sleep(0.01)
        self.diary.append(f"{end.reason} {end.code}")

    async def stop(self) -> None:
        self.diary.append("stop")


class Up:
    """An upstream whose streams begin and wait until they may end."""

    def __init__(self) -> None:
        self.go = asyncio.Event()
        self.port = 0
        self._writers: set[asyncio.StreamWriter] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            while line := await reader.readline():
                length = 0
                while (header := await reader.readline()).strip():
                    name, _, value = header.decode().partition(":")
                    length = int(value) if name.lower() == "content-length" else length
                await reader.readexactly(length)
                assert line
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n")
                writer.write(b"transfer-encoding: chunked\r\n\r\n")
                writer.write(b"9\r\ndata: 1\n\n\r\n")
                await self.go.wait()
                writer.write(b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n")
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()
            self._writers.discard(writer)

    def close(self) -> None:
        self.go.set()
        for writer in self._writers:
            writer.close()


@pytest.fixture
async def up() -> AsyncIterator[Up]:
    made = Up()
    server = await asyncio.start_server(made.serve, "127.0.0.1", 0)
    made.port = server.sockets[0].getsockname()[1]
    yield made
    made.close()
    server.close()


class Running:
    """A Weir that serves, and what became of it."""

    def __init__(self, weir: Weir, task: "asyncio.Task[int]", port: int, management: int) -> None:
        self.weir = weir
        self.task = task
        self.port = port
        self.management = management

    async def ended(self, within: float = 5.0) -> int:
        return await asyncio.wait_for(self.task, within)

    async def ready(self) -> int:
        async with RawClient(self.management) as client:
            return (await client.ask(get("/readyz"))).status

    def accepts(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1):
                return True
        except ConnectionError:
            return False


@asynccontextmanager
async def running(
    up: Up,
    plugins: Sequence[Plugin] = (),
    *,
    delay: float = 0.0,
    grace: float = 30.0,
    management: bool = True,
) -> AsyncIterator[Running]:
    upstream = UpstreamSettings(name="up", base_url=f"http://127.0.0.1:{up.port}/v1")
    settings = Settings.model_validate(
        {"upstreams": [upstream], "drain": DrainSettings(delay=delay, grace=grace)}
    )
    data, admin = listen(FREE), listen(FREE) if management else None
    weir = Weir(App(settings, Chain(plugins), Server(metrics=CollectorRegistry())), data, admin)
    started = asyncio.Event()
    port, other = data.getsockname()[1], admin.getsockname()[1] if admin else 0
    task = asyncio.get_running_loop().create_task(weir.run(started.set))
    try:
        await asyncio.wait_for(started.wait(), 5)
        yield Running(weir, task, port, other)
    finally:
        up.go.set()
        weir.stop()
        weir.stop()
        await asyncio.wait([task], timeout=10)
        assert task.done()
        data.close()
        if admin is not None:
            admin.close()


async def stream(client: RawClient) -> None:
    """A stream that has begun."""
    await client.send(chat(stream=True))
    assert await client.read_events(1) == [b"data: 1\n\n"]


async def test_it_serves_both_ports_and_stops(up: Up) -> None:
    diary: list[str] = []
    async with running(up, [Diary(diary)]) as weir:
        async with RawClient(weir.port) as client:
            assert (await client.ask(get("/health"))).status == 200
        assert await weir.ready() == 200
        weir.weir.stop()
        assert await weir.ended() == 0
        assert not weir.accepts()
    assert diary == ["start", "stop"]


async def test_the_management_port_may_be_off(up: Up) -> None:
    async with running(up, management=False) as weir:
        assert weir.accepts()
        weir.weir.stop(15)
        assert await weir.ended() == 15


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_stops_it_and_is_what_it_returns(up: Up, number: signal.Signals) -> None:
    before = signal.getsignal(number)
    async with running(up) as weir:
        os.kill(os.getpid(), number)
        assert await weir.ended() == number
    assert signal.getsignal(number) in (before, signal.default_int_handler, signal.SIG_DFL)
    signal.signal(number, before)


async def test_a_request_that_ends_in_its_time_is_not_cut(up: Up) -> None:
    diary: list[str] = []
    async with running(up, [Diary(diary)]) as weir, RawClient(weir.port) as client:
        await stream(client)
        weir.weir.stop()
        await until(lambda: not weir.accepts())
        assert await weir.ready() == 503
        assert not weir.task.done()
        up.go.set()
        answer = await client.response()
        assert (answer.ended, answer.body[-14:]) == ("chunked", b"data: [DONE]\n\n")
        assert await weir.ended() == 0
    assert diary == ["start", "complete completed", "stop"]


async def test_what_still_runs_after_its_time_ends_with_an_error_event_and_is_settled_first(up: Up) -> None:
    diary: list[str] = []
    async with running(up, [Diary(diary)], grace=0.2) as weir:
        clients = [RawClient(weir.port) for _ in range(3)]
        for client in clients:
            await client.__aenter__()
            await stream(client)
        weir.weir.stop()
        for client in clients:
            answer = await client.response()
            assert answer.ended in ("truncated", "reset")
            event = answer.body.removeprefix(b"data: 1\n\n").removeprefix(b"data: ")
            assert orjson.loads(event)["error"]["code"] == "server_shutdown"
            client.close()
        assert await weir.ended() == 0
    assert diary == ["start", *["shutdown server_shutdown"] * 3, "stop"]


async def test_before_it_closes_it_is_unready_and_serves_on(up: Up) -> None:
    async with running(up, delay=0.6) as weir:
        weir.weir.stop()
        await until(lambda: weir.weir.app.health.draining)
        assert await weir.ready() == 503
        async with RawClient(weir.port) as client:
            assert (await client.ask(get("/health"))).status == 200
        assert await weir.ended() == 0


async def test_a_second_stop_does_not_wait_any_longer(up: Up) -> None:
    diary: list[str] = []
    async with running(up, [Diary(diary)], delay=60, grace=60) as weir, RawClient(weir.port) as client:
        await stream(client)
        weir.weir.stop(15)
        await asyncio.sleep(0)
        weir.weir.stop(2)
        assert await weir.ended() == 15
    assert diary[0] == "start"
    assert diary[-1] == "stop"


async def test_what_is_forced_to_end_is_settled_too(up: Up) -> None:
    """A second signal cuts the waiting short, not the settling: `on_end` comes before `stop`."""
    diary: list[str] = []
    async with running(up, [Diary(diary)], grace=60) as weir, RawClient(weir.port) as client:
        await stream(client)
        weir.weir.stop(15)
        weir.weir.stop(15)
        await weir.ended()
    assert diary == ["start", "shutdown server_shutdown", "stop"]


async def test_idle_connections_do_not_hold_it_up(up: Up) -> None:
    async with running(up) as weir, RawClient(weir.port) as client:
        await client.ask(get("/health"))
        weir.weir.stop()
        await client.wait_closed(timeout=3)
        assert await weir.ended() == 0


async def test_a_client_that_does_not_read_its_end_does_not_hold_it_up_for_long(up: Up) -> None:
    async with running(up, grace=0.1) as weir, RawClient(weir.port) as client:
        await stream(client)
        weir.weir.stop()
        assert await weir.ended(8) == 0


async def test_what_a_plugins_start_raised_is_raised(up: Up) -> None:
    class Fails(Plugin):
        name = "fails"

        async def start(self, server: Server) -> None:
            raise OSError("no database")

    upstream = UpstreamSettings(name="up", base_url=f"http://127.0.0.1:{up.port}/v1")
    settings = Settings.model_validate({"upstreams": [upstream]})
    with listen(FREE) as data:
        weir = Weir(App(settings, Chain([Fails()]), Server(metrics=CollectorRegistry())), data, None)
        with pytest.raises(OSError, match="no database"):
            await asyncio.wait_for(weir.run(), 5)


async def test_a_reload_is_for_one_that_runs(up: Up) -> None:
    reloads = 0

    async def reload() -> None:
        nonlocal reloads
        reloads += 1
        await asyncio.sleep(0.05)

    upstream = UpstreamSettings(name="up", base_url=f"http://127.0.0.1:{up.port}/v1")
    settings = Settings.model_validate({"upstreams": [upstream]})
    with listen(FREE) as data:
        weir = Weir(App(settings, Chain([]), Server(metrics=CollectorRegistry())), data, None)
        assert not weir.reload()
        started = asyncio.Event()
        task = asyncio.ensure_future(weir.run(started.set, reload))
        await asyncio.wait_for(started.wait(), 5)
        assert weir.reload()
        os.kill(os.getpid(), signal.SIGHUP)
        await until(lambda: reloads == 1)
        await until(lambda: reloads == 2)  # after the first, not beside it
        weir.stop()
        assert await asyncio.wait_for(task, 5) == 0
