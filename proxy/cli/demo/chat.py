"""One streamed chat through the OpenAI SDK, and all that Weir tells of it."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import orjson

if TYPE_CHECKING:
    from openai import OpenAI

_NOTE = ": weir "


class BrokenOff(Exception):
    """The stream ended before its end. One line."""


@dataclass
class Heard:
    """What came of a chat: `headers` by their names in lower case, `note` as the comment before the end has
    it, times in seconds since it was asked."""

    headers: Mapping[str, str]
    note: dict[str, Any] = field(default_factory=dict)
    first: float | None = None
    total: float = 0.0


def chat(client: "OpenAI", model: str, prompt: str, tell: Callable[[str], None]) -> Heard:
    """Ask, and `tell` each piece of the answer as it comes. Raises what the SDK raises, and `BrokenOff`.

    The SDK's own stream leaves out comments, and in one of them is the cost: so its lines are read here.
    """
    from openai.types.chat import ChatCompletionChunk

    began = time.monotonic()
    with client.chat.completions.with_streaming_response.create(
        model=model, messages=[{"role": "user", "content": prompt}], stream=True
    ) as response:
        heard = Heard({name.lower(): value for name, value in response.headers.items()})
        done = False
        try:
            for line in response.iter_lines():
                if line.startswith(_NOTE):
                    heard.note = _object(line.removeprefix(_NOTE))
                elif line.startswith("data:"):
                    data = line.removeprefix("data:").strip()
                    done = done or data == "[DONE]"
                    chunk = _object(data)
                    if error := chunk.get("error"):
                        raise BrokenOff(f"the answer broke off: {_message(error)}")
                    for choice in ChatCompletionChunk.construct(**chunk).choices or () if chunk else ():
                        if text := choice.delta.content:
                            heard.first = heard.first or time.monotonic() - began
                            tell(text)
        except BrokenOff:
            raise
        except Exception as error:  # the SDK passes on what its HTTP client raises
            raise BrokenOff(f"the answer broke off: {type(error).__name__}") from error
    if not done:
        raise BrokenOff("the answer broke off before its end")
    heard.total = time.monotonic() - began
    return heard


def _object(text: str) -> dict[str, Any]:
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        return {}
    return value if isinstance(value, dict) else {}


def _message(error: object) -> str:
    return str(error.get("message")) if isinstance(error, dict) else str(error)
