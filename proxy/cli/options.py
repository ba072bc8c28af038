"""What several commands share: `--config`, and how a command fails."""

import os
import sys
from pathlib import Path
from typing import NoReturn

import click

DEFAULT_CONFIG = Path("weir.yaml")

config = click.option(
    "-c",
    "--config",
    type=click.Path(path_type=Path),
    envvar="WEIR_CONFIG",
    show_envvar=True,
    help="The YAML file; without it, ./weir.yaml if there is one.",
)


def found(config: Path | None) -> Path | None:
    """The configuration file there is. Also tells of variables that look like settings and are none."""
    from proxy.core.config import strangers

    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())  # for `use: my_module:MyPlugin` beside weir.yaml
    for line in strangers(os.environ):
        click.echo(f"weir: warning: {line}", err=True)
    return DEFAULT_CONFIG if config is None and DEFAULT_CONFIG.exists() else config


def fail(problems: list[str], status: int) -> NoReturn:
    """End with a line on stderr for each problem. 1: could not run; 2: wrong use or configuration."""
    for problem in problems:
        click.echo(f"weir: {problem}", err=True)
    sys.exit(status)
