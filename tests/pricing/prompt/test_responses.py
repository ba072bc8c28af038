from typing import Any

import pytest

from proxy.pricing import tokens
from proxy.pricing.prompt import Prompt, read
from proxy.pricing.prompt.chat import PARALLEL
from proxy.pricing.prompt.responses import ENCRYPTED

EMPTY = 3 + 18
USER = 3 + 1 + 2


def prompt(**fields: Any) -> Prompt:
    found = read("responses", {"model": "gpt-4o", **fields})
    assert found is not None
    return found


def count(*items: Any, **fields: Any) -> int:
    return prompt(input=list(items), **fields).count()


def size(text: str) -> int:
    return tokens.count(text, "o200k_base")


def test_a_text_is_a_message() -> None:
    assert prompt(input="hello world").count() == EMPTY + USER
    assert prompt(input="hello world", model="gpt-5").count() == 2 + USER
    assert prompt().count() == EMPTY


@pytest.mark.parametrize(
    "item",
    [
        {"role": "user", "content": "hello world"},
        {"type": "message", "role": "user", "content": "hello world"},
        {"role": "user", "content": [{"type": "input_text", "text": "hello world"}]},
        {"role": "assistant", "content": [{"type": "output_text", "text": "hello world", "annotations": []}]},
    ],
)
def test_items_are_messages(item: dict[str, Any]) -> None:
    assert count(item) == EMPTY + USER
    assert count(item, item) == EMPTY + 2 * USER


def test_instructions_are_a_system_message() -> None:
    assert count(instructions="hello world") == EMPTY + USER
    assert count(instructions=[{"role": "developer", "content": "hello world"}]) == EMPTY + USER
    assert count(instructions=None) == EMPTY


def test_tools_count_as_in_chat() -> None:
    tool = {"type": "function", "name": "f", "description": "It works", "parameters": {}}
    alone = count(tools=[tool]) - EMPTY
    chat = read(
        "chat/completions",
        {"model": "gpt-4o", "messages": [], "tools": [{"type": "function", "function": tool}]},
    )
    assert chat is not None
    assert alone == chat.count() - 3
    system = count(instructions="Hello:", tools=[tool])
    assert system == count(instructions="Hello:") + alone - 4 + size("Hello:\n") - size("Hello:")
    assert count(tool_choice={"type": "function", "name": "f"}) == EMPTY + 5


def test_calls_and_their_results() -> None:
    call = {"type": "function_call", "call_id": "c1", "name": "get_weather", "arguments": '{"city":"Rome"}'}
    custom = {"type": "custom_tool_call", "name": "get_weather", "input": '{"city":"Rome"}'}
    text = size("get_weather") + size('{"city":"Rome"}')
    assert count(call) == count(custom) == EMPTY + 4 + 3 + text
    result = {"type": "function_call_output", "call_id": "c1", "output": "ローマ"}
    assert count(call, result) == count(call) + 4 - 2 + size("ローマ")
    parts = {**result, "output": [{"type": "input_text", "text": "ローマ"}]}
    assert count(call, parts) == count(call, result)
    assert count(call, call, result) == count(call) + 7 + text + PARALLEL + 2 + size(r"\u30ed\u30fc\u30de")


def test_reasoning_that_is_sent_back() -> None:
    item = {"type": "reasoning", "summary": [{"type": "summary_text", "text": "hello world"}]}
    assert count(item) == EMPTY + 3 + 2
    secret = {"type": "reasoning", "summary": [], "encrypted_content": "gAAAA" * 400}
    assert count(secret) == EMPTY + 3 + 2000 // ENCRYPTED


def test_pictures_that_are_sent_back_are_no_text() -> None:
    pixels = "iVBORw0KGgo" * 1000
    assert count({"type": "image_generation_call", "result": pixels}) == EMPTY + 3 + 1445
    shot = {"type": "computer_screenshot", "image_url": f"data:image/png;base64,{pixels}"}
    assert count({"type": "computer_call_output", "output": shot}) == EMPTY + 3 + 1445


def test_what_is_referred_to_is_not_counted() -> None:
    assert count({"type": "item_reference", "id": "msg_" + "x" * 50}) == EMPTY + 3
    assert count(previous_response_id="resp_1", conversation="conv_1") == EMPTY
    assert count(prompt={"id": "pmpt_1", "variables": {"city": "Rome"}}) == EMPTY + size("city") + size(
        "Rome"
    )


def test_other_items_are_the_texts_in_them() -> None:
    item = {"type": "web_search_call", "action": {"query": "hello world"}}
    words = ("type", "web_search_call", "action", "query", "hello world")
    assert count(item) == EMPTY + 3 + sum(map(size, words))


def test_the_schema_of_the_answer_is_counted() -> None:
    form = {"type": "json_schema", "name": "place", "schema": {"type": "object"}}
    assert count(text={"format": form}) == EMPTY + 30 + size('{"type":"object"}')


def test_what_may_come_back() -> None:
    assert prompt(max_output_tokens=50).max_output_tokens == 50
    assert prompt(max_tokens=50).max_output_tokens is None
    found = prompt(n=5, service_tier="priority")
    assert (found.family, found.choices, found.service_tier) == ("responses", 1, "priority")
