import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.pricing.prompt import form as module
from proxy.pricing.prompt.form import Form, read_form

from .media import field, file, multipart

TYPE = 'multipart/form-data; boundary="7MA4YW"'
WHOLE = multipart(
    "7MA4YW", field("model", "whisper-1"), file("file", "a.wav", b"RIFF\r\n\r\n--not"), field("image[]", "ü")
)


def read(head: bytes, size: int | None = None, content_type: str = TYPE) -> Form:
    found = read_form(content_type, head, size)
    assert found is not None
    return found


def test_a_whole_form() -> None:
    found = read(WHOLE)
    assert found.fields == {"model": "whisper-1", "image": "ü"}
    assert found.model == "whisper-1"
    assert found.files == [("file", b"RIFF\r\n\r\n--not", 13)]
    assert found.files[0].read(2, 3) == b"FF\r"
    assert read(b"a preamble\r\n" + WHOLE) == found


@pytest.mark.parametrize("boundary", ["7MA4YW", '"7MA4YW"', '7MA4YW; charset="utf-8"'])
def test_how_a_boundary_is_written(boundary: str) -> None:
    assert read(WHOLE, content_type=f"Multipart/Form-Data; Boundary={boundary}").model == "whisper-1"


def test_of_a_file_that_is_not_all_there_the_size_is_at_most_that_of_the_form() -> None:
    at = WHOLE.index(b"RIFF")
    assert read(WHOLE[: at + 4], 5000).files == [("file", b"RIFF", 5000)]
    assert read(WHOLE[: at + 4]).files == [("file", b"RIFF", None)]
    assert read(WHOLE[: at + 4]).model == "whisper-1"


def test_a_field_that_is_not_all_there_is_none() -> None:
    at = WHOLE.index(b"whisper-1")
    assert read(WHOLE[: at + 7]).fields == {}


def test_the_first_of_two_fields_counts() -> None:
    assert read(multipart("7MA4YW", field("model", "a"), field("model", "b"))).model == "a"


@pytest.mark.parametrize(
    ("content_type", "head"),
    [
        ("application/json", WHOLE),
        ("multipart/form-data", WHOLE),
        ("multipart/mixed; boundary=7MA4YW", WHOLE),
        ("multipart/form-data; boundary=other", WHOLE),
        (TYPE, b""),
    ],
)
def test_what_is_no_form(content_type: str, head: bytes) -> None:
    assert read_form(content_type, head) is None


def test_parts_without_a_name_and_heads_without_an_end_are_left_out() -> None:
    assert read(b"--7MA4YW\r\nX: y\r\n\r\nz\r\n" + WHOLE).model == "whisper-1"
    long = field("model", "a").replace(b"Content", b"X: " + b"x" * module.HEAD + b"\r\nContent")
    assert read(multipart("7MA4YW", long)).fields == {}
    assert read(b"--7MA4YW--\r\n") == Form({}, [])


def test_no_more_parts_are_read_than_a_form_has() -> None:
    many = multipart("7MA4YW", *[field(str(at), "x") for at in range(1000)])
    assert len(read(many).fields) == module.PARTS


@given(st.integers(0, len(WHOLE)), st.binary(max_size=30))
def test_damage_does_no_harm(at: int, other: bytes) -> None:
    found = read_form(TYPE, WHOLE[:at] + other, 1000)
    assert found is None or len(found.files) <= 2
