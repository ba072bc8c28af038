import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.wire import LAST_CHUNK, FramingError, Message, chunk, message, request

HEAD = b"HTTP/1.1 201 Created\r\nServer: x\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"


@given(st.binary(max_size=200))
def test_a_message_with_a_length_is_whole_with_its_last_byte(body: bytes) -> None:
    raw = HEAD + b"Content-Length: %d\r\n\r\n" % len(body) + body
    assert message(raw) == Message(raw[: len(raw) - len(body)], body)
    assert [message(raw[:cut]) for cut in range(len(raw))] == [None] * len(raw)


@given(st.lists(st.binary(min_size=1, max_size=40), max_size=6))
def test_a_message_in_chunks_is_whole_with_its_last_byte(parts: list[bytes]) -> None:
    raw = CHUNKED + b"".join(map(chunk, parts)) + LAST_CHUNK
    assert message(raw) == Message(CHUNKED, b"".join(parts))
    assert [message(raw[:cut]) for cut in range(len(raw))] == [None] * len(raw)


def test_a_chunk_may_have_an_extension() -> None:
    assert message(CHUNKED + b"2;a=b\r\nhi\r\n" + LAST_CHUNK) == Message(CHUNKED, b"hi")


@pytest.mark.parametrize(
    "raw",
    [
        HEAD + b"content-length: 1\r\n\r\nab",
        HEAD + b"\r\nab",
        CHUNKED + b"x\r\n",
        CHUNKED + b"1\r\nabc",
        CHUNKED + b"0\r\nname: value\r\n\r\n",
        CHUNKED + LAST_CHUNK + b"HTTP",
    ],
)
def test_what_is_no_message_is_told(raw: bytes) -> None:
    with pytest.raises(FramingError):
        message(raw)


def test_a_status_is_a_number() -> None:
    answer = message(HEAD + b"\r\n")
    assert answer is not None
    assert (answer.status, answer.body) == (201, b"")


def test_a_request_is_a_message() -> None:
    asked = message(request("/v1/x", b"{}", {"authorization": "Bearer k"}))
    assert asked is not None
    assert asked.head.startswith(b"POST /v1/x HTTP/1.1\r\nhost: 127.0.0.1\r\nauthorization: Bearer k\r\n")
    assert asked.body == b"{}"
    assert request("/v1/x", b"", {}) == b"GET /v1/x HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n"
