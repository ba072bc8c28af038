"""POST /images/generations: the text is prompt; pictures are written in tokens of their own."""

from typing import Any

from proxy.pricing.encodings import base_model
from proxy.pricing.prompt.prompt import Prompt
from proxy.pricing.prompt.tally import Tally, whole
from proxy.pricing.values import Model

# Square, upright, wide. The published table of gpt-image-1; there is none for gpt-image-2 and later.
_SIZES = ("1024x1024", "1024x1536", "1536x1024")
_TOKENS = {"low": (272, 408, 400), "medium": (1056, 1584, 1568), "high": (4160, 6240, 6208)}
_KNOWN = ("gpt-image-1", "gpt-image-1.5", "gpt-image-1-mini")


def images(body: dict[str, Any], known: Model | None) -> Prompt:
    """The prompt of pictures. What one may have is in the published table, or not known."""
    tally = Tally(body, known)
    tally.text(body.get("prompt"))
    return tally.prompt(
        "images",
        body,
        output=_output(tally.model, body.get("quality"), body.get("size")),
        choices=whole(body.get("n")) or 1,
    )


def _output(model: str | None, quality: Any, size: Any) -> int | None:
    """Tokens of one picture at most. `auto`, which is the default of both, may be any."""
    if model is None or base_model(model) not in _KNOWN:
        return None
    by_size = _TOKENS.get(quality, _TOKENS["high"]) if isinstance(quality, str) else _TOKENS["high"]
    if size is None or size == "auto":
        return max(by_size)
    return by_size[_SIZES.index(size)] if size in _SIZES else None
