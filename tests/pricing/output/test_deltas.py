"""One event at a time: what of it is text, of which kind, and what else it tells."""

from typing import Any

import pytest

from proxy.pricing.output import deltas
from proxy.pricing.output.deltas import Key

CHAT = "chat/completions"


class Seen:
    """A tally that only writes down."""

    def __init__(self) -> None:
        self.texts: dict[Key, str] = {}
        self.lists: dict[Key, int] = {}
        self.ended: list[Any] = []
        self.calls = 0
        self.audio_bytes = 0
        self.hidden = False
        self.model: str | None = None
        self.service_tier: str | None = None

    def text(self, key: Key, piece: str) -> None:
        assert piece
        self.texts[key] = self.texts.get(key, "") + piece

    def listed(self, key: Key, tokens: int) -> None:
        self.lists[key] = self.lists.get(key, 0) + tokens

    def has(self, key: Key) -> bool:
        return key in self.texts or key in self.lists

    def over(self, choice: Any) -> None:
        self.ended.append(choice)

    def of(self, kind: str) -> list[str]:
        return [text for key, text in self.texts.items() if key[0] == kind]


def seen(endpoint: str, *events: Any) -> Seen:
    tally = Seen()
    for event in events:
        deltas.read(endpoint, event, tally)
    return tally


def delta(said: Any, index: Any = 0, **more: Any) -> dict[str, Any]:
    return {"choices": [{"index": index, "delta": said, **more}]}


def test_chat() -> None:
    tally = seen(
        CHAT,
        {"model": "gpt-4o-mini", "service_tier": "default", **delta({"role": "assistant", "content": ""})},
        delta({"content": "Hel"}),
        delta({"content": "lo"}),
        delta({"content": None, "refusal": "No"}, 1),
        delta({}, finish_reason="stop"),
    )
    assert tally.texts == {("text", 0, "content"): "Hello", ("text", 1, "refusal"): "No"}
    assert tally.ended == [0]
    assert (tally.model, tally.service_tier) == ("gpt-4o-mini", "default")


def test_azures_first_chunk_does_not_take_the_models_name_away() -> None:
    tally = seen(CHAT, {"model": "gpt-4o", "choices": []}, {"model": "", "choices": []}, {"model": 7})
    assert tally.model == "gpt-4o"


@pytest.mark.parametrize("name", ["reasoning_content", "reasoning", "thinking"])
def test_reasoning_that_is_shown(name: str) -> None:
    assert seen(CHAT, delta({"content": None, name: "Hm"}), delta({name: "m."})).of("reasoning") == ["Hmm."]


def test_reasoning_under_two_names_counts_once() -> None:
    tally = seen(CHAT, delta({"reasoning": "Hmm", "reasoning_content": "Hmm", "content": ""}))
    assert tally.of("reasoning") == ["Hmm"]


def test_contents_in_parts() -> None:
    """Mistral's."""
    thinking = {"type": "thinking", "thinking": [{"type": "text", "text": "Hm"}, {"type": "reference"}]}
    tally = seen(CHAT, delta({"content": [thinking, {"type": "text", "text": "Yes"}, 7, {"text": None}]}))
    assert tally.of("text") == ["HmYes"]


def test_tool_calls() -> None:
    tally = seen(
        CHAT,
        delta({"role": "assistant", "content": None, "tool_calls": [call(0, "get_weather", "")]}),
        delta({"tool_calls": [{"index": 0, "function": {"arguments": '{"city":'}}]}),
        delta({"tool_calls": [call(1, "get_time", "{")]}),
        delta({"tool_calls": [{"index": 0, "function": {"arguments": '"Rome"}'}}]}),
        delta({"tool_calls": [{"index": 2, "type": "custom", "custom": {"name": "sh", "input": "ls"}}]}),
    )
    assert tally.of("call") == ["get_weather", '{"city":"Rome"}', "get_time", "{", "sh", "ls"]
    assert tally.calls == 3


def call(index: int, name: str, arguments: str) -> dict[str, Any]:
    return {"index": index, "type": "function", "function": {"name": name, "arguments": arguments}}


def test_the_older_function_call() -> None:
    tally = seen(
        CHAT,
        delta({"function_call": {"name": "f", "arguments": ""}}),
        delta({"function_call": {"arguments": "{}"}}),
    )
    assert (tally.of("call"), tally.calls) == (["f", "{}"], 1)


def test_audio() -> None:
    tally = seen(
        CHAT, delta({"audio": {"id": "a"}}), delta({"audio": {"data": "A" * 4000, "transcript": "Hi"}})
    )
    assert (tally.audio_bytes, tally.of("text")) == (3000, ["Hi"])


def test_listed_tokens_are_exact_and_their_text_does_not_count() -> None:
    entry = {"token": "x", "logprob": 0}
    tally = seen(
        CHAT,
        delta({"content": "Hello"}, logprobs={"content": [entry, entry], "refusal": None}),
        delta({"content": "", "refusal": "No"}, logprobs={"content": [], "refusal": [entry]}),
    )
    assert tally.lists == {("text", 0, "content"): 2, ("text", 0, "refusal"): 1}
    assert tally.texts == {}
    plain = seen(CHAT, delta({"content": "Hello"}, logprobs={"content": None}))
    assert plain.of("text") == ["Hello"]


def test_a_whole_answer() -> None:
    message = {"role": "assistant", "content": "Hello", "tool_calls": [call(0, "f", "{}")], "reasoning": "Hm"}
    tally = seen(CHAT, {"model": "gpt-4o", "choices": [{"message": message, "finish_reason": "stop"}]})
    assert (tally.of("text"), tally.of("call"), tally.of("reasoning")) == (["Hello"], ["f", "{}"], ["Hm"])
    assert tally.ended == [0]


def test_completions() -> None:
    choices = [{"index": 0, "text": "Hel"}, {"index": 1, "text": "Bye", "finish_reason": "length"}]
    tally = seen("completions", {"choices": choices}, {"choices": [{"index": 0, "text": "lo"}]})
    assert (tally.of("text"), tally.ended) == (["Hello", "Bye"], [1])
    listed = {"choices": [{"index": 0, "text": "Hello", "logprobs": {"tokens": ["Hel", "lo"]}}]}
    assert seen("completions", listed).lists == {("text", 0, None): 2}


def event(kind: str, **more: Any) -> dict[str, Any]:
    return {"type": f"response.{kind}", "output_index": 0, **more}


@pytest.mark.parametrize(
    ("name", "kind", "field"),
    [
        ("output_text", "text", "text"),
        ("refusal", "text", "refusal"),
        ("reasoning_text", "reasoning", "text"),
        ("reasoning_summary_text", "summary", "text"),
        ("function_call_arguments", "call", "arguments"),
        ("custom_tool_call_input", "call", "input"),
        ("mcp_call_arguments", "call", "arguments"),
        ("code_interpreter_call_code", "call", "code"),
    ],
)
def test_responses(name: str, kind: str, field: str) -> None:
    """Pieces count, and what repeats them does not, unless there were none."""
    place = {"content_index": 0, "summary_index": 0}
    pieces = [event(f"{name}.delta", delta=piece, logprobs=[], **place) for piece in ("Hel", "lo")]
    done = event(f"{name}.done", **{field: "Hello"}, **place)
    for events in (pieces, [*pieces, done], [done]):
        tally = seen("responses", *events)
        assert tally.of(kind) == ["Hello"]
        assert len(tally.texts) == 1


def test_responses_that_list_tokens() -> None:
    piece = event("output_text.delta", delta="Hello", logprobs=[{}, {}], content_index=0)
    tally = seen("responses", piece, event("output_text.done", text="Hello", content_index=0))
    assert (list(tally.lists.values()), tally.texts) == ([2], {})


def test_the_items_of_a_response() -> None:
    tally = seen(
        "responses",
        {
            "type": "response.created",
            "response": {"model": "gpt-5", "service_tier": "flex", "status": "in_progress"},
        },
        event("output_item.added", item={"type": "reasoning", "summary": []}),
        event("output_item.added", item={"type": "function_call", "name": "f", "arguments": ""}),
        event("output_item.done", item={"type": "function_call", "name": "f", "arguments": "{}"}),
    )
    assert (tally.of("call"), tally.calls, tally.hidden) == (["f"], 1, False)
    assert (tally.model, tally.service_tier, tally.ended) == ("gpt-5", "flex", [])
    assert seen("responses", event("output_item.added", item={"type": "web_search_call"})).hidden


@pytest.mark.parametrize("ending", ["completed", "incomplete", "failed"])
def test_the_end_of_a_response(ending: str) -> None:
    assert seen("responses", {"type": f"response.{ending}", "response": None}).ended == [None]


def test_a_response_spoken() -> None:
    tally = seen(
        "responses", event("audio.delta", delta="A" * 40), event("audio.transcript.delta", delta="Hi")
    )
    assert (tally.audio_bytes, tally.of("text")) == (30, ["Hi"])


def test_a_whole_response() -> None:
    output = [
        {"type": "reasoning", "summary": [{"type": "summary_text", "text": "S"}], "content": [{"text": "R"}]},
        {"type": "message", "content": [{"type": "output_text", "text": "Hi"}, {"refusal": "No"}, 7]},
        {"type": "function_call", "name": "f", "arguments": "{}"},
        {"type": "web_search_call"},
        None,
    ]
    tally = seen("responses/compact", {"model": "gpt-5", "status": "completed", "output": output})
    assert [tally.of(kind) for kind in ("summary", "reasoning", "text", "call")] == [
        ["S"],
        ["R"],
        ["HiNo"],
        ["{}", "f"],
    ]
    assert (tally.hidden, tally.calls, tally.ended, tally.model) == (True, 1, [None], "gpt-5")


def test_transcriptions() -> None:
    events = [
        {"type": "transcript.text.delta", "delta": "I see"},
        {"type": "transcript.text.done", "text": "I see"},
    ]
    assert seen("audio/transcriptions", *events).of("text") == ["I see"]


def test_a_fetched_image_has_no_text() -> None:
    assert seen("images/generations", {"type": "image_generation.completed", "b64_json": "AAAA"}).texts == {}
