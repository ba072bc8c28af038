"""Keys for some models only: which models does a request name, and may its key use all of them?

In doubt it may not. A body is read only where a key has patterns; one that cannot be read, or does not say
which model it wants, would leave the choice to somebody who does not know the key.
"""

import re
from typing import Any
from urllib.parse import parse_qsl, unquote

from proxy.api import ClientError, Exchange

from .keys import allows

_ASKS_NO_MODEL = frozenset(("GET", "HEAD", "OPTIONS", "DELETE"))
# Azure's paths, those that OpenAI once had, and Google's.
_DEPLOYMENT = re.compile(r"(?:^|/)(?:deployments|engines)/+([^/;]*)", re.IGNORECASE)
_VERB = re.compile(r"(?:^|/)models/+([^/;]*):", re.IGNORECASE)
_JSON = re.compile(r"[a-z]+/(?:[a-z0-9.-]+[+-])?json")
_NAMES = ("model", "models")
"""Members that name models; `models` is a list of those to fall back to, as some gateways take it."""


async def check(ex: Exchange, patterns: tuple[str, ...]) -> None:
    """Return if a request is for models that match, or makes none work. Raises `ClientError`: 403
    `model_not_allowed`, or what reading its body raises.

    A request names its model in a JSON body, or in the path or the query, which some servers believe more;
    each one that is named has to match. One that names none is refused, and so are forms, which are not read.
    """
    request = ex.request
    if request.method in _ASKS_NO_MODEL:
        return
    path = unquote(request.path, errors="replace")
    names: list[Any] = [*_DEPLOYMENT.findall(path), *_VERB.findall(path)]
    for name, value in parse_qsl(request.query, keep_blank_values=True, errors="replace"):
        if name.casefold() in _NAMES:
            names.append(value)
    if not all(map(_is_json, request.headers.getall(b"content-type"))):
        raise _refused("This API key is for certain models, so it takes JSON only (content-type).")
    body = await request.read()
    if body:
        names += _named(await request.json())
    if not names:
        raise _refused("This API key is for certain models: name one of them in `model`.")
    allowed = allows(patterns)
    for name in names:
        if not isinstance(name, str) or not allowed.match(name):
            raise _refused("This API key may not use this model. GET /models lists those that it may.")


def _named(fields: Any) -> list[Any]:
    """What a body says in the members that name models. That one stands twice, `json()` has refused."""
    if not isinstance(fields, dict):
        raise _refused("This API key is for certain models, so a body is a JSON object.")
    model, fallbacks = fields.get("model"), fields.get("models")
    named = [] if model is None else [model]
    if "models" in fields:
        named += fallbacks if isinstance(fallbacks, list) else [fallbacks]
    return named


def _is_json(declared: str) -> bool:
    """Whatever follows the type: `application/x-www-form-urlencoded; a=json` is a form."""
    return _JSON.fullmatch(declared.partition(";")[0].strip().lower()) is not None


def _refused(message: str) -> ClientError:
    return ClientError(403, "model_not_allowed", message, param="model")
