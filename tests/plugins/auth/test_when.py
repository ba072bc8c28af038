import pytest
from hypothesis import given
from hypothesis import strategies as st

from plugins.auth import when


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("500ms", 0.5), ("30s", 30), ("10m", 600), ("12h", 43200), ("90d", 7776000), ("1.5h", 5400), ("0s", 0)],
)
def test_a_span(text: str, seconds: float) -> None:
    assert when.span(text) == seconds


@pytest.mark.parametrize("text", ["", "90", "d", "90 d", "-1d", "1w", "1e3s", "90D", None, 90, "1d1h", "1.d"])
def test_no_span(text: object) -> None:
    with pytest.raises(ValueError, match="is not a span like"):
        when.span(text)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("2030-01-31", 1896048000),
        ("2030-01-31T12:00:00Z", 1896091200),
        ("2030-01-31T12:00:00", 1896091200),
        ("2030-01-31T14:00:00+02:00", 1896091200),
    ],
)
def test_a_moment(text: str, seconds: float) -> None:
    assert when.moment(text) == seconds


@pytest.mark.parametrize("text", ["", "tomorrow", "2030-02-30", "31.1.2030", None, 2030])
def test_no_moment(text: object) -> None:
    with pytest.raises(ValueError, match="is not a date like"):
        when.moment(text)


def test_an_expiry_is_either_and_is_to_come() -> None:
    assert when.expiry("1d", 1000) == 87400
    assert when.expiry("2030-01-31", 1000) == 1896048000
    with pytest.raises(ValueError, match="is over already"):
        when.expiry("2020-01-31", 1896048000)
    with pytest.raises(ValueError, match="is over already"):
        when.expiry("0s", 1000)
    with pytest.raises(ValueError, match="too far away"):
        when.expiry("999999999d", 1000)
    with pytest.raises(ValueError, match="neither a span like 90d nor a date"):
        when.expiry("soon", 1000)


@given(st.integers(0, 253_402_214_400))
def test_what_is_written_is_read_again(seconds: int) -> None:
    text = when.written(seconds)
    assert text is not None
    assert when.moment(text) == seconds


def test_no_moment_is_not_written() -> None:
    assert when.written(None) is None
