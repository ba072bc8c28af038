from functools import partial

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from proxy.pricing import tokens
from proxy.pricing.output import running
from proxy.pricing.output.running import CARRY, LONGEST, RunningCount

count = partial(tokens.count, encoding="o200k_base")
WORDS = st.sampled_from(
    [
        "a",
        "don't",
        "I'LL",
        "привет",
        "日本",
        "42",
        "3.14",
        "ﬁ",
        "x_y",
        " ",
        "  ",
        "\n\n",
        ", ",
        "。",
        "é",
        "😀",
    ]
)


@pytest.fixture(autouse=True, scope="module")
def _vocabulary() -> None:
    tokens.preload("o200k_base")


def counted(*pieces: str) -> int:
    running_count = RunningCount(count)
    for piece in pieces:
        running_count.add(piece)
    return running_count.tokens()


@settings(deadline=None)
@given(st.lists(st.lists(WORDS, max_size=40).map("".join), max_size=40))
@example(["well", ".", "\n", "\n", "Then"])
def test_in_pieces_is_as_whole(pieces: list[str]) -> None:
    text = "".join(pieces)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(running, "CARRY", 32)
        patch.setattr(running, "_NEAR", 4)
        assert counted(*pieces) == count(text)


@settings(deadline=None)
@given(st.text(st.sampled_from("ab_😀"), min_size=200, max_size=2000), st.integers(1, 50))
def test_where_no_token_ends_a_cut_costs_a_few_tokens_at_most(text: str, size: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(running, "CARRY", 32)
        patch.setattr(running, "LONGEST", 64)
        pieces = [text[at : at + size] for at in range(0, len(text), size)]
        assert abs(counted(*pieces) - count(text)) <= 3 * (len(text) // 64)


def test_little_is_kept_of_any_text_and_nothing_is_counted_twice() -> None:
    """What is tokenised is the text, and what waits once more for each time somebody asks."""
    for unit in ("word ", "x", " ", "中", "。\n"):
        seen: list[int] = []

        def measured(text: str, seen: list[int] = seen) -> int:
            seen.append(len(text))
            return count(text)

        long = RunningCount(measured)
        for _ in range(300):
            long.add(unit * 40)
            assert len(long._rest) <= LONGEST + 40 * len(unit)
        assert sum(seen) <= 300 * 40 * len(unit)
        assert long.tokens() > 0
        assert sum(seen) == 300 * 40 * len(unit)
        assert long.size == 300 * 40 * len(unit.encode())


def test_prose_waits_only_for_its_last_word() -> None:
    prose = RunningCount(count)
    prose.add("Some words, " * 200)
    assert len(prose._rest) < 16
    prose.add("more")
    assert prose.tokens() == count("Some words, " * 200 + "more")


def test_nothing_is_nothing() -> None:
    assert counted() == counted("") == 0
    assert counted("x" * CARRY, "") == count("x" * CARRY)


def test_half_characters_are_counted() -> None:
    half = RunningCount(count)
    half.add("\ud83d")
    half.add("\ude00")
    assert (half.tokens(), half.size) == (count("\ud83d\ude00"), 6)
