"""Where a configuration comes from, and what is made of it: at the start, and anew at each reload."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from prometheus_client import CollectorRegistry

from proxy.api.server import Server
from proxy.core import pricing
from proxy.core.app import App, check_open, compile_chain
from proxy.core.chain import Chain, ChainError
from proxy.core.config import ConfigError, Settings, UpstreamSettings
from proxy.core.log import log, raised
from proxy.core.server.changes import files_of
from proxy.core.server.run import StartError
from proxy.pricing.values import Prices

Load = Callable[[], Settings]

# What a reload cannot change: sockets are bound, processes run, and limits are in the protocol class.
FIXED = (
    "listen",
    "management",
    "management_token",
    "limits_http",
    "log",
    "state_dir",
    "database",
    "redis",
    "watch",
    "workers",
)


class Changed(NamedTuple):
    """A configuration that a running Weir can go on by."""

    settings: Settings
    chain: Chain
    stays: list[str]
    """The settings that it would take a restart to change."""

    def tell(self) -> None:
        """Log that it is now the one in use."""
        names = ",".join(plugin.name for plugin in self.chain.plugins)
        log.info("configuration reloaded", extra={"fields": {"plugins": names}})
        for name in self.stays:
            log.warning("needs a restart", extra={"fields": {"setting": name}})


class Origin:
    """How the configuration is loaded, what messages call it, and the file that it is in, if any.

    `demo` stands in where it names no upstream.
    """

    def __init__(self, load: Load, source: str, path: Path | None = None) -> None:
        self._load = load
        self._source = source
        self._path = path
        self.demo: UpstreamSettings | None = None

    def settings(self) -> Settings:
        """The settings as they are now. Raises `ConfigError`."""
        return self.with_demo(self._load())

    def with_demo(self, settings: Settings) -> Settings:
        """The settings, with the demo where they name no upstream and there is one."""
        if settings.upstreams or self.demo is None:
            return settings
        return settings.model_copy(update={"upstreams": [self.demo]})

    def chain(self, settings: Settings) -> Chain:
        """The plugins that they name, made and checked. Raises `ConfigError`."""
        try:
            chain = compile_chain(settings)
        except ChainError as error:
            raise ConfigError(f"{self._source}: plugins: {problem}" for problem in error.problems) from error
        check_open(settings, chain)
        return chain

    def changed(self, running: Settings) -> Changed:
        """What a Weir that runs by `running` would go on by now. Raises `ConfigError`."""
        settings = self.settings()
        if not settings.upstreams:
            raise ConfigError(["upstreams: there is none; Weir was started with one"])
        stays = [name for name in FIXED if getattr(settings, name) != getattr(running, name)]
        # Above all the address: whether Weir may go without keys is judged by where it really listens.
        settings = settings.model_copy(update={name: getattr(running, name) for name in FIXED})
        return Changed(settings, self.chain(settings), stays)

    def files(self, running: Settings) -> list[Path]:
        """What it is made of, and would be made anew if it changed."""
        return list(files_of(self._path, running))

    def not_started(self, error: Exception) -> ConfigError | StartError:
        """What to say when a plugin raised this in its `start`. A `ValueError` is about its options."""
        if isinstance(error, ConfigError):
            return error
        if type(error) is ValueError:
            return ConfigError([f"{self._source}: plugins: {' '.join(str(error).split())}"])
        return StartError(f"a plugin could not start: {type(error).__name__}: {error}")


def made(settings: Settings, chain: Chain, prices: Prices) -> App:
    """The app of one process."""
    server = Server(
        metrics=CollectorRegistry(),
        workers=settings.workers,
        replicas=settings.replicas,
        state_dir=settings.state_dir,
        database_url=settings.database,
        redis_url=settings.redis,
        prices=prices,
    )
    return App(settings, chain, server)


async def reload(app: App, origin: Origin) -> Changed | None:
    """Load the configuration anew. Whatever is wrong with it is logged, and the running one stays: None."""
    try:
        # In a thread: YAML is slow to read, and what a plugin is made of may have to be imported.
        changed = await asyncio.to_thread(origin.changed, app.settings)
        prices = await asyncio.to_thread(pricing.load, changed.settings.pricing)
        await app.reload(changed.settings, changed.chain, prices)
    except ConfigError as error:
        tell(error.problems)
    except Exception as error:  # noqa: BLE001 # a plugin's start may raise anything
        log.error("configuration not reloaded", extra={"fields": raised(error)})
    else:
        return changed
    return None


def tell(problems: list[str]) -> None:
    """Log why the configuration was not reloaded."""
    for problem in problems:
        log.error("configuration not reloaded", extra={"fields": {"problem": problem}})
