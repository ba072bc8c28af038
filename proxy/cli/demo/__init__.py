"""`weir demo`: what Weir does, in a minute, with the OpenAI SDK."""

import sys
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import click

from proxy import __version__
from proxy.cli.options import fail
from proxy.cli.screen import Screen, safe

if TYPE_CHECKING:
    from openai import OpenAI

__all__ = ["demo"]

_PROMPT = "What does a weir do?"


@click.command(
    epilog="\b\nExample: weir demo\n"
    '         weir demo --url http://127.0.0.1:3006/v1 --model gpt-4o-mini "Hello!"'
)
@click.argument("prompt", default=_PROMPT)
@click.option("--url", help="A Weir that runs already, such as http://127.0.0.1:3006/v1.")
@click.option(
    "--key", envvar="OPENAI_API_KEY", show_envvar=True, help="Your key there, as the SDK would send it."
)
@click.option("--model", help="Which model to ask there (default: gpt-4o-mini).")
@click.option("--limit", is_flag=True, help="Run into a limit there too: up to 200 requests.")
def demo(prompt: str, url: str | None, key: str | None, model: str | None, limit: bool) -> None:
    """Show what Weir does, in half a minute.

    Starts Weir before the built-in demo upstream, streams a chat through it with the OpenAI SDK, shows what
    Weir tells of it (tokens, cost, where the time went, limits), runs into a limit on purpose, and ends. It
    needs no account, no network and no configuration. With --url it talks to a Weir of yours.
    """
    try:
        import openai
    except ImportError:
        fail(["the demo talks through the OpenAI SDK, which is not installed: pip install openai"], 1)
    if url is not None and not _is_url(url):
        raise click.BadParameter(f"{url!r} is not a URL like http://127.0.0.1:3006/v1", param_hint="--url")
    if url is None and (model or limit):
        raise click.UsageError(
            "--model and --limit go with --url: the demo has a model and a limit of its own."
        )
    from proxy.cli.demo.chat import BrokenOff
    from proxy.cli.demo.limit import said
    from proxy.cli.demo.own import StartFailed, own_weir

    screen = Screen()
    where = url or "Weir"
    try:
        if url is None:
            with own_weir() as own:
                _on_own(screen, own, prompt)
        else:
            _on_theirs(screen, url, key, model or "gpt-4o-mini", prompt, limit=limit)
    except openai.APIStatusError as error:
        fail([f"{where} answered {error.status_code} {said(error)}"], 1)
    except openai.APIConnectionError as error:
        fail([f"{where} cannot be reached: {safe(str(error.__cause__ or error))}"], 1)
    except (BrokenOff, StartFailed) as error:
        screen.line()
        fail([safe(str(error))], 1)
    except KeyboardInterrupt:
        screen.line()
        sys.exit(130)


def _on_own(screen: Screen, url: str, prompt: str) -> None:
    from proxy.cli.demo.limit import run_into
    from proxy.cli.demo.own import MODEL, PRICED_AS

    screen.line(
        f"Weir {__version__} on {url}, before its demo upstream: answers are made up and cost nothing."
    )
    # What a proxy variable names does not lead to this machine.
    client = _client(url, "demo", trust_env=False)
    # The first estimate reads the vocabulary, once and for all: that is not the time of the chat to come.
    client.with_options(default_headers={"x-weir-dry-run": "true"}).post(
        "/chat/completions",
        cast_to=object,
        body={"model": MODEL, "messages": [{"role": "user", "content": prompt}]},
    )
    _talk(screen, client, MODEL, prompt, f"what Weir tells of it, at the prices of {PRICED_AS}")
    screen.line()
    screen.line("Now into a limit, on purpose:")
    run_into(client, MODEL, screen)
    screen.line()
    screen.line("Next: weir init, then weir serve. With OPENAI_API_KEY set it forwards to OpenAI.")


def _on_theirs(screen: Screen, url: str, key: str | None, model: str, prompt: str, *, limit: bool) -> None:
    from proxy.cli.demo.limit import run_into

    client = _client(url, key or "none", trust_env=True)
    _talk(screen, client, model, prompt, "what Weir tells of it")
    if limit:
        screen.line()
        screen.line("Now into a limit, on purpose:")
        run_into(client, model, screen)


def _talk(screen: Screen, client: "OpenAI", model: str, prompt: str, title: str) -> None:
    from proxy.cli.demo.chat import chat
    from proxy.cli.demo.panel import panel

    screen.line()
    screen.line(screen.style(f"you    {prompt}", dim=True))
    screen.write(f"{model}   ")
    heard = chat(client, model, prompt, screen.write)
    screen.line()
    screen.line()
    for line in panel(screen, heard, title):
        screen.line(line)


def _client(url: str, key: str, *, trust_env: bool) -> "OpenAI":
    import openai

    # No retries: a 429 is what is to be shown.
    return openai.OpenAI(
        base_url=url,
        api_key=key,
        max_retries=0,
        http_client=openai.DefaultHttpxClient(trust_env=trust_env),
    )


def _is_url(text: str) -> bool:
    try:
        parts = urlsplit(text)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False
