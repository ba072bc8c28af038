"""Rates per token: one row of the price table, ready to multiply.

Sums are exact: a rate is a whole number of some power of ten of a dollar per token, and so is what tokens
cost. Only the end of a sum is made a `Decimal`.
"""

from collections.abc import Mapping, Sequence
from decimal import Context, Decimal, Inexact, InvalidOperation
from typing import Final

from .values import Usage

INPUT_UNITS: Final = (
    "input",
    "cached_input",
    "cache_write",
    "cache_write_12h",
    "audio_input",
    "audio_cached_input",
    "image_input",
    "image_cached_input",
)
OUTPUT_UNITS: Final = ("output", "audio_output", "image_output")
TOKEN_UNITS: Final = (*INPUT_UNITS, *OUTPUT_UNITS)
"""What a row has rates for, in US dollars per million tokens."""

CACHES: Final = (
    ("input", "cached_input", "cache_write", "cache_write_12h"),
    ("audio_input", "audio_cached_input"),
    ("image_input", "image_cached_input"),
)
"""Which units a token of input may be, depending on what a cache had of it or took."""

CLAMPED: Final = "usage_clamped"
PICODOLLAR: Final = Decimal("1e-12")
MILLION: Final = 6
"""As a power of ten."""

EXACT: Final = Context(prec=200, traps=[Inexact, InvalidOperation])
"""Wide enough for any sum of a table's figures; what would have to be rounded raises instead."""
_multiply, _normalize = EXACT.multiply, EXACT.normalize  # looking them up takes as long as they do


def partition(usage: Usage) -> tuple[dict[str, int], bool]:
    """The tokens of a usage by unit, each token once; and whether the usage contradicted itself.

    The totals win: a part that is larger than its whole, or less than nothing, is cut to fit. Cached tokens
    of which nobody says what they are count as text, and as images and audio when there is no more text.
    """
    left = _Cut()
    total_in, total_out = left.take(usage.input_tokens), left.take(usage.output_tokens)
    audio = left.take(usage.audio_input_tokens, total_in)
    image = left.take(usage.image_input_tokens, total_in - audio)
    text = total_in - audio - image

    cached = left.take(usage.cached_tokens, total_in)
    cached_audio = left.take(usage.cached_audio_tokens, min(audio, cached))
    cached_image = left.take(usage.cached_image_tokens, min(image, cached - cached_audio))
    cached_text = min(text, cached - cached_audio - cached_image)
    rest = cached - cached_audio - cached_image - cached_text
    more_images = min(rest, image - cached_image)
    cached_image += more_images
    cached_audio += rest - more_images

    # What was written to the cache is text; no model has a rate for writing anything else.
    written = min(left.take(usage.cache_write_tokens, total_in - cached), text - cached_text)
    written_12h = min(left.take(usage.cache_write_12h_tokens, max(usage.cache_write_tokens, 0)), written)

    audio_out = left.take(usage.audio_output_tokens, total_out)
    image_out = left.take(usage.image_output_tokens, total_out - audio_out)
    tokens = {
        "input": text - cached_text - written,
        "cached_input": cached_text,
        "cache_write": written - written_12h,
        "cache_write_12h": written_12h,
        "audio_input": audio - cached_audio,
        "audio_cached_input": cached_audio,
        "image_input": image - cached_image,
        "image_cached_input": cached_image,
        "output": total_out - audio_out - image_out,
        "audio_output": audio_out,
        "image_output": image_out,
    }
    return tokens, left.cut


class _Cut:
    """Takes parts, and remembers whether one did not fit."""

    def __init__(self) -> None:
        self.cut = False

    def take(self, tokens: int, most: int | None = None) -> int:
        fits = max(tokens, 0) if most is None else min(max(tokens, 0), most)
        self.cut = self.cut or fits != tokens
        return fits


class Rates:
    """The rates of one row, with what it leaves out filled in.

    Cached input without a rate costs what input costs, and so does writing to the cache. Where a model
    `reads_images`, they are text to its bill unless the row says otherwise. Of a row whose only output is
    images, all output is images. Nothing else is made up: without its rate, a token has no price.
    """

    __slots__ = ("_cached", "_input", "_output", "_rates", "_unit", "_write", "picodollars")

    def __init__(
        self, row: Mapping[str, Decimal], *, factor: Decimal = Decimal(1), reads_images: bool = False
    ) -> None:
        """`row` has US dollars per million tokens by unit, and `factor` multiplies them all."""
        rates = {unit: EXACT.multiply(row[unit], factor) for unit in TOKEN_UNITS if unit in row}
        self._rates, self._unit = _whole(_completed(rates, reads_images))
        self.picodollars = int(self._unit / PICODOLLAR) if self._unit >= PICODOLLAR else None
        """How many of them one unit of this row is; None where it is finer than that."""
        # Most answers need only these.
        self._input, self._output = self._rates.get("input"), self._rates.get("output")
        # What a token of input costs more if a cache had it, or took it; less, as a rule.
        self._cached = self._rates.get("cached_input", 0) - (self._input or 0)
        self._write = self._rates.get("cache_write", 0) - (self._input or 0)

    def __bool__(self) -> bool:
        """Whether there is any rate."""
        return bool(self._rates)

    def charge(self, usage: Usage) -> tuple[Decimal | None, tuple[str, ...]]:
        """What these tokens cost, and the flags of `Cost` that go with it. Exact; None without a rate."""
        total = self.text(usage)
        if total is not None:
            return self.amount(total), ()
        parts, cut = partition(usage)
        missing = tuple(f"no_rate={unit}" for unit in parts if parts[unit] and unit not in self._rates)
        flags = (*missing, CLAMPED) if cut else missing
        return (None if missing else self._sum(parts, self._rates)), flags

    def amount(self, total: int) -> Decimal:
        """So many of this row's units in US dollars."""
        return _normalize(_multiply(total, self._unit))

    def text(self, usage: Usage) -> int | None:
        """The short way to what `charge` says of text, and so of nearly every answer, in units of this row.
        None: take the long way, for what is not text, has no rate, or contradicts itself."""
        tokens, output = usage.input_tokens, usage.output_tokens
        cached, written = usage.cached_tokens, usage.cache_write_tokens
        if (
            self._input is None
            or (output and (self._output is None or output < 0))
            or cached < 0
            or written < 0
            or cached + written > tokens
            or usage.audio_input_tokens
            or usage.image_input_tokens
            or usage.audio_output_tokens
            or usage.image_output_tokens
            or usage.cached_audio_tokens
            or usage.cached_image_tokens
            or usage.cache_write_12h_tokens
        ):
            return None
        total = tokens * self._input + output * (self._output or 0)
        if cached:
            total += cached * self._cached
        if written:
            total += written * self._write
        return total

    def spread(self, usage: Usage) -> tuple[Decimal, Decimal] | None:
        """The least and the most that these tokens cost, when nobody knows what a cache had or took."""
        parts, _ = partition(usage)
        if any(parts[unit] and unit not in self._rates for unit in parts):
            return None
        least, most = dict(self._rates), dict(self._rates)
        for units in CACHES:
            there = [self._rates[unit] for unit in units if unit in self._rates]
            least.update((unit, min(there)) for unit in units if unit in self._rates)
            most.update((unit, max(there)) for unit in units if unit in self._rates)
        return self._sum(parts, least), self._sum(parts, most)

    def input(self, tokens: int) -> Decimal | None:
        """What so many tokens of uncached text cost."""
        return None if self._input is None else self.amount(max(tokens, 0) * self._input)

    def dearest(self, units: Sequence[str]) -> Decimal | None:
        """The highest of the rates of these units, per token; None if there is none of them."""
        return max((self.amount(self._rates[unit]) for unit in units if unit in self._rates), default=None)

    def _sum(self, parts: Mapping[str, int], rates: Mapping[str, int]) -> Decimal:
        return self.amount(sum(rates[unit] * tokens for unit, tokens in parts.items() if tokens))


class Ceiling:
    """The dearest that tokens can be under any of some rows, whatever they are."""

    __slots__ = ("_finer", "_input", "_output", "_unit")

    def __init__(self, rows: Sequence[Rates]) -> None:
        sides = {
            name: max((rate for row in rows if (rate := row.dearest(units)) is not None), default=None)
            for name, units in (("input", INPUT_UNITS), ("output", OUTPUT_UNITS))
        }
        known = {name: EXACT.scaleb(rate, MILLION) for name, rate in sides.items() if rate is not None}
        rates, unit = _whole(known)
        self._input, self._output = rates.get("input"), rates.get("output")
        self._finer = max(int(EXACT.divide(PICODOLLAR, unit)), 1)
        self._unit = max(unit, PICODOLLAR)

    @property
    def has_output(self) -> bool:
        """Whether output costs anything to begin with; that of an embedding does not."""
        return self._output is not None

    def charge(self, input_tokens: int, output_tokens: int) -> Decimal | None:
        """Rounded up to a picodollar; None where tokens have no price."""
        if self._input is None:
            return None
        total = input_tokens * self._input if input_tokens > 0 else 0
        if output_tokens > 0:
            total += output_tokens * (self._output or 0)
        if self._finer > 1:
            total = -(-total // self._finer)
        return _normalize(_multiply(total, self._unit))


def _completed(row: Mapping[str, Decimal], reads_images: bool) -> dict[str, Decimal]:
    whole = dict(row)
    if "output" not in row and "image_output" in row:
        whole["output"] = row["image_output"]
    if "input" in row and "cache_write" not in row:
        whole["cache_write"] = row["input"]
        whole.setdefault("cache_write_12h", row["input"])
    if reads_images and "image_input" not in row:
        for unit, text in (("image_input", "input"), ("image_cached_input", "cached_input")):
            if text in row:
                whole.setdefault(unit, row[text])
    for cached, plain in (
        ("cached_input", "input"),
        ("audio_cached_input", "audio_input"),
        ("image_cached_input", "image_input"),
    ):
        if plain in whole:
            whole.setdefault(cached, whole[plain])
    return whole


def _whole(per_million: Mapping[str, Decimal]) -> tuple[dict[str, int], Decimal]:
    """Whole numbers per token, and the power of ten of a dollar that they count."""
    digits = max((-int(rate.as_tuple().exponent) for rate in per_million.values()), default=0)
    whole = {unit: int(EXACT.scaleb(rate, digits)) for unit, rate in per_million.items()}
    return whole, EXACT.scaleb(Decimal(1), -digits - MILLION)
