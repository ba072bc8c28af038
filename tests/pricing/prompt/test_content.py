from typing import Any

import pytest

from proxy.pricing.prompt.content import AUDIO_BYTES, FILE, content
from proxy.pricing.prompt.tally import Tally

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
def test_an_image_is_the_most_that_the_model_makes_of_one(part: dict[str, Any]) -> None:
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


def test_audio_is_its_length_at_the_lowest_rate() -> None:
    second = "A" * (4 * 960 // 3)  # 8 kbit are 960 bytes and ten tokens, near enough
    part = {"type": "input_audio", "input_audio": {"data": second, "format": "mp3"}}
    assert counted([part]) == ([], 960 // AUDIO_BYTES + 1)
    assert counted([{"type": "input_audio", "input_audio": {"data": 1}}]) == ([], 0)
    assert counted([{"type": "input_audio"}]) == ([], 0)


@pytest.mark.parametrize(
    "part",
    [
        {"type": "file", "file": {"file_data": "data:application/pdf;base64,JVBERi0"}},
        {"type": "input_file", "file_id": "file-1"},
    ],
)
def test_a_file_is_a_guess(part: dict[str, Any]) -> None:
    assert counted([part]) == ([], FILE)


def test_unknown_parts_are_the_texts_in_them() -> None:
    texts, fixed = counted([{"type": "something", "thing": {"said": "hello", "n": 7, "ok": True}}])
    assert sorted(texts) == ["hello", "n", "ok", "said", "something", "thing", "type"]
    assert fixed == 2


@pytest.mark.parametrize("nothing", [None, "", [], [None], [{"type": "text", "text": ""}]])
def test_nothing_is_nothing(nothing: Any) -> None:
    assert counted(nothing) == ([], 0)
