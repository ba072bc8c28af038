"""Who a client key belongs to, and what the plugins say of a model to them."""

from collections.abc import Mapping
from contextlib import suppress
from fnmatch import fnmatchcase
from typing import Any, NoReturn

import orjson

from proxy.api.errors import WeirError
from proxy.api.exchange import Exchange
from proxy.api.headers import Headers
from proxy.api.plugin import Plugin
from proxy.api.request import Request
from proxy.api.response import Reply
from proxy.api.server import Server
from proxy.api.slots import IDENTITY
from proxy.core.chain import Chain

_HERE = "127.0.0.1"


class CannotTell(Exception):
    """Something does not say what it was asked. One line."""


async def identify(chain: Chain, key: str, server: Server) -> Exchange:
    """An exchange whose IDENTITY is that of this key. Raises `CannotTell`.

    Only plugins that provide IDENTITY see it. They are started for it, since keys may be in a database, and
    stopped again.
    """
    if not key.isascii() or not key.isprintable():
        raise CannotTell("no key has such characters")
    headers = Headers([(b"authorization", b"Bearer " + key.encode())])
    request = Request("GET", b"/models", b"", headers, _NoBody(), _HERE, _HERE)
    ex = Exchange("check", request, _Alone())
    for plugin in chain.plugins:
        if IDENTITY in plugin.provides:
            try:
                await plugin.start(server)
                try:
                    left = plugin.on_request(ex)
                    reply = left if left is None or isinstance(left, Reply) else await left
                finally:
                    await plugin.stop()
            except WeirError as error:
                raise CannotTell(error.message) from error
            except ValueError as error:  # a line for whoever configures it
                raise CannotTell(str(error)) from error
            except Exception as error:  # a plugin may raise anything
                raise CannotTell(f"{plugin.name} cannot say whose it is: {type(error).__name__}") from error
            if reply is not None:
                raise CannotTell(_message(reply))
    if IDENTITY not in ex:
        raise CannotTell("no plugin of the chain says who asks")
    return ex


def described(chain: Chain, ex: Exchange, model: str) -> dict[str, Mapping[str, Any]]:
    """What each plugin says of a model to who asks, by the plugin's name. Raises `CannotTell`."""
    said = {}
    for plugin in chain.plugins:
        if type(plugin).describe_model is not Plugin.describe_model:
            try:
                said[plugin.name] = plugin.describe_model(ex, model)
            except Exception as error:  # a plugin may raise anything
                raise CannotTell(
                    f"{plugin.name} cannot describe a model before it has started: {type(error).__name__}"
                ) from error
    return said


def may_use(ex: Exchange, model: str) -> bool:
    """Whether the key is one for this model."""
    models = ex[IDENTITY].models
    return not models or any(fnmatchcase(model, pattern) for pattern in models)


def _message(reply: Reply) -> str:
    with suppress(orjson.JSONDecodeError, KeyError, TypeError):
        return str(orjson.loads(reply.body)["error"]["message"])
    return f"it is answered with {reply.status}"


class _NoBody:
    length: int | None = None

    async def read(self) -> bytes:
        return b""

    async def peek(self, count: int) -> bytes:
        return b""

    def replace(self, body: bytes) -> None:
        """There is no way upstream."""


class _Alone:
    def interrupt(self, cause: WeirError) -> NoReturn:
        raise cause

    def ask(self, ex: Exchange, endpoint: str, body: bytes, timeout: float) -> NoReturn:
        raise CannotTell("an upstream would have to be asked")
