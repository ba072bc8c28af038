"""The same scenario twice, directly and through Weir, and what counts as the same result."""

import re
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest
from openai._legacy_response import HttpxBinaryResponseContent
from pydantic import BaseModel

from .command import Command
from .either import Client, Kind

Scenario = Callable[[Client], Awaitable[Any]]
ADDED = {b"x-weir-request-id", b"server-timing"}
"""What Weir adds to every answer; nothing else may differ but the second in which it was made."""
LIMIT = 1_000_000
"""Requests that the limiter in front of a twin lets pass: its headers are known by it."""
_RENAMED = b"x-upstream-ratelimit-"
"""What stands before an upstream's own `x-ratelimit-*`, once the limiter tells of its limits."""
_COMMENT = re.compile(rb": weir \{[^\n]*\}\n\n")


@contextmanager
def demo_upstream(folder: Path, port: int) -> Iterator[str]:
    """The demo in a process of its own; its base URL."""
    with Command("-m", "proxy.demo", "--port", str(port), folder=folder) as demo:
        demo.wait_listening(port)
        yield f"http://127.0.0.1:{port}/v1"


@dataclass
class Twins:
    """Two clients of one kind, and all they sent."""

    kind: Kind
    direct: Client
    weir: Client
    direct_sent: list[httpx2.Request] = field(default_factory=list)
    weir_sent: list[httpx2.Request] = field(default_factory=list)

    async def same(self, scenario: Scenario) -> Any:
        """Play it on both; the direct result, once the other was found equal to it."""
        direct = await scenario(self.direct)
        through = await scenario(self.weir)
        assert comparable(through) == comparable(direct)
        return direct

    async def same_error(self, scenario: Scenario) -> openai.APIError:
        """Play it on both; it must fail, and alike. The direct error."""
        direct = await error_of(scenario, self.direct)
        through = await error_of(scenario, self.weir)
        assert comparable(through) == comparable(direct)
        return direct


async def error_of(scenario: Scenario, client: Client) -> openai.APIError:
    """The SDK's error that a scenario ends with."""
    with pytest.raises(openai.APIError) as error:
        await scenario(client)
    return error.value


def comparable(value: Any) -> Any:
    """A result as plain data: with types, with what was set and what was not, with the request's id."""
    if isinstance(value, BaseModel):
        fields = {name: comparable(getattr(value, name)) for name in value.model_fields_set}
        return type(value).__qualname__, fields, getattr(value, "_request_id", None)
    if isinstance(value, bytes):
        return _COMMENT.sub(b"", value)
    if isinstance(value, HttpxBinaryResponseContent):
        return value.content
    if isinstance(value, openai.APIError):
        names = ("code", "type", "param", "message", "body", "request_id", "status_code", "response")
        return type(value).__qualname__, str(value), *(comparable(getattr(value, n, None)) for n in names)
    if isinstance(value, httpx2.Response):
        return value.status_code, untouched(value), comparable(value.content)
    if isinstance(value, dict):
        return {name: comparable(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [comparable(each) for each in value]
    return value


def untouched(response: httpx2.Response) -> list[tuple[bytes, bytes]]:
    """The headers in their order, names in lower case, without `date`, Weir's two (both or neither) and what
    plugins add.

    What is each connection's own may differ (RFC 9110, 7.6.1): `connection` is left out, for Weir ends one
    whose request is answered before its body has come; `transfer-encoding` goes last, for it may stand
    anywhere.
    """
    pairs = [(name.lower(), value) for name, value in response.headers.raw]
    found = [name for name, _ in pairs if name in ADDED]
    assert not found or (len(found) == len(ADDED) and set(found) == ADDED), found
    skipped = {*ADDED, b"date", b"connection"}
    limited = (b"x-ratelimit-limit-requests", b"%d" % LIMIT) in pairs
    ours = (b"x-weir-", b"x-ratelimit-", b"ratelimit") if limited else (b"x-weir-",)
    kept = [
        (name.replace(_RENAMED, b"x-ratelimit-"), value)
        for name, value in pairs
        if name not in skipped and not (found and name.startswith(ours))
    ]
    return sorted(kept, key=lambda pair: pair[0] == b"transfer-encoding")
