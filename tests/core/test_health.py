from typing import Any

import orjson
import pytest
from prometheus_client import CollectorRegistry

from proxy import __version__
from proxy.api import Plugin, Server
from proxy.core.app import App
from proxy.core.chain import Chain
from proxy.core.config import Settings, UpstreamSettings


class Says(Plugin):
    def __init__(self, name: str, reason: str | None = None) -> None:
        self.name = name
        self.reason = reason

    def ready(self) -> str | None:
        return self.reason


def app(*plugins: Plugin) -> App:
    upstream = UpstreamSettings(name="up", base_url="http://127.0.0.1:9/v1")
    settings = Settings.model_validate({"upstreams": [upstream]})
    return App(settings, Chain(plugins), Server(metrics=CollectorRegistry()))


async def test_before_the_start_it_lives_but_is_not_ready() -> None:
    made = app()
    assert made.health.not_ready() == ["starting"]
    assert made.health.body() == {"status": "ok", "version": __version__, "upstreams": {}}


async def test_ready_is_when_everything_is_there() -> None:
    made = app(Says("a"), Says("b"))
    await made.start()
    assert made.health.not_ready() == []
    await made.stop()


async def test_every_plugin_that_is_not_says_why() -> None:
    slow = Says("ledger", "the database does not answer")
    made = app(slow, Says("fine"), Says("limiter", "no Redis"))
    await made.start()
    assert made.health.not_ready() == ["ledger: the database does not answer", "limiter: no Redis"]
    slow.reason = None
    assert made.health.not_ready() == ["limiter: no Redis"]
    await made.stop()


async def test_a_plugin_that_raises_is_one_that_is_not_ready() -> None:
    class Raises(Plugin):
        name = "raises"

        def ready(self) -> str | None:
            raise OSError("a secret")

    made = app(Raises(), Says("limiter", "no Redis"))
    await made.start()
    try:
        reasons = made.health.not_ready()
    finally:
        await made.stop()
    assert len(reasons) == 2
    assert reasons[0].startswith("raises: ")


async def test_while_it_drains_it_lives_but_is_not_ready() -> None:
    made = app(Says("a"))
    await made.start()
    made.health.draining = True
    assert made.health.not_ready() == ["shutting down"]
    assert made.health.body()["status"] == "ok"
    await made.stop()


async def test_it_tells_how_the_last_attempt_went() -> None:
    made = app()
    await made.start()
    assert made.setup is not None
    made.setup.route.last_outcome = "upstream_connect_failed"
    assert made.health.body()["upstreams"] == {"up": {"last_outcome": "upstream_connect_failed"}}
    await made.stop()


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_its_answer_is_json(method: str) -> None:
    sent: list[dict[str, Any]] = []

    async def send(message: Any) -> None:
        sent.append(message)

    made = app()
    await made.health.answer({"type": "http", "method": method, "path": "/health", "headers": []}, None, send)
    assert sent[0]["status"] == 200
    assert dict(sent[0]["headers"])[b"content-type"] == b"application/json"
    assert orjson.loads(sent[1]["body"])["status"] == "ok"
