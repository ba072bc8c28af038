"""The published examples are among the vectors, in test_read.py."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.pricing.prompt.vision import HIGH, MOST, NONE, ORIGINAL, SMALL, Patches, Size, Tiles, Vision

TILES = Tiles(85, 170)
PATCHES = Patches(100)
FREE = Patches(120, HIGH, NONE, NONE)
DETAIL = st.sampled_from([None, "low", "high", "auto", "original", 7, ["high"]])
SIDE = st.integers(1, 20_000)


@pytest.mark.parametrize(
    ("size", "tiles"),
    [
        ((1, 1), 1),
        ((512, 512), 1),
        ((513, 512), 2),
        ((768, 768), 4),
        ((2048, 2048), 4),
        ((4096, 4096), 4),
        ((2048, 1), 4),
        ((4096, 1), 4),
        ((1, 99_999), 4),
        ((2000, 1500), 4),  # 1024 x 768
        ((1024, 512), 2),
    ],
)
def test_a_picture_is_shrunk_and_cut_into_tiles(size: Size, tiles: int) -> None:
    assert TILES.tokens(size, "auto") == 85 + 170 * tiles
    assert TILES.tokens(size[::-1], "high") == 85 + 170 * tiles
    assert TILES.tokens(size, "low") == 85


def test_the_shorter_side_may_be_another() -> None:
    assert Tiles(65, 129, 512).tokens((1024, 1024), None) == 65 + 129
    assert Tiles(65, 129, 512).tokens((1536, 1024), None) == 65 + 2 * 129
    assert Tiles(65, 129, 512).most(None) == 65 + 4 * 129


@pytest.mark.parametrize(
    ("size", "patches"),
    [
        ((1, 1), 1),
        ((32, 32), 1),
        ((33, 32), 2),
        ((1248, 1248), 1521),
        ((1280, 1248), 1482),  # 1560 are too many: 39 x 38
        ((2048, 768), 1536),
        ((8000, 100), 64),  # 2048 x 25
        ((99_999, 1), 64),
    ],
)
def test_a_picture_is_patches(size: Size, patches: int) -> None:
    assert PATCHES.tokens(size, "auto") == patches == PATCHES.tokens(size[::-1], None)


def test_a_share_of_a_token_is_a_token() -> None:
    assert Patches(162).tokens((32, 32), None) == 2
    assert Patches(120).tokens((1024, 1024), None) == 1229


def test_detail_chooses_the_limit() -> None:
    vision = Patches(100, HIGH, ORIGINAL, NONE)
    size = (6000, 6000)
    assert 2400 <= vision.tokens(size, "high") <= 2500
    assert vision.tokens(size, "low") == vision.tokens(size, "high")
    assert 9900 <= vision.tokens(size, "auto") <= 10_000
    assert vision.tokens(size, "original") == 188 * 188
    assert vision.tokens(size, None) == vision.tokens(size, "auto")


def test_where_there_is_no_limit_a_picture_of_unknown_size_is_a_guess() -> None:
    assert (FREE.most("auto"), FREE.most("high")) == (12_000, 3000)
    assert FREE.tokens((2**31, 2**31), None) == MOST


@given(
    st.sampled_from([TILES, Tiles(2833, 5667), PATCHES, Patches(246, SMALL, HIGH, ORIGINAL)]),
    SIDE,
    SIDE,
    DETAIL,
)
def test_no_picture_is_more_than_the_most(vision: Vision, width: int, height: int, detail: object) -> None:
    assert 0 < vision.tokens((width, height), detail) <= vision.most(detail)


@given(st.sampled_from([TILES, PATCHES, FREE]), SIDE, SIDE, DETAIL)
def test_upright_or_wide_is_the_same(vision: Vision, width: int, height: int, detail: object) -> None:
    assert vision.tokens((width, height), detail) == vision.tokens((height, width), detail)
