from base64 import b64encode
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.pricing.prompt import encoded
from proxy.pricing.prompt.encoded import Encoded, data_url


@given(st.binary(max_size=60), st.integers(0, 70), st.integers(0, 70), st.booleans())
def test_any_part_can_be_read(data: bytes, start: int, count: int, padded: bool) -> None:
    text = b64encode(data).decode()
    found = Encoded("before:" + (text if padded else text.rstrip("=")), 7)
    assert found.read(start, count) == data[start : start + count]
    assert found.size == len(data)


@given(st.binary(max_size=300))
def test_the_pieces_are_the_whole(data: bytes) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(encoded, "PIECE", 30)
        assert b"".join(Encoded(b64encode(data).decode()).pieces()) == data


@given(st.text(st.characters(exclude_categories=())), st.integers(0, 100), st.integers(0, 100))
def test_what_is_no_base64_does_no_harm(text: str, start: int, count: int) -> None:
    assert len(Encoded(text).read(start, count)) <= count


@pytest.mark.parametrize(
    ("url", "media_type"),
    [
        ("data:image/png;base64,aGVsbG8=", "image/png"),
        ("DATA:Image/PNG;BASE64,aGVsbG8=", "image/png"),
        ("data:;base64,aGVsbG8", ""),
        ("data:text/plain;charset=utf-8;base64,aGVsbG8=", "text/plain"),
        ("data:image/png,hello", None),
        ("data:image/png;base64", None),
        ("https://example.com/;base64,aGVsbG8=", None),
        ("data:" + "x" * 200_000 + ";base64,aGVsbG8=", None),
        ("data:a" + ";x" * 100_000 + ";base64,aGVsbG8=", None),
        ("", None),
    ],
    ids=[
        "plain",
        "capitals",
        "no type",
        "parameter",
        "plain text",
        "no data",
        "https",
        "long",
        "many",
        "none",
    ],
)
def test_data_urls(url: str, media_type: Any) -> None:
    found = data_url(url)
    assert (None if found is None else found.media_type) == media_type
    assert found is None or found.read(0, 9) == b"hello"
