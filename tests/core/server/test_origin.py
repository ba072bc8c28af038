"""What a configuration is made into, at the start and at a reload."""

import asyncio
import logging
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import pytest
from pydantic import SecretStr

from proxy.api import IDENTITY, Plugin, Server
from proxy.core.config import Address, ConfigError, PluginSettings, Settings, UpstreamSettings
from proxy.core.server.origin import FIXED, Origin, made, reload
from proxy.core.server.run import StartError
from proxy.pricing.table import default

HERE = "tests.core.server.test_origin"
DEMO = UpstreamSettings(name="demo", base_url="http://127.0.0.1:9/v1")


class Needs(Plugin):
    requires = (IDENTITY,)


class Fails(Plugin):
    async def start(self, server: Server) -> None:
        raise OSError("the database does not answer")


class Slow(Plugin):
    """Is made slowly, and says where."""

    made_in: ClassVar[list[bool]] = []

    def __init__(self) -> None:
        self.made_in.append(threading.current_thread() is threading.main_thread())


def settings(**more: Any) -> Settings:
    return Settings.model_validate({"upstreams": [UpstreamSettings(base_url="http://127.0.0.1:9")], **more})


def origin(make: Callable[[], Settings] = settings) -> Origin:
    return Origin(make, "weir.yaml")


def logged(caplog: pytest.LogCaptureFixture) -> list[tuple[str, dict[str, Any]]]:
    return [(record.message, getattr(record, "fields", {})) for record in caplog.records]


def test_the_demo_stands_in_where_there_is_no_upstream() -> None:
    without = origin(lambda: settings(upstreams=[]))
    assert without.settings().upstreams == []
    without.demo = DEMO
    assert without.settings().upstreams == [DEMO]
    named = origin()
    named.demo = DEMO
    assert named.settings().upstreams != [DEMO]


def test_plugins_that_do_not_go_together_are_told_with_the_file() -> None:
    found = settings(plugins=[PluginSettings(use=f"{HERE}:Needs")])
    with pytest.raises(ConfigError, match=r"weir\.yaml: plugins: Needs needs identity"):
        origin().chain(found)


def test_what_cannot_change_stays_and_is_named() -> None:
    running = settings(plugins=[])
    new = settings(plugins=[], management=False, workers=4, state_dir=Path("/x"), replicas=7)
    changed = origin(lambda: new).changed(running)
    assert changed.stays == ["management", "state_dir", "workers"]
    assert [getattr(changed.settings, name) for name in FIXED] == [getattr(running, name) for name in FIXED]
    assert changed.settings.replicas == 7


def test_whether_it_is_open_is_judged_by_where_it_listens() -> None:
    keyed = UpstreamSettings(base_url="http://127.0.0.1:9", api_key=SecretStr("sk-1"))
    running = settings(plugins=[], listen=Address("0.0.0.0", 3006), allow_open=True, upstreams=[keyed])
    new = settings(plugins=[], upstreams=[keyed])  # on loopback, it says
    with pytest.raises(ConfigError, match="allow_open"):
        origin(lambda: new).changed(running)


def test_an_upstream_cannot_be_taken_away() -> None:
    with pytest.raises(ConfigError, match="upstreams"):
        origin(lambda: settings(upstreams=[])).changed(settings())


def test_only_a_plain_value_error_is_about_the_options() -> None:
    start = origin()
    wrong = start.not_started(ValueError("limits: only\none"))
    assert isinstance(wrong, ConfigError)
    assert wrong.problems == ["weir.yaml: plugins: limits: only one"]
    assert start.not_started(wrong) is wrong
    other = start.not_started(UnicodeError("odd"))
    assert isinstance(other, StartError)
    assert str(other) == "a plugin could not start: UnicodeError: odd"


def test_a_plugin_is_told_how_many_workers_there_are() -> None:
    found = settings(plugins=[], workers=3, replicas=2)
    server = made(found, origin().chain(found), default()).server
    assert (server.workers, server.replicas) == (3, 2)


async def test_a_reload_serves_by_the_new(caplog: pytest.LogCaptureFixture) -> None:
    running, new = settings(plugins=[]), settings(plugins=[PluginSettings(use="auth")], workers=2)
    app = made(running, origin().chain(running), default())
    await app.start()
    with caplog.at_level(logging.INFO, "weir"):
        changed = await reload(app, origin(lambda: new))
        assert logged(caplog) == []
        assert changed is not None
        changed.tell()
    assert [plugin.name for plugin in app.chain.plugins] == ["auth"]
    assert logged(caplog) == [
        ("configuration reloaded", {"plugins": "auth"}),
        ("needs a restart", {"setting": "workers"}),
    ]
    await app.stop()


async def test_a_reload_makes_plugins_off_the_loop() -> None:
    running, new = settings(plugins=[]), settings(plugins=[PluginSettings(use=f"{HERE}:Slow")])
    app = made(running, origin().chain(running), default())
    await app.start()
    assert await reload(app, origin(lambda: new)) is not None
    await app.stop()
    from tests.core.server.test_origin import Slow as Made  # as it is loaded by name

    assert Made.made_in == [False]


async def test_a_reload_that_fails_is_told_and_changes_nothing(caplog: pytest.LogCaptureFixture) -> None:
    running = settings(plugins=[])
    app = made(running, origin().chain(running), default())
    await app.start()

    def broken() -> Settings:
        raise ConfigError(["weir.yaml:1: one", "weir.yaml:2: two"])

    fails = settings(plugins=[PluginSettings(use=f"{HERE}:Fails")])
    assert await reload(app, origin(broken)) is None
    assert await reload(app, origin(lambda: fails)) is None
    assert [fields.get("problem") or fields.get("raised") for _, fields in logged(caplog)] == [
        "weir.yaml:1: one",
        "weir.yaml:2: two",
        "OSError",
    ]
    assert app.chain.plugins == ()
    await asyncio.wait_for(app.stop(), 2)
