"""`weir completion`: what a shell needs to complete commands, options and files."""

import os
from pathlib import Path

import click
from click.shell_completion import get_completion_class

from proxy.cli.options import fail

SHELLS = ("bash", "zsh", "fish")
_VARIABLE = "_WEIR_COMPLETE"
"""By which the shell asks; click answers it before any command runs."""


@click.command(
    epilog="\b\nExample: weir completion bash >> ~/.bashrc\n"
    '         eval "$(weir completion zsh)"\n'
    "         weir completion fish > ~/.config/fish/completions/weir.fish"
)
@click.argument("shell", type=click.Choice(SHELLS), required=False)
@click.pass_context
def completion(ctx: click.Context, shell: str | None) -> None:
    """Print what a shell needs to complete `weir`.

    Without SHELL, for the one that $SHELL names.
    """
    name = shell or Path(os.environ.get("SHELL", "")).name
    complete = get_completion_class(name) if name in SHELLS else None
    if complete is None:
        fail([f"which shell? name one of {', '.join(SHELLS)}"], 2)
    click.echo(complete(ctx.find_root().command, {}, "weir", _VARIABLE).source())
