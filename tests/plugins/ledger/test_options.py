from typing import Any

import pytest

from plugins.ledger.options import at_least, size, switch


@pytest.mark.parametrize(("value", "expected"), [(True, True), (False, False), ("on", True), ("off", False)])
def test_switches(value: Any, expected: bool) -> None:
    assert switch("required", value) is expected


@pytest.mark.parametrize("value", ["yes", 1, None, ""])
def test_what_is_no_switch_is_told(value: Any) -> None:
    with pytest.raises(ValueError, match=r"required: .* is neither true nor false"):
        switch("required", value)


@pytest.mark.parametrize(
    ("value", "expected"),
    [("16MiB", 2**24), ("1GiB", 2**30), (2**25, 2**25), ("33554432", 2**25), ("1 TiB", 2**40)],
)
def test_sizes(value: Any, expected: int) -> None:
    assert size("journal", value) == expected


@pytest.mark.parametrize("value", ["1GB", "lots", True, -1, "", "1.5GiB", "15MiB", 0])
def test_what_is_no_size_is_told(value: Any) -> None:
    with pytest.raises(ValueError, match="journal: "):
        size("journal", value)


@pytest.mark.parametrize("value", [0, -1, "3", True, 1.5])
def test_what_is_no_count_is_told(value: Any) -> None:
    with pytest.raises(ValueError, match=r"keep_months: .* is not a whole number from 1 on"):
        at_least(1, "keep_months", value)
    assert at_least(1, "keep_months", 3) == 3
