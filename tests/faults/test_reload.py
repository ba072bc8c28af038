"""A reload of a running process: good or bad, of keys and prices, under streams, where one cannot follow."""

import asyncio
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.test_workers import ready
from tests.plugins.limiter.redis.servers import Server, server

from .client import RawClient, chat, get
from .crowd import FIRST, LAST, Crowd, crowd, ends
from .process import Process
from .upstream import RawUpstream, answer, json_answer
from .wire import until

pytestmark = pytest.mark.slow
MODEL = "gpt-4o-mini"
OK = json_answer(
    {
        "object": "chat.completion",
        "model": MODEL,
        "choices": [],
        "usage": {"prompt_tokens": 1_000_000, "completion_tokens": 0, "total_tokens": 1_000_000},
    }
)
PRICES = b"""
version: 1
currency: USD
unit: per_1m_tokens
updated: "2026-11-22"
models:
  gpt-4o-mini:
    kind: chat
    encoding: o200k_base
    prices:
      - standard: {input: "%b", output: "4"}
"""


@pytest.fixture
def redis() -> Iterator[Server]:
    with server() as made:
        yield made


def told(weir: Process, event: str) -> int:
    return sum(line["event"] == event for line in weir.logs)


async def metric(weir: Process, line: str) -> bool:
    text = (await weir.get("/metrics", management=True)).body.decode()
    return f"\n{line}\n" in text


class Mounted:
    """A folder as Kubernetes mounts a ConfigMap: `..data` is a link to a folder, and is swapped."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.version = 0

    def swap(self, files: dict[str, bytes]) -> None:
        self.version += 1
        folder = self.folder / f"..version-{self.version}"
        folder.mkdir()
        for name, content in files.items():
            (folder / name).write_bytes(content)
            link = self.folder / name
            if not link.is_symlink():
                link.unlink(missing_ok=True)
                link.symlink_to(f"..data/{name}")
        (self.folder / "..new").symlink_to(folder.name)
        (self.folder / "..new").replace(self.folder / "..data")


@pytest.mark.fault("F13", "F14")
async def test_a_bad_file_changes_nothing_and_a_good_one_no_running_stream() -> None:
    script = Crowd()
    async with RawUpstream(script) as up, Process(up.base_url) as weir:
        good = (weir.folder / "weir.yaml").read_bytes()
        async with crowd(up, weir.port, 50) as clients:
            for bad in (b"listen: [", good + b"lisen: 1\n", good.replace(b"http://", b"htp://"), b"\xff"):
                before = told(weir, "configuration not reloaded")
                (weir.folder / "weir.yaml").write_bytes(bad)
                weir.signal(signal.SIGHUP)
                await until(lambda now=before: told(weir, "configuration not reloaded") > now)  # type: ignore[misc]
                assert await metric(weir, "weir_config_reload_failed 1.0")
            assert (await weir.get("/readyz", management=True)).status == 200
            problems = [line for line in weir.logs if line["event"] == "configuration not reloaded"]
            assert all("weir.yaml" in line["problem"] or "upstreams" in line["problem"] for line in problems)
            # From here on everybody needs a key, but for those who are there already.
            weir.write_config(plugins=[{"use": "auth", "keys": [{"user": "a", "key": "k" * 20}]}])
            weir.signal(signal.SIGHUP)
            await weir.logged(5, event="configuration reloaded")
            assert await metric(weir, "weir_config_reload_failed 0.0")
            async with weir.client() as client:
                assert (await client.ask(chat())).status == 401
            script.go.set()
            for answered in await ends(clients):
                assert (answered.ended, answered.body[: len(FIRST + LAST)]) == ("chunked", FIRST + LAST)
        async with weir.client() as client:
            key = ("authorization", "Bearer " + "k" * 20)
            assert (await client.ask(chat([key]))).status == 200


@pytest.mark.fault("F13", "F14")
async def test_mounted_keys_and_prices_are_reloaded_and_bad_ones_are_not(tmp_path: Path) -> None:
    mounted = Mounted(tmp_path)
    files = {"prices.yaml": PRICES % b"1", "alice": b"alice-key-0123456789"}
    mounted.swap(files)
    config: dict[str, Any] = {
        "watch": "200ms",
        "pricing": str(tmp_path / "prices.yaml"),
        "plugins": [
            {"use": "auth", "keys": [{"user": "alice", "key": f"${{file:{tmp_path}/alice}}"}]},
            "precost",
            "annotate",
        ],
    }

    async def cost(key: bytes) -> tuple[int, bytes | None]:
        async with weir.client() as client:
            answered = await client.ask(chat([("authorization", b"Bearer " + key)]), timeout=30)
            return answered.status, answered.get("x-weir-cost-usd")

    async with RawUpstream(answer(OK)) as up, Process(up.base_url, config=config) as weir:
        old, new = b"alice-key-0123456789", b"alice-new-key-0123456789"
        assert await cost(old) == (200, b"1")
        mounted.swap({**files, "alice": new})
        await weir.logged(10, event="configuration reloaded")
        assert (await cost(old))[0] == 401
        assert await cost(new) == (200, b"1")
        mounted.swap({"prices.yaml": PRICES % b"3", "alice": new})
        await until(lambda: told(weir, "configuration reloaded") == 2, 10)
        assert await cost(new) == (200, b"3")
        for bad in (PRICES % b"-1", b"models: ["):
            before = told(weir, "configuration not reloaded")
            mounted.swap({"prices.yaml": bad, "alice": new})
            await until(lambda now=before: told(weir, "configuration not reloaded") > now, 10)  # type: ignore[misc]
            assert await cost(new) == (200, b"3")
        before = told(weir, "configuration not reloaded")
        mounted.swap({"prices.yaml": PRICES % b"3", "alice": b""})
        await until(lambda: told(weir, "configuration not reloaded") > before, 10)
        assert await cost(new) == (200, b"3")
        assert "alice-new-key" not in weir.stderr


ONE_FAILS = """
import os

from proxy.api import Plugin


class Fails(Plugin):
    '''Cannot start in the process that says so.'''

    def __init__(self, word, fails_at=None):
        self.word, self.fails_at = word, fails_at

    async def start(self, server):
        if self.fails_at is not None:
            try:
                os.mkdir(self.fails_at)
            except FileExistsError:
                return
            raise OSError("not here")

    async def on_response(self, ex):
        ex.response.headers["x-word"] = self.word
        ex.response.headers["x-pid"] = str(os.getpid())
"""


@pytest.mark.fault("F13")
async def test_a_worker_that_cannot_follow_is_replaced_by_one_that_has_what_the_others_have(
    tmp_path: Path,
) -> None:
    (tmp_path / "one_fails.py").write_text(ONE_FAILS)
    config: dict[str, Any] = {"workers": 2, "plugins": [{"use": "one_fails:Fails", "word": "old"}]}
    async with (
        RawUpstream(answer(OK)) as up,
        Process(up.base_url, config=config, env={"PYTHONPATH": str(tmp_path)}) as weir,
    ):
        await weir.logged(20, event="listening")

        async def words() -> dict[bytes, bytes]:
            found = {}
            for _ in range(8):
                async with weir.client() as client:
                    answered = await client.ask(chat(), timeout=20)
                    found[answered.get("x-pid") or b""] = answered.get("x-word") or b""
            return found

        before = await words()
        plugin = {"use": "one_fails:Fails", "word": "new", "fails_at": str(tmp_path / "failed")}
        weir.write_config(plugins=[plugin])
        weir.signal(signal.SIGHUP)
        line = await weir.logged(10, event="worker replaced")
        await weir.logged(20, event="worker started", of_worker=line["of_worker"])
        await ready(weir)
        now = await words()
        assert set(now.values()) == {b"new"}
        assert len(set(before) & set(now)) == 1
        assert await metric(weir, "weir_config_reload_failed 0.0")


@pytest.mark.fault("E19")
@pytest.mark.parametrize("store", ["memory", "redis"])
async def test_a_lowered_limit_holds_for_the_next_request_and_forgets_nothing(
    redis: Server, store: str
) -> None:
    def limiter(requests: str) -> list[Any]:
        limit = {"name": "many", "requests": requests, "per": "all"}
        where = redis.url if store == "redis" else "memory"
        return ["auth", {"use": "limiter", "store": where, "timeout": "5s", "limits": [limit]}]

    async with (
        RawUpstream(answer(OK)) as up,
        Process(up.base_url, config={"plugins": limiter("10/day")}) as weir,
        weir.client() as client,
    ):
        assert [(await client.ask(chat())).status for _ in range(7)] == [200] * 7
        weir.write_config(plugins=limiter("5/day"))
        weir.signal(signal.SIGHUP)
        await weir.logged(5, event="configuration reloaded")
        refused = await client.ask(chat())
        assert (refused.status, refused.get("x-ratelimit-limit-requests")) == (429, b"5")
        weir.write_config(plugins=limiter("10/day"))
        weir.signal(signal.SIGHUP)
        await until(lambda: told(weir, "configuration reloaded") == 2)
        assert [(await client.ask(chat())).status for _ in range(4)] == [200] * 3 + [429]


@pytest.mark.fault("E20")
async def test_a_budget_that_cannot_be_counted_exactly_is_refused() -> None:
    def chain(cost: str) -> list[Any]:
        limiter = {"use": "limiter", "limits": [{"name": "huge", "cost": cost, "per": "all"}]}
        return ["auth", "precost", limiter, "annotate"]

    async with RawUpstream(answer(OK)) as up:
        async with Process(up.base_url, config={"plugins": chain("9007199/month")}) as weir:
            weir.write_config(plugins=chain("9007200/month"))
            weir.signal(signal.SIGHUP)
            line = await weir.logged(5, event="configuration not reloaded")
            assert '"huge"' in line["problem"]
            assert "9007199" in line["problem"]
            async with RawClient(weir.port) as client:
                answered = await client.ask(get("/rate-limit/status"))
            (limit,) = answered.json()["limits"]
            assert float(limit["limit"]) == 9007199
        with pytest.raises(AssertionError, match=r'(?s)ended with 2 while starting.*"huge"'):
            async with Process(up.base_url, config={"plugins": chain("9007200/month")}):
                await asyncio.sleep(0)
