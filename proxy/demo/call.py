"""One request whose body has been read: its fields, checked as they are asked for, and its digest."""

from collections.abc import Mapping
from typing import Any, TypeVar

import orjson
from starlette.requests import Request
from starlette.responses import Response

from .errors import ApiError, invalid, missing
from .faults import Faults
from .stamp import digest

T = TypeVar("T")

CREATED = 1_750_000_000  # when everything here was made
_MAX_BODY = 64 << 20
_KINDS = {str: "a string", int: "an integer", bool: "a boolean", list: "an array", dict: "an object"}
_UNREADABLE = "We could not parse the JSON body of your request."


class Call:
    """A field that is null counts as absent, as it does at OpenAI."""

    def __init__(self, request: Request, fields: Mapping[str, object]) -> None:
        self.fields = fields
        self.digest = digest(request.scope).hexdigest()
        self._faults: Faults = request.app.state.faults

    def get(self, name: str, kind: type[T], default: T) -> T:
        """The field, of the right kind or 400."""
        value = self.fields.get(name)
        if value is None:
            return default
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            raise invalid(name, _KINDS[kind])
        return value

    def need(self, name: str, kind: type[T]) -> T:
        """The field; 400 when it is not there."""
        if self.fields.get(name) is None:
            raise missing(name)
        return self.get(name, kind, kind())

    def number(self, name: str, default: int, *, low: int, high: int) -> int:
        value = self.get(name, int, default)
        if self.fields.get(name) is not None and not low <= value <= high:
            raise invalid(name, f"an integer from {low} to {high}")
        return value

    def model(self, default: str = "") -> str:
        """The model's name, once it is known that this model does not misbehave."""
        name = self.get("model", str, default)
        if not name:
            raise ApiError(
                400, "You must provide a model parameter.", param="model", code="missing_required_parameter"
            )
        self._faults.check(name, self.get("user", str, ""))
        return name

    def id(self, prefix: str, salt: object = "") -> str:
        """An id that is the same for the same request."""
        return f"{prefix}{self.digest[:24]}{salt}"


async def read_json(request: Request) -> Call:
    """Read a body of at most 64 MiB that must be a JSON object."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > _MAX_BODY:
            raise ApiError(413, f"The body is larger than {_MAX_BODY} bytes.")
    try:
        fields = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        digest(request.scope).update(body)
        raise ApiError(400, _UNREADABLE) from error
    # What is told besides a stream does not change what the stream says.
    told = (
        {name: value for name, value in fields.items() if name != "stream_options"}
        if isinstance(fields, dict)
        else fields
    )
    digest(request.scope).update(orjson.dumps(told, option=orjson.OPT_SORT_KEYS))
    if not isinstance(fields, dict):
        raise ApiError(400, _UNREADABLE)
    return Call(request, fields)


def json_response(content: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    return Response(orjson.dumps(content), status, headers, "application/json")
