"""What may be a head, and what h11 would let pass."""

import pytest

from proxy.api.errors import UpstreamError
from proxy.core.upstream.httpx2.head import MAX_HEAD, MAX_INTERIM, check_begun, check_whole

HINT = b"HTTP/1.1 103 Early Hints\r\n\r\n"
LAST = b"HTTP/1.1 200 OK\r\n\r\n"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


def code(check: object, data: bytes) -> str | None:
    """What is raised, if anything."""
    assert callable(check)
    try:
        check(data)
    except UpstreamError as error:
        return error.code
    return None


@pytest.mark.parametrize("head", [LAST, b"HTTP/1.0 200 OK\r\n\r\n", HINT * MAX_INTERIM])
def test_a_head_may_come_byte_by_byte(head: bytes) -> None:
    for end in range(len(head) + 1):
        assert code(check_begun, head[:end]) is None


@pytest.mark.parametrize(
    "begun", [b"h", b"SSH-2.0", b"HTTP/2", b"HTTP/1.2", b"HTTP/1.1\t", b"\r\n", b"HTTP/1.11"]
)
def test_what_cannot_become_one_is_refused_with_its_first_wrong_byte(begun: bytes) -> None:
    assert code(check_begun, begun) == "upstream_bad_response"
    wrong = next(end for end in range(len(begun) + 1) if code(check_begun, begun[:end]))
    assert not any(version.startswith(begun[:wrong]) for version in (b"HTTP/1.1 ", b"HTTP/1.0 "))


def test_a_head_has_bounds() -> None:
    begun = b"HTTP/1.1 200 OK\r\nx: " + b"y" * MAX_HEAD
    assert code(check_begun, begun[:MAX_HEAD]) is None
    assert code(check_begun, begun[: MAX_HEAD + 1]) == "upstream_headers_too_large"
    assert code(check_begun, HINT * (MAX_INTERIM + 1)) == "upstream_bad_response"


@pytest.mark.parametrize("begin", [0, 1, MAX_INTERIM])
@pytest.mark.parametrize(
    ("head", "expected"),
    [
        (LAST, None),
        (LAST.replace(b"\r\n", b"\n"), None),
        (LAST + b"anything", None),
        (b"HTTP/1.2 200 OK\r\n\r\n", "upstream_bad_response"),
        (CHUNKED, None),
        (CHUNKED + b"5", None),
        (CHUNKED + b"5\r\nhello", None),
        (CHUNKED + b"0005;a=b \r\n", None),
        (CHUNKED + b"f" * 20 + b"\r\n", None),
        (CHUNKED + b"f" * 21 + b"\r\n", "upstream_bad_framing"),
        (CHUNKED + b"zz\r\n", "upstream_bad_framing"),
        (CHUNKED + b"5\n", "upstream_bad_framing"),
        (CHUNKED + b"\r\n", "upstream_bad_framing"),
        (LAST + b"zz\r\n", None),
    ],
)
def test_a_whole_head_and_what_came_behind_it(begin: int, head: bytes, expected: str | None) -> None:
    assert code(check_whole, HINT * begin + head) == expected


def test_there_are_only_so_many_interim_answers() -> None:
    assert code(check_whole, HINT * (MAX_INTERIM + 1) + LAST) == "upstream_bad_response"
