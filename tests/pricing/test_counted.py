"""Counts that are remembered."""

import sys
from collections.abc import Callable
from threading import Thread

import pytest

from proxy.pricing import counted, tokens
from proxy.pricing.counted import Counted
from proxy.pricing.prompt import Prompt

LONG = "The quick brown fox jumps over the lazy dog. " * 3


def test_what_was_counted_is_not_counted_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokens, "_counted", {"cl100k_base": Counted(), "o200k_base": Counted()})
    counts: list[str] = []
    really = tokens._count

    def count(text: str, encode: Callable[[str], list[int]]) -> int:
        counts.append(text)
        return really(text, encode)

    monkeypatch.setattr(tokens, "_count", count)
    first = tokens.count(LONG, "cl100k_base")
    again = tokens.count("".join([LONG[:9], LONG[9:]]), "cl100k_base")  # another string, the same text
    assert (again, counts) == (first, [LONG])
    assert tokens.count(LONG, "o200k_base") > 0
    assert tokens.count(LONG[:-1], "cl100k_base") > 0
    assert counts == [LONG, LONG, LONG[:-1]]  # another vocabulary, another text
    prompt = Prompt("chat", None, "cl100k_base", 0, 7, ["".join([LONG[:5], LONG[5:]]), LONG])
    assert prompt.count() == 7 + 2 * first
    assert len(counts) == 3


def test_the_older_generation_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counted, "GENERATION", 3)
    known = Counted()
    for number in range(4):
        known.put(str(number), number)
    assert known.lately == {hash("3"): 3}
    assert [known.get(str(number)) for number in range(4)] == [0, 1, 2, 3]  # 0 to 2 are young again
    for number in range(4, 11):
        known.put(str(number), number)
    assert known.get("0") is None
    assert known.get("10") == 10


def test_it_stays_within_its_bound() -> None:
    known = Counted()
    for number in range(3 * counted.GENERATION):
        known.put(str(number), number)
    assert len(known.lately) + len(known._old) <= 2 * counted.GENERATION


def test_no_text_is_kept() -> None:
    known = Counted()
    known.put(LONG, 30)
    assert known.get("".join([LONG[:5], LONG[5:]])) == 30
    assert known.lately == {hash(LONG): 30}


def test_threads_may_share_it() -> None:
    known = Counted()
    switch = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    wrong: list[int] = []

    def work() -> None:
        for number in range(5000):
            text = str(number % 700)
            found = known.get(text)
            if found is not None and found != number % 700:
                wrong.append(found)
            known.put(text, number % 700)

    try:
        threads = [Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(switch)
    assert wrong == []
