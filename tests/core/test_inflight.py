"""What is told of requests that run, read off the requests themselves."""

import asyncio
from typing import Any

import orjson
import pytest

from proxy.api import ESTIMATE, IDENTITY, Estimate, Exchange, Identity, Plugin
from proxy.core import inflight
from proxy.core.server.run import listen, listener
from tests.core.server.test_run import FREE, Running, Up, running, stream
from tests.core.server.test_run import up as up  # a fixture
from tests.core.test_app import app
from tests.faults.client import RawClient, chat, get, post
from tests.faults.wire import until

SECRET, PROMPT = "sk-secret-0123456789", "the prompt that nobody may see"


class Known(Plugin):
    """Knows who asks, and for what; holds the request until it is let go, if it is told to."""

    name = "known"

    def __init__(self, hold: bool = False) -> None:
        self.go = asyncio.Event()
        if not hold:
            self.go.set()

    async def on_request(self, ex: Exchange) -> None:
        ex[IDENTITY] = Identity("alice", "192.0.2.1", key_id="key-1")
        ex[ESTIMATE] = Estimate(10, "upper_bound", model="gpt-4o-mini" + "x" * 1000)
        await self.go.wait()


async def page(weir: Running) -> dict[str, Any]:
    async with RawClient(weir.management) as client:
        found: dict[str, Any] = orjson.loads((await client.ask(get("/inflight"))).body)
    return found


async def test_nothing_is_in_flight(up: Up) -> None:
    async with running(up) as weir:
        assert await page(weir) == {"object": "weir.in_flight", "total": 0, "requests": []}


async def test_a_stream_is_told_of_while_it_runs(up: Up) -> None:
    async with running(up, [Known()]) as weir, RawClient(weir.port) as client:
        body = chat([("authorization", f"Bearer {SECRET}")], stream=True, user=PROMPT)
        await client.send(body)
        await client.read_events(1)
        told = await page(weir)
        (one,) = told["requests"]
        assert told["total"] == 1
        assert SECRET not in str(told)
        assert PROMPT not in str(told)
        assert one.pop("age") >= 0
        assert len(one.pop("id")) == 26
        assert one.pop("model").startswith("gpt-4o-minixxx")
        assert one.pop("received_bytes") == len(body.partition(b"\r\n\r\n")[2])
        assert one == {
            "phase": "response",
            "method": "POST",
            "endpoint": "chat/completions",
            "user": "alice",
            "key_id": "key-1",
            "address": "127.0.0.1",
            "upstream": "up",
            "attempts": 1,
            "status": 200,
            "stream": True,
            "sent_bytes": len(b"data: 1\n\n"),
        }
        up.go.set()
        await client.response()
        assert (await page(weir))["total"] == 0


async def test_what_waits_in_a_hook_or_for_its_upstream_says_so(up: Up) -> None:
    known = Known(hold=True)
    silent = asyncio.Event()

    async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await silent.wait()
        writer.close()

    server = await asyncio.start_server(hang, "127.0.0.1", 0)
    up.port = server.sockets[0].getsockname()[1]
    async with running(up, [known]) as weir, RawClient(weir.port) as client:
        await client.send(post("/v1/files/a%0ab", b"{}"))
        await until(lambda: len(weir.weir.app.trips) == 1)
        (one,) = (await page(weir))["requests"]
        assert (one["phase"], one["upstream"], one["attempts"]) == ("request", None, 0)
        assert one["endpoint"] == "files/a%0ab"
        known.go.set()
        await asyncio.sleep(0.05)
        (one,) = (await page(weir))["requests"]
        assert (one["phase"], one["upstream"], one["status"]) == ("upstream", "up", None)
        silent.set()
        await client.response()
    server.close()


async def test_the_page_has_the_oldest_and_the_total_has_all(up: Up, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inflight, "LIMIT", 2)
    async with running(up) as weir:
        clients = [RawClient(weir.port) for _ in range(4)]
        for client in clients:
            await client.__aenter__()
            await stream(client)
        told = await page(weir)
        assert told["total"] == 4
        ages = [one["age"] for one in told["requests"]]
        assert len(ages) == 2
        assert ages == sorted(ages, reverse=True)
        ids = [one["id"] for one in told["requests"]]
        assert ids == sorted(ids)  # they are counted up
        assert ids[0].endswith("0")
        up.go.set()
        for client in clients:
            await client.response()
            client.close()


async def test_under_another_server_the_bytes_are_not_known(up: Up) -> None:
    known = Known(hold=True)
    made = app([known], up.port)
    await made.start()
    sock = listen(FREE)
    server = listener(made)
    task = asyncio.ensure_future(server.serve(sockets=[sock]))
    async with RawClient(sock.getsockname()[1]) as client:
        await client.send(chat(stream=True))
        await until(lambda: made.trips)
        (one,) = inflight.page(made.trips)["requests"]
        assert (one["received_bytes"], one["sent_bytes"], one["user"]) == (None, None, "alice")
        up.go.set()
        known.go.set()
        await client.response()
    server.should_exit = server.force_exit = True
    await task
    await made.stop()
