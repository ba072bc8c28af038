"""`weir pricing`: looks after a price table."""

from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import orjson

from proxy.cli.options import config, fail

if TYPE_CHECKING:
    from proxy.pricing.sources import Difference
    from proxy.pricing.table import Table

_TABLE = click.argument("table", required=False, type=click.Path(path_type=Path, dir_okay=False))
_LITELLM = click.option(
    "--litellm",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="A file of litellm's prices, model_prices_and_context_window.json.",
)


@click.group(epilog="Example: weir pricing diff")
def pricing() -> None:
    """Look after a price table."""


@pricing.command(epilog="Example: weir pricing check prices.yaml")
@_TABLE
@config
def check(table: Path | None, config: Path | None) -> None:
    """Check a price table and say what it comes to.

    TABLE is a YAML file; without it, the one that the configuration names, or else Weir's own. Ends with 2
    and a line for each mistake.
    """
    prices = _table(table, config)
    document = prices.document
    stand_in = document.unknown_model.price_as
    policy = document.unknown_model.policy if stand_in is None else f"price as {stand_in}"
    click.echo(f"version        {prices.version}")
    click.echo(f"models         {len(document.models)}, {len(document.aliases)} aliases")
    click.echo(f"upstreams      {', '.join(sorted(prices.upstreams)) or 'none has prices of its own'}")
    click.echo(f"unknown model  {policy}")
    click.echo("ok")


@pricing.command(epilog="Example: weir pricing diff --litellm model_prices_and_context_window.json")
@_TABLE
@_LITELLM
@config
def diff(table: Path | None, litellm: Path | None, config: Path | None) -> None:
    """List the prices that other sources have otherwise.

    Compares with genai-prices, if it is installed, and with a file of litellm's, if one is named: a line for
    each price. Each source has been wrong, so nothing is changed. TABLE is as for `weir pricing check`.
    """
    found = [f"{source}: {each}" for source, each in _differences(_table(table, config), litellm)]
    for line in found:
        click.echo(line)
    if not found:
        click.echo("no price differs")


@pricing.command(epilog="Example: weir pricing update gpt-4o > prices.yaml")
@click.argument("models", nargs=-1)
@click.option(
    "--from",
    "starts",
    type=click.DateTime(["%Y-%m-%d"]),
    help="The day the prices begin; today if not given.",
)
@_LITELLM
@config
def update(
    models: tuple[str, ...], starts: datetime | None, litellm: Path | None, config: Path | None
) -> None:
    """Print a table with the prices of other sources.

    It has the models of which genai-prices, or the file of litellm's, has another price of its own than the
    configured table, with that price from today on and those before it as they were; with MODELS, those of
    them alone. Where both sources differ from the table and from each other, genai-prices counts. Read it
    before it is used: it extends Weir's own table.
    """
    from proxy.pricing.written import repriced, written

    table = _table(None, config)
    day = (starts or datetime.now(UTC)).date()
    chosen: dict[str, dict[tuple[str, str], tuple[str, Difference]]] = {}
    for source, each in _differences(table, litellm):
        model = table.model(each.model)
        if model is None or each.ours is None or each.inherited or (models and model.id not in models):
            continue
        chosen.setdefault(model.id, {}).setdefault((each.tier, each.unit), (source, each))
    if not chosen:
        click.echo("weir: no source has another price of its own", err=True)
        return
    entries = [
        repriced(table.document.models[name], [each for _, each in found.values()], day)
        for name, found in chosen.items()
    ]
    notes = {name: [f"{source}: {each}" for source, each in found.values()] for name, found in chosen.items()}
    click.echo(written(day, entries, notes), nl=False)


def _table(path: Path | None, config: Path | None) -> "Table":
    from proxy.cli.tokens import named_table
    from proxy.core import pricing
    from proxy.core.config import ConfigError

    try:
        return pricing.load(path if path is not None else named_table(config))
    except ConfigError as error:
        fail(error.problems, 2)


def _differences(table: "Table", litellm: Path | None) -> "Iterable[tuple[str, Difference]]":
    """By source, genai-prices first."""
    from importlib.metadata import PackageNotFoundError, version

    from proxy.pricing.sources import against_genai, against_litellm

    try:
        name = f"genai-prices {version('genai-prices')}"
    except PackageNotFoundError:
        if litellm is None:
            fail(
                ["there is nothing to compare with: pip install genai-prices, or name a file with --litellm"],
                1,
            )
    else:
        yield from ((name, each) for each in against_genai(table))
    if litellm is not None:
        yield from (("litellm", each) for each in against_litellm(table, _rows(litellm)))


def _rows(path: Path) -> dict[str, Any]:
    try:
        rows = orjson.loads(path.read_bytes())
    except orjson.JSONDecodeError as error:
        fail([f"{path}: is not JSON: {error}"], 2)
    except OSError as error:
        fail([f"{path}: cannot be read: {error.strerror}"], 1)
    if not isinstance(rows, dict) or not all(isinstance(row, dict) for row in rows.values()):
        fail([f"{path}: is not litellm's file: an object of models is expected"], 2)
    return rows
