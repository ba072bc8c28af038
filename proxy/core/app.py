"""The ASGI app of the data port: our own endpoints, everything else to the forwarder, and the lifespan."""

import asyncio
from collections.abc import Awaitable, Sequence
from dataclasses import replace
from typing import Any

from starlette.routing import BaseRoute, Match, Router
from starlette.routing import Route as Endpoint

from proxy.api.plugin import Plugin
from proxy.api.server import Server
from proxy.core.body import Receive
from proxy.core.chain import Chain
from proxy.core.config import ConfigError, PluginSettings, Settings
from proxy.core.cors import Cors
from proxy.core.deadlines import Deadlines
from proxy.core.default_models import with_default_models
from proxy.core.deliver import Send
from proxy.core.forward import Forwarder, Setup, Trip
from proxy.core.health import Health
from proxy.core.loader import load
from proxy.core.log import log, raised
from proxy.core.models import Models
from proxy.core.overload import Overload
from proxy.core.routing import Route, connect
from proxy.core.seal import sealing
from proxy.core.upstream.breakers import Breakers
from proxy.core.watchdog import Watchdog
from proxy.pricing.values import Prices

DEFAULT_CHAIN = ("tracing", "auth", "precost", "limiter", "annotate")


def compile_chain(settings: Settings) -> Chain:
    """The plugins that a configuration names, made and checked. Raises `ConfigError` or `ChainError`."""
    items = settings.plugins
    if items is None:
        names = list(DEFAULT_CHAIN)
        if settings.state_dir is not None or settings.database is not None:
            # Who says where state is kept wants it kept; nobody else finds files that they did not ask for.
            names.insert(names.index("limiter"), "ledger")
        items = [PluginSettings(use=name) for name in names]
    return Chain(with_default_models(load(items), settings.default_models))


def check_open(settings: Settings, chain: Chain) -> None:
    """Refuse to hand an upstream key to whoever can reach the port. Raises `ConfigError`."""
    holds_key = any(upstream.api_key is not None for upstream in settings.upstreams)
    if (
        holds_key
        and not settings.allow_open
        and not settings.listen.loopback
        and not any(plugin.guards() for plugin in chain.plugins)
    ):
        raise ConfigError(
            [
                f"listen: {settings.listen} can be reached from outside, Weir holds an upstream key, and no "
                "client keys are set: give `auth` keys, listen on 127.0.0.1, or set allow_open: true"
            ]
        )


class App:
    """One Weir: a chain, an upstream, the forwarder between them. Pure ASGI.

    `start` and `stop` are called by ASGI's lifespan, on the event loop that serves.
    """

    def __init__(self, settings: Settings, chain: Chain, server: Server) -> None:
        self.settings = settings
        self.chain = chain
        self.server = server
        self._retired: dict[Setup, asyncio.Task[None]] = {}
        self.deadlines = Deadlines()
        self.health = Health(self)
        self.overload = Overload(settings.overload)
        self.breakers = Breakers()
        self.watchdog = Watchdog(lambda: self.settings.overload.loop_stall)
        self.failure: BaseException | None = None
        """What `start` raised."""
        self._forwarder: Forwarder
        self._setup: Setup | None = None
        self._cors: Cors | None = None
        self._routes = Router()
        self._beginnings: tuple[str, ...] = ("/health",)
        """What the paths of our own endpoints begin with."""

    @property
    def setup(self) -> Setup | None:
        """What serves now; None before `start`."""
        return self._setup

    @property
    def trips(self) -> list[Trip]:
        """The exchanges that run now, on this configuration and on those that a reload has replaced."""
        setups = [*self._retired, *([] if self._setup is None else [self._setup])]
        return [trip for setup in setups for trip in setup.trips]

    def __call__(self, scope: Any, receive: Receive, send: Send) -> Awaitable[None]:
        if scope["type"] == "http":
            if self._cors is not None:
                if (preflight := self._cors.preflight(scope)) is not None:
                    return preflight(scope, receive, send)  # type: ignore[no-any-return]
                send = self._cors.sending(scope, send)
            if scope["path"].startswith(self._beginnings):
                own = self._own(scope, receive, send)
                if own is not None:
                    return own
            if self.overload.cause:
                return self.overload.refuse(self._forwarder.next_id(), scope, send)
            return self._forwarder.forward(scope, receive, send)
        if scope["type"] == "lifespan":
            return self._lifespan(receive, send)
        raise RuntimeError(f"Weir does not speak {scope['type']}")

    def _own(self, scope: Any, receive: Receive, send: Send) -> Awaitable[None] | None:
        """The answer of an endpoint of our own, if this is one."""
        if scope["path"] == "/health" and scope["method"] in ("GET", "HEAD"):
            return self.health.answer(scope, receive, sealing(send))
        if any(route.matches(scope)[0] is Match.FULL for route in self._routes.routes):
            return self._forwarder.local(scope, receive, send, self._routes)
        return None

    async def start(self) -> None:
        """Start every plugin, in order, and make the way upstream. Stops what had started if one fails."""
        setup = Setup(self.settings, self.chain, self._route(self.settings))
        routes = _routes(setup, self.server.prices)
        await self._start_plugins(self.chain, self.server)
        self._forwarder = Forwarder(setup, self.deadlines)
        self.overload.start(self.server.metrics)
        self.server.metrics.register(self.breakers)
        self.watchdog.start()
        self._serve(setup, routes)

    async def stop(self) -> None:
        """Stop every plugin that had started, in reverse, and close the way upstream."""
        self.overload.stop()
        for old, task in [*self._retired.items()]:
            task.cancel()
            await self._end_setup(old, self._setup)
        if self._setup is not None:
            await self._stop_plugins(self.chain.plugins)
            await self._setup.route.upstream.aclose()
        self.deadlines.close()
        self.watchdog.stop()

    async def reload(self, settings: Settings, chain: Chain, prices: Prices | None = None) -> None:
        """Serve by another configuration from the next request on; running exchanges finish on theirs.

        `prices` are what the new plugins get instead of those that there were (None: the same). A plugin may
        adopt the state of the one of the same name that it replaces; that one is stopped once its last
        exchange has ended. Raises what a plugin's `start` raised, and then nothing has changed. The listeners
        stay as they are.
        """
        old = self._setup
        assert old is not None  # noqa: S101 # only a running Weir reloads
        kept = settings.upstreams[0] == old.route.settings
        route = old.route if kept else self._route(settings)
        replaced = {plugin.name: plugin for plugin in old.chain.plugins}
        for plugin in chain.plugins:
            if plugin.name in replaced:
                plugin.adopt(replaced[plugin.name])
        server = self.server if prices is None else replace(self.server, prices=prices)
        setup = Setup(settings, chain, route)
        routes = _routes(setup, server.prices)
        await self._start_plugins(chain, server)
        self.server = server
        self._serve(setup, routes)
        self._retired[old] = asyncio.get_running_loop().create_task(self._retire(old))

    def _serve(self, setup: Setup, routes: Router) -> None:
        """Serve by this from the next request on."""
        self._setup = self._forwarder.setup = setup
        self.breakers.watch(setup.route.breaker)
        self.settings, self.chain = setup.settings, setup.chain
        self.overload.settings = setup.settings.overload
        origins = setup.settings.cors.origins
        self._cors = Cors(origins) if origins else None
        self._routes = routes
        self._beginnings = ("/health", *(_beginning(route) for route in routes.routes))

    def _route(self, settings: Settings) -> Route:
        """The way to the upstream. Raises `ConfigError`: certificates are read here."""
        upstream = settings.upstreams[0]
        try:
            made = connect(upstream, self.deadlines)
        except (OSError, ValueError) as error:
            raise ConfigError([f"upstreams[0]: cannot be set up: {error}"]) from error
        return Route(upstream, made, made.breaker)

    async def _retire(self, old: Setup) -> None:
        while old.trips:
            await asyncio.sleep(0.1)
        await self._end_setup(old, self._setup)

    async def _end_setup(self, old: Setup, now: Setup | None) -> None:
        if self._retired.pop(old, None) is None:
            return
        await self._stop_plugins(old.chain.plugins)
        in_use = [setup.route for setup in (now, *self._retired) if setup is not None]
        if old.route not in in_use:
            await old.route.upstream.aclose()
            self.breakers.forget(old.route.breaker)

    async def _start_plugins(self, chain: Chain, server: Server) -> None:
        started: list[Plugin] = []
        try:
            for plugin in chain.plugins:
                await plugin.start(server)
                started.append(plugin)
        except BaseException:
            await self._stop_plugins(started)
            raise

    async def _stop_plugins(self, plugins: Sequence[Plugin]) -> None:
        for plugin in reversed(plugins):
            try:
                await plugin.stop()
            except Exception as error:  # noqa: BLE001 # the others still have to be stopped
                log.error(
                    "a plugin failed to stop", extra={"fields": {"plugin": plugin.name, **raised(error)}}
                )

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        await receive()
        try:
            await self.start()
        except Exception as error:  # noqa: BLE001 # a plugin may raise anything
            self.failure = error
            await send({"type": "lifespan.startup.failed", "message": ""})
            return
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await self.stop()
        await send({"type": "lifespan.shutdown.complete"})


def _routes(setup: Setup, prices: Prices | None) -> Router:
    """Our own endpoints on the data port that come after the chain: ours first, then those of the plugins."""
    models = Models(setup.chain, setup.route, prices)
    plugins = setup.chain.plugins
    return Router(
        [Endpoint("/models", models.answer), *(route for plugin in plugins for route in plugin.routes())]
    )


def _beginning(route: BaseRoute) -> str:
    """What every path of a route begins with; nothing where the route does not say."""
    path: str = getattr(route, "path", "")
    return path.partition("{")[0]


def management_routes(chain: Chain) -> list[BaseRoute]:
    """What the plugins of a chain add to the management port."""
    return [route for plugin in chain.plugins for route in plugin.management_routes()]
