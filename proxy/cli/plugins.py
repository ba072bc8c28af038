"""`weir plugins`: what is installed."""

import sys

import click

from proxy.cli.installed import HOOKS, installed, overridden

_MORE = ("routes", "management_routes", "describe_model")


@click.command(epilog="Example: weir plugins")
def plugins() -> None:
    """List the plugins that are installed.

    For each one its package and version, its hooks, and what it is for. The names are those that can stand
    under `plugins` in weir.yaml. Ends with 1 if one cannot be loaded.
    """
    all_ = installed()
    width = max((len(plugin.name) for plugin in all_), default=0)
    origin = max((len(f"{plugin.package} {plugin.version}") for plugin in all_), default=0)
    for plugin in all_:
        if plugin.cls is None:
            continue
        does = overridden(plugin.cls, [*HOOKS, *_MORE])
        if commands := [str(command.name) for command in plugin.commands()]:
            does.append(f"commands: {', '.join(commands)}")
        source = f"{plugin.package} {plugin.version}"
        click.echo(f"{plugin.name:{width}}  {source:{origin}}  {', '.join(does) or 'no hook'}")
        if plugin.about:
            click.echo(f"{'':{width}}  {plugin.about}")
    broken = [plugin for plugin in all_ if plugin.problem is not None]
    for plugin in broken:
        click.echo(f"weir: {plugin.problem} ({plugin.package} {plugin.version})", err=True)
    sys.exit(1 if broken else 0)
