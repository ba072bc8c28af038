from typing import Any

import pytest

from proxy.pricing.prompt.tally import MOST, Tally, compact, largest, loose, whole


@pytest.mark.parametrize(
    ("value", "number"),
    [
        (1, 1),
        (100, 100),
        (100.0, 100),
        (MOST + 1, MOST),
        (10**400, MOST),
        (1e300, MOST),
        (float("inf"), MOST),
        (float("nan"), None),
        (0, None),
        (-1, None),
        (-(10**400), None),
        (0.5, None),
        (1.5, None),
        (True, None),
        ("1", None),
        (None, None),
        ([1], None),
    ],
)
def test_whole_numbers(value: Any, number: int | None) -> None:
    assert whole(value) == number


def test_the_largest() -> None:
    assert largest(None, 3, 7.0, "9", True, -1) == 7
    assert largest(None, "9") is None
    assert largest() is None


def test_json_without_blanks() -> None:
    assert compact({"a": [1, None, "é"]}) == '{"a":[1,null,"é"]}'


@pytest.mark.parametrize("odd", [2**70, "\ud800", 10**5000], ids=["large", "half", "huge"])
def test_what_cannot_be_json_is_its_texts(odd: Any) -> None:
    said = compact({"a": "b", "c": odd}).split()
    assert {"a", "b", "c"} <= set(said)


def test_bytes_in_disguise_are_no_text() -> None:
    tally = Tally({"model": "gpt-4o"})
    loose(tally, {"result": "iVBORw0KGgo" * 200, "url": "data:image/png;base64,AAAA", "said": "x " * 2000})
    assert sorted(tally.texts) == ["result", "said", "url", "x " * 2000]
    assert tally.fixed == 2 * 1445


def test_a_prompt_has_what_was_found() -> None:
    tally = Tally({"model": "gpt-4"})
    tally.text("hello")
    tally.text("é")
    tally.text("")
    tally.text(7)
    tally.fixed += 5
    prompt = tally.prompt("chat", {"service_tier": "flex"}, output=9, choices=2)
    assert (prompt.model, prompt.encoding, prompt.service_tier) == ("gpt-4", "cl100k_base", "flex")
    assert (prompt.size, prompt.fixed, prompt.bound) == (7, 5, 12)
    assert (prompt.max_output_tokens, prompt.choices) == (9, 2)


@pytest.mark.parametrize("model", [None, 7, ["gpt-4"], {"a": 1}])
def test_a_model_that_is_no_text_is_none(model: Any) -> None:
    assert Tally({"model": model}).model is None
