"""POST /v1/chat/completions."""

from collections.abc import Iterator
from itertools import zip_longest
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from . import tokens
from .answer import Answer, answer
from .call import CREATED, Call, json_response, read_json
from .errors import invalid, missing
from .faults import pace
from .stream import DONE, Stream, sse
from .text import Turn, flatten


async def create(request: Request) -> Response:
    call = await read_json(request)
    model = call.model()
    turns = _turns(call)
    limit = call.number("max_completion_tokens", 0, low=1, high=1 << 31)
    limit = limit or call.number("max_tokens", 0, low=1, high=1 << 31)
    answers = [
        answer(
            turns,
            tools=call.get("tools", list, []),
            tool_choice=call.fields.get("tool_choice"),
            form=call.get("response_format", dict, {}),
            limit=limit,
            index=index,
        )
        for index in range(call.number("n", 1, low=1, high=128))
    ]
    spent = tokens.usage(sum(tokens.count(turn.text) for turn in turns), sum(each.tokens for each in answers))
    if call.get("stream", bool, False):
        return Stream(_events(call, model, answers, spent), pace=pace(model))
    choices = [_choice(call, index, each) for index, each in enumerate(answers)]
    return json_response({**_head(call, model, "chat.completion"), "choices": choices, "usage": spent})


def _turns(call: Call) -> list[Turn]:
    messages = call.need("messages", list)
    if not messages:
        raise invalid("messages", "an array with at least one message")
    for at, message in enumerate(messages):
        if not isinstance(message, dict):
            raise invalid(f"messages[{at}]", "an object")
        if not isinstance(message.get("role"), str):
            raise missing(f"messages[{at}].role")
    return [Turn(message["role"], flatten(message.get("content"))) for message in messages]


def _head(call: Call, model: str, kind: str) -> dict[str, Any]:
    return {
        "id": call.id("chatcmpl-"),
        "object": kind,
        "created": CREATED,
        "model": model,
        "service_tier": "default",
        "system_fingerprint": "fp_weir_demo",
    }


def _finish(given: Answer) -> str:
    return "length" if given.cut else "tool_calls" if given.tool else "stop"


def _tool_call(call: Call, index: int, given: Answer, arguments: str) -> dict[str, Any]:
    function = {"name": given.tool, "arguments": arguments}
    return {"id": call.id("call_", index), "type": "function", "function": function}


def _choice(call: Call, index: int, given: Answer) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": None, "refusal": None, "annotations": []}
    if given.tool:
        message["tool_calls"] = [_tool_call(call, index, given, given.body)]
    else:
        message["content"] = given.body
    return {"index": index, "message": message, "logprobs": None, "finish_reason": _finish(given)}


def _events(call: Call, model: str, answers: list[Answer], spent: dict[str, Any]) -> Iterator[bytes]:
    """The choices take turns, as OpenAI's do. Usage, if asked for, is null but in a last chunk of its own."""
    counted = bool(call.get("stream_options", dict, {}).get("include_usage"))
    head = _head(call, model, "chat.completion.chunk")
    tail = {"usage": None} if counted else {}
    for step in zip_longest(*(_deltas(call, index, given) for index, given in enumerate(answers))):
        for choice in filter(None, step):
            yield sse({**head, "choices": [choice], **tail})
    if counted:
        yield sse({**head, "choices": [], "usage": spent})
    yield DONE


def _deltas(call: Call, index: int, given: Answer) -> Iterator[dict[str, Any]]:
    def choice(delta: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
        return {"index": index, "delta": delta, "logprobs": None, "finish_reason": finish}

    if given.tool:
        opening = {"index": 0, **_tool_call(call, index, given, "")}
        yield choice({"role": "assistant", "content": None, "tool_calls": [opening], "refusal": None})
        for piece in given.pieces:
            yield choice({"tool_calls": [{"index": 0, "function": {"arguments": piece}}]})
    else:
        yield choice({"role": "assistant", "content": "", "refusal": None})
        for piece in given.pieces:
            yield choice({"content": piece})
    yield choice({}, _finish(given))
