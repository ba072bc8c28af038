"""The management port: health for probes, metrics, what is in flight, the OpenAPI document, and plugins' own.

Health and metrics are open; the rest needs `WEIR_MANAGEMENT_TOKEN`. Without a token a port that can be
reached from outside serves health and metrics alone, and one on loopback who is on this machine: no page in
its browser, neither by its own name nor by one that was made to lead here (DNS rebinding).
"""

import hashlib
import hmac
from collections.abc import Iterable
from ipaddress import ip_address
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
        return _json(inflight.page(app.trips))

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
        guarded = scope["type"] == "http" and scope["path"] not in _OPEN
        if guarded and (error := self._refusal(scope)) is not None:
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

    def _refusal(self, scope: Any) -> ClientError | None:
        """Why a request is not let in, if it is not."""
        if not self._admits(scope):
            return ClientError(401, "invalid_management_token", "This needs the management token.")
        return None if self._token is not None or _is_local(scope["headers"]) else _NOT_LOCAL

    def _admits(self, scope: Any) -> bool:
        if self._token is None:
            return not self._outside
        given = [value for name, value in scope["headers"] if name == b"authorization"]
        if len(given) != 1:
            return False
        scheme, _, token = given[0].partition(b" ")
        return scheme.lower() == b"bearer" and hmac.compare_digest(_digest(token.strip()), self._token)


_NOT_LOCAL = ClientError(
    403,
    "origin_not_allowed",
    "Without a management token this is for localhost, by that name, and for no page in a browser.",
)


def _is_local(headers: Iterable[tuple[bytes, bytes]]) -> bool:
    """Whether somebody on this machine asks, and no page that its browser shows."""
    return not any(
        name == b"origin" or (name == b"host" and not _is_loopback(value)) for name, value in headers
    )


def _is_loopback(host: bytes) -> bool:
    name = host.decode("latin-1").strip().lower()
    name = name[1:].partition("]")[0] if name.startswith("[") else name.partition(":")[0]
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ip_address(name).is_loopback
    except ValueError:
        return False


def _digest(token: bytes) -> bytes:
    return hashlib.sha256(token).digest()


def _json(value: Any, status: int = 200) -> Response:
    return Response(orjson.dumps(value), status, media_type="application/json")
