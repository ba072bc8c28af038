"""`weir schema`: the configuration file as a JSON schema, with the plugins that are installed here."""

import inspect
from typing import Any

import click
import orjson

from proxy.cli.installed import Installed, installed


@click.command(epilog="Example: weir schema > weir.schema.json")
def schema() -> None:
    """Print the JSON schema of weir.yaml.

    Editors complete and check the file by it. It knows the plugins that are installed here, and their
    options. `weir init` writes it beside weir.yaml.
    """
    plugins = installed()
    for plugin in plugins:
        if plugin.problem is not None:
            click.echo(f"weir: warning: {plugin.problem}", err=True)
    click.echo(written(plugins), nl=False)


def written(plugins: list[Installed]) -> bytes:
    """The schema as it stands in a file."""
    return orjson.dumps(document(plugins), option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)


def document(plugins: list[Installed]) -> dict[str, Any]:
    """The schema. Of a plugin's options it knows what the signature of its constructor says."""
    from proxy.core import config

    made = config.schema()
    known = [plugin for plugin in plugins if plugin.cls is not None]
    # What is not installed here is a class by its module, or text that is filled in when it is loaded.
    other = {"type": "string", "pattern": r":|\$\{", "description": "A class, as `module:Class`."}
    names = [{"const": plugin.name, "description": plugin.about} for plugin in known]
    mappings = [_mapping(plugin) for plugin in known]
    mappings.append({"type": "object", "properties": {"use": other}, "required": ["use"]})
    made["$defs"]["PluginSettings"] = {
        "description": "A plugin: its name, or its name and its options.",
        "anyOf": [*names, other, *mappings],
    }
    return made


def _mapping(plugin: Installed) -> dict[str, Any]:
    """A plugin with its options: the keywords of its constructor."""
    options = inspect.signature(plugin.cls).parameters.values() if plugin.cls is not None else ()
    named = [one for one in options if one.kind in (one.KEYWORD_ONLY, one.POSITIONAL_OR_KEYWORD)]
    use = {"const": plugin.name, "description": plugin.about}
    return {
        "type": "object",
        "description": plugin.about,
        "properties": {"use": use, **{one.name: _option(one) for one in named}},
        "required": ["use", *(one.name for one in named if one.default is one.empty)],
        "additionalProperties": any(one.kind is one.VAR_KEYWORD for one in options),
    }


def _option(parameter: inspect.Parameter) -> dict[str, Any]:
    """What its annotation says, where it says something that JSON schema can; or `${…}`, for any value."""
    from pydantic import TypeAdapter

    default = (
        {"default": parameter.default} if isinstance(parameter.default, str | bool | int | float) else {}
    )
    if parameter.annotation is parameter.empty:
        return default
    try:
        made = TypeAdapter(parameter.annotation).json_schema()
    except Exception:  # noqa: BLE001 # any class may stand there, or a name that nobody knows
        return default
    if not made or "$defs" in made:  # anything; or references that lead nowhere within our document
        return default
    return {**default, "anyOf": [made, {"type": "string", "pattern": r"\$\{"}]}
