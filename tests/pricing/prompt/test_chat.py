from typing import Any

import pytest

from proxy.pricing import tokens
from proxy.pricing.prompt import Prompt, read
from proxy.pricing.prompt.chat import PARALLEL

USER = {"role": "user", "content": "hello world"}  # 3 + 1 + 2 tokens
CALL = {"id": "c1", "type": "function", "function": {"name": "get_weather", "arguments": '{"city":"Rome"}'}}
RESULT = {"role": "tool", "tool_call_id": "c1", "content": "sunny"}


def prompt(*messages: Any, **more: Any) -> Prompt:
    found = read("chat/completions", {"model": "gpt-4o", "messages": list(messages), **more})
    assert found is not None
    return found


def count(*messages: Any, **more: Any) -> int:
    return prompt(*messages, **more).count()


def size(text: str) -> int:
    return tokens.count(text, "o200k_base")


def test_no_message_is_the_start_of_the_answer_alone() -> None:
    assert count() == 3
    assert count(model="o4-mini") == 2
    assert read("chat/completions", {}) is not None


def test_a_message_is_three_tokens_its_role_and_its_text() -> None:
    assert count(USER) == 3 + 3 + 1 + 2
    assert count(USER, USER) == 3 + 2 * 6


@pytest.mark.parametrize("role", ["system", "developer", "user", "assistant"])
def test_each_role_is_a_token(role: str) -> None:
    assert size(role) == 1
    assert count({"role": role, "content": "hello world"}) == 9


def test_a_role_that_nobody_knows_is_counted() -> None:
    role = "master of ceremonies"
    assert count({"role": role, "content": "hello world"}) == 8 + size(role)


def test_a_name_is_a_token_more() -> None:
    assert count({**USER, "name": "alice_smith"}) == 9 + size("alice_smith") + 1


def test_the_oldest_turbo_counts_four_for_a_message_and_nothing_for_the_role_of_a_name() -> None:
    named = {**USER, "name": "alice"}
    assert count(named, model="gpt-3.5-turbo-0301") == 3 + 4 + 1 + 2 + 1 - 1
    assert count(named, model="gpt-3.5-turbo") == 3 + 3 + 1 + 2 + 1 + 1


@pytest.mark.parametrize(
    "content",
    [
        [{"type": "text", "text": "hello"}, {"type": "text", "text": " world"}],
        [{"type": "input_text", "text": "hello world"}],
        ["hello", " world"],
        {"text": "hello world"},
        [{"type": "refusal", "refusal": "hello world"}],
    ],
)
def test_the_texts_of_parts_are_summed(content: Any) -> None:
    assert count({"role": "user", "content": content}) == 9


def test_nothing_said_is_the_frame_alone() -> None:
    assert count({"role": "user", "content": ""}) == 3 + 4
    assert count({"role": "user", "content": []}) == 3 + 4
    assert count({"role": "user", "content": None}) == 3 + 4
    assert count({"role": "user"}) == 3 + 4


def test_a_message_that_is_none_is_counted_as_what_is_in_it() -> None:
    assert count("hello world") == 3 + 3 + 2
    assert count(["hello", " world"]) == 3 + 3 + 2
    assert count(7) == 3 + 3 + 1


# -- tools ---------------------------------------------------------------------------------------------


def test_a_call_of_a_function_is_its_name_its_arguments_and_three() -> None:
    called = {"name": "get_weather", "arguments": '{"city":"Rome"}'}
    text = size(called["name"]) + size(called["arguments"])
    for said in (
        {"role": "assistant", "function_call": called},
        {"role": "assistant", "content": None, "function_call": called},
        {"role": "assistant", "content": None, "tool_calls": [CALL]},
        {
            "role": "assistant",
            "tool_calls": [{"custom": {"name": "get_weather", "input": called["arguments"]}}],
        },
    ):
        assert count(said) == 3 + 3 + 1 + 3 + text


@pytest.mark.parametrize("role", ["tool", "function"])
def test_a_result_is_two_tokens_less(role: str) -> None:
    assert count({"role": role, "content": "sunny"}) == 3 + 3 + 1 + size("sunny") - 2


def test_several_calls_at_once_cost_more() -> None:
    one = count({"role": "assistant", "tool_calls": [CALL]})
    two = count({"role": "assistant", "tool_calls": [CALL, CALL]})
    three = count({"role": "assistant", "tool_calls": [CALL, CALL, CALL]})
    each = three - two
    assert two == one + each + PARALLEL


def test_results_of_several_calls_are_counted_with_escapes() -> None:
    several = {"role": "assistant", "tool_calls": [CALL, CALL]}
    single = {"role": "assistant", "tool_calls": [CALL]}
    rome = {**RESULT, "content": "ローマ"}
    assert count(single, rome) - count(single) == 3 + 1 + size("ローマ") - 2
    assert count(several, rome) - count(several) == 3 + 1 + size(r"\u30ed\u30fc\u30de") - 2
    assert count(several, RESULT) - count(several) == 3 + 1 + size("sunny") - 2
    assert count(rome, several) - count(several) == 3 + 1 + size("ローマ") - 2


FUNCTION = {"name": "f"}


def test_functions_change_the_first_system_message() -> None:
    system = {"role": "system", "content": "Hello:"}
    without = count(system, system)
    with_them = count(system, system, functions=[FUNCTION])
    alone = count(functions=[FUNCTION]) - count()
    assert with_them == without + alone - 4 + size("Hello:\n") - size("Hello:")
    # Nothing to add where it ends like that already.
    newline = {"role": "system", "content": "Hello:\n"}
    assert count(newline, functions=[FUNCTION]) == count(newline) + alone - 4
    assert "Hello:\n" in prompt(newline, functions=[FUNCTION]).texts
    # A developer message is left as it is.
    developer = {"role": "developer", "content": "Hello:"}
    assert count(developer, functions=[FUNCTION]) == count(developer) + alone


def test_a_tool_choice_is_counted() -> None:
    assert count(USER, tool_choice="none") == 10
    assert count(USER, tool_choice="auto") == 9
    assert count(USER, tool_choice={"type": "function", "function": {"name": "get_weather"}}) == 13 + size(
        "get_weather"
    )
    assert count(USER, function_call={"name": "get_weather"}) == 13 + size("get_weather")


def test_the_schema_of_the_answer_is_counted() -> None:
    schema = {"type": "object", "properties": {"city": {"type": "string"}}}
    form = {"type": "json_schema", "json_schema": {"name": "place", "schema": schema}}
    text = '{"type":"object","properties":{"city":{"type":"string"}}}'
    assert count(USER, response_format=form) == 9 + 30 + size(text)
    assert count(USER, response_format={"type": "json_object"}) == 9


# -- what may come back --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "most"),
    [
        ({}, None),
        ({"max_tokens": 7}, 7),
        ({"max_completion_tokens": 9}, 9),
        ({"max_tokens": 7, "max_completion_tokens": 9}, 9),
        ({"max_tokens": 9, "max_completion_tokens": 7}, 9),
        ({"max_tokens": True}, None),
        ({"max_tokens": -1, "max_completion_tokens": None}, None),
        ({"max_tokens": "7"}, None),
        ({"max_tokens": 7.0}, 7),
        ({"max_tokens": 10**30}, 2**31 - 1),
    ],
)
def test_the_most_that_may_come_back(fields: dict[str, Any], most: int | None) -> None:
    assert prompt(USER, **fields).max_output_tokens == most


@pytest.mark.parametrize(("n", "choices"), [(None, 1), (1, 1), (3, 3), (0, 1), (-2, 1), (True, 1), ("3", 1)])
def test_the_choices(n: Any, choices: int) -> None:
    assert prompt(USER, n=n).choices == choices


def test_what_a_prompt_says_of_itself() -> None:
    found = prompt(USER, service_tier="flex")
    assert (found.family, found.model, found.encoding) == ("chat", "gpt-4o", "o200k_base")
    assert found.service_tier == "flex"
    assert prompt(USER, service_tier=1).service_tier is None
    assert prompt(USER, model="gpt-4").encoding == "cl100k_base"
    unknown = prompt(USER, model=None)
    assert (unknown.model, unknown.encoding) == (None, "o200k_base")
