"""What the counting rules have to know of a model."""

import re
from functools import lru_cache
from typing import NamedTuple

from proxy.pricing.encodings import LONGEST, base_model, encoding_for, ordinary

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
    image: int
    """The most that one image can be."""
    image_low: int
    """The same with `detail: low`."""


def traits_for(model: str | None, encoding: str | None = None) -> Traits:
    """The traits of a model, those of gpt-4o for what is not known; with this encoding if one is given."""
    return _traits("" if model is None else model[:LONGEST], encoding)


@lru_cache(maxsize=512)
def _traits(model: str, encoding: str | None) -> Traits:
    name = base_model(model)
    encoding = encoding_for(model) if encoding is None else ordinary(encoding)
    image, low = next((most, low) for start, most, low in _IMAGES if name.startswith(start))
    if name == "gpt-3.5-turbo-0301":  # there a name stands in place of the role
        return Traits(encoding, 4, -1, 3, 18, image, low)
    if _REASONING.match(name):
        return Traits(encoding, 3, 1, 2, 0, image, low)
    return Traits(encoding, 3, 1, 3, 18, image, low)


def _tiles(base: int, tile: int) -> tuple[int, int]:
    """An image is fitted into 2048x2048, its shorter side into 768: at most 2 x 4 tiles of 512. Low: none."""
    return base + 8 * tile, base


def _patches(budget: int, percent: int) -> tuple[int, int]:
    """At most `budget` patches of 32x32, at so many percent of a token each."""
    most = -(-budget * percent // 100)
    return most, most


# By the published guide; the first that fits counts. From gpt-5.2 on it names no multiplier: 1.2 is what
# others say. From gpt-5.6 on it names no budget either: then the largest one that it ever named.
_IMAGES = (
    ("gpt-4o-mini", *_tiles(2833, 5667)),
    ("gpt-4.1-mini", *_patches(1536, 162)),
    ("gpt-4.1-nano", *_patches(1536, 246)),
    ("gpt-4", *_tiles(85, 170)),
    ("chatgpt-4o", *_tiles(85, 170)),
    ("gpt-5-mini", *_patches(1536, 162)),
    ("gpt-5-nano", *_patches(1536, 246)),
    ("gpt-5.4-mini", *_patches(1536, 162)),
    ("gpt-5.4-nano", *_patches(1536, 246)),
    ("gpt-5.1", *_patches(1536, 120)),
    ("gpt-5.2", *_patches(1536, 120)),
    ("gpt-5.3", *_patches(1536, 120)),
    ("gpt-5.", *_patches(10_000, 120)),
    ("gpt-5", *_tiles(70, 140)),
    ("o4-mini", *_patches(1536, 172)),
    ("o1", *_tiles(75, 150)),
    ("o3", *_tiles(75, 150)),
    ("computer-use", *_tiles(65, 129)),
    ("", *_patches(10_000, 120)),
)
