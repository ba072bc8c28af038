"""POST /chat/completions.

Besides the texts, each message is three tokens and the start of the answer three more, as OpenAI's cookbook
has it; with reasoning models that start is two.
"""

from typing import Any

from proxy.pricing.prompt import tools
from proxy.pricing.prompt.content import content
from proxy.pricing.prompt.prompt import Prompt
from proxy.pricing.prompt.tally import Tally, largest, loose, whole
from proxy.pricing.values import Model

CALL = 3
"""Tokens around a call of a function."""
RESULT = -2
"""Tokens less for the message that has its result."""
PARALLEL = 24
"""Tokens more for a message with several calls, as measured for two and for three."""
_ROLES = frozenset(("system", "developer", "user", "assistant", "tool", "function"))  # a token each


def chat(body: dict[str, Any], known: Model | None) -> Prompt:
    """The prompt of a chat: messages, tools, and the schema of the answer."""
    tally = Tally(body, known)
    tally.fixed = tally.traits.priming
    defined = ("tools" in body or "functions" in body) and tools.definitions(
        tally, body.get("tools"), body.get("functions")
    )
    if messages(tally, body.get("messages"), defined=defined) and defined:
        tally.fixed += tools.AFTER_SYSTEM
    if "tool_choice" in body:
        tools.choice(tally, body["tool_choice"])
    if "function_call" in body:
        tools.choice(tally, body["function_call"])
    if "response_format" in body:
        tools.answer_format(tally, body["response_format"])
    return tally.prompt(
        "chat",
        body,
        output=largest(body.get("max_completion_tokens"), body.get("max_tokens")),
        choices=whole(body.get("n")) or 1,
    )


def messages(tally: Tally, items: Any, *, defined: bool) -> bool:
    """Count messages; whether there is a system message.

    With functions `defined`, the first system message ends with a newline.
    """
    texts = tally.texts
    per_message = tally.traits.per_message
    fixed = 0
    system = parallel = False
    for message in items if isinstance(items, list) else ():
        fixed += per_message
        if not isinstance(message, dict):
            loose(tally, message)
            continue
        role = message.get("role")
        if isinstance(role, str):
            if role in _ROLES:
                fixed += 1
            else:
                texts.append(role)
        value = message.get("content")
        if role == "system" and not system:
            system = True
            if defined and isinstance(value, str) and value and not value.endswith("\n"):
                value += "\n"
        if role == "tool" or role == "function":
            fixed += RESULT
            if parallel:
                value = escaped(value)
        if isinstance(value, str):
            if value:
                texts.append(value)
        else:
            content(tally, value)
        if value is None or len(message) > 2:
            name = message.get("name")
            if isinstance(name, str) and name:
                texts.append(name)
                fixed += tally.traits.per_name
            if isinstance(called := message.get("function_call"), dict):
                call(tally, called)
            if isinstance(calls := message.get("tool_calls"), list):
                for each in calls:
                    if isinstance(each, dict):
                        call(tally, each.get("function") or each.get("custom"))
                if len(calls) > 1:
                    parallel = True
                    fixed += PARALLEL
    tally.fixed += fixed
    return system


def call(tally: Tally, function: Any) -> None:
    """Count a call that the model made."""
    tally.fixed += CALL
    if isinstance(function, dict):
        tally.text(function.get("name"))
        tally.text(function.get("arguments") or function.get("input"))


def escaped(value: Any) -> Any:
    """A result as it is billed after parallel calls: beyond ASCII as escapes."""
    if isinstance(value, str) and not value.isascii():
        return value.encode("ascii", "backslashreplace").decode()
    return value
