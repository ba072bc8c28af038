"""The models of a table as one upstream sells them: by which names, and for how much."""

import time
from decimal import Decimal
from typing import Final

from .names import spellings
from .rates import EXACT
from .schema import Document, ModelEntry, PriceEntry, Row, UpstreamEntry
from .tariff import Tariff, beginning
from .values import Model

_NEVER: Final = float("inf")


class Offer:
    """A model as one upstream sells it; what it is asked for is made once and kept."""

    __slots__ = ("_factor", "_model", "_models", "_tariffs", "_tools", "_until", "entry")

    def __init__(self, entry: ModelEntry, tools: Row, factor: Decimal) -> None:
        self.entry = entry
        self._tools = tools
        self._factor = factor
        self._tariffs: dict[str, Tariff] = {}
        self._models: dict[int, Model] = {}
        self._model: Model | None = None
        self._until = 0.0

    def tariff(self, tier: str) -> Tariff:
        """The tariff at a tier; see `Tariff`."""
        if (tariff := self._tariffs.get(tier)) is None:
            tariff = self._tariffs[tier] = Tariff(self.entry, tier, self._tools, self._factor)
        return tariff

    def model(self) -> Model:
        """The model, with today's prices."""
        now = time.time()
        if self._model is not None and now < self._until:
            return self._model
        index = max((i for i, each in enumerate(self.entry.prices) if beginning(each) <= now), default=-1)
        if (model := self._models.get(index)) is None:
            entry = self.entry
            model = self._models[index] = Model(
                entry.id,
                entry.kind,
                entry.encoding,
                entry.context_window,
                entry.max_output_tokens,
                _listed(entry.prices[index], self._factor) if index >= 0 else {},
            )
        self._until = min((at for each in self.entry.prices if (at := beginning(each)) > now), default=_NEVER)
        self._model = model
        return model


class Catalogue:
    """What an upstream sells: first its own models, then those of the table at its prices."""

    def __init__(self, document: Document, upstream: UpstreamEntry) -> None:
        self.default_service_tier = upstream.default_service_tier
        self._document = document
        self._upstream = upstream
        self._offers: dict[tuple[bool, str], Offer] = {}

    def find(self, name: str) -> Offer | None:
        """What a name means here: as an alias of the upstream, as a model, or as an alias of the table."""
        tried = spellings(name)
        for alias in tried:
            if (target := self._upstream.aliases.get(alias)) is not None:
                return self._model(target)
        if (offer := self._model(name)) is not None:
            return offer
        for alias in tried:
            if (target := self._document.aliases.get(alias)) is not None:
                return self._model(target)
        return None

    def offers(self) -> list[Offer]:
        """The table's models, by id."""
        return [self._offer(entry, own=False) for _, entry in sorted(self._document.models.items())]

    def trusts(self, reported: Decimal) -> bool:
        """Whether this figure of the upstream's own counts before the table."""
        return self._upstream.trust_usage_cost and reported.is_finite() and reported >= 0

    def _model(self, name: str) -> Offer | None:
        if (entry := self._upstream.names.find(name)) is not None:
            return self._offer(entry, own=True)
        if (entry := self._document.names.find(name)) is not None:
            return self._offer(entry, own=False)
        return None

    def _offer(self, entry: ModelEntry, *, own: bool) -> Offer:
        if (offer := self._offers.get((own, entry.id))) is None:
            offer = self._offers[own, entry.id] = self._own(entry) if own else self._tables(entry)
        return offer

    def _own(self, entry: ModelEntry) -> Offer:
        return Offer(entry, self._document.tools, Decimal(1))

    def _tables(self, entry: ModelEntry) -> Offer:
        sold = self._upstream.overrides.get(entry.id, entry)
        factor = Decimal(1)
        # What is said of this upstream alone is what it charges: only prices of the table are multiplied.
        if sold.prices is entry.prices:
            factor = self._upstream.multiplier
            if self._upstream.regional:
                factor = EXACT.multiply(factor, sold.regional_uplift)
        return Offer(sold, self._document.tools, factor)


def _listed(entry: PriceEntry, factor: Decimal) -> dict[str, Row]:
    """The prices of an entry as `Model.prices` has them."""
    rows = {**entry.rows, **{f"{tier}>{entry.above}": row for tier, row in entry.long_rows.items()}}
    images = {
        f"{quality} {size}": each for quality, row in entry.per_image.items() for size, each in row.items()
    }
    if images:
        rows["per_image"] = images
    return {
        tier: {unit: EXACT.normalize(EXACT.multiply(rate, factor)) for unit, rate in row.items()}
        for tier, row in rows.items()
    }
