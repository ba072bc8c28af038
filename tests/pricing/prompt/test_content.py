from base64 import b64encode
from typing import Any

import pytest

from proxy.pricing import tokens
from proxy.pricing.prompt.content import AUDIO_BYTES, FILE, PAGE, content
from proxy.pricing.prompt.tally import Tally

from .media import jpeg, mp3, pdf, png, url, wav

PIXELS = "data:image/png;base64," + "iVBORw0KGgo" * 10_000


def counted(value: Any, model: str = "gpt-4o") -> tuple[list[str], int]:
    tally = Tally({"model": model})
    content(tally, value)
    return tally.texts, tally.fixed


@pytest.mark.parametrize(
    "part",
    [
        {"type": "image_url", "image_url": {"url": PIXELS}},
        {"type": "image_url", "image_url": {"url": PIXELS, "detail": "high"}},
        {"type": "image_url", "image_url": {"url": "https://example.com/a.png", "detail": "auto"}},
        {"type": "image_url", "image_url": PIXELS},
        {"type": "image_url"},
        {"type": "input_image", "image_url": PIXELS},
        {"type": "input_image", "file_id": "file-1", "detail": "high"},
        {"type": "computer_screenshot", "image_url": PIXELS},
        {"type": "something new", "image": PIXELS, "n": None},
    ],
)
def test_an_image_of_unknown_size_is_the_most_that_the_model_makes_of_one(part: dict[str, Any]) -> None:
    texts, fixed = counted([part])
    assert PIXELS not in texts
    assert fixed in (85 + 8 * 170, 85 + 8 * 170 + 1)
    assert len(texts) < 5


def test_images_add_up() -> None:
    part = {"type": "image_url", "image_url": {"url": PIXELS}}
    assert counted([part, {"type": "text", "text": "what is it?"}, part]) == (["what is it?"], 2 * 1445)


@pytest.mark.parametrize(
    "part",
    [
        {"type": "image_url", "image_url": {"url": PIXELS, "detail": "low"}},
        {"type": "input_image", "image_url": PIXELS, "detail": "low"},
    ],
)
def test_an_image_in_low_detail_is_the_base(part: dict[str, Any]) -> None:
    assert counted([part]) == ([], 85)


@pytest.mark.parametrize(
    ("model", "detail", "expected"),
    [
        ("gpt-4o", "high", 765),
        ("gpt-4o", None, 765),
        ("gpt-4o", "low", 85),
        ("gpt-5-mini", "auto", 1229),
        ("gpt-6.1-sol", "original", 1229),
        ("o4-mini", None, 1762),
    ],
)
def test_an_image_that_came_along_is_what_its_size_makes_of_it(
    model: str, detail: str | None, expected: int
) -> None:
    seen = url(png(1024, 1024) + bytes(100_000))
    photo = url(jpeg(1024, 1024) + bytes(100_000), "image/jpeg")
    parts: list[dict[str, Any]] = [
        {"type": "image_url", "image_url": {"url": seen, "detail": detail}},
        {"type": "input_image", "image_url": photo, "detail": detail},
        {"type": "computer_screenshot", "image_url": seen, "detail": detail},
    ]
    for part in parts:
        assert counted([part], model) == ([], expected), part["type"]


def test_where_nothing_says_what_it_is_an_image_still_has_a_size() -> None:
    texts, fixed = counted([{"type": "something new", "shown": url(png(512, 512))}])
    assert (sorted(texts), fixed) == (["shown", "something new", "type"], 85 + 170)


@pytest.mark.parametrize("sound", [wav(7), mp3(112_000)])
def test_audio_is_ten_tokens_a_second(sound: bytes) -> None:
    data = b64encode(sound).decode()
    for given in (data, url(sound, "audio/wav")):
        assert counted([{"type": "input_audio", "input_audio": {"data": given, "format": "wav"}}]) == ([], 70)


def test_audio_of_unknown_length_is_at_the_lowest_rate() -> None:
    second = "A" * (4 * 960 // 3)  # 8 kbit are 960 bytes and ten tokens, near enough
    part = {"type": "input_audio", "input_audio": {"data": second, "format": "mp3"}}
    assert counted([part]) == ([], 960 // AUDIO_BYTES + 1)
    assert counted([{"type": "input_audio", "input_audio": {"data": 1}}]) == ([], 0)
    assert counted([{"type": "input_audio"}]) == ([], 0)


@pytest.mark.parametrize(
    "part",
    [
        {"type": "file", "file": {"file_data": "data:application/pdf;base64,JVBERi0"}},
        {"type": "file", "file": {"file_id": "file-1"}},
        {"type": "file", "file": 7},
        {"type": "file"},
        {"type": "input_file", "file_id": "file-1"},
        {"type": "input_file", "file_url": "https://example.com/a.pdf"},
        {"type": "input_file", "file_data": url(b"PK\3\4 a document", "application/zip")},
    ],
)
def test_a_file_of_which_nothing_is_known_is_a_guess(part: dict[str, Any]) -> None:
    assert counted([part]) == ([], FILE)


def test_a_pdf_is_its_pages_with_their_pictures() -> None:
    for part in (
        {"type": "file", "file": {"file_data": url(pdf(13), "application/pdf")}},
        {"type": "input_file", "file_data": b64encode(pdf(13)).decode()},
    ):
        assert counted([part]) == ([], 13 * (PAGE + 1105))


@pytest.mark.parametrize("piece", [33, 60, 99, 4096])
def test_a_page_across_two_pieces_is_one(piece: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("proxy.pricing.prompt.encoded.PIECE", piece)
    part = {"type": "input_file", "file_data": url(pdf(40), "application/pdf")}
    assert counted([part]) == ([], 40 * (PAGE + 1105))


def test_a_file_of_text_is_its_text() -> None:
    part = {"type": "input_file", "file_data": url("grüße\n".encode() * 50_000, "text/plain; charset=utf-8")}
    assert counted([part]) == (["grüße\n" * 50_000], 0)
    broken = {"type": "input_file", "file_data": url(b"a\xff", "text/markdown")}
    assert counted([broken]) == (["a\ufffd"], 0)


def test_a_file_of_too_much_text_is_its_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokens, "LIMIT", 1000)
    texts, fixed = counted([{"type": "input_file", "file_data": url(bytes(1200), "text/plain")}])
    assert (texts, fixed) == ([], 1200)


def test_unknown_parts_are_the_texts_in_them() -> None:
    texts, fixed = counted([{"type": "something", "thing": {"said": "hello", "n": 7, "ok": True}}])
    assert sorted(texts) == ["hello", "n", "ok", "said", "something", "thing", "type"]
    assert fixed == 2


@pytest.mark.parametrize("nothing", [None, "", [], [None], [{"type": "text", "text": ""}]])
def test_nothing_is_nothing(nothing: Any) -> None:
    assert counted(nothing) == ([], 0)
