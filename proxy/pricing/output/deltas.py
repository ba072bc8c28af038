"""What one event says that a model has written: a function for each family of endpoints.

    chat            choices[].delta: content, refusal, reasoning, tool_calls, function_call, audio
    completions     choices[].text
    responses       response.*.delta; the name of a call in response.output_item.added
    transcriptions  transcript.text.delta

A whole answer is read as a stream of one event: there is `message` in place of `delta`. What only repeats
what came before, as `response.output_text.done` does, counts where nothing came before.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, Literal, Protocol

Kind = Literal["text", "reasoning", "summary", "call"]
"""`summary` is of a reasoning that itself is not shown."""
Key = tuple[Kind, Any, Any]
"""Which text a piece goes on with: its kind, and the places where it stands."""

CALL: Final = 4
"""Tokens around the name and the arguments of a call: with them the published example has its 17."""


class Tally(Protocol):
    """Where it goes."""

    calls: int
    audio_bytes: int
    hidden: bool
    """Whether the model wrote what was not shown."""
    model: str | None
    service_tier: str | None

    def text(self, key: Key, piece: str) -> None:
        """A piece of text."""

    def listed(self, key: Key, tokens: int) -> None:
        """So many tokens of a text, as the upstream lists them: the text itself is not to be counted."""

    def has(self, key: Key) -> bool:
        """Whether any of this text has come."""

    def over(self, choice: Any) -> None:
        """This choice, or all of the answer, is complete."""


def read(endpoint: str, data: Any, tally: Tally) -> None:
    """Add what one event, or a whole answer, holds. `data` is parsed JSON, whatever it may be."""
    if not isinstance(data, dict):
        return
    if endpoint == "responses" or endpoint == "responses/compact":
        _responses(data, tally)
        return
    _told_by(data, tally)
    if endpoint == "chat/completions":
        for index, choice in _choices(data):
            delta = choice.get("delta")
            _message(delta if isinstance(delta, dict) else choice.get("message"), index, choice, tally)
            if choice.get("finish_reason") is not None:
                tally.over(index)
    elif endpoint == "completions":
        for index, choice in _choices(data):
            logprobs = choice.get("logprobs")
            tokens = logprobs.get("tokens") if isinstance(logprobs, dict) else None
            if isinstance(tokens, list):
                tally.listed(("text", index, None), len(tokens))
            else:
                _text(tally, ("text", index, None), choice.get("text"))
            if choice.get("finish_reason") is not None:
                tally.over(index)
    elif data.get("type") == "transcript.text.delta":
        _text(tally, ("text", None, None), data.get("delta"))


def _message(said: Any, index: Any, choice: Mapping[str, Any], tally: Tally) -> None:
    if not isinstance(said, dict):
        return
    logprobs = choice.get("logprobs")
    for name in ("content", "refusal"):
        listed = logprobs.get(name) if isinstance(logprobs, dict) else None
        if isinstance(listed, list):
            tally.listed(("text", index, name), len(listed))
        else:
            for text in _texts(said.get(name)):
                tally.text(("text", index, name), text)
    if len(said) > 1 or "content" not in said:
        # One and the same under two names: OpenRouter's, and that of whoever served.
        reasoning = said.get("reasoning_content") or said.get("reasoning") or said.get("thinking")
        for text in _texts(reasoning):
            tally.text(("reasoning", index, None), text)
        _call(tally, index, None, said.get("function_call"))
        for place, call in enumerate(_list(said.get("tool_calls"))):
            if isinstance(call, dict):
                _call(tally, index, call.get("index", place), call.get("function") or call.get("custom"))
        audio = said.get("audio")
        if isinstance(audio, dict):
            _text(tally, ("text", index, "audio"), audio.get("transcript"))
            _audio(tally, audio.get("data"))


def _call(tally: Tally, index: Any, place: Any, function: Any) -> None:
    if isinstance(function, dict):
        name = function.get("name")
        if isinstance(name, str) and name:
            tally.calls += 1
            tally.text(("call", index, ("name", _plain(place))), name)
        for field in ("arguments", "input"):
            _text(tally, ("call", index, _plain(place)), function.get(field))


_Reader = Callable[[dict[str, Any], Tally], None]


def _delta(kind: Kind, place: str) -> _Reader:
    def read(data: dict[str, Any], tally: Tally) -> None:
        listed = data.get("logprobs")
        if isinstance(listed, list) and listed:
            tally.listed(_key(kind, place, data), len(listed))
        else:
            _text(tally, _key(kind, place, data), data.get("delta"))

    return read


def _done(kind: Kind, place: str, *fields: str) -> _Reader:
    def read(data: dict[str, Any], tally: Tally) -> None:
        key = _key(kind, place, data)
        if not tally.has(key):
            for field in fields:
                _text(tally, key, data.get(field))

    return read


def _item(data: dict[str, Any], tally: Tally) -> None:
    item = data.get("item")
    if isinstance(item, dict):
        _called(item, ("call", _plain(data.get("output_index")), "name"), tally)


def _called(item: dict[str, Any], key: Key, tally: Tally) -> None:
    kind = item.get("type")
    if kind not in ("message", "reasoning"):
        name = item.get("name")
        if isinstance(name, str) and name:
            tally.calls += 1
            tally.text(key, name)
        elif isinstance(kind, str):
            tally.hidden = True  # a tool of the upstream's own: what it made the model write is not all shown


def _voice(data: dict[str, Any], tally: Tally) -> None:
    _audio(tally, data.get("delta"))


_EVENTS: Final[Mapping[str, _Reader]] = {
    "response.output_text.delta": _delta("text", "content_index"),
    "response.output_text.done": _done("text", "content_index", "text"),
    "response.refusal.delta": _delta("text", "content_index"),
    "response.refusal.done": _done("text", "content_index", "refusal"),
    "response.reasoning_text.delta": _delta("reasoning", "content_index"),
    "response.reasoning_text.done": _done("reasoning", "content_index", "text"),
    "response.reasoning_summary_text.delta": _delta("summary", "summary_index"),
    "response.reasoning_summary_text.done": _done("summary", "summary_index", "text"),
    "response.function_call_arguments.delta": _delta("call", ""),
    "response.function_call_arguments.done": _done("call", "", "arguments"),
    "response.custom_tool_call_input.delta": _delta("call", ""),
    "response.custom_tool_call_input.done": _done("call", "", "input"),
    "response.mcp_call_arguments.delta": _delta("call", ""),
    "response.mcp_call_arguments.done": _done("call", "", "arguments"),
    "response.code_interpreter_call_code.delta": _delta("call", ""),
    "response.code_interpreter_call_code.done": _done("call", "", "code"),
    "response.audio.transcript.delta": _delta("text", "audio"),
    "response.audio.delta": _voice,
    "response.output_item.added": _item,
}
_OVER: Final = ("response.completed", "response.incomplete", "response.failed")


def _responses(data: dict[str, Any], tally: Tally) -> None:
    kind = data.get("type")
    if isinstance(kind, str):
        reader = _EVENTS.get(kind)
        if reader is not None:
            reader(data, tally)
            return
        if kind in _OVER:
            tally.over(None)
        data = data["response"] if isinstance(data.get("response"), dict) else {}
        _told_by(data, tally)
        return
    _told_by(data, tally)
    if data.get("status") in ("completed", "incomplete", "failed"):
        tally.over(None)
    for place, item in enumerate(_list(data.get("output"))):
        if not isinstance(item, dict):
            continue
        for part in _list(item.get("content")):
            if isinstance(part, dict):
                kind_of: Kind = "reasoning" if item.get("type") == "reasoning" else "text"
                _text(tally, (kind_of, place, None), part.get("text") or part.get("refusal"))
        for part in _list(item.get("summary")):
            if isinstance(part, dict):
                _text(tally, ("summary", place, None), part.get("text"))
        for field in ("arguments", "input", "code"):
            _text(tally, ("call", place, None), item.get(field))
        _called(item, ("call", place, "name"), tally)


def _told_by(data: Mapping[str, Any], tally: Tally) -> None:
    """The model and the tier that serve, as each chunk names them."""
    for name in ("model", "service_tier"):
        value = data.get(name)
        if isinstance(value, str) and 0 < len(value) <= 256:
            setattr(tally, name, value)


def _key(kind: Kind, place: str, data: Mapping[str, Any]) -> Key:
    return kind, _plain(data.get("output_index")), _plain(data.get(place)) if place else None


def _text(tally: Tally, key: Key, piece: Any) -> None:
    if isinstance(piece, str) and piece:
        tally.text(key, piece)


def _texts(value: Any) -> Iterator[str]:
    """The text of a content, or the texts of its parts: Mistral has both, and parts within parts."""
    if isinstance(value, str):
        if value:
            yield value
    elif isinstance(value, list):
        for part in value:
            if isinstance(part, dict):
                inner = part.get("text")
                if not isinstance(inner, str):
                    inner = part.get("thinking")
                for text in [inner] if isinstance(inner, str) else _list(inner):
                    text = text.get("text") if isinstance(text, dict) else text
                    if isinstance(text, str) and text:
                        yield text


def _audio(tally: Tally, data: Any) -> None:
    if isinstance(data, str):
        tally.audio_bytes += len(data) * 3 // 4


def _choices(data: Mapping[str, Any]) -> Iterator[tuple[Any, dict[str, Any]]]:
    for place, choice in enumerate(_list(data.get("choices"))):
        if isinstance(choice, dict):
            yield _plain(choice.get("index", place)), choice


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _plain(value: Any) -> Any:
    """A place that can be looked up, whatever an upstream sends."""
    return value if isinstance(value, int | str) else None
