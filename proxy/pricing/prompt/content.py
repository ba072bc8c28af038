"""The content of a message: a text, or parts of text, image, audio and file.

The bytes of images, audio and files are never taken for text. What of them is looked at is their first bytes:
the size of a picture, the length of a recording, the pages of a PDF. Where those do not tell, or are not in
the request, an upper bound or a guess counts.
"""

import re
from typing import Any

from proxy.pricing import tokens
from proxy.pricing.prompt.encoded import Encoded, data_url
from proxy.pricing.prompt.sound import milliseconds
from proxy.pricing.prompt.tally import Tally, loose

FILE = 20_000
"""Tokens of a file of which nothing is known, the text and pictures of its pages. A guess."""
PAGE = 1000
"""Tokens of the text of a page, beside its picture. A guess: a letter of 13 pages had 8,438 with both."""
PAGE_SIZE = (1024, 1448)
"""Pixels of a page's picture. A guess."""
AUDIO = 100
"""Milliseconds of audio for one token."""
AUDIO_BYTES = 96
"""Bytes of audio for one token where its length is not known: 8 kbit/s, the least that speech has."""

_IMAGES = ("image_url", "input_image", "computer_screenshot", "image")
_FILES = ("file", "input_file")
_PAGE = re.compile(rb"/Type\s{0,8}/Page[^\w]")
_OVERLAP = 32


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
        _file(tally, part.get("file", part))
    elif kind == "input_audio":
        _audio(tally, part.get("input_audio"))
    elif kind == "refusal":
        tally.text(part.get("refusal"))
    else:
        loose(tally, part)


def image(tally: Tally, part: dict[str, Any]) -> None:
    """Count an image part of any endpoint."""
    inner = part.get("image_url")
    if isinstance(inner, dict):
        tally.image(inner.get("url"), inner.get("detail"))
    else:
        tally.image(inner, part.get("detail"))


def _audio(tally: Tally, audio: Any) -> None:
    data = audio.get("data") if isinstance(audio, dict) else None
    if isinstance(data, str):
        encoded = data_url(data) or Encoded(data)
        length = milliseconds(encoded.read, encoded.size)
        tally.fixed += encoded.size // AUDIO_BYTES + 1 if length is None else -(-length // AUDIO)


def _file(tally: Tally, file: Any) -> None:
    data = file.get("file_data") if isinstance(file, dict) else None
    encoded = data_url(data) or Encoded(data) if isinstance(data, str) else None
    if encoded is None:
        tally.fixed += FILE
    elif encoded.media_type.startswith("text/"):
        _text_file(tally, encoded)
    elif encoded.read(0, 5) == b"%PDF-" and (pages := _pages(encoded)):
        tally.fixed += pages * (PAGE + tally.traits.vision.tokens(PAGE_SIZE, None))
    else:
        tally.fixed += FILE


def _text_file(tally: Tally, encoded: Encoded) -> None:
    if encoded.size > tokens.LIMIT:
        tally.fixed += encoded.size
    else:
        tally.text(b"".join(encoded.pieces()).decode("utf-8", "replace"))


def _pages(encoded: Encoded) -> int:
    """Pages of a PDF that are listed in plain; newer ones may have the list compressed, which gives 0."""
    found = 0
    before = b""
    for piece in encoded.pieces():
        window = before + piece
        found += sum(match.end() > len(before) for match in _PAGE.finditer(window))
        before = window[-_OVERLAP:]
    return found
