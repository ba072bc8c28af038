"""Reading what was asked, wording the answer, and breaking it into the pieces of a stream."""

import re
from collections.abc import Iterable
from typing import NamedTuple

_ECHO = 60
_PIECE = re.compile(r"\s*\w+|\s*[^\w\s]+|\s+")
_CLOSINGS = (
    "No real model is behind me, so I answer the same request with the same words each time.",
    "I am made of a hash function and good intentions, so my answers never change.",
    "I cannot think, but I can stream, count tokens and call your tools.",
)


class Turn(NamedTuple):
    """One message of a conversation, whatever API it came by. A tool's result has the role "tool"."""

    role: str
    text: str


def flatten(content: object) -> str:
    """The text of a message: a string, or a list of parts of which those with text count."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return ""
    parts = (part.get("text", part.get("refusal")) for part in content if isinstance(part, dict))
    return " ".join(part for part in parts if isinstance(part, str))


def prompt_of(turns: Iterable[Turn]) -> str:
    """What the user said last."""
    return next((turn.text for turn in reversed(list(turns)) if turn.role == "user"), "")


def echo(text: str) -> str:
    line = " ".join(text[: _ECHO * 4].split())
    return f'"{line}"' if len(line) <= _ECHO else f'"{line[:_ECHO]}..."'


def reply(turns: list[Turn], index: int) -> str:
    """A friendly answer; `index` tells the choices of one request apart."""
    closing = _CLOSINGS[index % len(_CLOSINGS)]
    if turns[-1].role == "tool":
        return f"Thank you, the tool answered {echo(turns[-1].text)}. That is all I needed to know. {closing}"
    return (
        f"Hello from Weir's demo upstream! You said {echo(prompt_of(turns))}. {closing} "
        "Set OPENAI_API_KEY and start Weir again to talk to a real one."
    )


def pieces(text: str) -> list[str]:
    """Word-like pieces, so that `"".join(pieces(text)) == text`."""
    return _PIECE.findall(text)
