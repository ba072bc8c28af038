"""The list of what is installed."""

import click
import pytest

from proxy import __version__
from proxy.api import End, Exchange, Plugin

from .running import install, said, weir

HERE = "tests.cli.test_plugins"


class Busy(Plugin):
    """Does a lot. It does."""

    async def on_request(self, ex: Exchange) -> None: ...

    async def on_end(self, ex: Exchange, end: End) -> None: ...

    @classmethod
    def commands(cls) -> list[click.Command]:
        return [click.Command("ledger"), click.Command("usage")]


class Idle(Plugin): ...


def test_it_lists_name_version_hooks_and_purpose() -> None:
    lines = said(weir("plugins")).splitlines()
    (auth,) = [line for line in lines if line.startswith("auth ")]
    assert auth.split() == [
        *("auth", "weir-proxy", __version__, "on_request,"),
        *("management_routes,", "commands:", "keys"),
    ]
    assert lines[lines.index(auth) + 1].strip().startswith("Fills IDENTITY")


def test_commands_and_idleness_show(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, {"busy": f"{HERE}:Busy", "idle": f"{HERE}:Idle"})
    assert said(weir("plugins")).splitlines() == [
        "busy  ? ?  on_request, on_end, commands: ledger, usage",
        "      Does a lot.",
        "idle  ? ?  no hook",
    ]


def test_a_broken_one_is_told_after_the_others_and_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, {"broken": "no.such.module:X", "idle": f"{HERE}:Idle"})
    result = weir("plugins")
    assert result.stdout == "idle    ? ?  no hook\n"
    assert said(result, 1).startswith("weir: the plugin 'broken' cannot be loaded: No module named")
