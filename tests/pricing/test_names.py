import fnmatch
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.pricing.names import Names, both_match, is_pattern, matches, spellings


def index(*names: str) -> Names[str]:
    """Each name stands for itself."""
    found: Names[str] = Names()
    for name in names:
        assert found.add(name, name) is None, name
    return found


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("gpt-4o", "gpt-4o"),
        ("GPT-4o", "gpt-4o"),
        (" gpt-4o\n", "gpt-4o"),
        ("openai/gpt-4o", "gpt-4o"),
        ("azure/eu/GPT-4o", "gpt-4o"),
        ("gpt-4o-2024-05-13", "gpt-4o-2024-05-13"),
        ("gpt-4o-2024-08-06", "gpt-4o-????-??-??"),
        ("openai/gpt-4o-2024-08-06", "gpt-4o-????-??-??"),
        ("gpt-4o-2024-08-06-beta", None),
        ("gpt-4", None),
        ("ft:gpt-4o:acme::7", None),
        ("", None),
        ("/", None),
    ],
)
def test_a_name_is_found_however_it_is_spelled(name: str, meant: str | None) -> None:
    assert index("gpt-4o", "gpt-4o-????-??-??", "gpt-4o-2024-05-13").find(name) == meant


def test_the_pattern_with_more_text_in_front_wins() -> None:
    names = index("*", "gpt-*", "gpt-4o-*")
    assert names.find("gpt-4o-x") == "gpt-4o-*"
    assert names.find("gpt-5") == "gpt-*"
    assert names.find("anything") == "*"


def test_an_exact_name_without_its_vendor_beats_a_pattern_with_it() -> None:
    assert index("*", "gpt-4o").find("openai/gpt-4o") == "gpt-4o"


def test_a_name_with_a_vendor_may_stand_in_the_table() -> None:
    names = index("Qwen/Qwen3-8B", "qwen3-8b")
    assert names.find("qwen/qwen3-8b") == "Qwen/Qwen3-8B"
    assert names.find("other/qwen3-8b") == "qwen3-8b"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("gpt-4o", "GPT-4o"),
        ("gpt-4o-*", "gpt-4o-????-??-??"),
        ("gpt-*-mini", "gpt-*i"),
        ("*", "*"),
        ("a?", "a*b"),
    ],
)
def test_what_could_mean_either_is_refused(one: str, other: str) -> None:
    names = index(one)
    assert names.add(other, "the other") == one
    assert names.find(other) != "the other"


@pytest.mark.parametrize(
    ("one", "other"),
    [("gpt-4o", "gpt-4o-*"), ("gpt-*", "gpt-4o-*"), ("gpt-?", "gpt-??"), ("*-mini", "*-nano")],
)
def test_what_cannot_be_confused_may_stand_together(one: str, other: str) -> None:
    index(one, other)


def test_the_same_model_may_say_a_name_twice() -> None:
    names: Names[str] = Names()
    assert [names.add(name, "one") for name in ("a", "a", "a*", "a*", "a?")] == [None] * 5
    assert list(names) == ["a"]


PATTERNS = st.text("ab*?", max_size=6)
TEXTS = st.text("ab", max_size=6)


@given(PATTERNS, TEXTS)
def test_a_pattern_matches_as_in_a_shell(pattern: str, name: str) -> None:
    assert matches(pattern, name) == fnmatch.fnmatchcase(name, pattern)


@given(PATTERNS, PATTERNS, st.lists(TEXTS, max_size=30))
def test_what_fits_both_patterns_shows_that_something_does(one: str, other: str, names: list[str]) -> None:
    assert both_match(one, other) == both_match(other, one)
    if any(matches(one, name) and matches(other, name) for name in names):
        assert both_match(one, other)


@given(PATTERNS, PATTERNS)
def test_two_patterns_that_overlap_have_a_short_name_in_common(one: str, other: str) -> None:
    # If there is any common text, there is one no longer than both patterns together.
    longest = len(one.replace("*", "")) + len(other.replace("*", ""))
    common = any(
        matches(one, name) and matches(other, name)
        for length in range(min(longest, 7) + 1)
        for name in map("".join, itertools.product("ab", repeat=length))
    )
    if longest <= 7:
        assert both_match(one, other) == common


def test_many_stars_take_no_longer_than_their_number() -> None:
    assert not matches("*a" * 100 + "b", "a" * 256)


def test_spellings_keep_the_wrapper_of_a_fine_tuned_model() -> None:
    assert spellings("OpenAI/ft:GPT-4o:acme::7") == ("openai/ft:gpt-4o:acme::7", "ft:gpt-4o:acme::7")
    assert is_pattern("a?")
    assert is_pattern("*")
    assert not is_pattern("gpt-4o")
