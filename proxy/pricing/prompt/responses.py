"""POST /responses.

Instructions and input are messages as in chat. What `previous_response_id`, `conversation` and `prompt` refer
to is known to the upstream alone and is not counted, nor is what built-in tools add.
"""

from typing import Any

from proxy.pricing.prompt import tools
from proxy.pricing.prompt.chat import PARALLEL, RESULT, call, escaped, messages
from proxy.pricing.prompt.content import content
from proxy.pricing.prompt.prompt import Prompt
from proxy.pricing.prompt.tally import Tally, largest, loose
from proxy.pricing.values import Model

ENCRYPTED = 4
"""Characters of encrypted reasoning for one token: six would be likely."""

_CALLS = ("function_call", "custom_tool_call")
_RESULTS = ("function_call_output", "custom_tool_call_output")


def responses(body: dict[str, Any], known: Model | None) -> Prompt:
    """The prompt of a response: instructions, input, tools, and the schema of the answer."""
    tally = Tally(body, known)
    tally.fixed = tally.traits.priming + tally.traits.hidden
    defined = "tools" in body and tools.definitions(tally, body["tools"])
    items = _items(body.get("instructions"), "system") + _items(body.get("input"), "user")
    if _input(tally, items, defined=defined) and defined:
        tally.fixed += tools.AFTER_SYSTEM
    tools.choice(tally, body.get("tool_choice"))
    if isinstance(text := body.get("text"), dict):
        tools.answer_format(tally, text.get("format"))
    if isinstance(template := body.get("prompt"), dict) and template.get("variables"):
        loose(tally, template["variables"])
    return tally.prompt("responses", body, output=largest(body.get("max_output_tokens")))


def _items(value: Any, role: str) -> list[Any]:
    if isinstance(value, list):
        return value
    return [] if value is None else [{"role": role, "content": value}]


def _input(tally: Tally, items: list[Any], *, defined: bool) -> bool:
    said: list[Any] = []
    calls = 0
    for item in items:
        kind = item.get("type") if isinstance(item, dict) else None
        if kind is None or kind == "message":
            said.append(item)
        elif kind in _CALLS:
            calls += 1
            tally.fixed += tally.traits.per_message + 1
            call(tally, item)
        elif kind in _RESULTS:
            tally.fixed += tally.traits.per_message + 1 + RESULT
            output = item.get("output")
            content(tally, escaped(output) if calls > 1 else output)
        else:
            _other(tally, kind, item)
    if calls > 1:
        tally.fixed += PARALLEL
    return messages(tally, said, defined=defined)


def _other(tally: Tally, kind: Any, item: dict[str, Any]) -> None:
    """What is neither a message nor a call of a function of the client's."""
    tally.fixed += tally.traits.per_message
    if kind == "reasoning":
        content(tally, item.get("summary"))
        content(tally, item.get("content"))
        if isinstance(secret := item.get("encrypted_content"), str):
            tally.fixed += len(secret) // ENCRYPTED
    elif kind == "image_generation_call":
        tally.image()
    elif kind == "computer_call_output":
        content(tally, item.get("output"))
    elif kind != "item_reference":
        loose(tally, item)
