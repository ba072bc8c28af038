"""The content of a message: a text, or parts of text, image, audio and file.

Images, audio and files count as upper bounds here; their bytes are never taken for text.
"""

from typing import Any

from proxy.pricing.prompt.tally import Tally, loose

FILE = 20_000
"""Tokens of a file, the text and pictures of its pages. A guess: a published letter has 8,438."""
AUDIO_BYTES = 96
"""Bytes of audio for one token of 0.1 s: 8 kbit/s, the least that speech is sent with."""

_IMAGES = ("image_url", "input_image", "computer_screenshot", "image")
_FILES = ("file", "input_file")


def content(tally: Tally, value: Any) -> None:
    """Count a `content` of any shape."""
    if isinstance(value, str):
        if value:
            tally.texts.append(value)
    elif isinstance(value, list):
        for part in value:
            _part(tally, part)
    elif value is not None:
        _part(tally, value)


def _part(tally: Tally, part: Any) -> None:
    if not isinstance(part, dict):
        if part is not None:
            loose(tally, part)
        return
    text = part.get("text")
    if isinstance(text, str):
        if text:
            tally.texts.append(text)
        return
    kind = part.get("type")
    if kind in _IMAGES:
        image(tally, part)
    elif kind in _FILES:
        tally.fixed += FILE
    elif kind == "input_audio":
        _audio(tally, part.get("input_audio"))
    elif kind == "refusal":
        tally.text(part.get("refusal"))
    else:
        loose(tally, part)


def image(tally: Tally, part: dict[str, Any]) -> None:
    """Count an image for the most that the model makes of one."""
    inner = part.get("image_url")
    detail = inner.get("detail") if isinstance(inner, dict) else part.get("detail")
    tally.fixed += tally.traits.image_low if detail == "low" else tally.traits.image


def _audio(tally: Tally, audio: Any) -> None:
    data = audio.get("data") if isinstance(audio, dict) else None
    if isinstance(data, str):
        tally.fixed += len(data) * 3 // 4 // AUDIO_BYTES + 1
