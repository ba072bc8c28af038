from decimal import Decimal

import pytest

from proxy.pricing.prompt import Prompt, max_cost, read_form, read_upload, used
from proxy.pricing.table import default
from proxy.pricing.values import Model

from .media import field, file, mp3, multipart, wav


def prompt(*parts: bytes, endpoint: str = "audio/transcriptions", size: int | None = None) -> Prompt:
    form = read_form("multipart/form-data; boundary=x", multipart("x", *parts), size)
    assert form is not None
    found = read_upload(endpoint, form, Model("whisper-1", "audio_transcription", "o200k_base"))
    assert found is not None
    return found


@pytest.mark.parametrize("endpoint", ["audio/transcriptions", "audio/translations"])
def test_a_recording_is_its_length(endpoint: str) -> None:
    found = prompt(
        field("model", "whisper-1"),
        field("prompt", "hello"),
        file("file", "a.wav", wav(7)),
        endpoint=endpoint,
    )
    assert (found.family, found.model) == ("transcription", "whisper-1")
    assert found.units == {"seconds": Decimal(7)}
    assert (found.fixed, found.count(), found.max_output_tokens) == (70, 71, None)


def test_the_head_of_a_recording_is_enough() -> None:
    whole = multipart("x", field("model", "m"), file("file", "a.mp3", mp3(160_000)))
    form = read_form("multipart/form-data; boundary=x", whole[:4000], len(whole))
    assert form is not None
    found = read_upload("audio/transcriptions", form)
    assert found is not None
    assert Decimal(10) <= found.units["seconds"] < Decimal("10.1")  # what frames it counts as sound


def test_a_recording_of_unknown_length_is_as_long_as_its_bytes_can_be() -> None:
    found = prompt(file("file", "a.ogg", b"OggS" + bytes(9596)))
    assert found.units == {"seconds": Decimal("10.1")}
    assert found.fixed == 101


def test_a_recording_that_streams_in_may_have_no_length() -> None:
    whole = multipart("x", file("file", "a.mp3", mp3(160_000)))
    form = read_form("multipart/form-data; boundary=x", whole[:4000])
    assert form is not None
    found = read_upload("audio/transcriptions", form)
    assert found is not None
    assert (found.units, found.fixed) == ({}, 0)


def test_without_a_recording_there_is_no_length() -> None:
    found = prompt(field("model", "whisper-1"))
    assert (found.units, found.fixed) == ({}, 0)


def test_it_is_priced_by_the_hour_where_the_model_is() -> None:
    found = prompt(field("model", "whisper-1"), file("file", "a.wav", wav(60, rate=100)))
    cost = max_cost(found, default(), input_tokens=found.fixed, output_tokens=None)
    assert cost == Decimal("0.006")
    usage = used(found.units, {"text": "hello", "data": [1]})
    assert usage is not None
    assert default().cost(usage, "whisper-1").amount == Decimal("0.006")
