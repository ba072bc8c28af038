"""POST /v1/moderations."""

from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from .call import json_response, read_json
from .errors import invalid, missing
from .text import flatten

_CATEGORIES = (
    "harassment",
    "harassment/threatening",
    "hate",
    "hate/threatening",
    "illicit",
    "illicit/violent",
    "self-harm",
    "self-harm/intent",
    "self-harm/instructions",
    "sexual",
    "sexual/minors",
    "violence",
    "violence/graphic",
)


async def create(request: Request) -> Response:
    """A text is flagged for a category when it has the category's name in it, as in "no violence, please"."""
    call = await read_json(request)
    model = call.model(default="omni-moderation-latest")
    asked = call.fields.get("input")
    if asked is None:
        raise missing("input")
    if isinstance(asked, list) and asked and all(isinstance(each, str) for each in asked):
        results = [_result(each) for each in asked]
    elif isinstance(asked, str) or (isinstance(asked, list) and asked):
        results = [_result(flatten(asked))]
    else:
        raise invalid("input", "a string or an array of strings or of parts")
    return json_response({"id": call.id("modr-"), "model": model, "results": results})


def _result(text: str) -> dict[str, Any]:
    hits = {name: name in text.lower() for name in _CATEGORIES}
    return {
        "flagged": any(hits.values()),
        "categories": hits,
        "category_scores": {name: 0.98 if hit else 0.0001 for name, hit in hits.items()},
        "category_applied_input_types": {name: ["text"] for name in hits},
    }
