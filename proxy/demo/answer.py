"""Deciding what to say: a tool call, JSON of a given schema, or words."""

from dataclasses import dataclass
from typing import Any

import orjson

from . import schema, text, tokens
from .errors import ApiError

_Object = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Answer:
    """`body` is the text or, when `tool` names a function, the JSON of its arguments."""

    body: str
    tool: str | None
    cut: bool
    """The limit on tokens ended it early."""

    @property
    def tokens(self) -> int:
        return tokens.count(self.body)

    @property
    def pieces(self) -> list[str]:
        return text.pieces(self.body)


def answer(
    turns: list[text.Turn],
    *,
    tools: list[Any] | None = None,
    tool_choice: object = None,
    form: object = None,
    limit: int = 0,
    index: int = 0,
) -> Answer:
    """Call a tool when the user has just spoken and there is one to call; else speak, in the form asked for.

    `tools`, `tool_choice` and `form` are taken as chat completions nest them and as responses flatten them.
    """
    tool = _pick(tools or [], tool_choice) if turns[-1].role == "user" else None
    if tool:
        body = schema.example(tool.get("parameters") or {"type": "object"})
    else:
        body = _shaped(text.reply(turns, index), form)
    kept = tokens.cut(body, limit) if limit else body
    return Answer(kept, tool["name"] if tool else None, cut=kept != body)


def _shaped(words: str, form: object) -> str:
    if not isinstance(form, dict):
        return words
    match form.get("type"):
        case "json_schema":
            return schema.example(_inner(form, "json_schema").get("schema"))
        case "json_object":
            return orjson.dumps({"answer": words}).decode()
        case _:
            return words


def _pick(tools: list[Any], choice: object) -> _Object | None:
    """The function that `tool_choice` names, else the first; None when there is none to call."""
    found = [tool for tool in tools if isinstance(tool, dict) and tool.get("type") == "function"]
    functions = [_inner(tool, "function") for tool in found]
    if choice == "none" or not functions:
        return None
    if not all(isinstance(function.get("name"), str) for function in functions):
        raise ApiError(400, "A function needs a name.", param="tools", code="missing_required_parameter")
    if not isinstance(choice, dict) or choice.get("type") != "function":
        return functions[0]
    named = _inner(choice, "function").get("name")
    for function in functions:
        if function["name"] == named:
            return function
    raise ApiError(400, f"Tool choice '{named}' not found in 'tools' parameter.", param="tool_choice")


def _inner(item: _Object, key: str) -> _Object:
    """What chat completions nest under `key` and responses write flat."""
    nested = item.get(key)
    return nested if isinstance(nested, dict) else item
