from copy import deepcopy
from datetime import date
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.pricing.schema import Document, Path, Problem, TableError, UnknownModel, read

GOOD: dict[str, Any] = {
    "version": 1,
    "currency": "USD",
    "unit": "per_1m_tokens",
    "updated": "2026-11-22",
    "unknown_model": {"price_as": "gpt-4o"},
    "tools": {"web_search": "10"},
    "models": {
        "gpt-4o": {
            "match": ["gpt-4o-????-??-??"],
            "kind": "chat",
            "encoding": "o200k_base",
            "context_window": 128000,
            "max_output_tokens": 16384,
            "regional_uplift": "1.1",
            "tools": {"web_search": "25"},
            "prices": [
                {"standard": {"input": "5", "output": "15"}},
                {
                    "from": "2024-08-06",
                    "standard": {"input": "2.5", "cached_input": "1.25", "output": "10"},
                    "batch": {"input": "1.25", "output": "5"},
                    "long_context": {"above_input_tokens": 100000, "standard": {"input": "5"}},
                },
            ],
        },
        "whisper-1": {"kind": "audio_transcription", "prices": [{"standard": {"audio_hour": "0.36"}}]},
        "dall-e-3": {"kind": "image_generation", "prices": [{"per_image": {"hd": {"1x1": "0.08"}}}]},
    },
    "aliases": {"gpt-35-turbo": "gpt-4o"},
    "upstreams": {
        "azure": {
            "multiplier": "1.2",
            "regional": True,
            "default_service_tier": "priority",
            "aliases": {"prod": "gpt-4o", "gpt-4o": "own"},
            "overrides": {"gpt-4o": {"max_output_tokens": 4096}},
            "models": {"own": {"prices": [{"standard": {"input": "1"}}]}},
        },
        "openrouter": {"trust_usage_cost": True},
        "local": {"models": {"*": {"prices": [{"standard": {"input": "0", "output": "0"}}]}}},
    },
}


def changed(path: Path, value: object) -> dict[str, Any]:
    """`GOOD` with something else at a path; `...` takes it away."""
    tree = deepcopy(GOOD)
    place: Any = tree
    for part in path[:-1]:
        place = place[part]
    if value is ...:
        del place[path[-1]]
    else:
        place[path[-1]] = value
    return tree


def problems(tree: object) -> list[tuple[Path, str]]:
    with pytest.raises(TableError) as caught:
        read(tree)
    found = [(problem.path, problem.text) for problem in caught.value.problems]
    assert all("\n" not in text and len(text) < 300 for _, text in found)
    return found


def test_a_table_is_read_whole() -> None:
    document = read(GOOD)
    assert document.updated == date(2026, 11, 22)
    assert document.unknown_model == UnknownModel("price_as", "gpt-4o")
    assert document.tools == {"web_search": Decimal(10)}
    assert document.aliases == {"gpt-35-turbo": "gpt-4o"}
    model = document.models["gpt-4o"]
    assert model.names == ("gpt-4o", "gpt-4o-????-??-??")
    assert (model.kind, model.encoding) == ("chat", "o200k_base")
    assert (model.context_window, model.max_output_tokens) == (128000, 16384)
    assert (model.regional_uplift, model.tools) == (Decimal("1.1"), {"web_search": Decimal(25)})
    first, second = model.prices
    assert first.starts is None
    assert first.rows == {"standard": {"input": Decimal(5), "output": Decimal(15)}}
    assert second.starts == date(2024, 8, 6)
    assert list(second.rows) == ["standard", "batch"]
    assert (second.above, second.long_rows) == (100000, {"standard": {"input": Decimal(5)}})
    assert document.models["dall-e-3"].prices[0].per_image == {"hd": {"1x1": Decimal("0.08")}}
    azure = document.upstreams["azure"]
    assert (azure.multiplier, azure.regional, azure.default_service_tier) == (
        Decimal("1.2"),
        True,
        "priority",
    )
    override = azure.overrides["gpt-4o"]
    assert (override.max_output_tokens, override.context_window) == (4096, 128000)
    assert override.prices is model.prices
    assert document.upstreams["openrouter"].trust_usage_cost
    assert document.upstreams["local"].names.find("whatever") is not None


def test_very_little_is_needed() -> None:
    document = read({"version": 1, "updated": "2026-11-22"})
    assert document.models == {}
    assert document.unknown_model == UnknownModel("allow_unpriced", None)
    for empty in ("models", "aliases", "upstreams", "tools"):
        read({"version": 1, "updated": "2026-11-22", empty: None})


ROW: Path = ("models", "gpt-4o", "prices", 1, "standard")


@pytest.mark.parametrize(
    ("path", "value", "at", "text"),
    [
        # money
        ((*ROW, "input"), 2.5, ..., "2.5 must be in quotes: money is decimal text, never a number"),
        ((*ROW, "input"), 2, ..., "2 must be in quotes: money is decimal text, never a number"),
        ((*ROW, "input"), "-2.5", ..., '"-2.5" must not be negative'),
        ((*ROW, "input"), "2,5", ..., '"2,5" is not a decimal such as "2.50"'),
        ((*ROW, "input"), "1e3", ..., '"1e3" is not a decimal such as "2.50"'),
        ((*ROW, "input"), "", ..., '"" is not a decimal'),
        ((*ROW, "input"), "٣", ..., "is not a decimal"),
        ((*ROW, "input"), "12345678", ..., "is not a decimal"),
        ((*ROW, "input"), "0.1234567890123", ..., "is not a decimal"),
        ((*ROW, "input"), "NaN", ..., '"NaN" is not a decimal'),
        ((*ROW, "input"), None, ..., "null is not a decimal"),
        ((*ROW, "input"), True, ..., "true is not a decimal"),
        ((*ROW, "input"), ["1"], ..., "a list is not a decimal"),
        (("tools", "web_search"), 10, ..., "10 must be in quotes"),
        (("upstreams", "azure", "multiplier"), 1.2, ..., "1.2 must be in quotes"),
        (("upstreams", "azure", "multiplier"), "0", ..., "must be more than 0"),
        (("models", "gpt-4o", "regional_uplift"), "0.0", ..., "must be more than 0"),
        (("models", "dall-e-3", "prices", 0, "per_image", "hd", "1x1"), 0.08, ..., "0.08 must be in quotes"),
        # keys
        ((*ROW, "imput"), "1", ..., 'unknown key; did you mean "input"?'),
        ((*ROW, "cached"), "1", ..., "unknown key"),
        (("model",), {}, ..., 'unknown key; did you mean "models"?'),
        (("zzz",), {}, ..., "unknown key; known here: version, currency, unit, updated"),
        (("models", "gpt-4o", "price"), [], ..., 'unknown key; did you mean "prices"?'),
        (("models", "gpt-4o", "prices", 1, "prority"), {}, ..., 'unknown key; did you mean "priority"?'),
        (("models", "gpt-4o", "prices", 1, "scale"), {"input": "1"}, ..., "unknown key"),
        (("models", "gpt-4o", "prices", 1, "long_context", "above"), 1, ..., "unknown key"),
        (
            ("models", "gpt-4o", "prices", 1, "long_context", "standard", "audio_hour"),
            "1",
            ...,
            "unknown key",
        ),
        (("upstreams", "azure", "overrides", "gpt-4o", "match"), [], ..., "unknown key"),
        (("upstreams", "azure", "multipler"), "1", ..., 'unknown key; did you mean "multiplier"?'),
        # dates
        (("updated",), "22.11.2026", ..., '"22.11.2026" is not a date such as 2026-11-22'),
        (("updated",), 20261122, ..., "20261122 is not a date"),
        (("models", "gpt-4o", "prices", 1, "from"), "2026-02-30", ..., '"2026-02-30" is not a date'),
        (("models", "gpt-4o", "prices", 1, "from"), "20260230", ..., "is not a date"),
        (
            ("models", "gpt-4o", "prices", 1, "from"),
            ...,
            ("models", "gpt-4o", "prices", 1),
            'must have a "from": only the first price can be from the beginning',
        ),
        (
            ("models", "gpt-4o", "prices", 0, "from"),
            "2024-08-06",
            ("models", "gpt-4o", "prices", 1, "from"),
            "must be later than the one before it",
        ),
        # shapes
        (("models", "gpt-4o"), None, ..., "null must be a mapping"),
        (("models", "gpt-4o", "prices"), ..., ("models", "gpt-4o"), "prices is missing"),
        (("models", "gpt-4o", "prices"), [], ..., "must be a list of prices, with one at least"),
        (("models", "gpt-4o", "prices"), {}, ..., "must be a list of prices, with one at least"),
        (("models", "gpt-4o", "prices", 1), None, ..., "null must be a mapping"),
        (("models", "gpt-4o", "prices", 0), {}, ..., "has no prices: give it standard, or per_image"),
        (ROW, "5", ..., '"5" must be a mapping'),
        (ROW, None, ..., "null must be a mapping"),
        (
            ("models", "gpt-4o", "prices", 1, "long_context", "standard"),
            ...,
            ("models", "gpt-4o", "prices", 1, "long_context"),
            "standard is missing",
        ),
        (
            ("models", "gpt-4o", "prices", 1, "long_context", "above_input_tokens"),
            ...,
            ("models", "gpt-4o", "prices", 1, "long_context"),
            "above_input_tokens is missing",
        ),
        (("models", "gpt-4o", "context_window"), "128000", ..., '"128000" must be a whole number of tokens'),
        (("models", "gpt-4o", "context_window"), True, ..., "true must be a whole number of tokens"),
        (("models", "gpt-4o", "context_window"), -1, ..., "-1 must be a whole number of tokens"),
        (("models", "gpt-4o", "kind"), "chatt", ..., '"chatt" must be one of chat, responses'),
        (("models", "gpt-4o", "kind"), ["chat"], ..., "a list must be one of chat"),
        (("models", "gpt-4o", "encoding"), "o200k", ..., 'did you mean "o200k_base"?'),
        (("models", "gpt-4o", "match"), "gpt-4o-*", ..., '"gpt-4o-*" must be a list of names'),
        (("models", "gpt-4o", "match", 0), 5, ..., "5 must be the name of a model, or a pattern"),
        (("models", "gpt-4o", "match", 0), "", ..., '"" must be the name of a model'),
        (("models", "gpt-4o", "match", 0), "a\nb ", ..., '"a?b " must be the name of a model'),
        (("models", "gpt-4o", "match", 0), "gpt-[45]", ..., 'has a "[": the wildcards are * and ?'),
        (("models", "gpt-4o", "match", 0), "x" * 257, ..., "is longer than 256 characters"),
        (("upstreams", "azure", "regional"), "yes", ..., '"yes" must be true or false'),
        (("upstreams", "openrouter", "trust_usage_cost"), 1, ..., "1 must be true or false"),
        (("upstreams", "azure", "default_service_tier"), "fast", ..., '"fast" must be one of standard, flex'),
        (("version",), 2, ..., "2 must be 1"),
        (("version",), True, ..., "true must be 1"),
        (("version",), ..., (), "version is missing"),
        (("currency",), "EUR", ..., '"EUR" must be USD'),
        (("unit",), "per_token", ..., '"per_token" must be per_1m_tokens'),
        # names
        (("aliases", "whisper-1"), "gpt-4o", ..., 'means the model "whisper-1" already'),
        (("aliases", "x/GPT-4o-2024-08-06"), "gpt-4o", ..., 'means the model "gpt-4o" already'),
        (("aliases", "old"), "gtp-4o", ..., 'there is no model "gtp-4o"; did you mean "gpt-4o"?'),
        (("aliases", "old"), "gpt-35-turbo", ..., 'there is no model "gpt-35-turbo"'),
        (("aliases", "old"), 4, ..., "4 must be the name of a model"),
        (("aliases", "old-*"), "gpt-4o", ..., "an alias is one name, without wildcards"),
        (("upstreams", "azure", "aliases", "prod"), "gtp-4o", ..., 'did you mean "gpt-4o"?'),
        (("upstreams", "azure", "overrides", "gpt-4"), {}, ..., "there is no such model to override"),
        (("unknown_model",), {"price_as": "gtp-4o"}, ("unknown_model", "price_as"), "there is no model"),
        (("unknown_model",), {"policy": "deny"}, ("unknown_model", "policy"), "must be one of reject"),
        (("unknown_model",), {"policy": "reject", "price_as": "gpt-4o"}, ..., "has both policy and price_as"),
        (("unknown_model",), "reject", ..., '"reject" must be a mapping'),
        (
            ("models", "whisper-1", "match"),
            ["gpt-4o"],
            ("models", "whisper-1"),
            '"gpt-4o" and a name of "gpt-4o" could mean the same model; make one of them longer, or exact',
        ),
        (
            ("models", "whisper-1", "match"),
            ["GPT-4o-*"],
            ("models", "whisper-1"),
            "could mean the same model",
        ),
        (
            ("upstreams", "local", "models", "?*"),
            {"prices": [{"standard": {"input": "1"}}]},
            ...,
            "could mean the same model",
        ),
    ],
)
def test_what_is_wrong_is_told_with_its_place(path: Path, value: object, at: Any, text: str) -> None:
    found = problems(changed(path, value))
    assert found[0][0] == (path if at is ... else at)
    assert text in found[0][1]
    assert len(found) == 1


def test_everything_is_told_at_once() -> None:
    tree = changed((*ROW, "input"), 2.5)
    tree["updated"] = "yesterday"
    tree["modles"] = {}
    tree["models"]["whisper-1"]["prices"][0]["standard"]["audio_hour"] = "-1"
    tree["upstreams"]["azure"]["overrides"]["gpt-4o"]["prices"] = [{"standard": {"input": 1}}]
    assert {path for path, _ in problems(tree)} == {
        ("modles",),
        ("updated",),
        (*ROW, "input"),
        ("models", "whisper-1", "prices", 0, "standard", "audio_hour"),
        ("upstreams", "azure", "overrides", "gpt-4o", "prices", 0, "standard", "input"),
    }


def test_the_error_itself_can_be_read() -> None:
    with pytest.raises(
        TableError, match=r"^models\.gpt-4o\.prices\.1\.standard\.input: 2\.5 must be in quotes"
    ):
        read(changed((*ROW, "input"), 2.5))


@pytest.mark.parametrize(
    "tree",
    [
        None,
        [],
        "text",
        5,
        {1: 2, "version": 1, "updated": "2026-11-22"},
        {"version": 1, "updated": "2026-11-22", "tools": {"web\nsearch": "1"}},
        {"version": 1, "updated": "2026-11-22", "upstreams": {"\ud800": {}}},
    ],
)
def test_what_is_no_table_is_refused(tree: object) -> None:
    assert problems(tree)


def test_too_many_patterns_are_refused() -> None:
    tree = changed(("models", "gpt-4o", "match"), [f"{number}-*" for number in range(2001)])
    assert problems(tree) == [(("models",), "more than 2000 patterns")]


def test_a_table_can_extend_another() -> None:
    base = read(GOOD)
    own = {
        "version": 1,
        "updated": "2026-12-01",
        "extends": "default",
        "tools": {"file_search": "3"},
        "models": {
            "gpt-4o": {"prices": [{"standard": {"input": "9", "output": "9"}}]},
            "new": {"prices": [{"standard": {"input": "1"}}]},
        },
        "aliases": {"mine": "new", "theirs": "whisper-1"},
        "upstreams": {"azure": {"multiplier": "3"}},
    }
    document = read(own, base)
    assert document.updated == date(2026, 12, 1)
    assert document.unknown_model.policy == "price_as"
    assert document.tools == {"web_search": Decimal(10), "file_search": Decimal(3)}
    assert sorted(document.models) == ["dall-e-3", "gpt-4o", "new", "whisper-1"]
    assert document.models["gpt-4o"].names == ("gpt-4o",)
    assert document.models["dall-e-3"] is base.models["dall-e-3"]
    assert document.aliases == {"gpt-35-turbo": "gpt-4o", "mine": "new", "theirs": "whisper-1"}
    assert sorted(document.upstreams) == ["azure", "local", "openrouter"]
    assert document.upstreams["azure"].overrides == {}
    assert sorted(base.models) == ["dall-e-3", "gpt-4o", "whisper-1"]


def test_an_overlap_with_what_is_extended_is_told_at_ones_own_entry() -> None:
    own = {
        "version": 1,
        "updated": "2026-12-01",
        "extends": "default",
        "models": {"gpt-4o-*": {"prices": [{"standard": {"input": "9"}}]}},
    }
    with pytest.raises(TableError) as caught:
        read(own, read(GOOD))
    assert [problem.path for problem in caught.value.problems] == [("models", "gpt-4o-*")]
    own["extends"] = "latest"
    assert problems(own) == [(("extends",), '"latest" must be one of default')]


# -- properties ----------------------------------------------------------------------------------------


def places(tree: Any, path: Path = ()) -> list[Path]:
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    return [path, *(inner for key, value in items for inner in places(value, (*path, key)))]


VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8), st.just("1.5")),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.sampled_from(["standard", "input", "from", "prices", "match", "x"]), inner),
    ),
    max_leaves=6,
)


@settings(max_examples=300)
@given(st.sampled_from(places(GOOD)[1:]), VALUES)
def test_whatever_stands_anywhere_is_read_or_refused(path: Path, value: object) -> None:
    refused: tuple[Problem, ...] = ()
    try:
        assert isinstance(read(changed(path, value)), Document)
    except TableError as error:
        refused = error.problems
    assert all(text for _, text in refused)


@given(VALUES)
def test_a_table_of_anything_is_refused(value: object) -> None:
    with pytest.raises(TableError):
        read(value)
