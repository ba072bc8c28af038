"""The values that travel between pricing and plugins: `Usage`, `Estimate`, `Cost`.

Money is `Decimal` US dollars, tokens are integers, and every figure says where it comes from.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Literal, Protocol, TypeVar, dataclass_transform

C = TypeVar("C")

Provenance = Literal["measured", "estimated", "bounded", "none"]
"""Where a figure comes from: the upstream's usage, our own count, an upper bound, or nowhere."""

Method = Literal["tiktoken", "upper_bound", "upstream"]
"""Where an estimate comes from: our own count, an upper bound of ours, or the upstream's count."""


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def value_type(cls: type[C]) -> type[C]:
    """A dataclass that type checkers hold to be frozen, and nothing else does: each request makes three of
    these, and setting the fields of one that is frozen takes three times as long (4.4 µs for a `Usage`
    instead of 1.3 µs)."""
    return dataclass(slots=True)(cls)


@value_type
class Usage:
    """Tokens of one answer by kind.

    `cached_tokens`, `cache_write_tokens`, `audio_input_tokens` and `image_input_tokens` are parts of
    `input_tokens`; `reasoning_tokens`, `audio_output_tokens` and `image_output_tokens` are parts of
    `output_tokens`; `cached_audio_tokens` and `cached_image_tokens` of `cached_tokens`, and
    `cache_write_12h_tokens` of `cache_write_tokens`.
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
    """What is not counted in tokens, by the names of `proxy.pricing.units`: `seconds` of audio,
    `video_seconds`, `characters`, `image:{quality}:{size}`, and calls of a tool by its name."""
    cached_audio_tokens: int = 0
    cached_image_tokens: int = 0
    cache_write_12h_tokens: int = 0
    reported_cost: Decimal | None = None
    """US dollars that the upstream says it charged, exactly as it wrote them."""
    clamped: bool = False
    """Whether what the upstream said contradicted itself, and was cut to fit."""


@value_type
class Estimate:
    """What a request may use, known before it is sent.

    `input_tokens` is the count when it was cheap enough to make at once, else None; `input_bound` is never
    below the true count. `max_cost` is None for a model without a price. `count` makes a better count than
    these, for who waits.
    """

    input_bound: int
    method: Method
    input_tokens: int | None = None
    max_output_tokens: int | None = None
    max_cost: Decimal | None = None
    count: Callable[[], Awaitable[int]] | None = field(default=None, repr=False, compare=False)
    model: str | None = None
    """The model that was asked for."""
    units: Mapping[str, Decimal] | None = None
    """What was asked for that is not counted in tokens, by the names of `proxy.pricing.units`."""

    async def exact(self) -> int:
        """The best count of input tokens, made now, in a worker thread or by the upstream, if it was not made
        before."""
        if self.count is not None:
            return await self.count()
        return self.input_bound if self.input_tokens is None else self.input_tokens


@value_type
class Cost:
    """What an answer cost, in US dollars. `amount` is None for a model without a price, never 0.

    `low` and `high` enclose the true cost; they equal `amount` when the usage was measured. `model` is the
    model of the table whose prices these are.
    """

    amount: Decimal | None
    low: Decimal | None = None
    high: Decimal | None = None
    provenance: Provenance = "none"
    price_version: str | None = None
    model: str | None = None
    flags: tuple[str, ...] = ()
    """What a reader of the figure should know; the words are in docs/pricing.md.

    `tier_priced_as=standard`, `long_context`, `usage_clamped`, `reported`, `priced_as=<model>`; and why there
    is none: `unknown_model`, `no_usage`, `no_price_yet`, `no_rate=<unit>`.
    """
    picodollars: int | None = field(default=None, init=False, repr=False, compare=False)
    """`amount` in 10^-12 US dollars, where the table had it as an integer anyway; None says nothing. A cost
    with another amount, made by `dataclasses.replace`, has none."""


@dataclass(frozen=True, slots=True)
class Model:
    """What the price table knows of a model besides its prices. What it does not know is None.

    `kind` is what the model is for: `chat`, `responses`, `completion`, `embedding`, `image_generation`,
    `audio_transcription`, `audio_speech`, `realtime`, `moderation` and so on. `encoding` names the
    tokenizer's vocabulary. `context_window` and `max_output_tokens` are tokens; the window is the most input
    that it takes, with some models together with the output.
    """

    id: str
    kind: str
    encoding: str
    context_window: int | None = None
    max_output_tokens: int | None = None
    prices: Mapping[str, Mapping[str, Decimal]] = field(default_factory=dict)
    """Today's prices in US dollars by service tier and unit, for showing them.

    Beside `standard`, `flex` and so on, `standard>272000` is for requests above that many input tokens, and
    `per_image` has a price for each quality and size, such as `hd 1024x1024`.
    """


class Prices(Protocol):
    """The price table, as plugins get it in `Server.prices`. Money is exact US dollars.

    Names are looked up as the upstream's answer or the client's request spells them; `upstream` is the name
    of the configured upstream, whose own prices and aliases come first; `at` is a moment in seconds since
    1970 (None: now).
    """

    @property
    def version(self) -> str:
        """Names the table's content: it goes with every cost."""

    @property
    def rejects_unknown(self) -> bool:
        """Whether requests for models that it does not know are to be refused."""

    def model(self, name: str, *, upstream: str | None = None) -> Model | None:
        """The model that this name means, or None."""

    def models(self) -> Sequence[Model]:
        """All models of the table, by id."""

    def cost(
        self,
        usage: Usage,
        model: str | None = None,
        *,
        upstream: str | None = None,
        at: float | None = None,
    ) -> Cost:
        """What this usage costs: by the model and tier that served (`usage.model`, `usage.service_tier`),
        else by `model`, which was asked for. Unpriced (`amount` None) where a rate is missing, never 0."""

    def max_cost(
        self,
        model: str,
        *,
        input_tokens: int,
        output_tokens: int | None,
        service_tier: str | None = None,
        upstream: str | None = None,
        at: float | None = None,
    ) -> Decimal | None:
        """No less than a request with so many tokens can cost, at the dearest rates that may apply; rounded
        up to a picodollar. `output_tokens` None: as many as the model can give. None: not known."""

    def input_cost(
        self,
        model: str,
        *,
        input_tokens: int,
        service_tier: str | None = None,
        upstream: str | None = None,
        at: float | None = None,
    ) -> Decimal | None:
        """What so many uncached input tokens cost, or None."""
