"""The group of all commands: ours in the order of a first day, then those that installed plugins offer."""

from typing import Any

import click

from proxy.cli.configured import configured
from proxy.cli.installed import installed


class Commands(click.Group):
    """Plugins are loaded only when somebody asks for a command that is not ours. Their commands find
    `configured` in their context (`click.pass_obj`)."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command that was asked for."""
        ctx.obj = configured
        return super().invoke(ctx)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All names: ours, then theirs."""
        return [*self.commands, *sorted(self._offered().keys() - self.commands.keys())]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """A command by its name; ours cannot be replaced."""
        return super().get_command(ctx, cmd_name) or self._offered().get(cmd_name)

    def _offered(self) -> dict[str, click.Command]:
        offered: dict[str, click.Command] = {}
        for plugin in installed():
            commands = plugin.commands()
            if plugin.problem is not None:
                click.echo(f"weir: {plugin.problem}", err=True)
            offered.update((str(command.name), command) for command in commands)
        return offered
