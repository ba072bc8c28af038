"""`GET /models`: the models of the price table and of the upstream's own list, in OpenAI's list shape.

Each has its prices, its bounds, and what plugins say of it (`Plugin.describe_model`). `/v1/models` is not
ours: it is forwarded like everything else below `/v1`.
"""

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

import orjson
from starlette.requests import Request
from starlette.responses import Response

from proxy.api.errors import PluginError, WeirError
from proxy.api.exchange import Exchange
from proxy.api.plugin import Plugin
from proxy.api.slots import IDENTITY
from proxy.core.chain import Chain, log_failure
from proxy.core.flight import Flight
from proxy.core.headers import Pairs
from proxy.core.routing import Route
from proxy.core.upstream import Answer, Outgoing
from proxy.pricing.values import Model, Prices

WAIT = 5.0
"""Seconds that an upstream may take to give its list; after that the answer goes without."""
FRESH = 60.0
"""Seconds that a list is kept."""
FAILED = 10.0
"""Seconds that a failure is kept: `/models` must not become a way to hammer an upstream that is down."""
LIST_BYTES = 2 * 2**20
LIST_MODELS = 5000
"""A longer list, in bytes or in models, counts as none at all (`too_large`)."""
LISTS = 16
"""Lists that are kept: one if the upstream has a key of ours, else one for each of the last credentials."""
_TURN = 64
"""Models that are described before others have their turn on the event loop."""

# What an upstream's list may depend on: it is asked for with these of the client's fields, and kept by them.
_CREDENTIALS = frozenset((b"authorization", b"api-key", b"x-api-key"))
_ACCOUNTS = frozenset((b"openai-organization", b"openai-project"))


class Listed(NamedTuple):
    """What an upstream answered: a status, an error's code, `timeout`, `unreadable` or `too_large`.

    `body` is JSON with the list if that was a "200", else empty.
    """

    outcome: str
    body: bytes = b""


class _Kept:
    """A list that is kept, or being asked for: by one at a time, the others wait for it."""

    def __init__(self) -> None:
        self.asking = asyncio.Lock()
        self.until = 0.0
        self.listed = Listed("")


class Models:
    """The models of one configuration."""

    def __init__(self, chain: Chain, route: Route, prices: Prices | None) -> None:
        self._describing = [
            plugin for plugin in chain.plugins if type(plugin).describe_model is not Plugin.describe_model
        ]
        self._route = route
        self._prices = prices
        self._lists: OrderedDict[bytes, _Kept] = OrderedDict()

    async def answer(self, request: Request) -> Response:
        """The route's endpoint. Raises `PluginError`."""
        ex: Exchange = request.scope["weir.exchange"]
        listed = await self._listed(ex)
        said = _by_id(listed.body) if listed.body else None
        identity = ex.get(IDENTITY)
        patterns = identity.models if identity is not None else ()
        data = []
        for number, (name, model) in enumerate(self._known(said)):
            if number % _TURN == 0:
                await asyncio.sleep(0)
            if not patterns or any(fnmatchcase(name, pattern) for pattern in patterns):
                data.append(self._entry(ex, name, model, said))
        body = {
            "object": "list",
            "data": data,
            "upstream": {"name": self._route.name, "outcome": listed.outcome},
            "price_version": None if self._prices is None else self._prices.version,
        }
        return Response(orjson.dumps(body), media_type="application/json")

    # -- one model ---------------------------------------------------------------------------------

    def _known(self, said: Mapping[str, Any] | None) -> Iterator[tuple[str, Model | None]]:
        """Each name once, in order, with what the table knows of it."""
        prices = self._prices
        names = set(said or ())
        if prices is not None:
            names.update(model.id for model in prices.models())
        for name in sorted(names):
            yield name, None if prices is None else prices.model(name, upstream=self._route.name)

    def _entry(
        self, ex: Exchange, name: str, model: Model | None, said: Mapping[str, Any] | None
    ) -> dict[str, Any]:
        """What the table knows counts before what plugins say, and that before what the upstream says."""
        entry: dict[str, Any] = {
            "id": name,
            "object": "model",
            "created": 0,
            "owned_by": "unknown",
            "kind": None,
            "encoding": None,
            "context_window": None,
            "max_output_tokens": None,
        }
        if said is not None:
            entry.update(said.get(name, {}))
        for plugin in self._describing:
            entry.update(_described(plugin, ex, name))
        entry.update(id=name, object="model", prices=None, listed=None if said is None else name in said)
        if model is not None:
            known = {
                "kind": model.kind,
                "encoding": model.encoding,
                "context_window": model.context_window,
                "max_output_tokens": model.max_output_tokens,
                "prices": _written(model.prices),
            }
            entry.update((field, value) for field, value in known.items() if value is not None)
        return entry

    # -- the upstream's list -----------------------------------------------------------------------

    async def _listed(self, ex: Exchange) -> Listed:
        """The list that the upstream gives to who asks, kept for a while."""
        # A credential that the upstream's own key will replace makes no other list.
        asks = _ACCOUNTS if self._route.settings.api_key is not None else _ACCOUNTS | _CREDENTIALS
        headers = [pair for pair in ex.request.headers.raw if pair[0] in asks]
        query = ex.request.query.encode("latin-1")  # Azure's has the version of its API
        target = b"/models?" + query if query else b"/models"
        key = hashlib.sha256(repr((target, headers)).encode()).digest()
        kept = self._lists.setdefault(key, _Kept())
        self._lists.move_to_end(key)
        if len(self._lists) > LISTS:
            self._lists.popitem(last=False)
        loop = asyncio.get_running_loop()
        async with kept.asking:
            if loop.time() >= kept.until:
                kept.listed = await self._asked(ex, target, headers)
                kept.until = loop.time() + (FRESH if kept.listed.body else FAILED)
        return kept.listed

    async def _asked(self, ex: Exchange, target: bytes, headers: Pairs) -> Listed:
        """Ask the upstream, as this exchange."""
        headers = [*headers, (b"accept", b"application/json"), (b"accept-encoding", b"identity")]
        request = Outgoing(b"GET", target, headers, None)
        try:
            async with asyncio.timeout(WAIT):
                answer = await self._route.attempt(ex, Flight(WAIT), request)
                try:
                    return await _read(answer)
                finally:
                    await answer.close()
        except TimeoutError:
            return Listed("timeout")
        except WeirError as error:
            return Listed(error.code)


async def _read(answer: Answer) -> Listed:
    if answer.status != 200:
        return Listed(str(answer.status))
    body = b""
    while piece := await answer.read():
        body += piece
        if len(body) > LIST_BYTES:
            return Listed("too_large")
    try:
        found = _by_id(body)
    except ValueError:
        return Listed("unreadable")
    return Listed("200", body) if len(found) <= LIST_MODELS else Listed("too_large")


def _by_id(body: bytes) -> dict[str, dict[str, Any]]:
    """The models of a list in OpenAI's shape. Raises `ValueError` for anything else."""
    document = orjson.loads(body)
    data = document.get("data") if isinstance(document, dict) else None
    if not isinstance(data, list):
        raise ValueError("not a list of models")
    return {item["id"]: item for item in data if isinstance(item, dict) and isinstance(item.get("id"), str)}


def _written(prices: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, str]] | None:
    """Money as text: a JSON number would be read as a float."""
    return {
        tier: {unit: format(rate, "f") for unit, rate in rates.items()} for tier, rates in prices.items()
    } or None


def _described(plugin: Plugin, ex: Exchange, name: str) -> Mapping[str, Any]:
    try:
        return dict(plugin.describe_model(ex, name))
    except WeirError:
        raise
    except Exception as error:  # a plugin may raise anything
        log_failure(plugin, "describe_model", error, ex)
        if plugin.on_error == "fail":
            raise PluginError(plugin.name, "describe_model") from error
        return {}
