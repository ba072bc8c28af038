"""From settings to a running Weir: sockets, chain, demo upstream, and the banner that says so."""

import asyncio
import socket
import sys
from collections.abc import Callable
from typing import Any

from prometheus_client import CollectorRegistry

from proxy import __version__
from proxy.api.server import Server
from proxy.core import log as logs
from proxy.core import pricing
from proxy.core.app import App, check_open, compile_chain
from proxy.core.chain import Chain, ChainError
from proxy.core.config import Address, ConfigError, Settings, UpstreamSettings
from proxy.core.log import log, raised
from proxy.core.server.run import Listener, StartError, Weir, listen, listener
from proxy.pricing.values import Prices

__all__ = ["StartError", "loop_factory", "serve"]


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    """uvloop where it is installed, asyncio's own loop where it is not (Windows)."""
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory


_OTHER_MANAGEMENT = "choose another management port with WEIR_MANAGEMENT=127.0.0.1:PORT (or off)"
Load = Callable[[], Settings]


async def serve(load: Load, source: str) -> int:
    """Serve until a signal; returns its number. SIGHUP loads the configuration anew.

    Raises `ConfigError` or `StartError`.
    """
    settings = load()
    logs.configure(settings.log.level, settings.log.format)
    chain = _checked_chain(settings, source)
    prices = pricing.load(settings.pricing)
    data = listen(settings.listen)
    try:
        admin = None if settings.management is None else listen(settings.management, _OTHER_MANAGEMENT)
    except StartError:
        data.close()
        raise
    demo = None if settings.upstreams else await _Demo.start()
    try:
        running = _Running(load, source, demo, data, admin)
        return await running.run(_with_demo(settings, demo), chain, prices)
    finally:
        if demo is not None:
            await demo.stop()
        data.close()
        if admin is not None:
            admin.close()


def _checked_chain(settings: Settings, source: str) -> Chain:
    try:
        chain = compile_chain(settings)
    except ChainError as error:
        raise ConfigError(f"{source}: plugins: {problem}" for problem in error.problems) from error
    check_open(settings, chain)
    return chain


def _with_demo(settings: Settings, demo: "_Demo | None") -> Settings:
    if settings.upstreams or demo is None:
        return settings
    return settings.model_copy(update={"upstreams": [demo.upstream]})


class _Running:
    """What a running Weir was made from, for when it is to be made anew."""

    def __init__(
        self, load: Load, source: str, demo: "_Demo | None", data: socket.socket, admin: socket.socket | None
    ) -> None:
        self._load = load
        self._source = source
        self._demo = demo
        self._data = data
        self._admin = admin
        self._app: App

    async def run(self, settings: Settings, chain: Chain, prices: Prices) -> int:
        server = Server(
            metrics=CollectorRegistry(),
            replicas=settings.replicas,
            state_dir=settings.state_dir,
            database_url=settings.database,
            redis_url=settings.redis,
            prices=prices,
        )
        app = self._app = App(settings, chain, server)
        try:
            return await Weir(app, self._data, self._admin).run(self._started, self._reload)
        except Exception as error:
            if app.setup is None:
                raise StartError(f"a plugin could not start: {type(error).__name__}: {error}") from error
            raise

    def _started(self) -> None:
        app = self._app
        upstream = app.settings.upstreams[0]
        address = str(Address(*self._data.getsockname()[:2]))
        fields = {
            "listen": address,
            "management": str(Address(*self._admin.getsockname()[:2])) if self._admin else None,
            "upstream": upstream.name,
            "plugins": ",".join(plugin.name for plugin in app.chain.plugins),
            "version": __version__,
        }
        log.info("listening", extra={"fields": fields})
        if self._demo is not None or sys.stdout.isatty():
            sys.stdout.write(banner(address, upstream, demo=self._demo is not None))
            sys.stdout.flush()

    async def _reload(self) -> None:
        """Load the configuration anew; whatever is wrong with it, the running one stays."""
        app = self._app
        try:
            settings = self._load()
            settings = _with_demo(settings, self._demo)
            if not settings.upstreams:
                raise ConfigError(["upstreams: there is none; Weir was started with one"])
            stays = [name for name in _FIXED if getattr(settings, name) != getattr(app.settings, name)]
            # Above all the address: whether Weir may go without keys is judged by where it really listens.
            settings = settings.model_copy(update={name: getattr(app.settings, name) for name in _FIXED})
            chain = _checked_chain(settings, self._source)
            prices = await asyncio.to_thread(pricing.load, settings.pricing)
            await app.reload(settings, chain, prices)
        except ConfigError as error:
            for problem in error.problems:
                log.error("configuration not reloaded", extra={"fields": {"problem": problem}})
        except Exception as error:  # noqa: BLE001 # a plugin's start may raise anything
            log.error("configuration not reloaded", extra={"fields": raised(error)})
        else:
            names = ",".join(plugin.name for plugin in chain.plugins)
            log.info("configuration reloaded", extra={"fields": {"plugins": names}})
            for name in stays:
                log.warning("needs a restart", extra={"fields": {"setting": name}})


# What a reload cannot change: sockets are bound, and limits are in the protocol class.
_FIXED = ("listen", "management", "management_token", "limits_http", "log", "state_dir", "database", "redis")


def banner(address: str, upstream: UpstreamSettings, *, demo: bool) -> str:
    """What a person who starts Weir on a terminal reads: where it is and how to use it."""
    host, _, port = address.rpartition(":")
    url = f"http://{'127.0.0.1' if host in ('0.0.0.0', '[::]') else host}:{port}/v1"  # noqa: S104
    where = (
        "the built-in demo upstream (no OPENAI_API_KEY is set: answers are made up, and cost nothing)"
        if demo
        else f"{upstream.name} at {upstream.base_url}"
    )
    return f"""
Weir {__version__} listens on {url}
and forwards to {where}.

Ask it with curl:

curl {url}/chat/completions -H 'content-type: application/json' \\
  -d '{{"model": "gpt-4o-mini", "messages": [{{"role": "user", "content": "Hello!"}}]}}'

or with the OpenAI SDK (pip install openai):

from openai import OpenAI

client = OpenAI(base_url="{url}", api_key="{"demo" if demo else "your key"}")
stream = client.chat.completions.create(
    model="gpt-4o-mini", stream=True, messages=[{{"role": "user", "content": "Hello!"}}]
)
for chunk in stream:
    print(chunk.choices[0].delta.content or "", end="", flush=True)

Ctrl-C stops it.

"""


class _Demo:
    """The demo upstream on a free loopback port, in this process."""

    def __init__(self, server: Listener, task: "asyncio.Task[Any]", port: int) -> None:
        self._server = server
        self._task = task
        self.upstream = UpstreamSettings(name="demo", base_url=f"http://127.0.0.1:{port}/v1")

    @classmethod
    async def start(cls) -> "_Demo":
        from proxy.demo import create_app  # only who needs it pays for it

        bound = listen(Address("127.0.0.1", 0))
        server = listener(create_app())
        task = asyncio.get_running_loop().create_task(server.serve(sockets=[bound]))
        while not server.started and not task.done():
            await asyncio.sleep(0.005)
        return cls(server, task, bound.getsockname()[1])

    async def stop(self) -> None:
        self._server.should_exit = self._server.force_exit = True
        await self._task
