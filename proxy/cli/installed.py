"""The plugins that are installed, looked at one by one: a broken one does not take the others along."""

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import EntryPoint

import click

from proxy.api.plugin import Plugin

HOOKS = ("on_request", "on_response", "on_event", "on_end")


@dataclass
class Installed:
    """A plugin by its name in a configuration. Without a class, `problem` is the line that says why."""

    name: str
    package: str
    version: str
    cls: type[Plugin] | None
    problem: str | None = None

    @property
    def about(self) -> str:
        """What it is for: the first sentence of its docstring; empty if it has none."""
        paragraph = inspect.cleandoc(self.cls.__doc__ or "").partition("\n\n")[0] if self.cls else ""
        sentence, dot, _ = " ".join(paragraph.split()).partition(". ")
        return sentence + dot.strip()

    def commands(self) -> Sequence[click.Command]:
        """The commands that it offers. If it fails to say, none, and `problem` is set."""
        if self.cls is None:
            return ()
        try:
            return self.cls.commands()
        except Exception as error:  # noqa: BLE001 # a plugin may raise anything
            self.problem = f"the plugin {self.name!r} cannot say its commands: {_one_line(error)}"
            return ()


def installed() -> list[Installed]:
    """All that are there, by name."""
    from proxy.core import loader

    return [_look_at(entry) for _, entry in sorted(loader.installed().items())]


def overridden(cls: type[Plugin], names: Sequence[str] = HOOKS) -> list[str]:
    """Which of these a plugin has of its own."""
    return [name for name in names if getattr(cls, name) is not getattr(Plugin, name)]


def _look_at(entry: EntryPoint) -> Installed:
    package, version = (entry.dist.name, entry.dist.version) if entry.dist else ("?", "?")
    try:
        cls = entry.load()
    except Exception as error:  # noqa: BLE001 # importing somebody's module may raise anything
        problem = f"the plugin {entry.name!r} cannot be loaded: {_one_line(error)}"
        return Installed(entry.name, package, version, None, problem)
    if not (isinstance(cls, type) and issubclass(cls, Plugin)):
        problem = f"the plugin {entry.name!r} is not a subclass of proxy.api.Plugin"
        return Installed(entry.name, package, version, None, problem)
    return Installed(entry.name, package, version, cls)


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
