import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiktoken.model import MODEL_PREFIX_TO_ENCODING, MODEL_TO_ENCODING

from proxy.pricing.encodings import LONGEST, base_model, encoding_for, ordinary
from proxy.pricing.vocabulary import VOCABULARIES

# Encodings that tell ordinary text as these do.
SAME = {"p50k_edit": "p50k_base", "gpt2": "r50k_base", "o200k_harmony": "o200k_base"}
PREFIXES = {start: name for start, name in MODEL_PREFIX_TO_ENCODING.items() if start.endswith("-")}


@pytest.mark.parametrize(("model", "encoding"), sorted(MODEL_TO_ENCODING.items()))
def test_models_that_tiktoken_knows(model: str, encoding: str) -> None:
    assert encoding_for(model) == SAME.get(encoding, encoding)


@pytest.mark.parametrize(("start", "encoding"), sorted(PREFIXES.items()))
def test_versions_that_tiktoken_knows(start: str, encoding: str) -> None:
    assert encoding_for(start + "2024-01-01") == SAME.get(encoding, encoding)


@pytest.mark.parametrize(
    ("model", "encoding"),
    [
        # tiktoken has these wrong.
        ("ft:gpt-4.1-2025-04-14:acme::x", "o200k_base"),
        ("ft:gpt-4.5-preview:acme::x", "o200k_base"),
        # tiktoken does not know these.
        ("ft:gpt-5", "o200k_base"),
        ("ft:o4-mini-2025-04-16:acme::x", "o200k_base"),
        ("gpt-6-astra", "o200k_base"),
        ("gpt-6.1-sol", "o200k_base"),
        ("gpt-audio", "o200k_base"),
        ("gpt-realtime-2", "o200k_base"),
        ("gpt-image-1", "o200k_base"),
        ("chat-latest", "o200k_base"),
        ("computer-use-preview", "o200k_base"),
        ("llama3.2:3b", "o200k_base"),
        ("openai/gpt-4o", "o200k_base"),
        ("GPT-4o", "o200k_base"),
        ("openai/gpt-4", "cl100k_base"),
        ("OpenAI/GPT-4-Turbo", "cl100k_base"),
        ("azure/gpt-35-turbo", "cl100k_base"),
        ("accounts/me/models/gpt-4", "cl100k_base"),
        ("gpt-3.5-turbo-instruct", "cl100k_base"),
        ("openai/gpt-4:free", "cl100k_base"),
        ("ft:gpt-4-0613:acme::x", "cl100k_base"),
        ("ft:gpt-4-0613:acme/team::x", "cl100k_base"),
        ("openai/ft:gpt-4-0613:acme::x", "cl100k_base"),
        ("FT:GPT-4-0613:acme::x", "cl100k_base"),
        ("davinci:ft-acme-2023-01-01", "r50k_base"),
        ("gpt-4x", "o200k_base"),
        ("", "o200k_base"),
        ("/", "o200k_base"),
        ("ft:", "o200k_base"),
        (":", "o200k_base"),
    ],
)
def test_other_names(model: str, encoding: str) -> None:
    assert encoding_for(model) == encoding


@pytest.mark.parametrize(
    "model", ["gpt-4o", "GPT-4O", "openai/gpt-4o", "a/b/gpt-4o", "ft:gpt-4o:acme::x", "gpt-4o:free"]
)
def test_the_plain_name(model: str) -> None:
    assert base_model(model) == "gpt-4o"


def test_a_name_with_ft_inside_is_no_fine_tuned_one() -> None:
    assert base_model("draft:7b") == "draft"


@settings(deadline=None)
@given(st.text())
def test_any_name_has_an_encoding(model: str) -> None:
    assert encoding_for(model) in VOCABULARIES
    assert encoding_for("openai/" + "x" * LONGEST + model) == "o200k_base"


@pytest.mark.parametrize(
    ("encoding", "counted_by"),
    [
        *((name, name) for name in VOCABULARIES),
        ("o200k_harmony", "o200k_base"),
        ("p50k_edit", "p50k_base"),
        ("gpt2", "r50k_base"),
        ("o300k_base", "o200k_base"),
    ],
)
def test_encodings_that_differ_in_special_tokens_alone(encoding: str, counted_by: str) -> None:
    assert ordinary(encoding) == counted_by
