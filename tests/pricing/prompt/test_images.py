from typing import Any

import pytest

from proxy.pricing.prompt import Prompt, read, read_form, read_upload
from proxy.pricing.prompt.images import FIDELITY, PICTURES
from proxy.pricing.values import Model

from .media import field, file, multipart, png, url


def prompt(endpoint: str = "images/generations", /, **fields: Any) -> Prompt:
    found = read(endpoint, {"model": "gpt-image-1", **fields})
    assert found is not None
    return found


def test_the_text_is_the_prompt() -> None:
    found = prompt(prompt="hello world", n=3)
    assert found.count() == 2
    assert (found.family, found.choices, found.encoding) == ("images", 3, "o200k_base")


@pytest.mark.parametrize(
    ("fields", "most"),
    [
        ({"quality": "low", "size": "1024x1024"}, 272),
        ({"quality": "low", "size": "auto"}, 408),
        ({"quality": "low"}, 408),
        ({"size": "1536x1024"}, 6208),
        ({"quality": "auto", "size": "1024x1024"}, 4160),
        ({"quality": "high"}, 6240),
        ({}, 6240),
        ({"quality": ["low"], "size": ["auto"]}, None),
        ({"size": "4096x4096"}, None),
        ({"model": "gpt-image-1-mini", "quality": "medium", "size": "1024x1536"}, 1584),
        ({"model": "openai/gpt-image-1.5"}, 6240),
        ({"model": "gpt-image-2"}, None),
        ({"model": "dall-e-3"}, None),
        ({"model": None}, None),
    ],
)
def test_what_one_picture_may_have(fields: dict[str, Any], most: int | None) -> None:
    assert prompt(prompt="a cat", **fields).max_output_tokens == most


def test_an_alias_of_a_known_model_has_its_table() -> None:
    found = read(
        "images/generations", {"model": "ours"}, Model("gpt-image-1", "image_generation", "o200k_base")
    )
    assert found is not None
    assert found.max_output_tokens == 6240


@pytest.mark.parametrize(
    ("fields", "unit", "many"),
    [
        ({"model": "dall-e-3"}, "image:standard:1024x1024", 1),
        ({"model": "dall-e-3", "quality": "hd", "size": "1024x1792"}, "image:hd:1024x1792", 1),
        ({"model": "dall-e-2", "size": "256x256", "n": 4}, "image:standard:256x256", 4),
        ({"quality": "auto", "size": "auto"}, "image:standard:1024x1024", 1),
        ({"quality": 7, "size": "x" * 1000}, "image:standard:1024x1024", 1),
    ],
)
def test_pictures_may_be_sold_by_the_piece(fields: dict[str, Any], unit: str, many: int) -> None:
    assert prompt(prompt="a cat", **fields).units == {unit: many}


def test_the_pictures_of_an_edit_are_read() -> None:
    square = url(png(1024, 1024))
    one = 65 + 129
    for fields in (
        {"images": [{"image_url": square}]},
        {"image": square},
        {"image": [square]},
        {"images": [{"image_url": {"url": square}}]},
    ):
        assert prompt("images/edits", **fields).fixed == one
    both = prompt("images/edits", images=[{"image_url": square}] * 2, mask={"image_url": square})
    assert both.fixed == 3 * one
    unknown = {"file_id": "file-1"}
    assert prompt("images/edits", images=[unknown]).fixed == 65 + 4 * 129
    assert prompt("images/edits", images=[unknown] * 100).fixed == PICTURES * (65 + 4 * 129)
    assert prompt("images/edits", images=[[square]], image=7).fixed == 0


def test_reading_in_high_fidelity_is_more() -> None:
    found = prompt("images/edits", images=[{"image_url": url(png(512, 512))}] * 2, input_fidelity="high")
    assert found.fixed == 2 * (65 + 129 + FIDELITY)


def uploaded(*parts: bytes) -> Prompt:
    form = read_form("multipart/form-data; boundary=x", multipart("x", *parts))
    assert form is not None
    found = read_upload("images/edits", form)
    assert found is not None
    return found


def test_an_edit_may_be_a_form() -> None:
    picture = file("image[]", "a.png", png(1024, 1024))
    fields = {
        "model": "gpt-image-1",
        "prompt": "hello world",
        "n": "2",
        "size": "1024x1024",
        "quality": "low",
    }
    found = uploaded(*(field(name, value) for name, value in fields.items()), picture, picture)
    assert (found.model, found.count(), found.choices) == ("gpt-image-1", 2 + 2 * (65 + 129), 2)
    assert found.max_output_tokens == 272
    high = uploaded(field("model", "gpt-image-1"), field("input_fidelity", "high"), picture)
    assert high.fixed == 65 + 129 + FIDELITY
    other = uploaded(file("image", "a.bin", b"?"), file("mask", "b.png", png(8, 8)), file("x", "c", b""))
    assert other.fixed == 12_000 + 2


@pytest.mark.parametrize("many", ["", "x", "-1", "0", "1e9", "99999", "²"])
def test_how_many_a_form_asks_for(many: str) -> None:
    assert uploaded(field("n", many)).choices == 1
