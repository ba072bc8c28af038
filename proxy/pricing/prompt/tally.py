"""Collecting what there is to count, from JSON of any shape."""

import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import orjson

from proxy.pricing import tokens
from proxy.pricing.prompt.dimensions import dimensions
from proxy.pricing.prompt.encoded import data_url
from proxy.pricing.prompt.prompt import Family, Prompt
from proxy.pricing.prompt.traits import traits_for
from proxy.pricing.prompt.vision import Size
from proxy.pricing.values import Model

MOST = 2**31 - 1
"""No number of a request counts for more."""
_LONG = 1024
NO_UNITS: Mapping[str, Decimal] = {}
"""Of what is counted in tokens alone."""
_BASE64 = re.compile(rf"[\w+/-]{{{_LONG}}}", re.ASCII)


class Tally:
    """What was found so far: `texts` to count, and `fixed` tokens. Both may be added to directly.

    `model` is what the request calls it, `name` what the price table takes that for.
    """

    __slots__ = ("fixed", "model", "name", "texts", "traits")

    def __init__(self, body: Mapping[str, Any], known: Model | None = None) -> None:
        model = body.get("model")
        self.model = name = model if isinstance(model, str) else None
        encoding = None
        if known is not None:
            name, encoding = known.id, known.encoding
        self.name = name
        self.traits = traits_for(name, encoding)
        self.texts: list[str] = []
        self.fixed = 0

    def text(self, value: object) -> None:
        """Count this, if it is a text."""
        if isinstance(value, str) and value:
            self.texts.append(value)

    def image(self, url: object = None, detail: object = None) -> None:
        """Count a picture: by its size if it came in the URL, else the most that the model makes of one."""
        encoded = data_url(url) if isinstance(url, str) else None
        self.picture(None if encoded is None else dimensions(encoded.read), detail)

    def picture(self, size: Size | None, detail: object = None) -> None:
        """Count a picture of this size, or of any."""
        vision = self.traits.vision
        self.fixed += vision.most(detail) if size is None else vision.tokens(size, detail)

    def prompt(
        self,
        family: Family,
        body: Mapping[str, Any],
        *,
        output: int | None,
        choices: int = 1,
        units: Mapping[str, Decimal] = NO_UNITS,
    ) -> Prompt:
        """What was found, as a prompt."""
        texts = self.texts
        size = 0
        for text in texts:
            size += len(text) if text.isascii() else tokens.bound(text)
        tier = body.get("service_tier")
        return Prompt(
            family,
            self.model,
            self.traits.encoding,
            size,
            self.fixed,
            texts,
            output,
            choices,
            tier if isinstance(tier, str) else None,
            units,
        )


def whole(value: object) -> int | None:
    """A positive whole number up to `MOST`, or None. True is not 1, but 100.0 is 100."""
    if type(value) is int:
        return min(value, MOST) if value >= 1 else None
    if type(value) is float and value >= 1:
        return MOST if value >= MOST else int(value) if value.is_integer() else None
    return None


def largest(*values: object) -> int | None:
    """The largest of those that are positive whole numbers, or None."""
    found: int | None = None
    for value in values:
        if value is not None and (number := whole(value)) is not None and (found is None or number > found):
            found = number
    return found


def compact(value: object) -> str:
    """A value as JSON text without blanks; if that cannot be, the texts in it."""
    try:
        return orjson.dumps(value).decode()
    except TypeError:  # too deep, too large a number, half a character
        return " ".join(text for text in _walk(value) if isinstance(text, str))


def loose(tally: Tally, value: object) -> None:
    """Count a value that no rule knows: its texts and keys, and one token for each other thing in it.

    What looks like the bytes of a picture counts as one.
    """
    for each in _walk(value):
        if not isinstance(each, str):
            tally.fixed += 1
        elif each.startswith("data:") or (len(each) > _LONG and _BASE64.match(each)):
            tally.image(each)
        elif each:
            tally.texts.append(each)


def _walk(value: object) -> list[object]:
    """Everything in a value, keys too, in no order worth relying on; no matter how deep."""
    found: list[object] = []
    waiting = [value]
    while waiting:
        each = waiting.pop()
        if isinstance(each, dict):
            waiting.extend(each.values())
            found.extend(each)
        elif isinstance(each, list):
            waiting.extend(each)
        else:
            found.append(each)
    return found
