"""POST /v1/responses, POST /v1/responses/input_tokens and GET /v1/responses/{id}."""

from collections.abc import Iterator
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response

from . import tokens
from .answer import Answer, answer
from .call import CREATED, Call, json_response, read_json
from .errors import ApiError, invalid, missing
from .faults import pace
from .store import Store
from .stream import Stream, sse
from .text import Turn, flatten

_ECHOED: dict[str, Any] = {
    "instructions": None,
    "max_output_tokens": None,
    "max_tool_calls": None,
    "metadata": {},
    "parallel_tool_calls": True,
    "previous_response_id": None,
    "prompt_cache_key": None,
    "reasoning": {"effort": None, "summary": None},
    "safety_identifier": None,
    "store": True,
    "temperature": 1.0,
    "text": {"format": {"type": "text"}, "verbosity": "medium"},
    "tool_choice": "auto",
    "tools": [],
    "top_logprobs": 0,
    "top_p": 1.0,
    "truncation": "disabled",
    "user": None,
}


class Responses:
    """Remembers the last 16 MiB of responses, unless they were made with `store: false`."""

    def __init__(self) -> None:
        self._kept: Store[bytes] = Store(limit=16 << 20)

    async def create(self, request: Request) -> Response:
        call = await read_json(request)
        model = call.model()
        turns = _turns(call)
        given = answer(
            turns,
            tools=call.get("tools", list, []),
            tool_choice=call.fields.get("tool_choice"),
            form=call.get("text", dict, {}).get("format"),
            limit=call.number("max_output_tokens", 0, low=1, high=1 << 31),
        )
        final = _final(call, model, given, tokens.response_usage(_count(call, turns), given.tokens))
        if call.get("store", bool, True):
            body = orjson.dumps(final)
            self._kept.put(final["id"], body, weight=len(body))
        if call.get("stream", bool, False):
            return Stream(_events(final, given), pace=pace(model))
        return json_response(final)

    async def input_tokens(self, request: Request) -> Response:
        call = await read_json(request)
        call.model()
        return json_response({"object": "response.input_tokens", "input_tokens": _count(call, _turns(call))})

    async def retrieve(self, request: Request) -> Response:
        name = request.path_params["id"]
        body = self._kept.get(name)
        if body is None:
            raise ApiError(404, f"Response with id '{name}' not found.")
        return Response(body, media_type="application/json")


def _count(call: Call, turns: list[Turn]) -> int:
    return tokens.count(f"{call.get('instructions', str, '')}{''.join(turn.text for turn in turns)}")


def _turns(call: Call) -> list[Turn]:
    asked = call.fields.get("input")
    if asked is None:
        raise missing("input")
    if isinstance(asked, str):
        return [Turn("user", asked)]
    if not isinstance(asked, list) or not asked or not all(isinstance(item, dict) for item in asked):
        raise invalid("input", "a string or an array with at least one item")
    return [_turn(item) for item in asked]


def _turn(item: dict[str, Any]) -> Turn:
    if item.get("type") == "function_call_output":
        return Turn("tool", flatten(item.get("output")))
    return Turn(str(item.get("role", "")), flatten(item.get("content")))


def _final(call: Call, model: str, given: Answer, spent: dict[str, Any]) -> dict[str, Any]:
    echoed = {
        key: default if (value := call.fields.get(key)) is None else value for key, default in _ECHOED.items()
    }
    return {
        "id": call.id("resp_"),
        "object": "response",
        "created_at": CREATED,
        "completed_at": None if given.cut else CREATED,
        "status": "incomplete" if given.cut else "completed",
        "background": False,
        "error": None,
        "incomplete_details": {"reason": "max_output_tokens"} if given.cut else None,
        "model": model,
        "output": [_item(call, given)],
        "service_tier": "default",
        "usage": spent,
        **echoed,
    }


def _item(call: Call, given: Answer) -> dict[str, Any]:
    status = "incomplete" if given.cut else "completed"
    if given.tool:
        names = {"id": call.id("fc_"), "call_id": call.id("call_"), "name": given.tool}
        return {"type": "function_call", "status": status, "arguments": given.body, **names}
    return {
        "id": call.id("msg_"),
        "type": "message",
        "status": status,
        "role": "assistant",
        "content": [{"type": "output_text", "annotations": [], "logprobs": [], "text": given.body}],
    }


def _events(final: dict[str, Any], given: Answer) -> Iterator[bytes]:
    """OpenAI's order of events, numbered from 0; there is no [DONE] after the last."""
    early = {**final, "status": "in_progress", "completed_at": None, "incomplete_details": None}
    early |= {"output": [], "usage": None}
    steps = [
        ("created", {"response": early}),
        ("in_progress", {"response": early}),
        *(_call_steps if given.tool else _message_steps)(final["output"][0], given),
        (final["status"], {"response": final}),
    ]
    for number, (name, fields) in enumerate(steps):
        kind = f"response.{name}"
        yield sse({"type": kind, "sequence_number": number, **fields}, event=kind)


_Step = tuple[str, dict[str, Any]]


def _message_steps(item: dict[str, Any], given: Answer) -> Iterator[_Step]:
    at = {"item_id": item["id"], "output_index": 0, "content_index": 0}
    part = item["content"][0]
    yield "output_item.added", {"output_index": 0, "item": {**item, "status": "in_progress", "content": []}}
    yield "content_part.added", {**at, "part": {**part, "text": ""}}
    for piece in given.pieces:
        yield "output_text.delta", {**at, "delta": piece, "logprobs": []}
    yield "output_text.done", {**at, "text": given.body, "logprobs": []}
    yield "content_part.done", {**at, "part": part}
    yield "output_item.done", {"output_index": 0, "item": item}


def _call_steps(item: dict[str, Any], given: Answer) -> Iterator[_Step]:
    at = {"item_id": item["id"], "output_index": 0}
    yield "output_item.added", {"output_index": 0, "item": {**item, "status": "in_progress", "arguments": ""}}
    for piece in given.pieces:
        yield "function_call_arguments.delta", {**at, "delta": piece}
    yield "function_call_arguments.done", {**at, "name": item["name"], "arguments": given.body}
    yield "output_item.done", {"output_index": 0, "item": item}
