"""The `weir` command, in this process."""

import os
import socket
import sys
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

from proxy import __version__
from proxy.api import IDENTITY, Plugin
from proxy.cli import main
from proxy.core import loader

HERE = "tests.test_cli"


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A folder of its own, and nothing in the environment that would count."""
    for name in list(os.environ):
        if name in ("HOST", "PORT") or name.startswith(("WEIR_", "OPENAI_")):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path[:])
    return tmp_path


def weir(*arguments: str, **env: str) -> Result:
    return CliRunner().invoke(main, arguments, env=env, prog_name="weir")


class Needs(Plugin):
    requires = (IDENTITY,)


class Offers(Plugin):
    """Adds a command of its own."""

    @classmethod
    def commands(cls) -> list[click.Command]:
        @click.command("ledger", epilog="Example: weir ledger")
        def ledger() -> None:
            """Show the ledger."""
            click.echo("the ledger")

        return [ledger]


@pytest.fixture
def offered(monkeypatch: pytest.MonkeyPatch) -> None:
    """A plugin that offers a command, and one that is broken."""

    def installed() -> dict[str, EntryPoint]:
        group = loader.GROUP
        return {
            "broken": EntryPoint("broken", "no.such.module:X", group),
            "offers": EntryPoint("offers", f"{HERE}:Offers", group),
        }

    monkeypatch.setattr(loader, "installed", installed)


def test_its_version() -> None:
    result = weir("--version")
    assert (result.exit_code, result.output) == (0, f"weir, version {__version__}\n")


@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_its_help_names_the_commands(flag: str) -> None:
    result = weir(flag)
    assert result.exit_code == 0
    for name in ("serve", "check"):
        assert name in result.output


@pytest.mark.parametrize("command", sorted(main.list_commands(click.Context(main))))
def test_every_commands_help_has_an_example(command: str) -> None:
    result = weir(command, "--help")
    assert result.exit_code == 0
    assert f"Example: weir {command}" in result.output
    assert "Usage: weir" in result.output


def test_what_does_not_exist_is_wrong_use() -> None:
    result = weir("frobnicate")
    assert result.exit_code == 2
    assert "frobnicate" in result.output


def test_wrong_options_are_wrong_use() -> None:
    assert weir("serve", "--port", "70000").exit_code == 2
    assert weir("check", "--nonsense").exit_code == 2


# -- check ---------------------------------------------------------------------------------------------


def test_check_without_anything_is_the_demo() -> None:
    result = weir("check")
    assert result.exit_code == 0, result.output
    assert "listen      127.0.0.1:3006" in result.output
    assert "demo" in result.output
    assert "auth" in result.output
    assert result.output.endswith("ok\n")


def test_check_says_what_a_file_comes_to_and_no_secret(clean: Path) -> None:
    clean.joinpath("weir.yaml").write_text(
        "listen: 127.0.0.1:4000\n"
        "management: off\n"
        "upstreams:\n"
        "  - name: up\n"
        "    base_url: https://up.test/v1\n"
        "    api_key: sk-topsecret12345\n"
        "plugins:\n"
        "  - use: auth\n"
        "    keys: [{user: alice, key: weir-topsecret}]\n"
    )
    result = weir("check")
    assert result.exit_code == 0, result.output
    for line in ("127.0.0.1:4000", "management  off", "up at https://up.test/v1, with a key", "auth"):
        assert line in result.output
    assert "topsecret" not in result.output


def test_check_takes_the_file_that_is_named_over_the_one_that_is_there(clean: Path) -> None:
    clean.joinpath("weir.yaml").write_text("nonsense: 1\n")
    other = clean / "other.yaml"
    other.write_text("listen: 127.0.0.1:4001\n")
    for result in (weir("check", "-c", str(other)), weir("check", WEIR_CONFIG=str(other))):
        assert result.exit_code == 0, result.output
        assert "127.0.0.1:4001" in result.output


def test_check_counts_the_environment() -> None:
    result = weir("check", PORT="4002", OPENAI_API_KEY="sk-topsecret12345")
    assert result.exit_code == 0, result.output
    assert "127.0.0.1:4002" in result.output
    assert "https://api.openai.com/v1, with a key" in result.output
    assert "topsecret" not in result.output


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("listne: 1\n", ["weir.yaml:1", "listne"]),
        ("listen: [\n", ["weir.yaml:"]),
        ("plugins: [auht]\n", ["weir.yaml:1", 'did you mean "auth"?']),
        ("plugins:\n  - use: auth\n    keys: [{key: weir-topsecret}]\n", ["user must be set"]),
        ("plugins:\n  - use: auth\n    kyes: []\n", ["weir.yaml:3", "kyes"]),
        (f"plugins:\n  - use: {HERE}:Needs\n", ["weir.yaml", "needs Slot('identity')"]),
        (
            "listen: :3006\nupstreams: [{base_url: 'https://up.test', api_key: sk-topsecret12345}]\n",
            ["allow_open"],
        ),
    ],
)
def test_check_fails_with_2_and_says_what_is_wrong(clean: Path, text: str, says: list[str]) -> None:
    clean.joinpath("weir.yaml").write_text(text)
    result = weir("check")
    assert result.exit_code == 2
    assert result.stdout == ""
    for part in says:
        assert part in result.stderr
    assert all(line.startswith("weir: ") for line in result.stderr.splitlines())
    assert "topsecret" not in result.stderr
    assert "Traceback" not in result.stderr


def test_check_tells_every_problem(clean: Path) -> None:
    clean.joinpath("weir.yaml").write_text("listne: 1\nlog: {level: loud}\n")
    result = weir("check")
    assert result.exit_code == 2
    assert len(result.stderr.splitlines()) == 2


def test_a_file_that_is_not_there() -> None:
    result = weir("check", "--config", "no-such.yaml")
    assert result.exit_code == 2
    assert "no-such.yaml" in result.stderr


@pytest.mark.parametrize("use", [":Class", ".relative:Class"])
def test_a_plugins_name_that_is_half_there_is_no_traceback(clean: Path, use: str) -> None:
    clean.joinpath("weir.yaml").write_text(f"plugins: ['{use}']\n")
    result = weir("check")
    assert result.exit_code == 2, result.exception
    assert "weir.yaml:1" in result.stderr


# -- serve ---------------------------------------------------------------------------------------------


def test_serve_with_a_wrong_configuration_is_2(clean: Path) -> None:
    clean.joinpath("weir.yaml").write_text("listne: 1\n")
    result = weir("serve")
    assert result.exit_code == 2
    assert "weir.yaml:1" in result.stderr
    assert "Traceback" not in result.output


def test_serve_where_it_cannot_is_1(monkeypatch: pytest.MonkeyPatch) -> None:
    from proxy.core import log

    monkeypatch.setattr(log, "configure", lambda level, form: None)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        result = weir("serve", "--port", str(port))
    assert result.exit_code == 1, result.output
    assert f"cannot listen on 127.0.0.1:{port}" in result.stderr
    assert all(line.startswith("weir: ") for line in result.stderr.splitlines())


@pytest.mark.parametrize(("number", "status"), [(0, 0), (2, 130), (15, 143)])
def test_serve_ends_as_its_signal_says(monkeypatch: pytest.MonkeyPatch, number: int, status: int) -> None:
    from proxy.core.server import start

    async def serve(*arguments: Any) -> int:
        return number

    monkeypatch.setattr(start, "serve", serve)
    assert weir("serve").exit_code == status


# -- what plugins offer --------------------------------------------------------------------------------


@pytest.mark.usefixtures("offered")
def test_a_plugins_command_is_offered_and_runs() -> None:
    result = weir("--help")
    assert "ledger" in result.stdout
    assert "Show the ledger." in result.stdout
    assert weir("ledger").stdout == "the ledger\n"
    assert "Example: weir ledger" in weir("ledger", "--help").stdout


@pytest.mark.usefixtures("offered")
def test_a_broken_package_does_not_take_the_others_along() -> None:
    result = weir("ledger")
    assert result.exit_code == 0
    assert "'broken' cannot be loaded" in result.stderr
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.usefixtures("offered")
def test_ours_run_without_looking_at_any_plugins_commands() -> None:
    assert "broken" not in weir("check", "--help").output


def test_a_plugin_cannot_replace_a_command_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    class Replaces(Plugin):
        @classmethod
        def commands(cls) -> list[click.Command]:
            return [click.Command("check", callback=lambda: click.echo("replaced"))]

    class Entry:
        name = "replaces"

        def load(self) -> type[Plugin]:
            return Replaces

    monkeypatch.setattr(loader, "installed", lambda: {"replaces": Entry()})
    assert "replaced" not in weir("check").output
