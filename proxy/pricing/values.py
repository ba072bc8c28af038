"""The values that travel between pricing and plugins: `Usage`, `Estimate`, `Cost`.

Money is `Decimal` US dollars, tokens are integers, and every figure says where it comes from.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Literal

Provenance = Literal["measured", "estimated", "bounded", "none"]
"""Where a figure comes from: the upstream's usage, our own count, an upper bound, or nowhere."""


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one answer by kind.

    `cached_tokens`, `cache_write_tokens`, `audio_input_tokens` and `image_input_tokens` are parts of
    `input_tokens`; `reasoning_tokens`, `audio_output_tokens` and `image_output_tokens` are parts of
    `output_tokens`.
    """

    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    cache_write_tokens: int = 0
    audio_input_tokens: int = 0
    image_input_tokens: int = 0
    reasoning_tokens: int = 0
    audio_output_tokens: int = 0
    image_output_tokens: int = 0
    provenance: Provenance = "measured"
    model: str | None = None
    """The model that served, as the upstream named it."""
    service_tier: str | None = None
    other_units: dict[str, Decimal] = field(default_factory=dict)
    """What is not counted in tokens: images, seconds, characters, tool calls."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a request may use, known before it is sent.

    `input_tokens` is the count when it was cheap enough to make at once, else None; `input_bound` is never
    below the true count. `max_cost` is None for a model without a price.
    """

    input_bound: int
    method: Literal["tiktoken", "upper_bound"]
    input_tokens: int | None = None
    max_output_tokens: int | None = None
    max_cost: Decimal | None = None
    count: Callable[[], Awaitable[int]] | None = field(default=None, repr=False, compare=False)

    async def exact(self) -> int:
        """The exact count of input tokens, made now in a worker thread if it was not made before."""
        if self.input_tokens is not None:
            return self.input_tokens
        return self.input_bound if self.count is None else await self.count()


@dataclass(frozen=True, slots=True)
class Cost:
    """What an answer cost, in US dollars. `amount` is None for a model without a price, never 0.

    `low` and `high` enclose the true cost; they equal `amount` when the usage was measured.
    """

    amount: Decimal | None
    low: Decimal | None = None
    high: Decimal | None = None
    provenance: Provenance = "none"
    price_version: str | None = None
