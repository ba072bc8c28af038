from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.pricing.prompt import plain, read
from proxy.pricing.prompt.chat import chat
from proxy.pricing.prompt.plain import _SHORT, MESSAGES
from proxy.pricing.values import Model

CHAT = "chat/completions"
HELLO = {"role": "user", "content": "hello world"}
REASONING = Model("o4-mini", "chat", "cl100k_base")

FUNCTION = {"name": "f", "description": "does it"}

TEXTS = st.text(max_size=20) | st.sampled_from(["", "x" * _SHORT, "é" * _SHORT, "é" * (_SHORT + 1)])
ODD: st.SearchStrategy[Any] = st.sampled_from([None, True, 7, 1.5, "", "x", [], {}, ["x"], {"content": "x"}])
MODELS = st.sampled_from(["gpt-4o", "gpt-3.5-turbo-0301", "openai/o3", "nobody knows", "", "x" * 300])
ROLES = st.sampled_from(["system", "developer", "user", "assistant"])
MESSAGE = st.fixed_dictionaries({"role": ROLES, "content": TEXTS})
NUMBERS = st.integers(-1, 2**33) | ODD
SETTINGS = st.fixed_dictionaries(
    {},
    optional={
        **dict.fromkeys(("max_tokens", "max_completion_tokens", "n"), NUMBERS),
        **dict.fromkeys(("stream", "temperature", "user", "stop", "input", "prompt", "instructions"), ODD),
    },
)
# What makes a chat one that is not plain, or not quite.
FRAMING: list[dict[str, Any]] = [
    {"tools": [{"type": "function", "function": FUNCTION}]},
    {"functions": [FUNCTION]},
    {"tool_choice": "none"},
    {"function_call": {"name": "f"}},
    {"response_format": {"type": "json_schema", "json_schema": {"schema": {"type": "object"}}}},
    {"service_tier": "flex"},
]
OTHERS: list[Any] = [None, True, 7, 1.5, "", [], {}, ["x"], {"text": "x"}]
NEARLY: list[Any] = [
    *(None, True, 7, "", "content", [], ["content"], {}, {"content": "x"}, {"role": "user"}),
    *({**HELLO, "content": other} for other in OTHERS),
    *({**HELLO, "role": other} for other in (*OTHERS, "tool", "function", "bot")),
    *({**HELLO, **more} for more in ({"name": "a"}, {"tool_calls": [{"function": FUNCTION}]}, {"x": 1})),
    {"role": "user", "content": [{"type": "text", "text": "hello world"}]},
    {"role": "user", "name": "hello"},
    {"content": "hello world", "name": "hello"},
]


@st.composite
def _bodies(draw: Any) -> dict[str, Any]:
    """A plain chat, or one that has one thing that is not."""
    messages = draw(st.lists(MESSAGE, max_size=3))
    body = {"model": draw(MODELS), "messages": messages, **draw(SETTINGS)}
    match draw(st.sampled_from(["plain", "framed", "message", "odd"])):
        case "framed":
            body |= draw(st.sampled_from(FRAMING))
        case "message":
            messages.insert(draw(st.integers(0, len(messages))), draw(st.sampled_from(NEARLY)))
        case "odd":
            body[draw(st.sampled_from(["model", "messages", *map(next, map(iter, FRAMING))]))] = draw(ODD)
    return body


@given(_bodies(), st.sampled_from([None, REASONING]))
def test_it_gives_what_the_rules_for_all_chats_give(body: dict[str, Any], known: Model | None) -> None:
    before = repr(body)
    found = plain(CHAT, body, known)
    assert found is None or found == chat(body, known) == read(CHAT, body, known)
    assert repr(body) == before


@given(MODELS, st.lists(st.fixed_dictionaries({"role": ROLES, "content": st.text(min_size=1)})), SETTINGS)
def test_what_is_plain_is_read_so(model: str, messages: list[Any], settings: dict[str, Any]) -> None:
    assert plain(CHAT, {"model": model, "messages": messages, **settings}, None) is not None


@pytest.mark.parametrize("more", FRAMING, ids=lambda more: next(iter(more)))
def test_what_frames_a_chat_or_its_price_is_not_plain(more: dict[str, Any]) -> None:
    body = {"model": "gpt-4o", "messages": [HELLO]}
    assert chat({**body, **more}, None) != chat(body, None)
    assert plain(CHAT, {**body, **more}, None) is None


@pytest.mark.parametrize("message", NEARLY, ids=repr)
def test_a_message_of_any_other_shape_is_not(message: Any) -> None:
    assert plain(CHAT, {"model": "gpt-4o", "messages": [HELLO, message, HELLO]}, None) is None


@pytest.mark.parametrize("body", [None, [], ["model", "messages"], "model", 7, {}, {"messages": [HELLO]}])
def test_what_is_no_chat_is_not(body: Any) -> None:
    assert plain(CHAT, body, None) is None


def test_other_endpoints_are_not() -> None:
    body = {"model": "gpt-4o", "messages": [HELLO]}
    assert plain(CHAT, body, None) is not None
    assert plain("responses", body, None) is None


def test_what_takes_longer_is_left_to_others() -> None:
    """No more is looked at than takes 0.1 ms, and no long text is turned into bytes."""
    assert plain(CHAT, {"model": "gpt-4o", "messages": [HELLO] * MESSAGES}, None) is not None
    assert plain(CHAT, {"model": "gpt-4o", "messages": [HELLO] * (MESSAGES + 1)}, None) is None
    for text, is_plain in (("é" * _SHORT, True), ("é" * (_SHORT + 1), False), ("e" * 1_000_000, True)):
        body = {"model": "gpt-4o", "messages": [{"role": "user", "content": text}]}
        assert (plain(CHAT, body, None) is not None) is is_plain
