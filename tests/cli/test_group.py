"""The commands there are, and those that plugins add."""

import re
import tomllib
from collections.abc import Iterator, Sequence
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import click
import pytest

from proxy import __version__
from proxy.api import Plugin
from proxy.cli import main

from .running import install, said, weir

HERE = "tests.cli.test_group"
PAGE = Path(__file__).parents[2] / "docs" / "cli.md"


class Offers(Plugin):
    """Adds a command of its own."""

    @classmethod
    def commands(cls) -> list[click.Command]:
        @click.command("ledger", epilog="Example: weir ledger")
        def ledger() -> None:
            """Show the ledger."""
            click.echo("the ledger")

        return [ledger]


class Replaces(Plugin):
    @classmethod
    def commands(cls) -> list[click.Command]:
        return [click.Command("check", callback=lambda: click.echo("replaced"))]


class Fails(Plugin):
    @classmethod
    def commands(cls) -> list[click.Command]:
        raise RuntimeError("no\ncommands today")


@pytest.fixture
def offered(monkeypatch: pytest.MonkeyPatch) -> None:
    """A plugin that offers a command, and one that is broken."""
    install(monkeypatch, {"broken": "no.such.module:X", "offers": f"{HERE}:Offers"})


def every(group: click.Group, above: Sequence[str] = ()) -> Iterator[tuple[str, ...]]:
    """All commands, those within groups too."""
    for name, command in group.commands.items():
        yield (*above, name)
        if isinstance(command, click.Group):
            yield from every(command, (*above, name))


def built_in() -> dict[str, click.Command]:
    """The commands of the plugins that come with Weir."""
    project = tomllib.loads((PAGE.parents[1] / "pyproject.toml").read_text())["project"]
    found: dict[str, click.Command] = {}
    for name, place in project["entry-points"]["weir.plugins"].items():
        plugin: type[Plugin] = EntryPoint(name, place, "weir.plugins").load()
        found |= {str(command.name): command for command in plugin.commands()}
    return found


def test_its_version() -> None:
    assert said(weir("--version")) == f"weir, version {__version__}\n"


@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_its_help_names_the_commands_and_cuts_no_sentence_short(flag: str) -> None:
    told = said(weir(flag))
    for name in ("init", "check", "serve", "schema", "plugins", "plugin", "completion"):
        assert f"\n  {name} " in told
    assert "..." not in told.partition("Commands:")[2]


@pytest.mark.parametrize("command", list(every(main)), ids=" ".join)
def test_every_commands_help_has_an_example(command: tuple[str, ...]) -> None:
    told = said(weir(*command, "--help"))
    assert f"Example: weir {' '.join(command)}" in told
    assert "Usage: weir" in told


def test_the_page_has_every_command_and_nothing_else() -> None:
    groups = {("plugin",), ("pricing",), ("keys",)}
    all_ = click.Group(commands={**main.commands, **built_in()})
    assert {f"weir {' '.join(name)}" for name in every(all_) if name not in groups} == set(
        re.findall(r"^\| `(weir [a-z ]+)` \|", PAGE.read_text(), re.MULTILINE)
    )


def test_what_does_not_exist_is_wrong_use() -> None:
    result = weir("frobnicate")
    assert result.exit_code == 2
    assert "frobnicate" in result.output


def test_wrong_options_are_wrong_use() -> None:
    assert weir("serve", "--port", "70000").exit_code == 2
    assert weir("check", "--nonsense").exit_code == 2


@pytest.mark.usefixtures("offered")
def test_a_plugins_command_is_offered_and_runs() -> None:
    told = said(weir("--help"))
    assert "ledger" in told
    assert "Show the ledger." in told
    assert weir("ledger").stdout == "the ledger\n"
    assert "Example: weir ledger" in weir("ledger", "--help").stdout


class Asks(Plugin):
    """Asks what is configured."""

    @classmethod
    def commands(cls) -> list[click.Command]:
        @click.command("asks")
        @click.pass_obj
        def asks(obj: Any) -> None:
            click.echo(obj(None).server.replicas)

        return [asks]


def test_a_plugins_command_can_ask_what_is_configured(monkeypatch: pytest.MonkeyPatch, clean: Path) -> None:
    install(monkeypatch, {"asks": f"{HERE}:Asks"})
    (clean / "weir.yaml").write_text("replicas: 7\n")
    assert said(weir("asks")) == "7\n"
    (clean / "weir.yaml").write_text("replicas: none\n")
    assert "weir.yaml:1: replicas" in said(weir("asks"), 2)


@pytest.mark.usefixtures("offered")
def test_a_broken_package_does_not_take_the_others_along() -> None:
    result = weir("ledger")
    assert result.exit_code == 0
    assert "'broken' cannot be loaded" in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_a_plugin_that_cannot_say_its_commands_is_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, {"fails": f"{HERE}:Fails", "offers": f"{HERE}:Offers"})
    result = weir("ledger")
    assert result.stdout == "the ledger\n"
    assert result.stderr == "weir: the plugin 'fails' cannot say its commands: no commands today\n"


@pytest.mark.usefixtures("offered")
def test_ours_run_without_looking_at_any_plugins_commands() -> None:
    assert "broken" not in weir("check", "--help").output


def test_a_plugin_cannot_replace_a_command_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, {"replaces": f"{HERE}:Replaces"})
    assert "replaced" not in weir("check").output
    assert weir("--help").stdout.count("\n  check ") == 1
