"""`default_models`: fills in the model of a request that names none.

A plugin of the core's own. It stands behind the one that provides IDENTITY, so that nobody has a body read
who is not let in, and before all others, so that they and the upstream see the same request.
"""

from collections.abc import Mapping, Sequence

import orjson

from proxy.api.edit import insert_member
from proxy.api.errors import ClientError
from proxy.api.exchange import Exchange
from proxy.api.plugin import Plugin
from proxy.api.slots import IDENTITY


class DefaultModels(Plugin):
    """Inserts `"model"` into JSON objects that have none, by endpoint.

    A form, a compressed body or what is no JSON object passes as it came: that is for others to judge.
    """

    name = "default_models"

    def __init__(self, models: Mapping[str, str]) -> None:
        self._models = {endpoint: orjson.dumps(model) for endpoint, model in models.items()}

    async def on_request(self, ex: Exchange) -> None:
        """Read the body of a configured endpoint, and insert."""
        request = ex.request
        model = self._models.get(request.endpoint)
        if model is None or request.method != "POST":
            return
        if (request.headers.get(b"content-type") or "").lower().startswith("multipart/"):
            return  # an upload is not read
        body = await request.read()
        try:
            fields = await request.json()
        except ClientError:
            return
        if isinstance(fields, dict) and "model" not in fields:
            request.set_body(insert_member(body, "model", model))


def with_default_models(plugins: Sequence[Plugin], models: Mapping[str, str]) -> Sequence[Plugin]:
    """A chain with `DefaultModels` in its place; as it is where nothing is configured."""
    if not models:
        return plugins
    place = next((at for at, plugin in enumerate(plugins, 1) if IDENTITY in plugin.provides), 0)
    return [*plugins[:place], DefaultModels(models), *plugins[place:]]
