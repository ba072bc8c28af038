"""The `weir` command, one command a file.

Exit status: 0 done, 1 could not run, 2 wrong use or configuration, 128 + n ended by signal n. What a command
needs of Weir is imported when it runs, so that `--help` and completion are quick.
"""

import click

from proxy import __version__
from proxy.cli.check import check
from proxy.cli.completion import completion
from proxy.cli.demo import demo
from proxy.cli.group import Commands
from proxy.cli.init import init
from proxy.cli.plugin import plugin
from proxy.cli.plugins import plugins
from proxy.cli.pricing import pricing
from proxy.cli.schema import schema
from proxy.cli.serve import serve
from proxy.cli.tokens import tokens

__all__ = ["main"]


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="weir")
def main() -> None:
    """Weir: a transparent, streaming reverse proxy for OpenAI-shaped APIs."""


for _command in (demo, init, check, serve, tokens, pricing, schema, plugins, plugin, completion):
    main.add_command(_command)
