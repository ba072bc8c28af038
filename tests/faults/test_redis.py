"""Limits that real proxies share in a real Redis, and what is left of them when one of the two goes away."""

import asyncio
import datetime
import os
import signal
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from redis.exceptions import ResponseError

from tests.plugins.limiter.redis.servers import Server, cluster, server
from tests.ports import free_ports

from .client import RawClient, chat, get, request
from .process import Process
from .relay import Relay
from .upstream import Conn, RawUpstream, answer, chunk, event, json_answer, ok_json, sse_head
from .wire import until

pytestmark = pytest.mark.slow
OK = ok_json(b'{"choices":[]}')


@pytest.fixture
def redis() -> Iterator[Server]:
    with server() as made:
        yield made


def proxy(up: RawUpstream, url: str, *limits: dict[str, Any], **more: Any) -> Process:
    limiter = {"use": "limiter", "store": url, "limits": list(limits), **more}
    return Process(up.base_url, config={"plugins": ["auth", limiter], "replicas": 2})


async def mode(weir: Process) -> str:
    text = (await weir.get("/metrics", management=True)).body.decode()
    for name in ("shared", "local", "memory"):
        if f'weir_limiter_mode{{mode="{name}"}} 1.0' in text:
            return name
    raise AssertionError(text)


def of_redis(weir: Process) -> list[str]:
    """The lines about Redis in its log."""
    return [line["event"] for line in weir.logs if line["event"].startswith("Redis at")]


async def becomes(weir: Process, wanted: str, within: float) -> None:
    deadline = time.monotonic() + within
    while await mode(weir) != wanted:
        assert time.monotonic() < deadline, f"not {wanted} within {within} s"
        await asyncio.sleep(0.02)


@pytest.mark.fault("E12")
async def test_two_proxies_and_twenty_clients_admit_exactly_the_limit(redis: Server) -> None:
    limit = {"name": "all", "requests": "200/day", "per": "all"}
    statuses: list[int] = []

    async def tries(weir: Process, number: int) -> None:
        async with weir.client() as client:
            statuses.extend([(await client.ask(chat(), timeout=30)).status for _ in range(number)])

    async with (
        RawUpstream(answer(OK)) as up,
        # On a busy machine an answer may take longer than 50 ms; here it is the count that matters.
        proxy(up, redis.url, limit, timeout="5s") as one,
        proxy(up, redis.url, limit, timeout="5s") as two,
    ):
        await asyncio.gather(*(tries((one, two)[number % 2], 50) for number in range(20)))
        assert len(up.requests) == 200
    assert (statuses.count(200), statuses.count(429)) == (200, 800)


@pytest.mark.fault("E14")
async def test_a_killed_proxy_frees_its_leases_and_a_long_stream_keeps_its_own(redis: Server) -> None:
    limit = {"name": "flying", "in_flight": 51, "per": "all"}
    settings: dict[str, Any] = {"lease": "3s", "timeout": "5s"}

    async def streams(conn: Conn) -> None:
        await conn.request()
        await conn.send(sse_head() + chunk(event({"choices": []})))
        await conn.hang()

    async def opened(stack: AsyncExitStack, weir: Process) -> int:
        client: RawClient = await stack.enter_async_context(weir.client())
        await client.send(chat(stream=True))
        return (await client.head(timeout=20)).status

    async with (
        RawUpstream(streams) as up,
        proxy(up, redis.url, limit, **settings) as kept,
        AsyncExitStack() as stack,
    ):
        assert await opened(stack, kept) == 200
        killed = await stack.enter_async_context(proxy(up, redis.url, limit, **settings))
        assert await asyncio.gather(*(opened(stack, killed) for _ in range(50))) == [200] * 50
        assert await opened(stack, kept) == 429
        await asyncio.sleep(3.5)  # longer than a lease: those that run are renewed
        assert await opened(stack, kept) == 429
        killed.signal(signal.SIGKILL)
        os.killpg(killed.pid, signal.SIGKILL)
        at = time.monotonic()
        while await opened(stack, kept) == 429:
            assert time.monotonic() < at + 3 + 2, "the leases of a dead process are still held"
            await asyncio.sleep(0.1)
        # 50 were freed, one of them is taken again; the long stream's is not among them.
        assert await asyncio.gather(*(opened(stack, kept) for _ in range(49))) == [200] * 49
        assert await opened(stack, kept) == 429


@pytest.mark.fault("E2", "E3")
async def test_a_frozen_redis_holds_up_nobody_and_comes_back_soon(redis: Server) -> None:
    limit = {"name": "many", "requests": "1000000/minute", "per": "all"}
    took: list[float] = []
    going = True

    async def load(weir: Process) -> None:
        async with weir.client() as client:
            while going:
                begun = time.monotonic()
                assert (await client.ask(chat(), timeout=10)).status == 200
                took.append(time.monotonic() - begun)
                await asyncio.sleep(0.01)

    async with RawUpstream(answer(OK)) as up, proxy(up, redis.url, limit) as weir:
        clients = [asyncio.create_task(load(weir)) for _ in range(10)]
        await asyncio.sleep(1)
        await becomes(weir, "shared", 5)
        late: list[float] = []
        for _ in range(3):  # this machine has other things to do too, and a stall of its own makes all late
            took.clear()
            await asyncio.sleep(1)
            usual = statistics.quantiles(took, n=100)[98]
            redis.signal(signal.SIGSTOP)
            try:
                took.clear()
                await asyncio.sleep(3)
                assert await mode(weir) == "local"
                assert len(took) > 100
                late = [each for each in took if each > usual + 0.06]
            finally:
                redis.signal(signal.SIGCONT)
            await becomes(weir, "shared", 2)
            if len(late) <= 5:
                break
        assert len(late) <= 5, late
        going = False
        await asyncio.gather(*clients)


@pytest.mark.fault("E1")
async def test_without_redis_each_limit_does_what_it_says(redis: Server) -> None:
    limits = [
        {"name": "chat", "requests": "10/day", "per": "all", "on": "chat"},
        {"name": "money", "cost": "5/day", "on": "embeddings"},
        {"name": "watched", "requests": "1/day", "on": "/open", "on_failure": "open"},
    ]
    plugins = ["auth", "precost", {"use": "limiter", "store": redis.url, "limits": limits}, "annotate"]
    config = {"plugins": plugins, "replicas": 2}
    embed = request("POST", "/v1/embeddings", body=b'{"model":"text-embedding-3-small","input":"hi"}')
    open_ = request("GET", "/v1/open")
    redis.stop()
    async with (
        RawUpstream(answer(OK)) as up,
        Process(up.base_url, config=config) as weir,
        weir.client() as client,
    ):
        assert await mode(weir) == "local"
        (said,) = of_redis(weir)
        assert "1/2 of each (chat)" in said
        assert "refused (money)" in said
        # Of ten, this one of two has five; who is refused for want of Redis is told so at once.
        assert [(await client.ask(chat())).status for _ in range(6)] == [200] * 5 + [429]
        answered = await client.ask(embed)
        assert (answered.status, answered.json()["error"]["code"]) == (503, "limiter_unavailable")
        assert [(await client.ask(open_)).status for _ in range(3)] == [200] * 3
        ready = await weir.get("/readyz", management=True)
        assert ready.status == 503
        assert b"money" in ready.body

        redis.start()
        await becomes(weir, "shared", 3)
        assert (await weir.get("/readyz", management=True)).status == 200
        assert (await client.ask(embed)).status == 200
        # What passed meanwhile is counted in Redis: five of ten are left, for everybody.
        async with Process(up.base_url, config=config) as other, other.client() as there:
            assert [(await there.ask(chat())).status for _ in range(6)] == [200] * 5 + [429]
        assert (await client.ask(chat())).status == 429
        assert len(of_redis(weir)) == 2


@pytest.mark.fault("E8")
async def test_a_refused_password_is_said_without_it(redis: Server) -> None:
    with server("--requirepass", "right-password") as locked:
        url = locked.url.replace("//", "//:wrong-password@")
        async with RawUpstream(answer(OK)) as up, proxy(up, url, {"requests": "5/day"}) as weir:
            (said,) = of_redis(weir)
            assert "password" in said
            ready = await weir.get("/readyz", management=True)
            assert ready.status == 503
            assert b"refuses us" in ready.body
            assert b"wrong-password" not in ready.body
            async with weir.client() as client:
                assert (await client.ask(chat())).status == 200
            assert "wrong-password" not in weir.stderr


@pytest.mark.fault("E1")
async def test_nothing_listens_where_redis_should_be() -> None:
    (port,) = free_ports(1)
    async with (
        RawUpstream(answer(OK)) as up,
        proxy(up, f"redis://127.0.0.1:{port}", {"requests": "5/day"}) as weir,
        weir.client() as client,
    ):
        assert (await weir.get("/readyz", management=True)).status == 200
        begun = time.monotonic()
        assert (await client.ask(chat())).status == 200
        assert time.monotonic() - begun < 2
        assert len(of_redis(weir)) == 1


# -- what happens to a Redis that serves ---------------------------------------------------------------------

MANY: dict[str, Any] = {"name": "many", "requests": "10/day", "per": "all"}
PRICED = json_answer(
    {
        "object": "chat.completion",
        "model": "gpt-4o-mini",
        "choices": [],
        "usage": {"prompt_tokens": 1_000_000, "completion_tokens": 0, "total_tokens": 1_000_000},
    }
)
"""Costs 0.15 dollars."""


async def statuses(client: RawClient, number: int) -> list[int]:
    return [(await client.ask(chat(max_tokens=1), timeout=20)).status for _ in range(number)]


async def uses(weir: Process, **amounts: float) -> None:
    """Wait until that is what is used: what ends is settled with the next call, 2 ms later at most."""
    async with asyncio.timeout(10):
        while await used(weir) != amounts:
            await asyncio.sleep(0.02)


async def used(weir: Process) -> dict[str, float]:
    """What is used of each limit, by its name, as the client is told."""
    async with weir.client() as client:
        limits = (await client.ask(get("/rate-limit/status"), timeout=20)).json()["limits"]
    return {each["name"]: float(each["used"]) for each in limits}


@pytest.mark.fault("E2", "E4")
@pytest.mark.parametrize("what", ["slow", "dead"])
async def test_who_waits_for_a_redis_that_is_slow_or_dead_waits_briefly_and_soon_nobody_does(
    redis: Server, what: str
) -> None:
    async with (
        RawUpstream(answer(OK)) as up,
        Relay(redis.port) as relay,
        proxy(up, f"redis://127.0.0.1:{relay.port}", {"requests": "1000000/minute", "per": "all"}) as weir,
        weir.client() as client,
    ):
        await becomes(weir, "shared", 10)
        assert await statuses(client, 1) == [200]
        if what == "slow":
            relay.delay(0.2)
        else:
            relay.refuse()
            relay.cut()
        took = []
        for _ in range(40):
            begun = time.monotonic()
            assert await statuses(client, 1) == [200]
            took.append(time.monotonic() - begun)
        assert await mode(weir) == "local"
        assert statistics.median(took) < 0.05
        assert len([each for each in took if each > 0.05]) <= 8  # the machine may stall a few of its own
        relay.delay(0)
        relay.resume()
        await becomes(weir, "shared", 5)


@pytest.mark.fault("E5", "E6", "E7")
async def test_a_redis_that_has_lost_something_is_told_and_nobody_notices(redis: Server) -> None:
    limits = [{"name": "money", "cost": "1.3/month", "per": "all"}, MANY]
    limiter = {"use": "limiter", "store": redis.url, "timeout": "5s", "limits": limits}
    config = {"plugins": ["auth", "precost", limiter, "annotate"]}
    async with (
        RawUpstream(answer(PRICED)) as up,
        Process(up.base_url, config=config) as one,
        Process(up.base_url, config=config) as two,
        one.client() as here,
        two.client() as there,
    ):
        assert await statuses(here, 3) + await statuses(there, 2) == [200] * 5
        await uses(one, money=0.75, many=5)

        with redis.client() as client:
            client.script_flush()
        assert await statuses(here, 1) == [200]
        for weir in (one, two):  # what each has heard last is what it can put back
            await uses(weir, money=0.9, many=6)
        assert not of_redis(one)

        with redis.client() as client:
            client.flushall()
        assert await statuses(there, 1) == [200]
        for weir in (two, one):
            await uses(weir, money=1.05, many=1)  # rates begin anew, the budget does not

        redis.stop()
        redis.start()
        assert await statuses(here, 1) == [200]
        for weir in (one, two):
            await uses(weir, money=1.2, many=1)
        assert await statuses(there, 1) == [200]
        await uses(two, money=1.35, many=2)
        assert await statuses(here, 1) + await statuses(there, 1) == [429, 429]
        for weir in (one, two):
            said = of_redis(weir)
            assert len(said) == 2
            assert all("had lost its data: it was told of 1 budgets again" in line for line in said)


@pytest.mark.fault("E9", "E11")
@pytest.mark.parametrize("what", ["replica", "full"])
async def test_a_redis_that_takes_no_writes_is_as_if_it_were_not_there(redis: Server, what: str) -> None:
    (nobody,) = free_ports(1)
    async with (
        RawUpstream(answer(OK)) as up,
        proxy(up, redis.url, MANY, timeout="5s") as weir,
        weir.client() as client,
    ):
        assert await statuses(client, 2) == [200, 200]
        with redis.client() as admin:
            if what == "replica":
                admin.execute_command("REPLICAOF", "127.0.0.1", nobody)
            else:
                admin.config_set("maxmemory", 1)
        # This one of two admits its half of ten.
        assert await statuses(client, 6) == [200] * 5 + [429]
        assert await mode(weir) == "local"
        assert "does not answer (" in of_redis(weir)[-1]
        with redis.client() as admin:
            admin.execute_command("REPLICAOF", "NO", "ONE")
            admin.config_set("maxmemory", 0)
        await becomes(weir, "shared", 5)
        await uses(weir, many=7)
        with redis.client() as admin:
            assert all(admin.pttl(key) > 0 for key in admin.scan_iter())


@pytest.mark.fault("E5", "E9")
async def test_a_failover_is_followed_and_the_new_one_told_what_was_spent(
    redis: Server, tmp_path: Path
) -> None:
    """A Sentinel makes a replica the primary, which has not heard of the last request."""
    (port,) = free_ports(1)
    config = tmp_path / "sentinel.conf"
    config.write_text(
        f"sentinel monitor main 127.0.0.1 {redis.port} 1\nsentinel failover-timeout main 5000\n"
    )
    sentinel = Server(tmp_path, port)
    sentinel.use(str(config), "--sentinel")
    limits = [{"name": "money", "cost": "1/month", "per": "all"}]
    store = f"redis+sentinel://127.0.0.1:{port}/main"
    limiter = {"use": "limiter", "store": store, "timeout": "500ms", "limits": limits}
    with server("--replicaof", "127.0.0.1", str(redis.port)) as replica:
        sentinel.start()
        try:
            async with (
                RawUpstream(answer(PRICED)) as up,
                Process(up.base_url, config={"plugins": ["auth", "precost", limiter, "annotate"]}) as weir,
                weir.client() as client,
            ):
                await becomes(weir, "shared", 20)
                assert await statuses(client, 5) == [200] * 5
                await uses(weir, money=0.75)
                with sentinel.client() as admin:
                    await comes(lambda: admin.execute_command("SENTINEL", "REPLICAS", "main"), 30)
                    with replica.client() as there:
                        await comes(there.dbsize, 30)
                        assert await statuses(client, 1) == [200]
                        await comes(lambda: told_to_fail_over(admin), 30)
                        await comes(lambda: there.role()[0] == b"master", 30)
                        there.flushall()  # as if it had lagged, by all there is
                    with redis.client() as old:
                        await comes(lambda: old.role()[0] == b"slave", 60)
                async with asyncio.timeout(30):
                    while (await used(weir)) != {"money": 0.9} or await mode(weir) != "shared":
                        await asyncio.sleep(0.1)
                assert await statuses(client, 2) == [200, 429]
        finally:
            sentinel.stop()


def told_to_fail_over(sentinel: Any) -> bool:
    try:
        sentinel.execute_command("SENTINEL", "FAILOVER", "main")
    except ResponseError:  # it does not know the replica well enough yet
        return False
    return True


async def comes(true: Callable[[], object], within: float) -> None:
    """Wait for what a server does in its own time."""
    async with asyncio.timeout(within):
        while not true():
            await asyncio.sleep(0.1)


@pytest.mark.fault("E10")
async def test_a_cluster_whose_node_is_away_is_lived_without_until_it_is_back() -> None:
    with cluster() as nodes:
        url = "redis+cluster://" + ",".join(f"127.0.0.1:{node.port}" for node in nodes)
        async with (
            RawUpstream(answer(OK)) as up,
            proxy(up, url, MANY, timeout="1s") as weir,
            weir.client() as client,
        ):
            assert await statuses(client, 2) == [200, 200]
            holding = []
            for node in nodes:
                with node.client() as admin:
                    if admin.dbsize():
                        holding.append(node)
            (serving,) = holding  # a namespace is on one node
            serving.signal(signal.SIGSTOP)
            try:
                assert await statuses(client, 3) == [200] * 3
                await becomes(weir, "local", 20)
                assert await statuses(client, 1) == [200]
            finally:
                serving.signal(signal.SIGCONT)
            await becomes(weir, "shared", 20)
            await uses(weir, many=6)


@pytest.mark.fault("E13")
async def test_what_the_last_of_five_limits_refuses_no_other_has_counted(redis: Server) -> None:
    limits: list[dict[str, Any]] = [
        {"name": f"limit-{number}", "requests": f"{100 + number}/day", "per": "all"} for number in range(4)
    ]
    limits.append({"name": "last", "requests": "1/day", "per": "all"})
    async with (
        RawUpstream(answer(OK)) as up,
        proxy(up, redis.url, *limits, timeout="5s") as weir,
        weir.client() as client,
    ):
        assert await statuses(client, 10) == [200] + [429] * 9
        assert await used(weir) == {limit["name"]: 1 for limit in limits}
        assert len(up.requests) == 1


@pytest.mark.fault("E15", "E16")
async def test_who_leaves_while_redis_is_asked_holds_nothing(redis: Server) -> None:
    limits: list[dict[str, Any]] = [MANY, {"name": "flying", "in_flight": 5, "per": "all"}]
    async with (
        RawUpstream(answer(OK)) as up,
        Relay(redis.port) as relay,
        proxy(up, f"redis://127.0.0.1:{relay.port}", *limits, timeout="10s") as weir,
        weir.client() as client,
    ):
        assert await statuses(client, 1) == [200]
        relay.delay(1.0)  # Redis decides, and its answer takes a while
        leaving = [weir.client() for _ in range(3)]
        for each in leaving:
            await each.__aenter__()
            await each.send(chat())
        await asyncio.sleep(0.3)
        for each in leaving:
            each.reset()
        relay.delay(0)
        await until(
            lambda: sum(line.get("end_reason") == "client_gone" for line in weir.logs) == 3, 10, "three ends"
        )
        await uses(weir, many=1, flying=0)
        assert len(up.requests) == 1


OFF = """
import datetime, time

AN_HOUR = {hours} * 3600
wall, wall_ns = time.time, time.time_ns
time.time = lambda: wall() + AN_HOUR
time.time_ns = lambda: wall_ns() + AN_HOUR * 10**9
"""


@pytest.mark.fault("E17")
async def test_clocks_that_are_an_hour_off_change_nothing(redis: Server, tmp_path: Path) -> None:
    """All that these processes ask for the time in Python is told another one."""
    for name, hours in (("behind", -1), ("ahead", 1)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "sitecustomize.py").write_text(OFF.format(hours=hours))
    limits = [{"name": "money", "cost": "0.8/hour", "per": "all"}, MANY]
    limiter = {"use": "limiter", "store": redis.url, "timeout": "5s", "limits": limits}
    config = {"plugins": ["auth", "precost", limiter, "annotate"]}
    async with (
        RawUpstream(answer(PRICED)) as up,
        Process(up.base_url, config=config, env={"PYTHONPATH": str(tmp_path / "behind")}) as behind,
        Process(up.base_url, config=config, env={"PYTHONPATH": str(tmp_path / "ahead")}) as ahead,
        behind.client() as here,
        ahead.client() as there,
    ):
        assert await statuses(here, 3) + await statuses(there, 2) == [200] * 5
        stamps = [line["ts"] for weir in (behind, ahead) for line in weir.logs if line["event"] == "request"]
        assert len({datetime.datetime.fromisoformat(stamp).hour for stamp in stamps}) >= 2
        for weir in (behind, ahead):
            await uses(weir, money=0.75, many=5)
        assert await statuses(there, 1) == [200]
        for weir in (behind, ahead):
            await uses(weir, money=0.9, many=6)
        assert await statuses(there, 1) + await statuses(here, 1) == [429, 429]
        with redis.client() as admin:
            lives = [admin.pttl(key) for key in admin.scan_iter(match="*money*")]
        assert all(0 < life <= 3_600_000 + 60_000 for life in lives), lives
