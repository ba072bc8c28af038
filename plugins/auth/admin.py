"""Keys over HTTP, on the management port, behind its token.

    POST   /keys              make one; the answer has the key, this once
    GET    /keys              list them
    GET    /keys/{id}         one of them
    PATCH  /keys/{id}         change what is said of it
    DELETE /keys/{id}         revoke it
    POST   /keys/{id}/rotate  put a new key in its place
    GET    /keys/audit        who did what

Each endpoint carries its OpenAPI operation in `openapi`, from where Weir's document takes it.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from proxy.api import ClientError, WeirError

from . import when

if TYPE_CHECKING:
    from .store import Made, Store

log = logging.getLogger("weir.auth")

LARGEST = 64 * 1024
"""Bytes of a request's body."""
PAGE = 100
"""Entries of a list, unless asked for more."""
_MOST = 1000

Handler = Callable[["Store", Request], Awaitable[Response]]


def routes(store: Callable[[], "Store"]) -> list[Route]:
    """The routes; `store` opens the database, and is called in a thread."""

    def guarded(handler: Handler, operation: Mapping[str, Any]) -> Callable[[Request], Awaitable[Response]]:
        async def endpoint(request: Request) -> Response:
            try:
                _check_no_browser(request)
                _check_no_nul(request)
                return await handler(await asyncio.to_thread(store), request)
            except WeirError as error:
                return _refusal(error)
            except ValueError as error:
                return _refusal(ClientError(400, "invalid_key_request", _sentence(error)))
            except LookupError as error:  # NoSuchKey
                return _refusal(ClientError(404, "no_such_key", _sentence(error)))
            except Exception as error:  # noqa: BLE001 # a database may raise anything
                log.error("the keys' database failed", extra={"fields": {"raised": type(error).__name__}})
                return _refusal(WeirError(503, "keys_unavailable", "The keys' database cannot be reached."))

        endpoint.openapi = operation  # type: ignore[attr-defined] # where the document looks for it
        return endpoint

    return [
        Route("/keys", guarded(_list, _LIST), methods=["GET"]),
        Route("/keys", guarded(_create, _CREATE), methods=["POST"]),
        Route("/keys/audit", guarded(_audit, _AUDIT), methods=["GET"]),
        Route("/keys/{id}", guarded(_show, _SHOW), methods=["GET"]),
        Route("/keys/{id}", guarded(_update, _UPDATE), methods=["PATCH"]),
        Route("/keys/{id}", guarded(_revoke, _REVOKE), methods=["DELETE"]),
        Route("/keys/{id}/rotate", guarded(_rotate, _ROTATE), methods=["POST"]),
    ]


# -- handlers --------------------------------------------------------------------------------------------


async def _list(store: "Store", request: Request) -> Response:
    query = request.query_params
    most = _most(query.get("limit"))
    found = await asyncio.to_thread(
        store.find,
        user=query.get("user"),
        team=query.get("team"),
        revoked=query.get("revoked") == "true",
        after=query.get("after", ""),
        most=most,
    )
    now = time.time()
    data = [record.shown(now) for record in found]
    return _json({"object": "list", "data": data, "has_more": len(found) == most})


async def _create(store: "Store", request: Request) -> Response:
    said = await _body(request)
    made = await asyncio.to_thread(store.create, said, _who(request))
    _log("create", request, made.record.id)
    return _json(_told(made), 201)


async def _show(store: "Store", request: Request) -> Response:
    record = await asyncio.to_thread(store.get, request.path_params["id"])
    return _json(record.shown(time.time()))


async def _update(store: "Store", request: Request) -> Response:
    said = await _body(request)
    record = await asyncio.to_thread(store.update, request.path_params["id"], said, _who(request))
    _log("update", request, record.id, sorted(said))
    return _json(record.shown(time.time()))


async def _revoke(store: "Store", request: Request) -> Response:
    record = await asyncio.to_thread(store.revoke, request.path_params["id"], _who(request))
    _log("revoke", request, record.id)
    return _json(record.shown(time.time()))


async def _rotate(store: "Store", request: Request) -> Response:
    said = await _body(request)
    if said.keys() - {"grace"}:
        raise ValueError("there is nothing to say but grace")
    arguments = [] if said.get("grace") is None else [_grace(said["grace"])]
    made = await asyncio.to_thread(store.rotate, request.path_params["id"], _who(request), *arguments)
    _log("rotate", request, made.record.id)
    return _json(_told(made))


async def _audit(store: "Store", request: Request) -> Response:
    query = request.query_params
    found = await asyncio.to_thread(store.audit, query.get("key"), _most(query.get("limit")))
    data = [{**line, "at": when.written(line["at"])} for line in found]
    return _json({"object": "list", "data": data})


# -- what they share -------------------------------------------------------------------------------------


async def _body(request: Request) -> Mapping[str, Any]:
    """The JSON object that was sent, or none. Raises `ValueError`."""
    raw = bytearray()
    async for piece in request.stream():
        raw += piece
        if len(raw) > LARGEST:
            raise ValueError(f"the body is larger than {LARGEST} bytes")
    if not raw:
        return {}
    # Whoever writes a page can make a browser send anything but this, unasked.
    if not request.headers.get("content-type", "").lower().startswith("application/json"):
        raise ValueError("send the body as application/json")
    try:
        said = orjson.loads(raw)
    except orjson.JSONDecodeError:
        said = None
    if not isinstance(said, dict):
        raise ValueError("the body is not a JSON object")
    return said


def _check_no_browser(request: Request) -> None:
    """Where no token is set, who is on this machine is let in; a page in its browser is somebody else."""
    if "origin" in request.headers:
        raise ClientError(403, "origin_not_allowed", "Keys are not for pages in browsers.")


def _check_no_nul(request: Request) -> None:
    """PostgreSQL takes none; it is no reason to say that it cannot be reached."""
    if any("\0" in text for text in (*request.path_params.values(), *request.query_params.values())):
        raise ValueError("there is no NUL in an id or a name")


def _most(text: str | None) -> int:
    if text is None:
        return PAGE
    if not (text.isascii() and text.isdigit() and len(text) <= 4 and 1 <= int(text) <= _MOST):
        raise ValueError(f"limit is a number from 1 to {_MOST}")
    return int(text)


def _grace(value: Any) -> float:
    try:
        return when.span(value)
    except ValueError as error:
        raise ValueError(f"grace {error}") from None


def _who(request: Request) -> str:
    """There is one management token; what tells its users apart is where they are."""
    return f"management:{request.client.host if request.client else 'local'}"


def _told(made: "Made") -> dict[str, Any]:
    return {**made.record.shown(time.time()), "key": made.key}


def _log(what: str, request: Request, id: str, changed: list[str] | None = None) -> None:
    fields = {"what": what, "key_id": id, "who": _who(request), "changed": changed}
    log.info("key audit", extra={"fields": fields})


def _sentence(error: Exception) -> str:
    text = str(error)
    return f"{text[:1].upper()}{text[1:]}."


def _refusal(error: WeirError) -> Response:
    headers = {name.decode(): value.decode() for name, value in error.headers()}
    return Response(error.body(), error.status, headers)


def _json(value: Any, status: int = 200) -> Response:
    return Response(orjson.dumps(value), status, media_type="application/json")


# -- the document ----------------------------------------------------------------------------------------

_TEXT: dict[str, Any] = {"type": "string", "minLength": 1, "maxLength": 256}
_TEXT_OR_NULL: dict[str, Any] = {"type": ["string", "null"]}
_SAID: dict[str, Any] = {
    "user": {**_TEXT, "description": "Whose it is."},
    "team": {**_TEXT, "type": ["string", "null"]},
    "limits": {
        "type": ["array", "null"],
        "maxItems": 20,
        "items": {"type": "object"},
        "description": "Limits of its own, as the limiter's configuration has them, without `per`.",
        "examples": [[{"requests": "100/minute"}, {"cost": "20/day"}]],
    },
    "models": {
        "type": ["array", "null"],
        "maxItems": 100,
        "items": _TEXT,
        "description": "Patterns of the models that it may use; none: all.",
    },
    "expires": {**_TEXT_OR_NULL, "description": "A span like 90d, or a moment."},
}
_SHOWN: dict[str, Any] = {
    "object": {"const": "weir.key"},
    "id": {"type": "string"},
    "state": {"enum": ["active", "expired", "revoked"]},
    "user": {"type": "string"},
    "team": _TEXT_OR_NULL,
    "limits": {"type": "array", "items": {"type": "object"}},
    "models": {"type": "array", "items": {"type": "string"}},
    "expires": _TEXT_OR_NULL,
    "created": {"type": "string"},
    "created_by": {"type": "string"},
    "updated": {"type": "string"},
    "revoked": _TEXT_OR_NULL,
    "previous_until": {**_TEXT_OR_NULL, "description": "Until when the key before a rotation is good."},
}
_KEY: dict[str, Any] = {"type": "object", "properties": _SHOWN, "required": list(_SHOWN)}
_MADE: dict[str, Any] = {
    "type": "object",
    "properties": {**_SHOWN, "key": {"type": "string", "description": "The key: told this once."}},
    "required": [*_SHOWN, "key"],
}
_LINE: dict[str, Any] = {
    "type": "object",
    "properties": {
        "at": {"type": "string"},
        "who": {"type": "string"},
        "what": {"enum": ["create", "update", "rotate", "revoke"]},
        "key_id": {"type": "string"},
        "changed": {"type": "object"},
    },
    "required": ["at", "who", "what", "key_id", "changed"],
}


def _operation(
    name: str,
    summary: str,
    answers: Mapping[str, Any],
    *,
    status: str = "200",
    takes: Mapping[str, Any] | None = None,
    **more: Any,
) -> dict[str, Any]:
    content = {"application/json": {"schema": answers}}
    found: dict[str, Any] = {
        "operationId": name,
        "tags": ["management"],
        "summary": summary,
        "responses": {
            status: {"description": "Done.", "content": content},
            "default": {"$ref": "#/components/responses/Error"},
        },
        **more,
    }
    if takes is not None:
        schema = {"type": "object", "additionalProperties": False, **takes}
        found["requestBody"] = {"content": {"application/json": {"schema": schema}}}
    return found


def _query(**described: str) -> list[dict[str, Any]]:
    return [
        {"name": name, "in": "query", "description": said, "schema": {"type": "string"}}
        for name, said in described.items()
    ]


def _page(entry: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    properties = {"object": {"const": "list"}, "data": {"type": "array", "items": entry}, **more}
    return {"type": "object", "properties": properties, "required": list(properties)}


_PAGE_SIZE = f"Entries at most, 1 to {_MOST}; {PAGE} unless given."
_LIST = _operation(
    "listKeys",
    "The keys of the database, without revoked ones.",
    _page(_KEY, has_more={"type": "boolean"}),
    parameters=_query(
        user="Of this user only.",
        team="Of this team only.",
        revoked="`true`: revoked ones too.",
        after="From the one after this id.",
        limit=_PAGE_SIZE,
    ),
)
_CREATE = _operation(
    "createKey",
    "Make a key. The answer has it, this once.",
    _MADE,
    status="201",
    takes={"properties": _SAID, "required": ["user"]},
)
_SHOW = _operation("showKey", "One key.", _KEY)
_UPDATE = _operation(
    "updateKey",
    "Change what is said of a key; null takes a value away. Seen everywhere within 2 s.",
    _KEY,
    takes={"properties": _SAID},
)
_REVOKE = _operation("revokeKey", "End a key, everywhere within 2 s.", _KEY)
_ROTATE = _operation(
    "rotateKey",
    "Put a new key in the place of one, which stays good for a while. The answer has it, this once.",
    _MADE,
    takes={"properties": {"grace": {**_TEXT_OR_NULL, "description": "A span like 1h; a day unless given."}}},
)
_AUDIT = _operation(
    "auditKeys",
    "What was done to keys, the latest first.",
    _page(_LINE),
    parameters=_query(key="To this one only.", limit=_PAGE_SIZE),
)
