"""The price table: finds a model's prices by its name, and what a usage costs by them."""

import functools
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Final

import orjson

from . import schema
from .catalogue import Catalogue, Offer
from .names import LONGEST
from .schema import Document, UnknownModel, UpstreamEntry
from .tariff import NO_USAGE, SERVED, UNKNOWN, Period, Tariff
from .values import Cost, Model, Usage

REMEMBERED: Final = 4096
"""Names whose prices are at hand. They come from clients: the one that was used longest ago goes."""
PACKED: Final = Path(__file__).with_name("default.json")
"""What `pricing.yaml` says, written by `scripts/update_pricing.py pack`: YAML takes too long to read."""


UNKNOWN_MODEL: Final = "unknown_model"
NO_PRICE_YET: Final = "no_price_yet"
REPORTED: Final = "reported"


@dataclass(slots=True)
class _Chosen:
    """What a usage is priced by; the flags go with every cost. (To unpack a NamedTuple takes three times as
    long as to read these.)"""

    offer: Offer | None
    tariff: Tariff | None
    always: Period | None
    """The tariff's, which most models have."""
    model: str | None
    flags: tuple[str, ...]


class _TooLong(Exception):
    """A name that is not worth looking up, and too large to be remembered."""


def parse(tree: object) -> "Table":
    """The table that plain values describe, as they come from YAML or JSON; docs/pricing.md has the format.

    Raises `TableError` with everything that is wrong.
    """
    base = default() if isinstance(tree, dict) and "extends" in tree else None
    document = schema.read(tree, None if base is None else base.document)
    content = orjson.dumps(tree, option=orjson.OPT_SORT_KEYS)
    if base is not None:
        content += base.version.encode()
    return Table(document, hashlib.sha256(content).hexdigest()[:8])


@functools.cache
def default() -> "Table":
    """The table that comes with Weir."""
    return parse(orjson.loads(PACKED.read_bytes()))


class Table:
    """A price table; implements `Prices`. It never changes, and any thread may ask it."""

    def __init__(self, document: Document, content: str) -> None:
        """`content` tells two tables of the same day apart."""
        self.document = document
        self._version = f"{document.updated}+{content}"
        self._plain = Catalogue(document, UpstreamEntry())
        self._catalogues = {
            name: Catalogue(document, upstream) for name, upstream in document.upstreams.items()
        }
        self._find = functools.lru_cache(REMEMBERED)(self._look_up)
        self._chosen = functools.lru_cache(REMEMBERED)(self._choose)

    @property
    def version(self) -> str:
        """The day of its last change, and a hash of its content."""
        return self._version

    @property
    def unknown_model(self) -> UnknownModel:
        """What is to happen with a model that is not in it. `price_as` happens here, `reject` elsewhere."""
        return self.document.unknown_model

    @property
    def rejects_unknown(self) -> bool:
        """See `Prices.rejects_unknown`."""
        return self.document.unknown_model.policy == "reject"

    @property
    def upstreams(self) -> frozenset[str]:
        """The upstreams that it has something of its own for."""
        return frozenset(self._catalogues)

    def model(self, name: str, *, upstream: str | None = None) -> Model | None:
        """The model that a name means, or None."""
        offer = self._find(name, upstream) if len(name) <= LONGEST else None
        return None if offer is None else offer.model()

    def models(self) -> Sequence[Model]:
        """All models of the table, by id."""
        return [offer.model() for offer in self._plain.offers()]

    def cost(
        self,
        usage: Usage,
        model: str | None = None,
        *,
        upstream: str | None = None,
        at: float | None = None,
    ) -> Cost:
        """What a usage costs, exactly. See `Prices.cost`; `Cost.flags` has what was assumed or is missing."""
        chosen, period = self._priced(usage.model, model, upstream, usage.service_tier, at)
        # Nearly all: text that was counted, and nothing besides. It takes half of what `_cost` takes.
        if (
            period is not None
            and usage.input_tokens <= period.line
            and usage.provenance == "measured"
            and usage.reported_cost is None
            and not usage.other_units
            and not usage.clamped
            and (total := period.rates.text(usage)) is not None
        ):
            rates, flags = period.rates, chosen.flags + period.flags
            amount = rates.amount(total)
            cost = Cost(amount, amount, amount, "measured", self._version, chosen.model, flags)
            if rates.picodollars is not None:
                cost.picodollars = total * rates.picodollars  # type: ignore[misc] # nobody has seen it yet
            return cost
        return self._cost(usage, chosen, period, upstream)

    def _cost(self, usage: Usage, chosen: _Chosen, period: Period | None, upstream: str | None) -> Cost:
        name, flags = chosen.model, chosen.flags
        provenance, version = usage.provenance, self._version
        amount = usage.reported_cost
        if amount is not None and self._catalogue(upstream).trusts(amount):
            return Cost(amount, amount, amount, provenance, version, name, (REPORTED,))
        if chosen.tariff is None or provenance == "none":
            return Cost(None, None, None, provenance, version, name, flags or (NO_USAGE,))
        if period is None:
            return Cost(None, None, None, provenance, version, name, (*flags, NO_PRICE_YET))
        amount, found = period.charge(usage)
        if flags:
            found = (*flags, *found)
        if amount is None or provenance == "measured":
            return Cost(amount, amount, amount, provenance, version, name, found)
        return Cost(amount, *period.spread(usage, amount), provenance, version, name, found)

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
        """No less than tokens within these bounds can cost, whatever they are. See `Prices.max_cost`.

        What is not counted in tokens is not in it: tools, and models that are sold by the second or image.
        """
        chosen, period = self._priced(None, model, upstream, service_tier, at)
        offer = chosen.offer
        if offer is None or period is None:
            return None
        ceiling = period.ceiling(input_tokens)
        if output_tokens is None:
            output_tokens = offer.entry.max_output_tokens if ceiling.has_output else 0
            if output_tokens is None:
                return None
        return ceiling.charge(input_tokens, output_tokens)

    def input_cost(
        self,
        model: str,
        *,
        input_tokens: int,
        service_tier: str | None = None,
        upstream: str | None = None,
        at: float | None = None,
    ) -> Decimal | None:
        """What so many uncached tokens of text cost, or None."""
        _, period = self._priced(None, model, upstream, service_tier, at)
        return None if period is None else period.input(input_tokens)

    def _catalogue(self, upstream: str | None) -> Catalogue:
        return self._plain if upstream is None else self._catalogues.get(upstream, self._plain)

    def _look_up(self, name: str, upstream: str | None) -> Offer | None:
        return self._catalogue(upstream).find(name)

    def _priced(
        self,
        served: str | None,
        requested: str | None,
        upstream: str | None,
        tier: str | None,
        at: float | None,
    ) -> tuple[_Chosen, Period | None]:
        """What is priced, and its prices at that moment."""
        try:
            chosen = self._chosen(served, requested, upstream, tier)
        except _TooLong:
            short = tier if tier is None else tier[:LONGEST]  # no tier is as long as what is left
            chosen = self._chosen(_short(served), _short(requested), upstream, short)
        period = chosen.always
        if period is None and chosen.tariff is not None:
            period = chosen.tariff.at(at)
        return chosen, period

    def _choose(
        self, served: str | None, requested: str | None, upstream: str | None, tier: str | None
    ) -> _Chosen:
        """The model that served, else the one that was asked for, else the one that stands in for both.

        Raises `_TooLong`, and so what is asked for again and again need not be measured.
        """
        if max(map(len, filter(None, (served, requested, tier))), default=0) > LONGEST:
            raise _TooLong
        catalogue = self._catalogue(upstream)
        flags: tuple[str, ...] = ()
        offer = None
        for name in (served, requested):
            if name and (offer := self._find(name, upstream)) is not None:
                break
        else:
            flags = (UNKNOWN_MODEL,)
            if (stand_in := self.unknown_model.price_as) is not None:
                offer = self._find(stand_in, upstream)
                flags = (UNKNOWN_MODEL, f"priced_as={stand_in}")
        if offer is None:
            return _Chosen(None, None, None, None, flags)
        priced_as = SERVED.get(tier, UNKNOWN)
        tariff = offer.tariff(catalogue.default_service_tier if priced_as == "auto" else priced_as)
        return _Chosen(offer, tariff, tariff.always, offer.entry.id, flags)


def _short(name: str | None) -> str | None:
    return name if name is None or len(name) <= LONGEST else None
