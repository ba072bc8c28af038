"""A prompt: the texts to count and what comes on top."""

from collections.abc import Mapping, Sequence
from dataclasses import field
from decimal import Decimal
from typing import Literal

from proxy.pricing import tokens
from proxy.pricing.values import value_type

Family = Literal["chat", "responses", "completions", "embeddings", "images", "speech", "transcription"]


@value_type
class Prompt:
    """What a request asks to be read, and how much it lets be written.

    `size` is the UTF-8 bytes of all text to count; `fixed` the tokens that need no counting: what frames
    messages, tokens that came as such, upper bounds for images and other media. `max_output_tokens` is what
    one choice may have, None if the request does not say. `choices` is at least 1.
    """

    family: Family
    model: str | None
    encoding: str
    size: int
    fixed: int
    texts: Sequence[str] = field(repr=False)
    max_output_tokens: int | None = None
    choices: int = 1
    service_tier: str | None = None
    units: Mapping[str, Decimal] = field(default_factory=dict)
    """What is asked for that is not counted in tokens, by the names of `proxy.pricing.units`: for models that
    are sold by the picture, the character or the second."""

    @property
    def bound(self) -> int:
        """Tokens that `count` never exceeds. Needs no vocabulary."""
        return self.fixed + self.size

    @property
    def countable(self) -> bool:
        """Whether `count` counts; above `tokens.LIMIT` it tells `bound`."""
        return self.size <= tokens.LIMIT

    def count(self) -> int:
        """The input tokens. Blocks: for up to 0.7 ms a KB, and while the vocabulary loads if it has to.

        Raises `VocabularyError`.
        """
        if self.size > tokens.LIMIT:
            return self.bound
        encoding = self.encoding
        known = tokens.lately(encoding)
        total = self.fixed
        for text in self.texts:
            total += known.get(hash(text)) or tokens.count(text, encoding)
        return total
