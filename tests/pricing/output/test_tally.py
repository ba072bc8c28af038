from functools import partial

import pytest

from proxy.pricing import tokens
from proxy.pricing.output.tally import TEXTS, Tally

count = partial(tokens.count, encoding="o200k_base")


@pytest.fixture(autouse=True, scope="module")
def _vocabulary() -> None:
    tokens.preload("o200k_base")


def test_a_token_may_come_in_pieces_and_texts_mixed() -> None:
    tally = Tally(count)
    for piece in ("un", "be", "liev", "able"):
        tally.text(("text", 0, "content"), piece)
        tally.text(("text", 1, "content"), "x")
        tally.settle()
    assert tally.tokens("text") == count("unbelievable") + count("xxxx")
    assert tally.texts == 2
    assert tally.most == len("unbelievable") + 4


def test_kinds_are_counted_apart() -> None:
    tally = Tally(count)
    tally.text(("text", 0, None), "one two")
    tally.text(("reasoning", 0, None), "one two three")
    tally.listed(("call", 0, None), 7)
    tally.settle()
    assert [tally.tokens(kind) for kind in ("text", "reasoning", "call", "summary")] == [2, 3, 7, 0]
    assert tally.tokens("text", "reasoning", "call") == 12
    assert tally.listed_tokens == 7


def test_what_has_come_is_known_counted_or_not() -> None:
    tally = Tally(count)
    key = ("text", 0, None)
    assert not tally.has(("text", 0, None))
    tally.text(("text", 0, None), "x")
    assert tally.has(("text", 0, None))
    tally.settle()
    assert tally.has(("text", 0, None))
    tally.listed(("text", 1, None), 1)
    assert tally.has(("text", 1, None))
    assert key == ("text", 0, None)


def test_texts_choices_and_lists_are_bounded_and_nothing_is_lost() -> None:
    tally = Tally(count)
    for number in range(TEXTS * 3):
        tally.text(("text", number, None), " word")
        tally.listed(("call", number, None), 2)
        tally.over(number)
        if not number % 100:
            tally.settle()
    tally.settle()
    assert tally.tokens("text") == TEXTS * 3
    assert tally.tokens("text", "call") == TEXTS * 9
    assert tally.texts <= TEXTS + 1
    assert len(tally._listed) <= TEXTS + 1
    assert tally.finished == TEXTS


def test_a_choice_that_ends_twice_has_ended_once() -> None:
    tally = Tally(count)
    tally.over(0)
    tally.over(0)
    assert tally.finished == 1
