"""POST /images/generations and /images/edits: pictures are written in tokens, or sold by the piece."""

import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from proxy.pricing.encodings import base_model
from proxy.pricing.prompt.content import image
from proxy.pricing.prompt.dimensions import dimensions
from proxy.pricing.prompt.form import Form
from proxy.pricing.prompt.prompt import Prompt
from proxy.pricing.prompt.tally import Tally, whole
from proxy.pricing.values import Model

# Square, upright, wide. The published table of gpt-image-1; there is none for gpt-image-2 and later.
_SIZES = ("1024x1024", "1024x1536", "1536x1024")
_TOKENS = {"low": (272, 408, 400), "medium": (1056, 1584, 1568), "high": (4160, 6240, 6208)}
_KNOWN = ("gpt-image-1", "gpt-image-1.5", "gpt-image-1-mini")

FIDELITY = 6240
"""Tokens more of a picture that is read in high fidelity; a square one has 4160."""
PICTURES = 16
"""That one edit may bring along."""
_MANY = re.compile("[0-9]{1,4}", re.ASCII)
# What models that are sold by the piece take for granted.
_QUALITY, _SIZE = "standard", "1024x1024"


def images(body: dict[str, Any], known: Model | None) -> Prompt:
    """The prompt of pictures, the pictures to edit with it. What one picture may have is in the published
    table, or not known."""
    tally = Tally(body, known)
    read = _pictures(tally, body.get("images")) + _pictures(tally, body.get("image"))
    read += _pictures(tally, body.get("mask"))
    return _prompt(tally, body, read)


def edits(form: Form, known: Model | None) -> Prompt:
    """The same of a form, whose pictures are files."""
    tally = Tally(form.fields, known)
    pictures = [file for file in form.files if file.name in ("image", "mask")][:PICTURES]
    for file in pictures:
        tally.picture(dimensions(file.read))
    many = form.fields.get("n", "")
    return _prompt(tally, {**form.fields, "n": int(many) if _MANY.fullmatch(many) else 1}, len(pictures))


def _prompt(tally: Tally, body: Mapping[str, Any], read: int) -> Prompt:
    tally.text(body.get("prompt"))
    if body.get("input_fidelity") == "high":
        tally.fixed += FIDELITY * read
    many = whole(body.get("n")) or 1
    quality, size = body.get("quality"), body.get("size")
    return tally.prompt(
        "images",
        body,
        output=_output(tally.name, quality, size),
        choices=many,
        units={f"image:{_said(quality, _QUALITY)}:{_said(size, _SIZE)}": Decimal(many)},
    )


def _pictures(tally: Tally, value: Any) -> int:
    """Count what is to be edited: a URL, an object with one, or a list of them; how many there were."""
    if isinstance(value, str):
        tally.image(value)
        return 1
    if isinstance(value, dict):
        image(tally, value)
        return 1
    if isinstance(value, list):
        return sum(_pictures(tally, each) for each in value[:PICTURES] if not isinstance(each, list))
    return 0


def _said(value: Any, otherwise: str) -> str:
    """A word of the request; `auto`, or none, is what the model takes for granted."""
    return value if isinstance(value, str) and value not in ("", "auto") and len(value) <= 32 else otherwise


def _output(model: str | None, quality: Any, size: Any) -> int | None:
    """Tokens of one picture at most. `auto`, which is the default of both, may be any."""
    if model is None or base_model(model) not in _KNOWN:
        return None
    by_size = _TOKENS.get(quality, _TOKENS["high"]) if isinstance(quality, str) else _TOKENS["high"]
    if size is None or size == "auto":
        return max(by_size)
    return by_size[_SIZES.index(size)] if size in _SIZES else None
