import pytest

from proxy.pricing import tokens
from proxy.pricing.prompt import Prompt


def of(*texts: str, fixed: int = 0) -> Prompt:
    return Prompt("chat", "gpt-4o", "o200k_base", sum(map(tokens.bound, texts)), fixed, texts)


def test_each_text_is_counted_for_itself() -> None:
    assert of("hello", " world", fixed=3).count() == 5
    assert of("hel", "lo world", fixed=3).count() == 3 + tokens.count("hel", "o200k_base") + 2
    assert of().count() == 0


def test_the_bound_is_bytes() -> None:
    assert of("hello", "é", fixed=3).bound == 10


def test_above_the_limit_the_bound_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokens, "LIMIT", 10)
    assert of("hello", " worl", fixed=1).count() == 1 + 1 + tokens.count(" worl", "o200k_base")
    assert of("hello", " worl").countable
    assert of("hello", " world", fixed=1).count() == 12
    assert not of("hello", " world").countable


def test_nothing_of_the_text_is_in_the_repr() -> None:
    assert "hello" not in repr(of("hello"))
