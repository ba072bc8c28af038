"""One scenario for both SDKs: the async one must be awaited where the sync one just returns."""

import asyncio
import inspect
import ssl
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, Literal

import httpx2
import openai

Kind = Literal["sync", "async"]
Client = Any
"""OpenAI or AsyncOpenAI. A sync call blocks the test's loop: its servers are other processes."""
TIMEOUT = 10.0
NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""All of it is http; the context of a client of its own would take it a quarter of a second."""


async def done(value: Any) -> Any:
    """What a call gives."""
    return await value if inspect.isawaitable(value) else value


async def all_of(items: Any) -> list[Any]:
    """A stream or a page to its end."""
    if hasattr(items, "__aiter__"):
        return [item async for item in items]
    return list(items)


@asynccontextmanager
async def opened(manager: Any) -> AsyncIterator[Any]:
    """A `with` or an `async with`."""
    if hasattr(manager, "__aenter__"):
        async with manager as value:
            yield value
    else:
        with manager as value:
            yield value


async def play(scenario: Callable[[Client], Coroutine[Any, Any, Any]], client: Client) -> Any:
    """A scenario whose other end is in this loop too: what blocks goes to a thread."""
    if isinstance(client, openai.OpenAI):
        return await asyncio.to_thread(lambda: asyncio.run(scenario(client)))
    return await scenario(client)


@asynccontextmanager
async def sdk(
    kind: Kind, base_url: str, *, sent: list[httpx2.Request] | None = None, **options: Any
) -> AsyncIterator[Client]:
    """The SDK as users make it, without retries; every request it makes goes to `sent`, retries too."""
    log = [] if sent is None else sent

    async def noted(request: httpx2.Request) -> None:
        log.append(request)

    options = {"api_key": "sk-client", "max_retries": 0, "timeout": TIMEOUT, **options}
    if kind == "sync":
        plain = openai.DefaultHttpxClient(
            trust_env=False, verify=NO_TLS, event_hooks={"request": [log.append]}
        )
        with openai.OpenAI(base_url=base_url, http_client=plain, **options) as client:
            yield client
    else:
        http = openai.DefaultAsyncHttpxClient(
            trust_env=False, verify=NO_TLS, event_hooks={"request": [noted]}
        )
        async with openai.AsyncOpenAI(base_url=base_url, http_client=http, **options) as awaited:
            yield awaited
