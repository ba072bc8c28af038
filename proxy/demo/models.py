"""GET /v1/models and /v1/models/{id}."""

from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from .call import CREATED, json_response
from .faults import must_exist

_NAMES = (
    "gpt-5",
    "gpt-5-mini",
    "gpt-5-nano",
    "gpt-4.1",
    "gpt-4.1-mini",
    "gpt-4o",
    "gpt-4o-mini",
    "gpt-3.5-turbo-instruct",
    "text-embedding-3-small",
    "text-embedding-3-large",
    "gpt-image-1",
    "tts-1",
    "gpt-4o-mini-tts",
    "whisper-1",
    "gpt-4o-transcribe",
    "omni-moderation-latest",
    "slow",
    "flaky",
    "rate-limited",
)


async def list_all(request: Request) -> Response:
    return json_response({"object": "list", "data": [_model(name) for name in _NAMES]})


async def retrieve(request: Request) -> Response:
    """Any name is a model here, but for those that are missing on purpose."""
    name = request.path_params["id"]
    if not name:
        raise HTTPException(404)
    must_exist(name)
    return json_response(_model(name))


def _model(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": CREATED, "owned_by": "weir-demo"}
