"""The command in this process, and plugins to be found by it."""

from collections.abc import Mapping
from importlib.metadata import EntryPoint

import pytest
from click.testing import CliRunner, Result

from proxy.cli import main
from proxy.core import loader


def weir(*arguments: str, stdin: str | None = None, **env: str) -> Result:
    return CliRunner().invoke(main, arguments, input=stdin, env=env, prog_name="weir")


def said(result: Result, status: int = 0) -> str:
    """What it printed, once it is sure how it ended. A failure is lines on stderr, and no trace."""
    assert result.exit_code == status, result.output
    assert "Traceback" not in result.output
    if not status:
        return result.stdout
    assert all(line.startswith("weir: ") for line in result.stderr.splitlines()), result.stderr
    return result.stderr


def install(monkeypatch: pytest.MonkeyPatch, plugins: Mapping[str, str]) -> None:
    """Make these all that is installed: `module:Class` by name."""
    entries = {name: EntryPoint(name, value, loader.GROUP) for name, value in plugins.items()}
    monkeypatch.setattr(loader, "installed", lambda: entries)
