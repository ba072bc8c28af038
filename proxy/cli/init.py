"""`weir init`: a commented weir.yaml, and the schema by which editors complete it."""

from pathlib import Path

import click

from proxy.cli.installed import installed
from proxy.cli.options import DEFAULT_CONFIG, fail
from proxy.cli.schema import written

TEMPLATE = Path(__file__).parent / "templates" / "weir.yaml"
SCHEMA = "weir.schema.json"
"""Beside the file; its first line names it, which editors with a YAML language server understand."""


@click.command(epilog="Example: weir init && weir check && weir serve")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False), default=DEFAULT_CONFIG)
@click.option("--force", is_flag=True, help="Write over files that are there.")
def init(file: Path, force: bool) -> None:
    """Write a commented weir.yaml to start from.

    FILE is another name for it. It runs as it is. Beside it goes weir.schema.json, by which editors complete
    and check it; one that is there already is kept.
    """
    beside = file.parent / SCHEMA
    try:
        _write(file, TEMPLATE.read_bytes(), force=force)
    except FileExistsError:
        fail([f"{file} is there already; --force writes over it"], 1)
    except OSError as error:
        fail([f"{file} cannot be written: {error.strerror}"], 1)
    click.echo(f"wrote {file}: `weir check` says what it comes to, `weir serve` runs it")
    try:
        _write(beside, written(installed()), force=force)
    except FileExistsError:
        click.echo(f"kept {beside}, which was there; `weir schema` prints a new one")
    except OSError as error:
        fail([f"{beside} cannot be written: {error.strerror}"], 1)
    else:
        click.echo(f"wrote {beside}, by which editors complete and check it")


def _write(path: Path, text: bytes, *, force: bool) -> None:
    # "x" fails on what is there, a link that leads nowhere included, with no gap between look and write.
    with path.open("wb" if force else "xb") as file:
        file.write(text)
