"""The engine between two scripted ends; `proxy.api.testing` is how to use it."""

from collections.abc import Sequence
from typing import Any

from prometheus_client import CollectorRegistry

from proxy.api.plugin import Plugin
from proxy.api.server import Server
from proxy.core.asking import Asker
from proxy.core.chain import Chain
from proxy.core.config import Settings, UpstreamSettings
from proxy.core.deadlines import Deadlines
from proxy.core.forward import Forwarder, ResponseAborted, Setup
from proxy.core.routing import Route
from proxy.core.upstream import Upstream


async def drive(
    plugins: Sequence[Plugin],
    client: Any,
    upstream: Upstream,
    server: Server | None,
    overrides: dict[str, Any],
    asked: Upstream | None = None,
) -> None:
    """One exchange: plugins are started, the client's request is forwarded to `upstream`, plugins stop.

    With `asked` what they ask the upstream themselves goes there.
    """
    named = UpstreamSettings(name=upstream.name, base_url="http://scripted.test/v1")
    settings = Settings.model_validate({"upstreams": [named], **overrides})
    chain = Chain(plugins)
    deadlines = Deadlines()
    surroundings = server or Server(metrics=CollectorRegistry())
    for plugin in plugins:
        await plugin.start(surroundings)
    try:
        setup = Setup(settings, chain, Route(named, upstream))
        if asked is not None:
            setup.asker = Asker(Route(named, asked))
        forwarder = Forwarder(setup, deadlines)
        try:
            await forwarder.forward(client.scope(), client.receive, client.send)
        except ResponseAborted:
            pass  # the client sees it by what is missing
    finally:
        for plugin in reversed(plugins):
            await plugin.stop()
        deadlines.close()
