from typing import Any

import pytest

from proxy.pricing.prompt.tally import Tally
from proxy.pricing.prompt.token_lists import token_lists


@pytest.mark.parametrize(
    ("value", "several", "texts", "fixed"),
    [
        ("a", 1, ["a"], 0),
        (["a", "b"], 2, ["a", "b"], 0),
        ([1, 2, 3], 1, [], 3),
        ([[1, 2], [3]], 2, [], 3),
        ([["a", "b"]], 1, ["a", "b"], 0),
        (["a", 1, [2]], 2, ["a"], 2),
        ([{"a": 1}], 1, ["a"], 1),
        ([True, None, 1.5], 1, [], 3),
        ([], 0, [], 0),
        (None, 0, [], 0),
        (7, 0, [], 0),
        ({"a": 1}, 0, [], 0),
    ],
)
def test_what_is_found(value: Any, several: int, texts: list[str], fixed: int) -> None:
    tally = Tally({})
    assert token_lists(tally, value) == several
    assert (sorted(tally.texts), tally.fixed) == (texts, fixed)
