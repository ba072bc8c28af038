"""The `weir` command.

Exit status: 0 done, 1 could not run, 2 wrong use or configuration, 128 + n ended by signal n.
"""

import asyncio
import os
import sys
from pathlib import Path
from typing import NoReturn

import click

from proxy import __version__
from proxy.core.config import ConfigError, load, strangers

DEFAULT_CONFIG = Path("weir.yaml")


class _WithPlugins(click.Group):
    """Also offers the commands of installed plugins; they are loaded only when somebody asks for one."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted({*super().list_commands(ctx), *self._offered()})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        return super().get_command(ctx, cmd_name) or self._offered().get(cmd_name)

    def _offered(self) -> dict[str, click.Command]:
        from proxy.core.loader import installed

        found: dict[str, click.Command] = {}
        for entry in installed().values():
            try:
                commands = entry.load().commands()
            except Exception as error:  # noqa: BLE001 # one broken package must not take the others along
                click.echo(f"weir: the plugin {entry.name!r} cannot be loaded: {error}", err=True)
                continue
            found.update((str(command.name), command) for command in commands)
        return found


@click.group(cls=_WithPlugins, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="weir")
def main() -> None:
    """Weir: a transparent, streaming reverse proxy for OpenAI-shaped APIs."""


_config = click.option(
    "-c",
    "--config",
    type=click.Path(path_type=Path),
    envvar="WEIR_CONFIG",
    show_envvar=True,
    help="The YAML file; without it, ./weir.yaml if there is one.",
)


@main.command(epilog="Example: weir serve --config weir.yaml --port 3006")
@_config
@click.option("--host", help="Listen on this address instead of the configured one.")
@click.option("--port", type=click.IntRange(0, 65535), help="Listen on this port (0: any free one).")
def serve(config: Path | None, host: str | None, port: int | None) -> None:
    """Serve requests until a signal. Without an upstream, the built-in demo one is started."""
    path, given = _found(config), {"host": host, "port": port}
    from proxy.core.server import start

    try:
        with asyncio.Runner(loop_factory=start.loop_factory()) as runner:
            number = runner.run(start.serve(lambda: load(path, os.environ, given), str(path or "weir.yaml")))
    except ConfigError as error:
        _fail(error.problems, 2)
    except start.StartError as error:
        _fail([str(error)], 1)
    sys.exit(128 + number if number else 0)


@main.command(epilog="Example: weir check --config weir.yaml")
@_config
def check(config: Path | None) -> None:
    """Check a configuration and print what it comes to."""
    path = _found(config)
    from proxy.core.app import check_open, compile_chain
    from proxy.core.chain import ChainError

    try:
        settings = load(path, os.environ)
        chain = compile_chain(settings)
        check_open(settings, chain)
    except ConfigError as error:
        _fail(error.problems, 2)
    except ChainError as error:
        _fail([f"{path}: plugins: {error}"], 2)
    click.echo(f"listen      {settings.listen}")
    click.echo(f"management  {settings.management or 'off'}")
    for upstream in settings.upstreams:
        key = "with a key" if upstream.api_key else "passing the client's key"
        click.echo(f"upstream    {upstream.name} at {upstream.base_url}, {key}")
    if not settings.upstreams:
        click.echo("upstream    none: the built-in demo one")
    click.echo(f"plugins     {' → '.join(plugin.name for plugin in chain.plugins) or 'none'}")
    click.echo("ok")


def _found(config: Path | None) -> Path | None:
    """The configuration file there is. Also tells of variables that look like settings and are none."""
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())  # for `use: my_module:MyPlugin` beside weir.yaml
    for line in strangers(os.environ):
        click.echo(f"weir: warning: {line}", err=True)
    return DEFAULT_CONFIG if config is None and DEFAULT_CONFIG.exists() else config


def _fail(problems: list[str], status: int) -> NoReturn:
    for problem in problems:
        click.echo(f"weir: {problem}", err=True)
    sys.exit(status)
