"""`weir check`: what a configuration comes to."""

import asyncio
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import orjson

from proxy.cli.installed import overridden
from proxy.cli.options import config, fail, found

if TYPE_CHECKING:
    from proxy.core.chain import Chain
    from proxy.core.config import Settings
    from proxy.pricing.values import Model, Prices

_WIDTH = 12


@click.command(
    epilog="\b\nExample: weir check --config weir.yaml\n         weir check --key - --model gpt-4o-mini"
)
@config
@click.option("--key", help="Whose client key is this, and what applies to them? - reads it from stdin.")
@click.option("--model", help="What does this model cost, and what do plugins say of it?")
def check(config: Path | None, key: str | None, model: str | None) -> None:
    """Check a configuration and print what it comes to.

    Nothing is asked over the network, but with --key the database of keys, if there is one. Ends with 2 and a
    line for each mistake.
    """
    path = found(config)
    settings, chain, prices = _compiled(path)
    _tell_settings(settings)
    _tell("prices", f"{prices.version}, {len(prices.models())} models")
    _tell_chain(chain)
    if model is not None:
        _tell_model(model, prices.model(model))
    if key is not None:
        _tell_key(settings, chain, sys.stdin.readline().strip() if key == "-" else key, model)
    click.echo("ok")


def _compiled(path: Path | None) -> "tuple[Settings, Chain, Prices]":
    from proxy.core import pricing
    from proxy.core.app import check_open, compile_chain
    from proxy.core.chain import ChainError
    from proxy.core.config import ConfigError, load
    from proxy.core.loader import load as make

    problems: list[str] = []
    try:
        settings = load(path, os.environ)
    except ConfigError as error:
        problems += error.problems
        try:
            make(error.plugins)
        except ConfigError as more:
            problems += more.problems
        fail(problems, 2)
    try:
        chain = compile_chain(settings)
        check_open(settings, chain)
    except ConfigError as error:
        problems += error.problems
    except ChainError as error:
        problems += [f"{path or 'weir.yaml'}: plugins: {problem}" for problem in error.problems]
    try:
        prices = pricing.load(settings.pricing)
    except ConfigError as error:
        problems += error.problems
    if problems:
        fail(problems, 2)
    return settings, chain, prices


def _tell(label: str, text: str) -> None:
    click.echo(f"{label:{_WIDTH}}{text}")


def _tell_settings(settings: "Settings") -> None:
    _tell("listen", str(settings.listen))
    _tell("management", str(settings.management or "off"))
    for upstream in settings.upstreams:
        key = "with a key" if upstream.api_key else "passing the client's key"
        _tell("upstream", f"{upstream.name} at {upstream.base_url}, {key}")
    if not settings.upstreams:
        _tell("upstream", "none: the built-in demo one")


def _tell_chain(chain: "Chain") -> None:
    """The order, then for each plugin its hooks and what it takes from and leaves for others."""
    plugins = chain.plugins
    _tell("plugins", " → ".join(plugin.name for plugin in plugins) or "none")
    width = max((len(plugin.name) for plugin in plugins), default=0)
    for plugin in plugins:
        said = [", ".join(overridden(type(plugin))) or "no hook"]
        for verb, slots in (
            ("requires", plugin.requires),
            ("provides", plugin.provides),
            ("reads at the end", plugin.reads_at_end),
        ):
            if slots:
                said.append(f"{verb} {', '.join(slot.name for slot in slots)}")
        click.echo(f"  {plugin.name:{width}}  {'; '.join(said)}")


def _tell_model(name: str, model: "Model | None") -> None:
    if model is None:
        _tell("model", f"{name} has no price: what it costs is not known")
        return
    bounds = []
    if model.context_window is not None:
        bounds.append(f"window {model.context_window}")
    if model.max_output_tokens is not None:
        bounds.append(f"at most {model.max_output_tokens} out")
    _tell("model", ", ".join([f"{name}: {model.id}", model.kind, *bounds, model.encoding]))
    width = max((len(tier) for tier in model.prices), default=0)
    for tier, rates in model.prices.items():
        shown = ", ".join(f"{unit} {format(rate, 'f')}" for unit, rate in rates.items())
        click.echo(f"  {tier:{width}}  {shown}")
    if model.prices:
        click.echo("  in dollars for 1000000 tokens, or for one of what is no token")


def _tell_key(settings: "Settings", chain: "Chain", key: str, model: str | None) -> None:
    """Who that is, and what plugins say to them: of a model, or of one that nothing is special about."""
    from proxy.api.slots import IDENTITY
    from proxy.cli.configured import surroundings
    from proxy.cli.identify import CannotTell, described, identify, may_use

    try:
        ex = asyncio.run(identify(chain, key, surroundings(settings)))
        said = described(chain, ex, model or "")
    except CannotTell as error:
        fail([f"--key: {error}"], 2)
    who = ex[IDENTITY]
    known = {"key": who.key_id, "user": who.user, "team": who.team}
    _tell("key", ", ".join(f"{name} {value}" for name, value in known.items() if value is not None))
    if model is not None and not may_use(ex, model):
        click.echo(f"  may not use {model}: it is for {', '.join(who.models)}")
    for name, fields in said.items():
        for field, value in fields.items():
            for each in value if isinstance(value, list | tuple) else [value]:
                click.echo(f"  {name}  {field}: {_shown(each)}")


def _shown(value: Any) -> str:
    """A JSON value in a line; of an object what is something."""
    if isinstance(value, Mapping):
        return ", ".join(
            f"{name} {_shown(one)}" for name, one in value.items() if one is not None and one is not False
        )
    if isinstance(value, list | tuple):
        return " ".join(_shown(one) for one in value)
    return value if isinstance(value, str) else orjson.dumps(value, default=_plain).decode()


def _plain(value: Any) -> str:
    return format(value, "f") if hasattr(value, "as_tuple") else str(value)
