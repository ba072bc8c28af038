"""POST /v1/completions, the legacy one."""

from collections.abc import Iterator
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from . import tokens
from .answer import Answer, answer
from .call import CREATED, Call, json_response, read_json
from .faults import pace
from .inputs import inputs
from .stream import DONE, Stream, sse
from .text import Turn


async def create(request: Request) -> Response:
    call = await read_json(request)
    model = call.model()
    prompts = inputs(call, "prompt")
    limit = call.number("max_tokens", 0, low=1, high=1 << 31)
    each = range(call.number("n", 1, low=1, high=128))
    answers = [
        answer([Turn("user", prompt.text)], limit=limit, index=at) for prompt in prompts for at in each
    ]
    spent = tokens.usage(sum(prompt.tokens for prompt in prompts), sum(given.tokens for given in answers))
    head = {"id": call.id("cmpl-"), "object": "text_completion", "created": CREATED, "model": model}
    if call.get("stream", bool, False):
        return Stream(_events(call, head, answers, spent), pace=pace(model))
    choices = [_choice(index, given.body, _finish(given)) for index, given in enumerate(answers)]
    return json_response({**head, "choices": choices, "usage": spent})


def _finish(given: Answer) -> str:
    return "length" if given.cut else "stop"


def _choice(index: int, text: str, finish: str | None) -> dict[str, Any]:
    return {"text": text, "index": index, "logprobs": None, "finish_reason": finish}


def _events(
    call: Call, head: dict[str, Any], answers: list[Answer], spent: dict[str, Any]
) -> Iterator[bytes]:
    counted = bool(call.get("stream_options", dict, {}).get("include_usage"))
    tail = {"usage": None} if counted else {}
    for index, given in enumerate(answers):
        for piece in given.pieces:
            yield sse({**head, "choices": [_choice(index, piece, None)], **tail})
        yield sse({**head, "choices": [_choice(index, "", _finish(given))], **tail})
    if counted:
        yield sse({**head, "choices": [], "usage": spent})
    yield DONE
