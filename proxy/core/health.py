"""Whether Weir lives, and whether it should be sent requests."""

from typing import TYPE_CHECKING, Any

import orjson
from starlette.responses import Response

from proxy import __version__
from proxy.api.plugin import Plugin

if TYPE_CHECKING:
    from proxy.core.app import App


def _reason(plugin: Plugin) -> str | None:
    try:
        return plugin.ready()
    except Exception as error:  # noqa: BLE001 # a plugin that cannot say is not ready
        return f"ready() raised {type(error).__name__}"


class Health:
    """Liveness is that we answer; readiness is that everything a request needs is there."""

    def __init__(self, app: "App") -> None:
        self._app = app
        self.draining = False

    def not_ready(self) -> list[str]:
        """Why no request should come here now; empty when ready."""
        if self._app.setup is None:
            return ["starting"]
        if self.draining:
            return ["shutting down"]
        found = ((plugin.name, _reason(plugin)) for plugin in self._app.chain.plugins)
        return [f"{name}: {reason}" for name, reason in found if reason is not None]

    def body(self) -> dict[str, Any]:
        """`/health`: 200 while the process serves, with each upstream's last known state (passive)."""
        setup = self._app.setup
        upstreams = {} if setup is None else {setup.route.name: {"last_outcome": setup.route.last_outcome}}
        return {"status": "ok", "version": __version__, "upstreams": upstreams}

    async def answer(self, scope: Any, receive: Any, send: Any) -> None:
        """ASGI: `GET /health` on the data port."""
        await Response(orjson.dumps(self.body()), media_type="application/json")(scope, receive, send)
