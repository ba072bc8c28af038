"""Names in a configuration → plugins in order.

`auth` is an entry point in the group `weir.plugins`, ours or another package's; `package.module:Class` is
imported as it stands. The keys beside `use:` are the constructor's keywords.
"""

import difflib
import importlib
import inspect
from collections.abc import Sequence
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from proxy.api.plugin import Plugin
from proxy.core.config import ConfigError, PluginSettings

GROUP = "weir.plugins"


def installed() -> dict[str, EntryPoint]:
    """The plugins that are installed, by name."""
    return {entry.name: entry for entry in entry_points(group=GROUP)}


def load(items: Sequence[PluginSettings]) -> list[Plugin]:
    """The plugins of a configuration, made and named. Raises `ConfigError` with every problem at once."""
    plugins = []
    problems: list[str] = []
    for item in items:
        try:
            plugins.append(_make(item))
        except _Unusable as error:
            problems += (item.problem(() if key is None else (key,), text) for text, key in error.problems)
    if problems:
        raise ConfigError(problems)
    return plugins


class _Unusable(Exception):
    """Each problem with the key that it is about, if it is about one."""

    def __init__(self, *problems: tuple[str, str | None]) -> None:
        super().__init__()
        self.problems = problems


def _make(item: PluginSettings) -> Plugin:
    use = item.use
    cls = _find(use)
    options = dict(item.options)
    parameters = inspect.signature(cls).parameters
    open_ended = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    known = [name for name, p in parameters.items() if p.kind in (p.KEYWORD_ONLY, p.POSITIONAL_OR_KEYWORD)]
    problems: list[tuple[str, str | None]] = []
    meant = set()
    for key in options:
        if key not in known and not open_ended:
            near = difflib.get_close_matches(key, known, 1)
            meant.update(near)
            hint = f'; did you mean "{near[0]}"?' if near else f"; it knows {', '.join(known) or 'no keys'}"
            problems.append((f"unknown key{hint}", key))
    missing = [
        name
        for name, p in parameters.items()
        if name not in options and p.default is p.empty and p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)
    ]
    if missing := [name for name in missing if name not in meant]:
        problems.append((f"{use} needs {', '.join(missing)}", None))
    if problems:
        raise _Unusable(*problems)
    try:
        plugin = cls(**options)
    except (ValueError, TypeError) as error:
        raise _Unusable((f"{use}: {_one_line(error)}", None)) from error
    plugin.name = use.rpartition(":")[2] if ":" in use else use
    return plugin


def _find(use: str) -> "type[Plugin]":
    cls: Any
    try:
        if ":" in use:
            module, _, name = use.partition(":")
            cls = getattr(importlib.import_module(module), name)
        else:
            entries = installed()
            if use not in entries:
                near = difflib.get_close_matches(use, entries, 1)
                hint = f'did you mean "{near[0]}"?' if near else f"installed are {', '.join(sorted(entries))}"
                raise _Unusable((f'there is no plugin "{use}"; {hint}', None))
            cls = entries[use].load()
    except (ImportError, AttributeError, ValueError, TypeError) as error:
        raise _Unusable((f'the plugin "{use}" cannot be loaded: {_one_line(error)}', None)) from error
    if not (isinstance(cls, type) and issubclass(cls, Plugin)):
        raise _Unusable((f'"{use}" is not a subclass of proxy.api.Plugin', None))
    return cls


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
