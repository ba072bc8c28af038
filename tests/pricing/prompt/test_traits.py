import pytest

from proxy.pricing.prompt.traits import traits_for


@pytest.mark.parametrize(
    "model",
    ["o1", "o1-pro", "o3-mini", "o4-mini-2025-04-16", "gpt-5", "gpt-5.4-mini", "gpt-6.1-sol", "openai/o3"],
)
def test_reasoning_models_start_the_answer_with_two_tokens(model: str) -> None:
    assert (traits_for(model).priming, traits_for(model).hidden) == (2, 0)


@pytest.mark.parametrize(
    "model",
    ["gpt-4o", "gpt-4.1", "gpt-3.5-turbo", "gpt-35-turbo", "gpt-oss-20b", "olmo-2", "llama3", "", None],
)
def test_others_with_three(model: str | None) -> None:
    assert (traits_for(model).priming, traits_for(model).hidden) == (3, 18)


@pytest.mark.parametrize(
    ("model", "most", "low"),
    [
        ("gpt-4o", 1445, 85),
        ("gpt-4o-2024-08-06", 1445, 85),
        ("gpt-4o-mini", 2833 + 8 * 5667, 2833),
        ("gpt-4.1", 1445, 85),
        ("gpt-4.1-mini-2025-04-14", 2489, 2489),
        ("gpt-4.1-nano", 3779, 3779),
        ("gpt-4-turbo", 1445, 85),
        ("gpt-5", 1190, 70),
        ("gpt-5-chat-latest", 1190, 70),
        ("gpt-5-mini", 1844, 1844),
        ("gpt-5-nano", 3779, 3779),
        ("gpt-5.2", 1844, 1844),
        ("gpt-5.3-codex", 1844, 1844),
        ("gpt-5.4", 3000, 3000),
        ("gpt-5.4-mini", 2489, 2489),
        ("gpt-5.4-nano", 3779, 3779),
        ("gpt-5.5", 12_000, 3000),
        ("gpt-5.6-sol", 12_000, 3000),
        ("gpt-6.1-sol", 12_000, 3000),
        ("gpt-image-1.5", 65 + 4 * 129, 65),
        ("o1-pro", 1275, 75),
        ("o3", 1275, 75),
        ("o4-mini", 2642, 2642),
        ("computer-use-preview", 1097, 65),
        ("qwen-vl", 12_000, 3000),
        (None, 12_000, 3000),
    ],
)
def test_what_an_image_is_at_most(model: str | None, most: int, low: int) -> None:
    vision = traits_for(model).vision
    assert (vision.most(None), vision.most("low")) == (most, low)


def test_the_oldest_turbo() -> None:
    assert traits_for("gpt-3.5-turbo-0301")[1:4] == (4, -1, 3)
    assert traits_for("gpt-3.5-turbo-0613")[1:4] == (3, 1, 3)


def test_the_encoding() -> None:
    assert traits_for("gpt-4").encoding == "cl100k_base"
    assert traits_for("x" * 1000).encoding == "o200k_base"


def test_a_given_encoding_counts() -> None:
    assert traits_for("gpt-4", "o200k_harmony").encoding == "o200k_base"
    assert traits_for("o3", "cl100k_base")[:4] == ("cl100k_base", 3, 1, 2)
