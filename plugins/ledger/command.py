"""`weir usage`: what was used and what it cost, read out of the ledger's database."""

import datetime as dt
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn, TypeVar

import click

if TYPE_CHECKING:
    from sqlalchemy import Connection

T = TypeVar("T")


@click.group(
    invoke_without_command=True,
    epilog="\b\nExample: weir usage --by model --since 7d\n         weir usage --by month,team --since 30d",
)
@click.option(
    "--by", default="model", show_default=True, help="Names with commas: key, user, team, model, day …"
)
@click.option(
    "--since", default="7d", show_default=True, help="A moment, or how long ago: 2026-11-01, 7d, 24h."
)
@click.option("--until", help="A moment, or how long ago; without it, now.")
@click.option(
    "--where", multiple=True, metavar="NAME=VALUE", help="Only these: team=red, model=gpt-4o, status=200."
)
@click.option("--limit", default=30, show_default=True, help="Lines at most; the dearest are shown.")
@click.option("-c", "--config", type=click.Path(path_type=Path), envvar="WEIR_CONFIG", help="The YAML file.")
@click.option("--database", metavar="URL", help="The database; without it, the one of the configuration.")
@click.pass_context
def usage(
    ctx: click.Context,
    by: str,
    since: str,
    until: str | None,
    where: tuple[str, ...],
    limit: int,
    config: Path | None,
    database: str | None,
) -> None:
    """What was used, and what it cost, by whom and for which model."""
    ctx.obj = (ctx.obj, config, database)
    if ctx.invoked_subcommand is not None:
        return
    from .chart import table
    from .query import QueryError, read
    from .report import report

    pairs = [("by", by), ("since", since), ("limit", str(limit)), *(_pair(one) for one in where)]
    if until is not None:
        pairs.append(("until", until))
    try:
        query = read(pairs, dt.datetime.now(dt.UTC))
    except QueryError as error:
        _fail(str(error), 2)
    groups, whole = _reading(ctx, lambda connection: report(connection, query))
    names = ([query.bucket] if query.bucket else []) + [*query.by]
    if not groups:
        click.echo("nothing was used in that time")
        return
    click.echo(table(names, groups[: query.limit], whole))
    if len(groups) > query.limit:
        click.echo(f"({len(groups) - query.limit:,} more; --limit shows them)")


@usage.command(epilog="Example: weir usage reconcile completions_usage.csv")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False, exists=True))
@click.pass_context
def reconcile(ctx: click.Context, file: Path) -> None:
    """Compare with a provider's usage export.

    FILE is OpenAI's usage or costs, as JSON of its API or as CSV of its site. Exits with 1 if they differ.
    """
    from .reconcile import ExportError, differences

    export = file.read_bytes()
    try:
        found, compared = _reading(ctx, lambda connection: differences(connection, export))
    except ExportError as error:
        _fail(f"{file}: {error}", 2)
    for line in found:
        span = f"{_date(line.start)} to {_date(line.end)}"
        click.echo(
            f"{span}  {line.model or 'all models'}  {line.figure}: "
            f"theirs {line.told(line.theirs)}, ours {line.told(line.ours)}"
        )
    click.echo(f"{len(found)} of {compared} figures differ")
    sys.exit(1 if found else 0)


def _date(seconds: int) -> str:
    at = dt.datetime.fromtimestamp(seconds, dt.UTC)
    return at.strftime("%Y-%m-%d" if seconds % 86400 == 0 else "%Y-%m-%dT%H:%MZ")


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        _fail(f"--where {text}: write NAME=VALUE, such as team=red", 2)
    return name, value


def _reading(ctx: click.Context, work: "Callable[[Connection], T]") -> T:
    """`work` in the ledger's database, which must be there."""
    from sqlalchemy import make_url
    from sqlalchemy.exc import SQLAlchemyError

    from proxy.api.database import Database, default_url

    configured, config, url = ctx.obj
    try:
        if url is None:
            url = default_url(configured(config).server)
        database = Database(url, package="plugins.ledger", name="ledger")
        path = Path(make_url(url).database or "")
        if database.is_sqlite and not path.exists():
            _fail(f"there is no ledger in {path.absolute()}: nothing was recorded there yet", 1)
        try:
            with database.read() as connection:
                return work(connection)
        finally:
            database.dispose()
    except SQLAlchemyError as error:
        cause = getattr(error, "orig", None) or error
        _fail(f"the ledger cannot be read: {' '.join(str(cause).split())}", 1)
    except ValueError as error:
        if type(error) is not ValueError:  # the caller's to tell
            raise
        _fail(str(error), 2)


def _fail(problem: str, status: int) -> NoReturn:
    click.echo(f"weir: {problem}", err=True)
    sys.exit(status)
