"""The management port: health for probes, metrics, what is in flight, the OpenAPI document, and plugins' own.

Health and metrics are open; the rest needs `WEIR_MANAGEMENT_TOKEN`. Without a token a port that can be
reached from outside serves health and metrics alone.
"""

import hashlib
import hmac
from typing import Any

import orjson
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from proxy.admin.openapi import document
from proxy.api.errors import ClientError
from proxy.core import inflight
from proxy.core.app import App, management_routes
from proxy.core.chain import Chain
from proxy.core.seal import sealing

_OPEN = frozenset(("/healthz", "/readyz", "/startupz", "/metrics"))


def management(app: App) -> Any:
    """The ASGI app of the management port."""

    async def healthz(_: Request) -> Response:
        return _json({"status": "ok"})

    async def readyz(_: Request) -> Response:
        reasons = app.health.not_ready()
        return _json({"status": "not ready", "reasons": reasons}, 503) if reasons else _json({"status": "ok"})

    async def startupz(_: Request) -> Response:
        started = app.setup is not None
        return _json({"status": "ok" if started else "starting"}, 200 if started else 503)

    async def metrics(_: Request) -> Response:
        return Response(generate_latest(app.server.metrics), media_type=CONTENT_TYPE_LATEST)

    async def in_flight(_: Request) -> Response:
        return _json(inflight.page(app.flights))

    own = [
        Route("/healthz", healthz),
        Route("/readyz", readyz),
        Route("/startupz", startupz),
        Route("/metrics", metrics),
        Route("/inflight", in_flight),
    ]
    token = app.settings.management_token
    address = app.settings.management
    outside = address is not None and not address.loopback
    return _Management(app, own, token.get_secret_value() if token else None, outside)


class _Management:
    """The guard before the routes, and the routes of the chain that serves now."""

    def __init__(self, app: App, own: list[Route], token: str | None, outside: bool) -> None:
        self._weir = app
        self._own = own
        self._token = None if token is None else _digest(token.encode())
        self._outside = outside
        self._chain: Chain | None = None
        self._app: Any = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        send = sealing(send)
        if scope["type"] == "http" and scope["path"] not in _OPEN and not self._admits(scope):
            error = ClientError(401, "invalid_management_token", "This needs the management token.")
            headers = {name.decode(): value.decode() for name, value in error.headers()}
            await Response(error.body(), error.status, headers)(scope, receive, send)
            return
        if self._chain is not self._weir.chain:
            self._chain = self._weir.chain
            self._app = Starlette(routes=self._routes(self._chain))
        await self._app(scope, receive, send)

    def _routes(self, chain: Chain) -> list[BaseRoute]:
        """Ours first, then those of the plugins; the document of them is written once for a chain."""
        added = management_routes(chain)
        data = [route for plugin in chain.plugins for route in plugin.routes()]
        written = orjson.dumps(document(self._weir.settings, data, added))

        async def openapi(_: Request) -> Response:
            return Response(written, media_type="application/json")

        return [*self._own, Route("/openapi.json", openapi), *added]

    def _admits(self, scope: Any) -> bool:
        if self._token is None:
            return not self._outside
        given = [value for name, value in scope["headers"] if name == b"authorization"]
        if len(given) != 1:
            return False
        scheme, _, token = given[0].partition(b" ")
        return scheme.lower() == b"bearer" and hmac.compare_digest(_digest(token.strip()), self._token)


def _digest(token: bytes) -> bytes:
    return hashlib.sha256(token).digest()


def _json(value: Any, status: int = 200) -> Response:
    return Response(orjson.dumps(value), status, media_type="application/json")
