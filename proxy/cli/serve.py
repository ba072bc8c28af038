"""`weir serve`: Weir itself."""

import os
import sys
from pathlib import Path

import click

from proxy.cli.options import config, fail, found


@click.command(epilog="Example: weir serve --config weir.yaml --port 3006")
@config
@click.option("--host", help="Listen on this address instead of the configured one.")
@click.option("--port", type=click.IntRange(0, 65535), help="Listen on this port (0: any free one).")
@click.option("--workers", type=int, help="Share the port between this many processes.")
def serve(config: Path | None, host: str | None, port: int | None, workers: int | None) -> None:
    """Serve requests until a signal. Without an upstream, the built-in demo one is started."""
    path, given = found(config), {"host": host, "port": port, "workers": workers}
    from proxy.core.config import ConfigError, load
    from proxy.core.server import start

    try:
        number = start.run(lambda: load(path, os.environ, given), str(path or "weir.yaml"), path)
    except ConfigError as error:
        fail(error.problems, 2)
    except start.StartError as error:
        fail([str(error)], 1)
    sys.exit(128 + number if number else 0)
