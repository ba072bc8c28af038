"""What the counting rules have to know of a model."""

import re
from functools import lru_cache
from typing import NamedTuple

from proxy.pricing.encodings import LONGEST, base_model, encoding_for, ordinary
from proxy.pricing.prompt.vision import HIGH, NONE, ORIGINAL, Patches, Tiles, Vision

# o1, o3, o4-mini ..., gpt-5, gpt-5.4-mini, gpt-6.1-sol ...
_REASONING = re.compile(r"o\d|gpt-[5-9]")


class Traits(NamedTuple):
    """Tokens around the text of a prompt."""

    encoding: str
    per_message: int
    per_name: int
    priming: int
    """The start of the answer, which is counted as input."""
    hidden: int
    """What the responses API adds."""
    vision: Vision
    """How pictures count."""


def traits_for(model: str | None, encoding: str | None = None) -> Traits:
    """The traits of a model, those of gpt-4o for what is not known; with this encoding if one is given."""
    return known_traits("" if model is None else model[:LONGEST], encoding)


@lru_cache(maxsize=512)
def known_traits(model: str, encoding: str | None) -> Traits:
    """The same of a name that is known to be no longer than `LONGEST`."""
    name = base_model(model)
    encoding = encoding_for(model) if encoding is None else ordinary(encoding)
    vision = next(vision for start, vision in _VISION if name.startswith(start))
    if name == "gpt-3.5-turbo-0301":  # there a name stands in place of the role
        return Traits(encoding, 4, -1, 3, 18, vision)
    if _REASONING.match(name):
        return Traits(encoding, 3, 1, 2, 0, vision)
    return Traits(encoding, 3, 1, 3, 18, vision)


# By the published guide; the first that fits counts. Of gpt-5-mini it says 1.62, and pictures measured 1.20.
# From gpt-5.2 on it names no multiplier: 1.2 is what others say. From gpt-5.6 on it names no budget either.
_TILED = Tiles(85, 170)
_PATCHED = Patches(120)
_VISION: tuple[tuple[str, Vision], ...] = (
    ("gpt-4o-mini", Tiles(2833, 5667)),
    ("gpt-4.1-mini", Patches(162)),
    ("gpt-4.1-nano", Patches(246)),
    ("gpt-4", _TILED),
    ("chatgpt-4o", _TILED),
    ("gpt-5-mini", _PATCHED),
    ("gpt-5-nano", Patches(246)),
    ("gpt-5.4-mini", Patches(162)),
    ("gpt-5.4-nano", Patches(246)),
    ("gpt-5.1", _PATCHED),
    ("gpt-5.2", _PATCHED),
    ("gpt-5.3", _PATCHED),
    ("gpt-5.4", Patches(120, HIGH, HIGH, ORIGINAL)),
    ("gpt-5.5", Patches(120, HIGH, ORIGINAL, ORIGINAL)),
    ("gpt-5.", Patches(120, HIGH, NONE, NONE)),
    ("gpt-5", Tiles(70, 140)),
    ("gpt-image", Tiles(65, 129, 512)),
    ("chatgpt-image", Tiles(65, 129, 512)),
    ("o4-mini", Patches(172)),
    ("o1", Tiles(75, 150)),
    ("o3", Tiles(75, 150)),
    ("computer-use", Tiles(65, 129)),
    ("", Patches(120, HIGH, NONE, NONE)),
)
