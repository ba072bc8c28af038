import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from proxy.pricing.prompt import dimensions as module
from proxy.pricing.prompt.dimensions import dimensions

from .media import gif, jpeg, png, segment, webp


def of(data: bytes) -> tuple[int, int] | None:
    return dimensions(lambda start, count: data[start : start + count])


SIDES = st.integers(1, 16_000)


@given(SIDES, SIDES)
def test_each_format_tells_its_size(width: int, height: int) -> None:
    for data in (png(width, height), gif(width, height), jpeg(width, height)):
        assert of(data) == of(data + b"more") == (width, height)
    for kind in ("VP8X", "VP8L", "VP8 "):
        assert of(webp(kind, width, height)) == (width, height), kind


def test_the_frame_of_a_jpeg_is_found_behind_all_that_may_precede_it() -> None:
    exif = segment(0xE1, b"Exif\0\0" + jpeg(160, 120) + bytes(65_000))  # with a thumbnail
    tables = segment(0xC4, bytes(30)) + segment(0xDB, bytes(65)) + b"\xff\x01"
    for frame in (0xC0, 0xC1, 0xC2, 0xCF):
        assert of(jpeg(4032, 3024, exif, exif, b"\xff\xff", tables, frame=frame)) == (4032, 3024)


def test_little_of_a_jpeg_is_read() -> None:
    data = jpeg(4032, 3024, *[segment(0xE2, bytes(65_000))] * 20) + bytes(1_000_000)
    read: list[int] = []

    def reading(start: int, count: int) -> bytes:
        read.append(count)
        return data[start : start + count]

    assert dimensions(reading) == (4032, 3024)
    assert sum(read) < 300


@pytest.mark.parametrize("step", [segment(0xE2, b""), b"\xff", b"\xff\xd0"])
def test_a_jpeg_that_goes_on_and_on_is_given_up(step: bytes) -> None:
    assert of(jpeg(8, 8, *[step] * (module.SEGMENTS - 30))) == (8, 8)
    assert of(jpeg(8, 8, *[step] * 1_000_000)) is None


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"hello",
        b"%PDF-1.7",
        png(0, 5),
        gif(5, 0),
        jpeg(0, 0),
        b"\xff\xd8\xff\xda\0\x02 compressed",
        b"\xff\xd8 and then nothing",
        webp("VP8X", 5, 5)[:29],
        webp("VP8L", 5, 5).replace(b"\x2f", b"\0"),
        webp("VP8 ", 5, 5).replace(b"\x9d", b"\0"),
        b"RIFF\0\0\0\0WAVEfmt ",
    ],
)
def test_what_is_no_picture_has_no_size(data: bytes) -> None:
    assert of(data) is None


@given(
    st.sampled_from(
        [png(9, 9), gif(9, 9), jpeg(9, 9, segment(0xE1, b"abc")), webp("VP8L", 9, 9), b"\xff\xd8"]
    ),
    st.integers(0, 50),
    st.binary(max_size=40),
)
@example(b"\xff\xd8", 2, b"\xff\xc0\0")
def test_damage_does_no_harm(data: bytes, at: int, other: bytes) -> None:
    found = of(data[:at] + other)
    assert found is None or min(found) >= 1
