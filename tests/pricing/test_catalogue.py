from decimal import Decimal
from typing import Any

import pytest

from proxy.pricing.catalogue import Catalogue
from proxy.pricing.schema import UpstreamEntry
from proxy.pricing.table import Table

from .tables import table

MODELS = {
    "gpt-4o": {
        "match": ["gpt-4o-????-??-??"],
        "max_output_tokens": 16384,
        "regional_uplift": "1.1",
        "prices": [
            {
                "standard": {"input": "2.50", "output": "10"},
                "priority": {"input": "4.25", "output": "17"},
                "long_context": {"above_input_tokens": 100000, "standard": {"input": "5", "output": "20"}},
            }
        ],
    },
    "gpt-4o-mini": {"input": "0.15", "output": "0.6"},
    "dall-e-3": {"prices": [{"per_image": {"hd": {"1024x1024": "0.080"}}}]},
}
ALIASES = {"Prod": "gpt-4o", "team/fast": "gpt-4o-mini"}


def prices(**upstream: Any) -> Table:
    return table(MODELS, aliases=ALIASES, upstreams={"here": upstream})


def catalogue(**upstream: Any) -> Catalogue:
    document = prices(**upstream).document
    return Catalogue(document, document.upstreams["here"])


def costs(place: Catalogue, name: str) -> tuple[str, Decimal | None] | None:
    """The model, and what a million tokens of input cost."""
    offer = place.find(name)
    if offer is None:
        return None
    period = offer.tariff("standard").at(None)
    return offer.entry.id, None if period is None else period.input(1000)


@pytest.mark.parametrize(
    ("name", "model"),
    [
        ("gpt-4o", "gpt-4o"),
        ("GPT-4o-2024-08-06", "gpt-4o"),
        ("prod", "gpt-4o"),
        ("PROD", "gpt-4o"),
        ("openai/prod", "gpt-4o"),
        ("team/fast", "gpt-4o-mini"),
        ("fast", None),
        ("gpt-5", None),
    ],
)
def test_a_model_is_found_before_an_alias(name: str, model: str | None) -> None:
    offer = catalogue().find(name)
    assert (None if offer is None else offer.entry.id) == model


def test_an_upstream_without_entries_sells_at_the_prices_of_the_table() -> None:
    assert costs(catalogue(), "gpt-4o") == ("gpt-4o", Decimal("0.0025"))
    plain = Catalogue(prices().document, UpstreamEntry())
    assert costs(plain, "gpt-4o") == ("gpt-4o", Decimal("0.0025"))
    assert [offer.entry.id for offer in plain.offers()] == ["dall-e-3", "gpt-4o", "gpt-4o-mini"]


def test_an_alias_of_the_upstream_hides_a_model() -> None:
    place = catalogue(aliases={"gpt-4o": "gpt-4o-mini", "x": "gpt-4o"})
    assert costs(place, "openai/gpt-4o") == ("gpt-4o-mini", Decimal("0.00015"))
    assert costs(place, "x") == ("gpt-4o", Decimal("0.0025"))
    assert costs(place, "gpt-4o-2024-08-06") == ("gpt-4o", Decimal("0.0025"))


def test_a_multiplier_multiplies_what_the_table_says() -> None:
    assert costs(catalogue(multiplier="1.2"), "gpt-4o") == ("gpt-4o", Decimal("0.003"))


def test_where_data_stay_in_a_region_models_with_an_uplift_cost_more() -> None:
    assert costs(catalogue(regional=True), "gpt-4o") == ("gpt-4o", Decimal("0.00275"))
    assert costs(catalogue(regional=True), "gpt-4o-mini") == ("gpt-4o-mini", Decimal("0.00015"))
    assert costs(catalogue(regional=True, multiplier="2"), "gpt-4o") == ("gpt-4o", Decimal("0.0055"))


def test_prices_of_its_own_are_taken_as_they_are() -> None:
    own: dict[str, Any] = {"prices": [{"standard": {"input": "7"}}]}
    place = catalogue(multiplier="2", overrides={"gpt-4o": own}, models={"gpt-4o-mini": own, "local-*": own})
    assert costs(place, "gpt-4o-2024-08-06") == ("gpt-4o", Decimal("0.007"))
    assert costs(place, "gpt-4o-mini") == ("gpt-4o-mini", Decimal("0.007"))
    assert costs(place, "local-7b") == ("local-*", Decimal("0.007"))


def test_an_override_without_prices_leaves_them_to_the_table() -> None:
    place = catalogue(multiplier="2", overrides={"gpt-4o": {"max_output_tokens": 100}})
    assert costs(place, "gpt-4o") == ("gpt-4o", Decimal("0.005"))
    offer = place.find("gpt-4o")
    assert offer is not None
    assert offer.model().max_output_tokens == 100


def test_a_wildcard_of_the_upstream_takes_every_name() -> None:
    place = catalogue(models={"*": {"prices": [{"standard": {"input": "0", "output": "0"}}]}})
    for name in ("gpt-4o", "gpt-4o-2024-08-06", "llama", "prod", ""):
        assert costs(place, name) == ("*", Decimal(0))


def test_what_was_found_is_kept() -> None:
    place = catalogue(multiplier="2")
    offer = place.find("gpt-4o")
    assert offer is not None
    assert place.find("openai/GPT-4o-2024-08-06") is offer
    assert offer.tariff("flex") is offer.tariff("flex")
    assert offer.model() is offer.model()


def test_the_model_shows_its_prices() -> None:
    place = catalogue(multiplier="2")
    chat, image = place.find("gpt-4o"), place.find("dall-e-3")
    assert chat is not None
    assert image is not None
    assert chat.model().prices == {
        "standard": {"input": Decimal(5), "output": Decimal(20)},
        "priority": {"input": Decimal("8.5"), "output": Decimal(34)},
        "standard>100000": {"input": Decimal(10), "output": Decimal(40)},
    }
    assert image.model().prices == {"per_image": {"hd 1024x1024": Decimal("0.16")}}
    assert format(image.model().prices["per_image"]["hd 1024x1024"], "f") == "0.16"


def test_the_model_shows_the_prices_of_today() -> None:
    entries = [
        {"from": "2024-01-01", "standard": {"input": "1"}},
        {"from": "2025-01-01", "standard": {"input": "2"}},
        {"from": "2999-01-01", "standard": {"input": "3"}},
    ]
    for first, shown in ((0, {"standard": {"input": Decimal(2)}}), (2, {})):
        document = table({"m": {"prices": entries[first:]}}).document
        offer = Catalogue(document, UpstreamEntry()).find("m")
        assert offer is not None
        assert offer.model().prices == shown


@pytest.mark.parametrize("figure", ["NaN", "Infinity", "-1"])
def test_a_reported_figure_must_be_one(figure: str) -> None:
    trusting = catalogue(trust_usage_cost=True)
    assert trusting.trusts(Decimal("0.1"))
    assert not trusting.trusts(Decimal(figure))
    assert not catalogue().trusts(Decimal("0.1"))
