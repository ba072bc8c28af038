from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.pricing.schema import TableError, UnknownModel
from proxy.pricing.table import REMEMBERED, Table, default, parse
from proxy.pricing.values import Cost, Prices, Usage

from .tables import million, table

D = Decimal
MODELS: dict[str, Any] = {
    "chat": {
        "max_output_tokens": 2_000_000,
        "prices": [
            {
                "standard": {"input": "2", "cached_input": "1", "cache_write": "3", "output": "10"},
                "priority": {"input": "4", "cached_input": "2", "output": "20"},
                "flex": {"input": "1", "output": "5"},
            }
        ],
    },
    "other": {"input": "7", "output": "8"},
    "embed": {"kind": "embedding", "prices": [{"standard": {"input": "0.1"}}]},
    "later": {"prices": [{"from": "2020-01-01", "standard": {"input": "1", "output": "1"}}]},
    "hours": {"kind": "audio_transcription", "prices": [{"standard": {"audio_hour": "0.36"}}]},
    "endless": {"input": "1", "output": "1"},
}
PRICES = table(MODELS, aliases={"nickname": "other"}, upstreams={"azure": {"multiplier": "2"}})


def amount(usage: Usage, model: str | None = None, **more: Any) -> Decimal | None:
    return PRICES.cost(usage, model, **more).amount


def test_a_table_is_what_plugins_get() -> None:
    prices: Prices = PRICES
    assert prices.cost(million("chat", input_tokens=1)) == Cost(
        Decimal(2), Decimal(2), Decimal(2), "measured", PRICES.version, "chat"
    )


# -- which model ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("served", "requested", "dollars"),
    [
        ("chat", "other", 2),
        ("unheard-of", "other", 7),
        (None, "other", 7),
        ("", "other", 7),
        ("unheard-of", "nickname", 7),
        ("nickname", "chat", 7),
        ("Vendor/CHAT", None, 2),
        ("x" * 300, "chat", 2),
    ],
)
def test_what_served_counts_before_what_was_asked_for(
    served: str | None, requested: str | None, dollars: int
) -> None:
    assert amount(million(served, input_tokens=1), requested) == dollars


@pytest.mark.parametrize("name", [None, "", "gpt-9", "ft:chat:acme::7", "y" * 300])
def test_a_model_that_is_not_there_has_no_price_and_never_a_price_of_0(name: str | None) -> None:
    expected = Cost(None, None, None, "measured", PRICES.version, None, ("unknown_model",))
    assert PRICES.cost(million(name, input_tokens=1)) == expected
    if name is not None:
        assert PRICES.model(name) is None
        assert PRICES.max_cost(name, input_tokens=1, output_tokens=1) is None
        assert PRICES.input_cost(name, input_tokens=1) is None


def test_a_model_can_stand_in_for_those_that_are_not_there() -> None:
    prices = table(MODELS, unknown_model={"price_as": "other"})
    assert prices.unknown_model == UnknownModel("price_as", "other")
    cost = prices.cost(million("gpt-9", input_tokens=1))
    assert (cost.amount, cost.model, cost.flags) == (D(7), "other", ("unknown_model", "priced_as=other"))
    assert prices.max_cost("gpt-9", input_tokens=10**6, output_tokens=0) == 7
    assert prices.input_cost("gpt-9", input_tokens=10**6) == 7
    assert prices.model("gpt-9") is None
    assert PRICES.unknown_model == UnknownModel("allow_unpriced", None)


def test_an_upstream_has_prices_of_its_own() -> None:
    usage = million("chat", input_tokens=1)
    assert amount(usage, upstream="azure") == 4
    assert amount(usage, upstream="unheard-of") == 2
    assert PRICES.upstreams == {"azure"}
    assert PRICES.input_cost("chat", input_tokens=10**6, upstream="azure") == 4
    assert PRICES.max_cost("chat", input_tokens=10**6, output_tokens=0, upstream="azure") == 6
    shown = PRICES.model("chat", upstream="azure")
    assert shown is not None
    assert shown.prices["flex"] == {"input": 2, "output": 10}


# -- which price ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tier", "dollars", "flags"),
    [
        (None, 2, ()),
        ("", 2, ()),
        ("auto", 2, ()),
        ("default", 2, ()),
        ("standard", 2, ()),
        ("scale", 2, ()),
        ("priority", 4, ()),
        ("fast", 4, ()),
        ("flex", 1, ()),
        ("batch", 2, ("tier_priced_as=standard",)),
        ("ultrafast", 2, ("tier_priced_as=standard",)),
        ("on_demand", 2, ("tier_priced_as=standard",)),
        ("t" * 10000, 2, ("tier_priced_as=standard",)),
    ],
)
def test_the_tier_that_served_chooses_the_price(
    tier: str | None, dollars: int, flags: tuple[str, ...]
) -> None:
    cost = PRICES.cost(million("chat", tier, input_tokens=1))
    assert (cost.amount, cost.flags) == (D(dollars), flags)


def test_where_nobody_says_a_tier_it_is_the_upstreams() -> None:
    prices = table(MODELS, upstreams={"fast": {"default_service_tier": "priority"}})
    for tier, dollars in ((None, 4), ("auto", 4), ("default", 2), ("flex", 1)):
        assert prices.cost(million("chat", tier, input_tokens=1), upstream="fast").amount == dollars
        asked = {"input_tokens": 10**6, "service_tier": tier, "upstream": "fast"}
        assert prices.input_cost("chat", **asked) == dollars  # type: ignore[arg-type] # as above


def test_a_price_begins_on_its_day() -> None:
    usage = million("later", input_tokens=1)
    assert amount(usage, at=1577836800.0) == 1
    cost = PRICES.cost(usage, at=1577836799.0)
    assert (cost.amount, cost.model, cost.flags) == (None, "later", ("no_price_yet",))
    assert PRICES.max_cost("later", input_tokens=1, output_tokens=1, at=0.0) is None
    assert PRICES.input_cost("later", input_tokens=1, at=0.0) is None


def test_a_missing_rate_is_named() -> None:
    cost = PRICES.cost(million("chat", input_tokens=1, audio_input_tokens=1))
    assert (cost.amount, cost.low, cost.high) == (None, None, None)
    assert (cost.model, cost.flags) == ("chat", ("no_rate=audio_input",))


# -- how sure ------------------------------------------------------------------------------------------


def test_a_measured_usage_has_one_cost() -> None:
    cost = PRICES.cost(million("chat", input_tokens=3, cached_tokens=1, output_tokens=2))
    assert (cost.low, cost.amount, cost.high, cost.provenance) == (D(25), D(25), D(25), "measured")


def test_an_estimated_one_has_a_least_and_a_most() -> None:
    usage = million("chat", input_tokens=3, output_tokens=2)
    cost = PRICES.cost(replace(usage, provenance="estimated"))
    assert (cost.low, cost.amount, cost.high, cost.provenance) == (D(23), D(26), D(29), "estimated")
    cost = PRICES.cost(replace(usage, provenance="bounded"))
    assert (cost.low, cost.amount, cost.high, cost.provenance) == (D(0), D(26), D(29), "bounded")


def test_no_usage_is_no_cost() -> None:
    usage = Usage(model="chat", provenance="none")
    cost = PRICES.cost(usage)
    assert (cost.amount, cost.provenance, cost.flags) == (None, "none", ("no_usage",))
    assert PRICES.cost(replace(usage, model=None)).flags == ("unknown_model",)


def test_the_upstreams_own_figure_counts_where_it_is_trusted() -> None:
    prices = table(MODELS, upstreams={"router": {"trust_usage_cost": True}, "azure": {}})
    usage = replace(million("chat", input_tokens=1), reported_cost=Decimal("0.0123"))
    cost = prices.cost(usage, upstream="router")
    assert (cost.low, cost.amount, cost.high) == (Decimal("0.0123"),) * 3
    assert (cost.model, cost.flags) == ("chat", ("reported",))
    assert prices.cost(replace(usage, model="gpt-9"), upstream="router").amount == Decimal("0.0123")
    assert prices.cost(usage, upstream="azure").amount == 2
    assert prices.cost(usage).amount == 2
    assert prices.cost(replace(usage, reported_cost=None), upstream="router").amount == 2


LINED = {
    "prices": [
        {
            "standard": {"input": "2", "cached_input": "0.5", "cache_write": "3", "output": "10"},
            "flex": {"input": "1", "output": "5.125"},
            "long_context": {"above_input_tokens": 1000, "standard": {"input": "4", "output": "0.3333333"}},
        }
    ]
}
TURNED = {
    "prices": [
        {"standard": {"input": "1", "output": "2"}},
        {"from": "2025-06-10", "standard": {"input": "3"}},
        {"from": "2999-01-01", "standard": {"input": "5", "output": "7"}},
    ]
}
ALL = table(
    {**MODELS, "lined": LINED, "turned": TURNED},
    aliases={"nickname": "other"},
    upstreams={"azure": {"multiplier": "1.1"}},
    unknown_model={"price_as": "other"},
)
TOKENS = st.one_of(st.integers(-2, 12), st.sampled_from([999, 1000, 1001, 10**9, 10**15]))
RARE = st.one_of(st.just(0), st.just(0), st.just(0), TOKENS)


@st.composite
def usages(draw: st.DrawFn) -> Usage:
    """Mostly text; some of it contradicts itself."""
    rare: dict[str, Any] = {
        name: draw(RARE)
        for name in (
            "cache_write_tokens",
            "audio_input_tokens",
            "image_input_tokens",
            "audio_output_tokens",
            "image_output_tokens",
            "cached_audio_tokens",
            "cached_image_tokens",
            "cache_write_12h_tokens",
        )
        if draw(st.integers(0, 5)) == 0
    }
    return Usage(
        draw(TOKENS),
        draw(TOKENS),
        draw(RARE),
        provenance=draw(
            st.sampled_from(["measured", "measured", "measured", "estimated", "bounded", "none"])
        ),
        model=draw(st.sampled_from([None, "", "nobody's", "z" * 300, "nickname", *ALL.document.models])),
        service_tier=draw(st.sampled_from([None, "auto", "default", "flex", "batch", "?", "z" * 300])),
        other_units=draw(st.sampled_from([{}, {}, {"web_search": D(2)}, {"seconds": D("1.5")}])),
        clamped=draw(st.integers(0, 5)) == 0,
        **rare,
    )


@given(
    usages(),
    st.sampled_from([None, "chat", "lined", "turned", "y" * 300]),
    st.sampled_from([None, "azure", "mock"]),
    st.sampled_from([None, 0.0, 1749513599.0, 1749513600.0, 1e11]),
)
@settings(max_examples=500)
def test_the_short_way_costs_what_the_long_one_does(
    usage: Usage, model: str | None, upstream: str | None, at: float | None
) -> None:
    # A figure of the upstream's own, even one that does not count, is not for the short way.
    longer = replace(usage, reported_cost=D(0))
    cost = ALL.cost(usage, model, upstream=upstream, at=at)
    assert cost == ALL.cost(longer, model, upstream=upstream, at=at)
    assert str(cost.amount) == str(ALL.cost(longer, model, upstream=upstream, at=at).amount)
    if cost.picodollars is not None:
        assert cost.picodollars * D("1e-12") == cost.amount


def test_a_plain_cost_has_its_picodollars_and_one_that_was_changed_has_none() -> None:
    cost = PRICES.cost(Usage(12, 3, model="chat"))
    assert (cost.amount, cost.picodollars) == (D("0.000054"), 54_000_000)
    assert replace(cost, amount=D(1)).picodollars is None
    finer = table({"fine": {"input": "0.0000001", "output": "0.0000001"}}).cost(Usage(1, 1, model="fine"))
    assert (finer.amount, finer.picodollars) == (D("2e-13"), None)


# -- before the answer ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "dollars"),
    [
        ({"model": "chat", "input_tokens": 10**6, "output_tokens": 10**6}, 13),
        ({"model": "chat", "input_tokens": 10**6, "output_tokens": None}, 23),
        ({"model": "chat", "input_tokens": 10**6, "output_tokens": 0, "service_tier": "flex"}, 1),
        ({"model": "embed", "input_tokens": 10**7, "output_tokens": None}, 1),
        ({"model": "endless", "input_tokens": 10**6, "output_tokens": 10**6}, 2),
        ({"model": "endless", "input_tokens": 10**6, "output_tokens": None}, None),
        ({"model": "hours", "input_tokens": 10**6, "output_tokens": None}, None),
        ({"model": "hours", "input_tokens": 10**6, "output_tokens": 5}, None),
    ],
)
def test_the_most_that_a_request_can_cost(asked: dict[str, Any], dollars: int | None) -> None:
    assert PRICES.max_cost(**asked) == dollars


def test_input_alone_is_uncached() -> None:
    assert PRICES.input_cost("chat", input_tokens=10**6) == 2
    assert PRICES.input_cost("chat", input_tokens=10**6, service_tier="priority") == 4
    assert PRICES.input_cost("hours", input_tokens=5) is None


@given(
    st.sampled_from(sorted(MODELS)),
    st.sampled_from([None, "auto", "default", "flex", "fast", "batch", "?"]),
    st.sampled_from([None, "azure"]),
    *[st.integers(0, 10**6)] * 4,
)
def test_nothing_within_the_bounds_costs_more_than_the_most(
    model: str, tier: str | None, upstream: str | None, i: int, o: int, cached: int, written: int
) -> None:
    usage = Usage(i, o, cached, written, model=model, service_tier=tier)
    most = PRICES.max_cost(model, input_tokens=i, output_tokens=o, service_tier=tier, upstream=upstream)
    cost = PRICES.cost(usage, upstream=upstream)
    if cost.amount is not None:
        assert most is not None
        assert 0 <= cost.amount <= most
        plain = PRICES.input_cost(model, input_tokens=i, service_tier=tier, upstream=upstream)
        assert plain is not None
        assert plain <= most


# -- the table itself ----------------------------------------------------------------------------------


def test_models_are_listed_by_id() -> None:
    assert [model.id for model in PRICES.models()] == sorted(MODELS)
    assert PRICES.model("nickname") == PRICES.model("other")
    wild = table({"*": {"input": "1"}, "a*": {"input": "2"}})
    assert [model.prices["standard"]["input"] for model in wild.models()] == [1, 2]


def test_the_version_is_the_day_and_the_content() -> None:
    assert PRICES.version.startswith("2026-11-22+")
    again = table(MODELS, aliases={"nickname": "other"}, upstreams={"azure": {"multiplier": "2"}})
    assert again.version == PRICES.version
    turned = table(
        dict(reversed(MODELS.items())),
        upstreams={"azure": {"multiplier": "2"}},
        aliases={"nickname": "other"},
    )
    assert turned.version == PRICES.version
    assert table(MODELS).version != PRICES.version


def test_names_of_clients_do_not_pile_up() -> None:
    prices = table(MODELS)
    for number in range(REMEMBERED + 10):
        prices.model(f"name-{number}")
        prices.cost(Usage(model=f"name-{number}"))
    for cache in (prices._find, prices._chosen):
        assert cache.cache_info().currsize == REMEMBERED
    long = "z" * 1_000_000
    before = prices._find.cache_info().misses
    assert prices.model(long) is None
    assert prices.cost(Usage(model=long), long).amount is None
    assert prices._find.cache_info().misses == before


def test_what_is_wrong_is_raised() -> None:
    with pytest.raises(TableError):
        parse({"version": 1})


def test_the_packed_table_can_be_extended() -> None:
    own: dict[str, Any] = {
        "version": 1,
        "updated": "2026-12-01",
        "extends": "default",
        "models": {"mine": {"prices": [{"standard": {"input": "1", "output": "1"}}]}},
    }
    prices = parse(own)
    assert isinstance(prices, Table)
    assert len(prices.models()) == len(default().models()) + 1
    assert prices.version.startswith("2026-12-01+")
    usage = million("gpt-4o", output_tokens=1)
    assert prices.cost(usage).amount == default().cost(usage).amount == 10
    assert default() is default()


def test_extending_another_table_is_another_version(monkeypatch: pytest.MonkeyPatch) -> None:
    own: dict[str, Any] = {"version": 1, "updated": "2026-12-01", "extends": "default"}
    one = parse(own).version
    monkeypatch.setattr("proxy.pricing.table.default", lambda: PRICES)
    assert parse(own).version != one
