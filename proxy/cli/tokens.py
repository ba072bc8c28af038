"""`weir tokens`: what a request would cost, offline."""

import os.path
from decimal import Decimal
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import click
import orjson

from proxy.cli.options import config, fail, found

if TYPE_CHECKING:
    from proxy.pricing.prompt import Prompt
    from proxy.pricing.values import Prices

ENDPOINTS = (
    "chat/completions",
    "responses",
    "responses/compact",
    "completions",
    "embeddings",
    "images/generations",
    "audio/speech",
)


@click.command(
    epilog="\b\nExample: weir tokens request.json\n"
    """         echo '{"model": "gpt-4o", "messages": []}' | weir tokens --json -"""
)
@click.argument("file", type=click.File("rb"))
@click.option(
    "--endpoint", type=click.Choice(ENDPOINTS), help="Where it would go; without it, the body tells."
)
@config
@click.option("--json", "as_json", is_flag=True, help="Print JSON, as a dry run answers.")
def tokens(file: IO[bytes], endpoint: str | None, config: Path | None, as_json: bool) -> None:
    """Count and price a request, offline.

    FILE has the JSON body of the request; - is standard input. Counted and priced as Weir does it before a
    request is sent: with the price table of the configuration, or else its own.
    """
    from proxy.pricing.prompt import read

    body = _body(file)
    where = endpoint or _endpoint(body)
    if where is None:
        fail([f"{file.name}: which endpoint is that for? say --endpoint {'|'.join(ENDPOINTS)}"], 2)
    prices = _prices(config)
    named = body.get("model")
    prompt = read(where, body, prices.model(named) if isinstance(named, str) else None)
    assert prompt is not None  # noqa: S101 # these are the endpoints that are counted, and it is an object
    estimate = _estimate(prompt, prices)
    if as_json:
        click.echo(orjson.dumps(estimate, default=_number))
        return
    for label, text in _lines(where, estimate, prices):
        click.echo(f"{label:14} {text}")


def _body(file: IO[bytes]) -> dict[str, Any]:
    try:
        body = orjson.loads(file.read())
    except orjson.JSONDecodeError as error:
        fail([f"{file.name}: is not JSON: {error}"], 2)
    except OSError as error:
        fail([f"{file.name}: cannot be read: {error.strerror}"], 1)
    if not isinstance(body, dict):
        fail([f"{file.name}: the body of a request is a JSON object"], 2)
    return body


def _endpoint(body: dict[str, Any]) -> str | None:
    """Where such a body goes, by what only one endpoint takes; None if several might."""
    if "messages" in body:
        return "chat/completions"
    model = str(body.get("model", ""))
    if "input" in body and "voice" in body:
        return "audio/speech"
    if "input" in body:
        return "embeddings" if "embed" in model or "encoding_format" in body else "responses"
    if "prompt" in body:
        return "images/generations" if "image" in model or "dall-e" in model else "completions"
    return None


def _prices(config: Path | None) -> "Prices":
    from proxy.core import pricing
    from proxy.core.config import ConfigError

    try:
        return pricing.load(named_table(config))
    except ConfigError as error:
        fail(error.problems, 2)


def named_table(config: Path | None) -> Path | None:
    """The price table that the configuration names. Nothing else of it counts here: to price a request nobody
    needs to have its secrets. Raises `ConfigError`."""
    from proxy.core import yaml
    from proxy.core.settings.messages import ConfigError, told

    path = found(config)
    if path is None:
        return None
    node, problems = yaml.read(path)
    if problems:
        raise ConfigError(told(str(path), line, yaml.show_loc(loc), text) for line, loc, text in problems)
    settings = None if node is None else yaml.plain(node)
    named = settings.get("pricing") if isinstance(settings, dict) else None
    return None if named is None else path.parent / os.path.expanduser(str(named))


def _estimate(prompt: "Prompt", prices: "Prices") -> dict[str, Any]:
    """The fields of a dry run's answer that need no server."""
    from proxy.pricing.prompt import max_cost, max_output
    from proxy.pricing.vocabulary import VocabularyError

    try:
        counted = prompt.count() if prompt.countable else None
    except VocabularyError as error:
        click.echo(f"weir: warning: {error}: this is an upper bound", err=True)
        counted = None
    expected = prompt.bound if counted is None else counted
    model, tier = prompt.model, prompt.service_tier
    output = max_output(prompt, prices.model(model) if model is not None else None)
    input_cost = None
    if model is not None:
        input_cost = prices.input_cost(model, input_tokens=expected, service_tier=tier)
    return {
        "object": "weir.estimate",
        "model": model,
        "encoding": prompt.encoding,
        "method": "upper_bound" if counted is None else "tiktoken",
        "input_tokens": expected,
        "max_output_tokens": output,
        "input_cost_usd": input_cost,
        "max_cost_usd": max_cost(prompt, prices, input_tokens=expected, output_tokens=output),
    }


def _lines(where: str, estimate: dict[str, Any], prices: "Prices") -> list[tuple[str, str]]:
    counted = estimate["method"] == "tiktoken"
    most = estimate["max_output_tokens"]
    return [
        ("endpoint", where),
        ("model", estimate["model"] or "none is named"),
        (
            "input tokens",
            f"{estimate['input_tokens']}{'' if counted else ' at most'} ({estimate['encoding']})",
        ),
        ("output tokens", "no limit is known" if most is None else f"{most} at most"),
        ("input cost", _dollars(estimate["input_cost_usd"])),
        ("cost", _dollars(estimate["max_cost_usd"], " at most")),
        ("prices", prices.version),
    ]


def _dollars(amount: Decimal | None, more: str = "") -> str:
    return "not known: there is no price" if amount is None else f"${format(amount, 'f')}{more}"


def _number(value: Any) -> orjson.Fragment:
    if isinstance(value, Decimal):
        return orjson.Fragment(format(value, "f"))
    raise TypeError
