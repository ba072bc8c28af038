"""From settings to a running Weir, in this process."""

import asyncio
import atexit
import logging
import os
import re
import signal
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import orjson
import pytest
from pydantic import SecretStr

from proxy.api import IDENTITY, Plugin, Server
from proxy.core import log as logs
from proxy.core.config import Address, ConfigError, PluginSettings, Settings, UpstreamSettings
from proxy.core.server.run import listen, loop_factory
from proxy.core.server.start import StartError, banner, serve
from tests.faults.client import RawClient, chat, get
from tests.faults.wire import until

FREE = Address("127.0.0.1", 0)
HERE = "tests.core.server.test_start"


@pytest.fixture(autouse=True)
def restored_logs(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """`serve` configures logging for the whole process: take it back."""
    root, uvicorn = logging.getLogger(), logging.getLogger("uvicorn")
    before = (root.handlers[:], root.level, logs.log.level, uvicorn.level)
    stops: list[Callable[[], None]] = []
    monkeypatch.setattr(atexit, "register", stops.append)
    yield
    for stop in stops:
        stop()
    root.handlers[:], root.level = before[0], before[1]
    logs.log.setLevel(before[2])
    uvicorn.setLevel(before[3])


class Needs(Plugin):
    requires = (IDENTITY,)


class Fails(Plugin):
    async def start(self, server: Server) -> None:
        raise OSError("the database does not answer")


def made(**more: Any) -> Settings:
    return Settings.model_validate({"listen": FREE, "management": False, **more})


def upstream(**more: Any) -> UpstreamSettings:
    return UpstreamSettings(name="up", base_url="http://127.0.0.1:9/v1", **more)


async def fails(settings: Settings) -> str:
    with pytest.raises((ConfigError, StartError)) as caught:
        await asyncio.wait_for(serve(lambda: settings, "weir.yaml"), 5)
    return f"{type(caught.value).__name__}: {caught.value}"


async def test_without_an_upstream_the_demo_one_is_started(capsys: pytest.CaptureFixture[str]) -> None:
    task = asyncio.ensure_future(serve(made, "weir.yaml"))
    said = ""

    def listens() -> bool:
        nonlocal said
        said += capsys.readouterr().out
        return "Ctrl-C" in said or task.done()

    try:
        await until(listens)
        found = re.search(r"http://127\.0\.0\.1:(\d+)/v1", said)
        assert found is not None
        assert "demo upstream" in said
        async with RawClient(int(found[1])) as client:
            assert orjson.loads((await client.ask(get("/health"))).body)["upstreams"] == {
                "demo": {"last_outcome": None}
            }
            answer = await client.ask(chat())
            assert answer.status == 200
            assert answer.json()["object"] == "chat.completion"
            assert b"data: [DONE]" in (await client.ask(chat(stream=True))).body
        os.kill(os.getpid(), signal.SIGTERM)
        assert await asyncio.wait_for(task, 8) == signal.SIGTERM
    finally:
        if not task.done():
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
        signal.signal(signal.SIGINT, signal.default_int_handler)


async def test_a_port_that_is_taken_stops_the_start() -> None:
    with listen(FREE) as taken:
        address = Address("127.0.0.1", taken.getsockname()[1])
        message = await fails(made(listen=address, upstreams=[upstream()]))
    assert message.startswith(f"StartError: cannot listen on {address}")


async def test_a_management_port_that_is_taken_says_how_to_choose_another_and_frees_the_data_port() -> None:
    with listen(FREE) as taken, listen(FREE) as free:
        data = Address("127.0.0.1", free.getsockname()[1])
        free.close()
        management = Address("127.0.0.1", taken.getsockname()[1])
        message = await fails(made(listen=data, management=management, upstreams=[upstream()]))
        assert message.startswith(f"StartError: cannot listen on {management}")
        assert "WEIR_MANAGEMENT" in message
        listen(data).close()


async def test_an_upstreams_key_for_everybody_stops_the_start() -> None:
    settings = made(
        listen=Address("0.0.0.0", 0), upstreams=[upstream(api_key=SecretStr("sk-topsecret12345"))]
    )
    message = await fails(settings)
    assert message.startswith("ConfigError: ")
    assert "allow_open" in message
    assert "topsecret" not in message


async def test_broken_prices_stop_the_start_with_their_lines(tmp_path: Path) -> None:
    broken = tmp_path / "prices.yaml"
    broken.write_text("models:\n  gpt-4o: 7\n")
    message = await fails(made(upstreams=[upstream()], pricing=broken))
    assert message.startswith(f"ConfigError: {broken}:")


async def test_plugins_that_do_not_go_together_stop_the_start() -> None:
    message = await fails(made(upstreams=[upstream()], plugins=[PluginSettings(use=f"{HERE}:Needs")]))
    assert message.startswith("ConfigError: weir.yaml: plugins: Needs needs identity")


async def test_a_plugin_that_does_not_exist_stops_the_start() -> None:
    message = await fails(made(upstreams=[upstream()], plugins=[PluginSettings(use="auht")]))
    assert message.startswith("ConfigError: ")
    assert 'did you mean "auth"?' in message


async def test_a_plugin_that_cannot_start_stops_the_start_in_one_line() -> None:
    message = await fails(made(upstreams=[upstream()], plugins=[PluginSettings(use=f"{HERE}:Fails")]))
    assert message.startswith("StartError: ")
    assert "OSError: the database does not answer" in message
    assert len(message.splitlines()) == 1


async def test_after_a_failed_start_the_ports_are_free() -> None:
    with listen(FREE) as free:
        address = Address("127.0.0.1", free.getsockname()[1])
    await fails(made(listen=address, upstreams=[upstream()], plugins=[PluginSettings(use=f"{HERE}:Fails")]))
    listen(address).close()


def test_the_banner_says_where_it_is_and_how_to_ask() -> None:
    text = banner("127.0.0.1:3006", upstream(), demo=False)
    assert "http://127.0.0.1:3006/v1" in text
    assert "up at http://127.0.0.1:9/v1" in text
    assert "demo" not in text
    assert "curl" in text
    assert "OpenAI(" in text


@pytest.mark.parametrize("address", ["0.0.0.0:80", "[::]:80"])
def test_the_banners_address_is_one_that_can_be_asked(address: str) -> None:
    assert "http://127.0.0.1:80/v1" in banner(address, upstream(), demo=False)


def test_the_banners_python_can_be_run() -> None:
    text = banner("127.0.0.1:3006", upstream(), demo=True)
    start = text.index("from openai")
    code = text[start : text.index("Ctrl-C")]
    compile(code, "banner", "exec")


def test_there_is_an_event_loop_for_it() -> None:
    loop = loop_factory()()
    try:
        assert loop.run_until_complete(asyncio.sleep(0, "works")) == "works"
    finally:
        loop.close()
