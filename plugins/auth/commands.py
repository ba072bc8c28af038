"""`weir keys`: make, list, change and revoke keys in the database that the servers look at.

No server is told: each sees a change within 2 s.
"""

import getpass
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import click
import orjson

from . import limits, when

if TYPE_CHECKING:
    from .record import Record
    from .store import Made, Store

F = TypeVar("F", bound=Callable[..., Any])
_COLUMNS = ("ID", "STATE", "USER", "TEAM", "EXPIRES", "LIMITS", "MODELS")


@click.group()
def keys() -> None:
    """Make, list, change and revoke client keys.

    They are kept in the database of the configuration, for servers whose `auth` has `store: database`.
    """


def _where(command: F) -> F:
    """The options that say which database."""
    config = click.option(
        "-c",
        "--config",
        type=click.Path(path_type=Path),
        envvar="WEIR_CONFIG",
        show_envvar=True,
        help="The YAML file; without it, ./weir.yaml if there is one.",
    )
    database = click.option("--database", metavar="URL", help="This database instead of the configured one.")
    return config(database(command))


def _said(command: F) -> F:
    """The options that say what a key is."""
    options = (
        click.option("--team", help="The team that it counts for."),
        click.option("--budget", metavar="N/WINDOW", help="A limit in US dollars, like 20/day."),
        click.option(
            "--limit", "limits_", multiple=True, metavar="KIND=N/WINDOW", help="Like requests=100/minute."
        ),
        click.option("--models", multiple=True, metavar="PATTERN", help="Models it may use, like 'gpt-4o*'."),
        click.option("--expires", metavar="WHEN", help="A span like 90d, or a date like 2030-01-31."),
    )
    for option in reversed(options):
        command = option(command)
    return command


_as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@keys.command(
    epilog="\b\nExample: weir keys create --user alice --team search --budget 20/day \\\n"
    "           --limit requests=100/minute --models 'gpt-4o*' --expires 90d"
)
@click.option("--user", required=True, help="Whose it is.")
@_said
@_as_json
@_where
@click.pass_obj
def create(
    obj: Any,
    user: str,
    team: str | None,
    budget: str | None,
    limits_: Sequence[str],
    models: Sequence[str],
    expires: str | None,
    as_json: bool,
    config: Path | None,
    database: str | None,
) -> None:
    """Make a key, and print it: this once.

    The key alone goes to standard output. --limit and --models can be given several times.
    """
    with _store(obj, config, database) as store:
        said: dict[str, Any] = {"user": user, "team": team, "models": list(models), "expires": expires}
        said["limits"] = _limits(budget, limits_)
        made = store.create(said, _who())
        _tell_made(made, as_json)
        _warn(obj, config, database)


@keys.command("list", epilog="Example: weir keys list --team search")
@click.option("--user", help="Of this user only.")
@click.option("--team", help="Of this team only.")
@click.option("--revoked", is_flag=True, help="Revoked ones too.")
@_as_json
@_where
@click.pass_obj
def list_(
    obj: Any,
    user: str | None,
    team: str | None,
    revoked: bool,
    as_json: bool,
    config: Path | None,
    database: str | None,
) -> None:
    """List keys: a line for each, in the order of their ids."""
    now = time.time()
    with _store(obj, config, database) as store:
        rows: list[tuple[str, ...]] = [] if as_json else [_COLUMNS]
        after = ""
        while found := store.find(user=user, team=team, revoked=revoked, after=after):
            after = found[-1].id
            if as_json:
                for record in found:
                    click.echo(orjson.dumps(record.shown(now)))
            else:
                rows += [_row(record, now) for record in found]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        for row in rows:
            click.echo("  ".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=True)).rstrip())


@keys.command(epilog="Example: weir keys show key_4tN0fWk2LmQz")
@click.argument("id")
@_as_json
@_where
@click.pass_obj
def show(obj: Any, id: str, as_json: bool, config: Path | None, database: str | None) -> None:
    """Show a key, and what was done to it."""
    with _store(obj, config, database) as store:
        _tell(store.get(id), as_json)
        if as_json:
            return
        for line in store.audit(id):
            changed = ", ".join(line["changed"])
            click.echo(f"{when.written(line['at'])}  {line['what']} by {line['who']}: {changed}")


@keys.command(
    epilog="\b\nExample: weir keys update key_4tN0fWk2LmQz --budget 40/day --limit requests=200/minute\n"
    "         weir keys update key_4tN0fWk2LmQz --without limits --without expires"
)
@click.argument("id")
@click.option("--user", help="Whose it is.")
@_said
@click.option(
    "--without",
    multiple=True,
    type=click.Choice(["team", "limits", "models", "expires"]),
    help="Take this away.",
)
@_as_json
@_where
@click.pass_obj
def update(
    obj: Any,
    id: str,
    user: str | None,
    team: str | None,
    budget: str | None,
    limits_: Sequence[str],
    models: Sequence[str],
    expires: str | None,
    without: Sequence[str],
    as_json: bool,
    config: Path | None,
    database: str | None,
) -> None:
    """Change a key; what is not named stays.

    --budget and --limit together replace all limits that it had, --models all patterns.
    """
    with _store(obj, config, database) as store:
        named: dict[str, Any] = {
            "user": user,
            "team": team,
            "models": list(models) or None,
            "expires": expires,
        }
        named["limits"] = _limits(budget, limits_) or None
        said: dict[str, Any] = {name: value for name, value in named.items() if value is not None}
        for name in without:
            if name in said:
                raise ValueError(f"--without {name} and a value for it: which of the two?")
            said[name] = None
        if not said:
            raise ValueError("say what to change, such as --expires 90d")
        _tell(store.update(id, said, _who()), as_json)


@keys.command(epilog="Example: weir keys rotate key_4tN0fWk2LmQz --grace 1h")
@click.argument("id")
@click.option("--grace", default="1d", show_default=True, help="How long the old one stays good.")
@_as_json
@_where
@click.pass_obj
def rotate(obj: Any, id: str, grace: str, as_json: bool, config: Path | None, database: str | None) -> None:
    """Put a new key in the place of one, and print it: this once.

    Id, limits and what was used of them stay.
    """
    with _store(obj, config, database) as store:
        try:
            seconds = when.span(grace)
        except ValueError as error:
            raise ValueError(f"--grace {error}") from None
        _tell_made(store.rotate(id, _who(), seconds), as_json)


@keys.command(epilog="Example: weir keys revoke key_4tN0fWk2LmQz")
@click.argument("id")
@_as_json
@_where
@click.pass_obj
def revoke(obj: Any, id: str, as_json: bool, config: Path | None, database: str | None) -> None:
    """End a key, for good. Every server refuses it within 2 s."""
    with _store(obj, config, database) as store:
        _tell(store.revoke(id, _who()), as_json)


# -- what they share -------------------------------------------------------------------------------------


@contextmanager
def _store(obj: Any, config: Path | None, database: str | None) -> "Iterator[Store]":
    """The database. What is wrong becomes a line on standard error: 2 for wrong use, else 1."""
    from sqlalchemy.exc import DBAPIError

    from proxy.api.database import default_url

    from .store import NoSuchKey, Store

    try:
        store = Store(database or default_url(obj(config).server))
        try:
            store.open()
            yield store
        finally:
            store.close()
    except ValueError as error:
        _fail(str(error), 2)
    except NoSuchKey as error:
        _fail(str(error), 1)
    except DBAPIError as error:
        _fail(f"the database cannot be used: {_first_line(error.orig)}", 1)


def _fail(problem: str, status: int) -> NoReturn:
    click.echo(f"weir: {problem}", err=True)
    sys.exit(status)


def _first_line(error: BaseException | None) -> str:
    return next(iter(str(error).splitlines()), "") or type(error).__name__


def _warn(obj: Any, config: Path | None, database: str | None) -> None:
    """Of a server of this configuration that would not look at the database."""
    if database is not None:
        return
    chain = obj(config).plugins or ()
    if not any(use == "auth" and options.get("store") == "database" for use, options in chain):
        click.echo("weir: warning: no server of this configuration looks for keys there:", err=True)
        click.echo("weir: warning: give `auth` in its plugins `store: database`", err=True)


def _who() -> str:
    try:
        return f"cli:{getpass.getuser()}"
    except (KeyError, OSError):  # an arbitrary user of a container has no name
        return "cli"


def _limits(budget: str | None, texts: Sequence[str]) -> list[dict[str, Any]]:
    found = [limits.parse(text) for text in texts]
    return found if budget is None else [*found, {"cost": budget}]


def _tell_made(made: "Made", as_json: bool) -> None:
    record = made.record
    if as_json:
        click.echo(orjson.dumps({**record.shown(time.time()), "key": made.key}))
        return
    click.echo(made.key)
    until = f", good until {when.written(record.expires_at / 1e6)}" if record.expires_at else ""
    click.echo(f"{record.id} of {record.user}{until}. The key is not shown again.", err=True)


def _tell(record: "Record", as_json: bool) -> None:
    shown = record.shown(time.time())
    if as_json:
        click.echo(orjson.dumps(shown))
        return
    del shown["object"]
    for name, value in shown.items():
        if value:
            click.echo(f"{name:15} {_cell(value)}")


def _row(record: "Record", now: float) -> tuple[str, ...]:
    shown = record.shown(now)
    return tuple(
        _cell(shown[name]) for name in ("id", "state", "user", "team", "expires", "limits", "models")
    )


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, list):
        return " ".join(_cell(one) for one in value)
    if isinstance(value, dict):
        return ",".join(f"{name}={_cell(one)}" for name, one in value.items())
    return str(value)
