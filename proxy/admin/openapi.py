"""`GET /openapi.json`: Weir's own endpoints of both ports as an OpenAPI 3.1 document.

What goes through to an upstream is described by the upstream. Routes that plugins add are listed with their
paths and methods. What they take and answer they say themselves: an endpoint's attribute `openapi` is an
Operation Object, which may refer to `#/components/responses/Error`.
"""

from collections.abc import Iterable
from typing import Any

from starlette.routing import BaseRoute, Route

from proxy import __version__
from proxy.core.config import Address, Settings

Object = dict[str, Any]

# OpenAPI has a place for these, and none for methods that somebody made up. HEAD goes without saying.
_METHODS = frozenset(("GET", "PUT", "POST", "DELETE", "OPTIONS", "PATCH", "TRACE"))


def document(settings: Settings, data: Iterable[BaseRoute], management: Iterable[BaseRoute]) -> Object:
    """The document of a Weir with these settings, whose plugins add these routes to its two ports.

    Of the endpoints that built-in plugins serve it has those whose plugin is in the chain. A route that is
    not a Starlette `Route` (a `Mount` and the like) is left out.
    """
    servers = _servers(settings.listen)
    paths = {path: {**item, **servers} for path, item in _DATA.items()} | _MANAGEMENT
    added = _added(data, {"security": _CLIENT}, servers)
    for path, item in (_added(management, {}, {}) | added).items():
        if path not in paths:
            paths[path] = {**item, **(_BUILT_IN.get(path, {}) if path in added else {})}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Weir's own endpoints",
            "version": __version__,
            "description": "Everything else on the data port is forwarded to the upstream.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/", "description": "The management port."}],
        "security": [] if settings.management_token is None else [{"managementToken": []}],
        "tags": [
            {"name": "data", "description": "On the port of the API."},
            {"name": "management", "description": "On the port that this document comes from."},
            {"name": "plugins", "description": "Added by plugins, which know what they take and answer."},
        ],
        "paths": paths,
        "components": _COMPONENTS,
    }


def _servers(listen: Address) -> Object:
    """Where the paths of the data port are."""
    host = "127.0.0.1" if listen.host in ("0.0.0.0", "::", "") else listen.host  # noqa: S104
    return {
        "servers": [
            {
                "url": "http://{host}:{port}",
                "description": "The data port.",
                "variables": {
                    "host": {"default": f"[{host}]" if ":" in host else host},
                    "port": {"default": str(listen.port)},
                },
            }
        ]
    }


def _added(routes: Iterable[BaseRoute], operation: Object, item: Object) -> dict[str, Object]:
    """The path items of routes that plugins add, with what all their operations and items have."""
    items: dict[str, Object] = {}
    for route in routes:
        if not isinstance(route, Route):
            continue
        found = items.setdefault(route.path_format, {**item})
        if route.param_convertors:
            found["parameters"] = [
                {"name": name, "in": "path", "required": True, "schema": _TEXT}
                for name in route.param_convertors
            ]
        for method in sorted(_METHODS & (route.methods or set())):
            said = getattr(route.endpoint, "openapi", {})
            found[method.lower()] = {**_OF_A_PLUGIN, **operation, **said}
    return items


# -- shapes ----------------------------------------------------------------------------------------------


def _ref(name: str) -> Object:
    return {"$ref": f"#/components/schemas/{name}"}


def _or_null(schema: Object) -> Object:
    return {"anyOf": [schema, {"type": "null"}]}


def _object(properties: Object, *optional: str, **more: Any) -> Object:
    """An object with these fields, all of them always there but the optional ones."""
    required = [name for name in properties if name not in optional]
    return {"type": "object", "properties": properties, "required": required, **more}


def _list(items: Object) -> Object:
    return {"type": "array", "items": items}


def _json(description: str, schema: Object) -> Object:
    return {"description": description, "content": {"application/json": {"schema": schema}}}


def _get(name: str, tag: str, summary: str, responses: Object, **more: Any) -> Object:
    return {"get": {"operationId": name, "tags": [tag], "summary": summary, "responses": responses, **more}}


def _reasons(status: str) -> Object:
    return _object({"status": {"const": status}, "reasons": {**_list(_TEXT), "minItems": 1}})


_TEXT: Object = {"type": "string"}
_TEXT_OR_NULL: Object = {"type": ["string", "null"]}
_COUNT_OR_NULL: Object = {"type": ["integer", "null"], "minimum": 0}
_AMOUNT: Object = {"type": "number", "minimum": 0}
_AMOUNT_OR_NULL: Object = {"type": ["number", "null"], "minimum": 0}
_MONEY: Object = {"type": "string", "pattern": r"^\d+(\.\d+)?$"}

_OK: Object = _object({"status": {"const": "ok"}})
_ERROR: Object = {"$ref": "#/components/responses/Error"}
_CLIENT: list[Object] = [{}, {"clientKey": []}]  # asked for where `auth` has keys

_OF_A_PLUGIN: Object = {
    "tags": ["plugins"],
    "summary": "Added by a plugin.",
    "responses": {"default": {"description": "The plugin says."}},
}

# -- paths -----------------------------------------------------------------------------------------------

_DATA: dict[str, Object] = {
    "/health": _get(
        "health",
        "data",
        "Whether Weir serves, and how each upstream did last.",
        {"200": _json("It serves.", _ref("Health"))},
        security=[],
    ),
    "/models": _get(
        "listModels",
        "data",
        "The models that the caller may use, with prices, bounds and limits.",
        {"200": _json("The models, in OpenAI's list shape.", _ref("ModelList")), "default": _ERROR},
        security=_CLIENT,
    ),
}

# What plugins that come with Weir serve on the data port.
_BUILT_IN: dict[str, Object] = {
    "/rate-limit/status": _get(
        "rateLimitStatus",
        "data",
        "What the caller may still use; asking takes nothing.",
        {"200": _json("Every limit that may apply.", _ref("RateLimits")), "default": _ERROR},
        security=_CLIENT,
        parameters=[
            {
                "name": "model",
                "in": "query",
                "description": "Adds the state of limits that go by model.",
                "schema": _TEXT,
            }
        ],
    ),
}

_MANAGEMENT: dict[str, Object] = {
    "/healthz": _get(
        "alive",
        "management",
        "Whether the process lives.",
        {
            "200": _json("It does.", _OK),
            "503": _json("One of several workers does not answer.", _reasons("not alive")),
        },
        security=[],
    ),
    "/readyz": _get(
        "ready",
        "management",
        "Whether requests should be sent here now.",
        {
            "200": _json("They should.", _OK),
            "503": _json("They should not.", _reasons("not ready")),
        },
        security=[],
    ),
    "/startupz": _get(
        "started",
        "management",
        "Whether the start is over.",
        {
            "200": _json("It is.", _OK),
            "503": _json("It is not.", _object({"status": {"const": "starting"}})),
        },
        security=[],
    ),
    "/metrics": _get(
        "metrics",
        "management",
        "Metrics for Prometheus.",
        {
            "200": {
                "description": "In Prometheus' text format.",
                "content": {"text/plain": {"schema": _TEXT}},
            }
        },
        security=[],
    ),
    "/inflight": _get(
        "inFlight",
        "management",
        "What is in flight, the oldest first.",
        {"200": _json("A page, and how many there are in all.", _ref("InFlight")), "401": _ERROR},
    ),
    "/openapi.json": _get(
        "openapi",
        "management",
        "This document.",
        {"200": _json("An OpenAPI document.", {"type": "object"}), "401": _ERROR},
    ),
}

# -- schemas ---------------------------------------------------------------------------------------------

_SCHEMAS: dict[str, Object] = {
    "Error": _object(
        {
            "error": _object(
                {
                    "message": _TEXT,
                    "type": _TEXT,
                    "param": _TEXT_OR_NULL,
                    "code": {"type": "string", "description": "Stable: rely on it."},
                }
            ),
            "message": {"type": "string", "description": "The same once more."},
            "retryAfter": {"type": "integer", "minimum": 1, "description": "Seconds, if worth another try."},
        },
        "retryAfter",
    ),
    "Health": _object(
        {
            "status": {"const": "ok"},
            "version": _TEXT,
            "upstreams": {
                "type": "object",
                "additionalProperties": _object(
                    {
                        "last_outcome": {
                            **_TEXT_OR_NULL,
                            "description": "A status or an error's code; null before the first request.",
                        }
                    }
                ),
            },
        }
    ),
    "Model": _object(
        {
            "id": _TEXT,
            "object": {"const": "model"},
            "created": {"type": "integer", "description": "Seconds since 1970; 0 if not known."},
            "owned_by": _TEXT,
            "kind": _TEXT_OR_NULL,
            "encoding": {**_TEXT_OR_NULL, "description": "The vocabulary that tokens are counted with."},
            "context_window": _COUNT_OR_NULL,
            "max_output_tokens": _COUNT_OR_NULL,
            "prices": _or_null(_ref("Prices")),
            "listed": {
                "type": ["boolean", "null"],
                "description": "Whether the upstream's list has it; null without such a list.",
            },
        },
        description="Plugins and the upstream may add fields.",
    ),
    "Prices": {
        "type": "object",
        "description": "US dollars as text, by service tier and unit.",
        "additionalProperties": {"type": "object", "additionalProperties": _MONEY},
    },
    "ModelList": _object(
        {
            "object": {"const": "list"},
            "data": _list(_ref("Model")),
            "upstream": _object(
                {"name": _TEXT, "outcome": {"type": "string", "description": "200, or why there is no list."}}
            ),
            "price_version": _TEXT_OR_NULL,
        }
    ),
    "Limit": _object(
        {
            "name": _TEXT,
            "kind": {"enum": ["requests", "input_tokens", "tokens", "cost", "in_flight"]},
            "per": {"enum": ["address", "key", "user", "end_user", "team", "model", "all"]},
            "on": _or_null(_list(_TEXT)),
            "models": _or_null(_list(_TEXT)),
            "limit": _AMOUNT,
            "window": {"enum": ["second", "minute", "hour", "day", "month", None]},
            "burst": _AMOUNT,
            "shadow": {"type": "boolean", "description": "Counts and never refuses."},
            "used": _AMOUNT_OR_NULL,
            "remaining": {"type": ["number", "null"], "description": "What would pass now, at once."},
            "reset": {**_AMOUNT_OR_NULL, "description": "Seconds until nothing is used again."},
        },
        description="Costs are US dollars. `used`, `remaining`, `reset` are null until a model is named.",
    ),
    "Running": _object(
        {
            "id": {"type": "string", "description": "As in `x-weir-request-id` and the log."},
            "age": {**_AMOUNT, "description": "Seconds since it came."},
            "phase": {
                "enum": ["request", "upstream", "response", "end"],
                "description": "Before the upstream; waiting for it; on its way back; being settled.",
            },
            "method": _TEXT,
            "endpoint": _TEXT,
            "model": {**_TEXT_OR_NULL, "description": "Where it was estimated."},
            "user": _TEXT_OR_NULL,
            "key_id": _TEXT_OR_NULL,
            "address": _TEXT,
            "upstream": {**_TEXT_OR_NULL, "description": "Which was tried last."},
            "attempts": {"type": "integer", "minimum": 0, "description": "Those that have an outcome."},
            "status": {"type": ["integer", "null"]},
            "stream": {"type": "boolean"},
            "received_bytes": {**_COUNT_OR_NULL, "description": "Of the request's body."},
            "sent_bytes": {**_COUNT_OR_NULL, "description": "Of the answer's body."},
            "worker": {"type": "integer", "minimum": 1, "description": "Where there are several."},
        },
        "worker",
        description="A request that is in flight: no header, body or query, and no credential.",
    ),
    "InFlight": _object(
        {
            "object": {"const": "weir.in_flight"},
            "total": {"type": "integer", "minimum": 0},
            "requests": {**_list(_ref("Running")), "maxItems": 1000},
            "silent": {
                **_list({"type": "integer", "minimum": 1}),
                "description": "Workers that did not answer in time.",
            },
        },
        "silent",
    ),
    "RateLimits": _object(
        {
            "object": {"const": "weir.rate_limits"},
            "user": _TEXT,
            "key_id": _TEXT_OR_NULL,
            "team": _TEXT_OR_NULL,
            "end_user": _TEXT_OR_NULL,
            "address": _TEXT,
            "limits": _list(_ref("Limit")),
        }
    ),
}

_COMPONENTS: Object = {
    "schemas": _SCHEMAS,
    "responses": {"Error": _json("An error, in the shape that OpenAI's SDKs know.", _ref("Error"))},
    "securitySchemes": {
        "clientKey": {"type": "http", "scheme": "bearer", "description": "A key that `auth` has given out."},
        "managementToken": {"type": "http", "scheme": "bearer", "description": "`management_token`."},
    },
}
