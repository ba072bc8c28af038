import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.pricing.prompt.sound import ENDLESS, milliseconds

from .media import box, flac, mp3, mp4, wav


def of(data: bytes, size: int | None = None) -> int | None:
    return milliseconds(lambda start, count: data[start : start + count], len(data) if size is None else size)


def test_a_wav_is_its_samples() -> None:
    assert of(wav(3)) == 3000
    assert of(wav(2, rate=8000, channels=2)) == 2000
    assert of(wav(1, rate=44_100)[:-2]) == 1000  # rounded up


def test_of_a_wav_counts_what_is_there() -> None:
    assert of(wav(3, told=0)) == 3000
    assert of(wav(3, told=2**32 - 1)) == 3000
    assert of(wav(3, told=48_000)) == 1000
    assert of(wav(3)[:100], size=len(wav(3))) == 3000  # the head is enough
    assert of(wav(3)[:100], size=ENDLESS) == 3000
    assert of(wav(3, told=0)[:100], size=ENDLESS) is None
    assert of(wav(3, told=2**32 - 1)[:100], size=ENDLESS) is None


def test_a_flac_says_its_samples() -> None:
    assert of(flac(441_000, 44_100)) == 10_000
    assert of(flac(2**35, 48_000)) == -(-(2**35) * 1000 // 48_000)
    assert of(flac(0, 44_100)) is None
    assert of(flac(5, 44_100)[:20]) is None


def test_an_mp3_is_its_size_at_its_rate_or_its_frames() -> None:
    assert of(mp3(160_000)) == 10_000  # 128 kbit/s
    assert of(mp3(160_000 + 5010, tagged=5000)) == 10_000
    assert of(mp3(160_000, frames=3000)) == -(-3000 * 1152 * 1000 // 44_100)
    assert of(mp3(60_000, head=b"\xff\xf3\x60\xc0")) == 10_000  # MPEG 2, 48 kbit/s
    assert of(mp3(1000, head=b"\xff\xe3\x60\xc0")) == 167  # MPEG 2.5
    assert of(mp3(160_000), size=ENDLESS) is None
    assert of(mp3(1000, head=b"\xff\xeb\x90\xc0")) is None  # no version
    assert of(mp3(1000, head=b"\xff\xfb\x00\xc0")) is None  # no rate
    assert of(mp3(1000, head=b"\xff\xfd\x90\xc0")) is None  # another layer


@pytest.mark.parametrize("version", [0, 1])
def test_an_mp4_says_its_length(version: int) -> None:
    assert of(mp4(12_345, 1000, version=version)) == 12_345
    assert of(mp4(5, 2, version=version, before=box(b"mdat", bytes(10_000)))) == 2500
    large = b"\0\0\0\1mdat" + (10_016).to_bytes(8, "big") + bytes(10_000)
    assert of(mp4(5, 2, version=version, before=large)) == 2500
    assert of(mp4(5, 0, version=version)) is None


@pytest.mark.parametrize(
    "data",
    [b"", b"RIFF", b"OggS" + bytes(100), wav(1)[:30], mp4(1, 1)[:30], box(b"ftyp", b"") + b"\0\0\0\0free"],
)
def test_what_does_not_tell(data: bytes) -> None:
    assert of(data) is None


@given(
    st.sampled_from([wav(1, rate=10), flac(9, 9), mp3(100, frames=2), mp4(9, 9), box(b"ftyp", b"") * 300]),
    st.integers(0, 80),
    st.binary(max_size=30),
    st.integers(0, 2**40),
)
def test_damage_does_no_harm(data: bytes, at: int, other: bytes, size: int) -> None:
    found = of(data[:at] + other, size)
    assert found is None or found >= 0
