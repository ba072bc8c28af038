"""The real process when memory is short or the loop is late: who is turned away, who goes on, and its end."""

import asyncio
import signal
from pathlib import Path

import pytest

from tests.faults.client import RawClient, chat, get
from tests.faults.process import Process
from tests.faults.upstream import RawUpstream, answer, chunk, event, last_chunk, ok_json, sse_head

pytestmark = pytest.mark.slow

OK = ok_json(b'{"ok":true}')
ONE, TWO = event({"n": 1}), event({"n": 2})
SLOW = """
import time
from proxy.api import Plugin


class Slow(Plugin):
    async def on_request(self, ex):
        time.sleep(0.5)
"""


async def reloaded(weir: Process, **overload: object) -> None:
    before = sum(line["event"] == "configuration reloaded" for line in weir.logs)
    weir.write_config(overload=overload)
    weir.signal(signal.SIGHUP)
    async with asyncio.timeout(5):
        while sum(line["event"] == "configuration reloaded" for line in weir.logs) == before:
            await asyncio.sleep(0.02)


@pytest.mark.fault("F12")
async def test_without_memory_new_requests_are_turned_away_and_streams_go_on() -> None:
    async with RawUpstream() as up, Process(up.base_url) as weir, weir.client() as client:
        await client.send(chat(stream=True))
        conn = await up.accept()
        await conn.request()
        await conn.send(sse_head() + chunk(ONE))
        assert await client.read_events(1) == [ONE]
        await reloaded(weir, memory="1MiB")
        await weir.logged(event="overloaded: new requests are turned away", cause="memory")
        async with weir.client() as other:
            refused = await other.ask(chat())
            assert refused.json()["error"]["code"] == "server_overloaded"
            assert dict(refused.headers)[b"retry-after"] == b"1"
            assert (await other.ask(get("/health"))).status == 200  # on the same connection
        assert (await weir.get("/healthz", management=True)).status == 200
        metrics = (await weir.get("/metrics", management=True)).body.decode()
        assert 'weir_overloaded{cause="memory"} 1.0' in metrics
        await conn.send(chunk(TWO) + last_chunk)
        assert await client.read_events(1) == [TWO]
        assert (await client.response()).ended == "chunked"
        conn.close()
        await reloaded(weir, memory="4GiB")
        await weir.logged(3, event="no longer overloaded")
        async with weir.client() as other:
            await other.send(chat())
            conn = await up.accept()
            await conn.request()
            await conn.send(OK)
            assert (await other.response()).status == 200
            conn.close()


async def test_a_loop_that_cannot_keep_up_turns_new_requests_away_until_it_can(tmp_path: Path) -> None:
    (tmp_path / "slow.py").write_text(SLOW)
    config = {"plugins": ["slow:Slow"]}
    async with (
        RawUpstream(answer(OK)) as up,
        Process(up.base_url, config=config, env={"PYTHONPATH": str(tmp_path)}) as weir,
    ):

        async def one() -> int:
            async with RawClient(weir.port) as client:
                return (await client.ask(chat(), timeout=30)).status

        statuses: list[int] = []
        async with asyncio.timeout(60):
            while 503 not in statuses:
                statuses += await asyncio.gather(*(one() for _ in range(8)))
        assert set(statuses) == {200, 503}
        await weir.logged(event="overloaded: new requests are turned away", cause="loop_lag")
        await weir.logged(10, event="no longer overloaded", cause="loop_lag")
        assert await one() == 200
