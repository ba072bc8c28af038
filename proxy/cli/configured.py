"""What a configuration comes to, for the commands of plugins: they see `proxy.api` alone.

A plugin's command finds `configured` in its context:

    @click.command()
    @click.pass_obj
    def usage(obj: Any) -> None:
        server = obj(None).server  # or obj(Path("weir.yaml")), where it has a --config of its own
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from proxy.api.server import Server
from proxy.cli.options import fail, found

if TYPE_CHECKING:
    from proxy.core.config import Settings


@dataclass(frozen=True)
class Configured:
    """`server` is what plugins would be started with, but for the prices, which are None here. `plugins` are
    those that the configuration names, each with its options, in order; None: the built-in chain."""

    server: Server
    plugins: Sequence[tuple[str, Mapping[str, Any]]] | None


def configured(config: Path | None) -> Configured:
    """By this file, or else by ./weir.yaml if there is one, and by the environment. Starts nothing.

    Ends the command with 2 and a line for each mistake.
    """
    from proxy.core.config import ConfigError, load

    try:
        settings = load(found(config), os.environ)
    except ConfigError as error:
        fail(error.problems, 2)
    plugins = settings.plugins
    return Configured(
        surroundings(settings), None if plugins is None else [(one.use, one.options) for one in plugins]
    )


def surroundings(settings: "Settings") -> Server:
    """What plugins would be started with, but for the prices."""
    from prometheus_client import CollectorRegistry

    return Server(
        metrics=CollectorRegistry(),
        replicas=settings.replicas,
        state_dir=settings.state_dir,
        database_url=settings.database,
        redis_url=settings.redis,
    )
