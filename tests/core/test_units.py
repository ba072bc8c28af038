import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.units import (
    MAX_DURATION,
    MAX_SIZE,
    UnitError,
    check_duration,
    check_size,
    format_duration,
    format_size,
    parse_duration,
    parse_size,
)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("2s", 2.0),
        ("500ms", 0.5),
        ("10m", 600.0),
        ("1h", 3600.0),
        ("1.5s", 1.5),
        ("1d", 86400.0),
        ("0.1s", 0.1),
        ("100ms", 0.1),
        ("0.5h", 1800.0),
        (" 3s ", 3.0),
        ("366d", MAX_DURATION),
    ],
)
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("5", "say 5s"),
        ("1.5", "say 5s"),
        ("5sec", "unknown unit"),
        ("5S", "unknown unit"),
        ("5 s", "unknown unit"),
        ("1h30m", "unknown unit"),
        ("", "is not a duration"),
        ("s", "is not a duration"),
        ("-5s", "is not a duration"),
        ("+5s", "is not a duration"),
        ("1e3s", "unknown unit"),
        (".5s", "is not a duration"),
        ("5.s", "is not a duration"),
        ("infs", "is not a duration"),
        ("\u0665s", "is not a duration"),
        ("0s", "more than 0"),
        ("0.000ms", "more than 0"),
        ("367d", "longer than 366d"),
        ("9" * 40 + "d", "longer than 366d"),
        ("9" * 41 + "d", "is not a duration"),
        ("0." + "0" * 339 + "1ms", "more than 0"),
    ],
)
def test_what_is_no_duration(text: str, why: str) -> None:
    with pytest.raises(UnitError, match=why):
        parse_duration(text)


def test_zero_where_it_is_allowed() -> None:
    assert parse_duration("0s", zero=True) == 0.0
    with pytest.raises(UnitError, match="must not be negative"):
        check_duration(-1, zero=True)
    with pytest.raises(UnitError, match="must be more than 0"):
        check_duration(math.nan)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (0.5, "500ms"),
        (90, "90s"),
        (600, "10m"),
        (3600, "1h"),
        (86400, "1d"),
        (0.0001, "0.0001s"),
        (0.0015, "0.0015s"),
    ],
)
def test_formatted_durations(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


@given(st.floats(min_value=0, max_value=MAX_DURATION, exclude_min=True))
def test_every_duration_comes_back(seconds: float) -> None:
    assert parse_duration(format_duration(seconds)) == seconds


@given(st.integers(1, 366 * 86400 * 1000))
def test_whole_milliseconds_are_exact(milliseconds: int) -> None:
    assert parse_duration(f"{milliseconds}ms") == milliseconds / 1000


@pytest.mark.parametrize("seconds", [-1.0, math.inf, math.nan])
def test_what_cannot_be_formatted(seconds: float) -> None:
    with pytest.raises(ValueError, match="finite"):
        format_duration(seconds)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("16MiB", 16 * 2**20),
        ("64KiB", 65536),
        ("1GiB", 2**30),
        ("2TiB", 2**41),
        ("1MB", 1_000_000),
        ("1KB", 1000),
        ("512B", 512),
        ("512", 512),
        ("0", 0),
        ("1.5KiB", 1536),
        (" 1KiB ", 1024),
    ],
)
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "is not a size"),
        ("-1", "is not a size"),
        ("MiB", "is not a size"),
        ("16M", "unknown unit"),
        ("16mib", "unknown unit"),
        ("16 MiB", "unknown unit"),
        ("0.5B", "whole number"),
        ("1.0001KiB", "whole number"),
        ("9999999999TiB", "more than 8EiB"),
    ],
)
def test_what_is_no_size(text: str, why: str) -> None:
    with pytest.raises(UnitError, match=why):
        parse_size(text)


def test_negative_sizes() -> None:
    with pytest.raises(UnitError, match="negative"):
        check_size(-1)
    with pytest.raises(ValueError, match="negative"):
        format_size(-1)


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0B"), (1, "1B"), (1536, "1536B"), (65536, "64KiB"), (1_000_000, "1MB"), (2**30, "1GiB")],
)
def test_formatted_sizes(size: int, text: str) -> None:
    assert format_size(size) == text


@given(st.integers(0, MAX_SIZE))
def test_every_size_comes_back(size: int) -> None:
    assert parse_size(format_size(size)) == size


@given(st.text(max_size=30))
def test_any_text_is_read_or_refused_without_repeating_it(text: str) -> None:
    for parse in (parse_duration, parse_size):
        try:
            parse(text)
        except UnitError as error:
            message = str(error)
            assert len(message.splitlines()) == 1
            if len(text.strip()) > 12:
                assert text.strip() not in message
