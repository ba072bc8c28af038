"""An upstream that cannot be reached is left alone, and found again as soon as it is back (A37)."""

import asyncio
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from tests.ports import free_ports

from .certificates import Certificates
from .client import chat
from .framing import RawResponse
from .process import Process
from .stage import OK, MakeProcess, is_error, meanwhile
from .upstream import Conn, RawUpstream, answer, json_answer

pytestmark = pytest.mark.fault("A37")

QUICK = {"failures": 5, "open": "300ms", "most": "600ms"}
CLIENTS = 20


async def ask(p: Process) -> RawResponse:
    async with p.client() as c:
        return await c.ask(chat())


def codes(answers: list[RawResponse]) -> list[str]:
    return [a.json()["error"]["code"] for a in answers]


async def load(p: Process, seconds: float) -> list[RawResponse]:
    """What clients get that never wait."""

    async def one() -> list[RawResponse]:
        found = []
        async with p.client() as c:
            while time.monotonic() < end:
                found.append(await c.ask(chat()))
                await asyncio.sleep(0.005)
        return found

    end = time.monotonic() + seconds
    return [a for found in await asyncio.gather(*(one() for _ in range(CLIENTS))) for a in found]


async def found_again(p: Process, within: float) -> None:
    start = time.monotonic()
    while (await ask(p)).status != 200:
        assert time.monotonic() - start < within
        await asyncio.sleep(0.01)


async def metrics(p: Process) -> dict[str, float]:
    """What it says of its breaker, over all names."""
    text = (await p.get("/metrics", management=True)).body.decode()
    lines = [each.split() for each in text.splitlines() if each.startswith("weir_breaker_")]
    return {name: float(value) for name, value in lines}


def figures(is_open: bool, refused: int) -> dict[str, float]:
    """The same, as it should be."""
    return {
        'weir_breaker_open{upstream="up"}': is_open,
        'weir_breaker_refused_requests_total{upstream="up"}': refused,
    }


async def test_under_load_it_is_tried_by_one_at_a_time_and_found_again(
    process: MakeProcess, tmp_path: Path
) -> None:
    """Handshakes fail, so that every attempt to connect is seen."""

    async def leaves(conn: Conn) -> None:
        await conn.fill()
        conn.close()

    tls = Certificates(tmp_path)
    (port,) = free_ports(1)
    async with process(f"https://127.0.0.1:{port}/v1", tls=tls.trusted, breaker=QUICK) as p:
        async with RawUpstream(leaves, port=port) as up:
            answers = await load(p, 2.0)
            refused = [a for a in answers if a.status == 503]
            assert len(refused) > 100
            # Those that failed together opened it; then there are four probes at most, after 0.3, 0.9, 1.5
            # and 2.1 seconds.
            assert 5 <= up.connections <= 5 + CLIENTS + 4
            assert len(answers) - len(refused) <= up.connections
            is_error(refused[-1], 503, "upstream_unavailable")
            assert 0 < int(refused[-1].get("retry-after-ms") or 0) <= 600
            assert await metrics(p) == figures(True, len(refused))
        async with RawUpstream(answer(OK), port=port, tls=tls.context) as good:
            await found_again(p, 0.6 + 2)  # one interval, on a busy machine
            assert {a.status for a in await load(p, 0.3)} == {200}
            assert good.connections <= CLIENTS + 1
            assert (await metrics(p))['weir_breaker_open{upstream="up"}'] == 0
        said = [line["event"] for line in p.logs if line["level"] == "warning"]
        assert said == [
            "upstream cannot be reached: connecting is suspended",
            "upstream is reached again",
        ]
        last = next(line for line in reversed(p.logs) if line.get("end_code") == "upstream_unavailable")
        assert (last["end_reason"], last["status"]) == ("upstream_error", 503)


@pytest.mark.parametrize("kind", ["refused", "no address", "timeout"])
async def test_every_way_not_to_be_reached_counts(process: MakeProcess, kind: str) -> None:
    (port,) = free_ports(1)
    host = "no-such-host.invalid" if kind == "no address" else "127.0.0.1"
    settings: dict[str, Any] = {"breaker": {**QUICK, "failures": 2, "open": "1m"}}
    if kind == "timeout":
        settings["timeouts"] = {"connect": "300ms"}
    async with (
        RawUpstream(backlog=1, accepting=False) as silent,
        process(f"http://{host}:{silent.port if kind == 'timeout' else port}/v1", **settings) as p,
    ):
        await silent.fill_backlog()
        for _ in range(2):
            assert (await ask(p)).json()["error"]["code"] in {
                "refused": ["upstream_connect_failed"],
                "no address": ["upstream_dns_failed", "upstream_connect_timeout"],
                "timeout": ["upstream_connect_timeout"],
            }[kind]
        start = time.monotonic()
        is_error(await ask(p), 503, "upstream_unavailable")
        assert time.monotonic() - start < 0.25


async def test_what_the_upstream_answers_never_counts(process: MakeProcess) -> None:
    async def resets(conn: Conn) -> None:
        await conn.request()
        conn.reset()

    down = answer(json_answer({"error": "busy"}, 503))
    async with (
        RawUpstream([*[resets] * 20, down]) as up,
        process(up.base_url, breaker=QUICK) as p,
    ):
        assert codes([await ask(p) for _ in range(20)]) == ["upstream_reset"] * 20
        for _ in range(20):
            answered = await ask(p)
            assert (answered.status, answered.json()) == (503, {"error": "busy"})


async def test_a_reload_that_replaces_it_keeps_what_it_has_refused(process: MakeProcess) -> None:
    (port,) = free_ports(1)
    async with process(f"http://127.0.0.1:{port}/v1", breaker={"failures": 1, "open": "1m"}) as p:
        for _ in range(4):
            await ask(p)
        assert await metrics(p) == figures(True, 3)
        p.write_config(upstreams=[{"name": "up", "base_url": f"http://127.0.0.1:{port}/other"}])
        p.signal(signal.SIGHUP)
        await p.logged(event="configuration reloaded")
        assert await metrics(p) == figures(False, 3)


async def test_connections_that_are_there_are_used_meanwhile(process: MakeProcess) -> None:
    async def script(conn: Conn) -> None:
        while True:
            asked = await conn.request()
            if asked.json().get("slow"):
                await slow.wait()
            await conn.send(OK)

    slow = asyncio.Event()
    (port,) = free_ports(1)
    async with (
        RawUpstream(script, port=port) as up,
        process(up.base_url, breaker={"failures": 2, "open": "1m"}) as p,
    ):
        assert (await ask(p)).status == 200
        up.deaf()
        async with p.client() as busy:
            await busy.send(chat(slow=True))
            await up.seen(2)
            answers = [await ask(p) for _ in range(3)]
            assert codes(answers) == ["upstream_connect_failed"] * 2 + ["upstream_unavailable"]
            slow.set()
            assert (await busy.response()).status == 200
        for _ in range(5):
            assert (await ask(p)).status == 200
        assert up.connections == 1


async def test_a_probe_whose_client_leaves_leaves_the_next_one_to_try(process: MakeProcess) -> None:
    async with RawUpstream(backlog=1, accepting=False) as up:
        await up.fill_backlog()
        settings = {"breaker": {"failures": 1, "open": "200ms"}, "timeouts": {"connect": "2s"}}
        async with process(up.base_url, **settings) as p:
            assert codes([await ask(p), await ask(p)]) == ["upstream_connect_timeout", "upstream_unavailable"]
            await asyncio.sleep(0.3)
            async with p.client() as c:
                await c.send(chat())
                await asyncio.sleep(0.2)
                assert codes([await ask(p)]) == ["upstream_unavailable"]
            await p.logged(end_code="client_closed")
            async with meanwhile(ask(p)) as probe:
                await asyncio.sleep(0.2)
                assert codes([await ask(p)]) == ["upstream_unavailable"]
                assert codes([await probe]) == ["upstream_connect_timeout"]
