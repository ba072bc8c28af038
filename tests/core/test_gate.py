from urllib.parse import unquote_to_bytes

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.api.errors import ClientError
from proxy.core.gate import METHODS, Framing, Paths, check_framing, check_method, raw_path

HOST = (b"host", b"weir")


def refused(check: object, *arguments: object) -> tuple[int, str]:
    with pytest.raises(ClientError) as caught:
        check(*arguments)  # type: ignore[operator] # any of the functions here
    assert caught.value.source == "client"
    return caught.value.status, caught.value.code


@pytest.mark.parametrize("method", sorted(METHODS))
def test_methods_that_pass(method: str) -> None:
    check_method(method)


@pytest.mark.parametrize("method", ["CONNECT", "TRACE", "get", "", "PROPFIND", "X" * 10_000])
def test_methods_that_do_not(method: str) -> None:
    assert refused(check_method, method) == (405, "method_not_allowed")
    with pytest.raises(ClientError) as caught:
        check_method(method)
    assert len(caught.value.message) < 100


# -- framing -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("headers", "framing"),
    [
        ([], (False, None, frozenset())),
        ([(b"content-length", b"0")], (True, 0, frozenset())),
        ([(b"content-length", b"12")], (True, 12, frozenset())),
        ([(b"transfer-encoding", b"chunked")], (True, None, frozenset())),
        ([(b"transfer-encoding", b"Chunked")], (True, None, frozenset())),
        ([(b"connection", b"close")], (False, None, frozenset())),
        (
            [(b"connection", b"X-A"), (b"connection", b"x-b")],
            (False, None, frozenset((b"x-a", b"x-b"))),
        ),
        ([(b"x-weir-a", b"1")], (False, None, frozenset((b"x-weir-a",)))),
        ([(b"expect", b"100-Continue")], (False, None, frozenset())),
        ([(b"te", b"trailers")], (False, None, frozenset((b"te",)))),
        ([(b"te", b"deflate;q=0.5 , Trailers"), (b"connection", b"te")], (False, None, frozenset((b"te",)))),
        ([(b"te", b"deflate, trailers-not")], (False, None, frozenset())),
        ([(b"upgrade", b"h2c")], (False, None, frozenset())),  # asks for nothing without Connection
    ],
)
def test_framing_that_is_clear(headers: list[tuple[bytes, bytes]], framing: Framing) -> None:
    assert check_framing("1.1", [HOST, *headers]) == framing


@pytest.mark.parametrize(
    ("headers", "status", "code"),
    [
        ([(b"content-length", b"1"), (b"content-length", b"1")], 400, "invalid_framing"),
        ([(b"content-length", b"1, 1")], 400, "invalid_framing"),
        ([(b"content-length", b"+1")], 400, "invalid_framing"),
        ([(b"content-length", b"-1")], 400, "invalid_framing"),
        ([(b"content-length", b"0x1")], 400, "invalid_framing"),
        ([(b"content-length", b"")], 400, "invalid_framing"),
        ([(b"content-length", b"\xb2")], 400, "invalid_framing"),
        ([(b"content-length", b"9" * 19)], 400, "invalid_framing"),
        ([(b"content-length", b"1"), (b"transfer-encoding", b"chunked")], 400, "invalid_framing"),
        ([(b"transfer-encoding", b"chunked"), (b"content-length", b"1")], 400, "invalid_framing"),
        ([(b"transfer-encoding", b"gzip, chunked")], 501, "unsupported_transfer_coding"),
        ([(b"transfer-encoding", b"chunked, chunked")], 501, "unsupported_transfer_coding"),
        ([(b"transfer-encoding", b"xchunked")], 501, "unsupported_transfer_coding"),
        (
            [(b"transfer-encoding", b"chunked"), (b"transfer-encoding", b"chunked")],
            501,
            "unsupported_transfer_coding",
        ),
        ([(b"expect", b"100-continue, x")], 417, "expectation_failed"),
        ([(b"expect", b"tea")], 417, "expectation_failed"),
        ([HOST], 400, "invalid_host"),
        ([(b"upgrade", b"websocket"), (b"connection", b"Upgrade")], 501, "upgrade_not_supported"),
        ([(b"connection", b"keep-alive, upgrade"), (b"upgrade", b"h2c")], 501, "upgrade_not_supported"),
    ],
)
def test_framing_that_two_servers_could_read_differently(
    headers: list[tuple[bytes, bytes]], status: int, code: str
) -> None:
    assert refused(check_framing, "1.1", [HOST, *headers]) == (status, code)


def test_http_1_0() -> None:
    assert check_framing("1.0", [])[0] is False
    assert check_framing("1.0", [HOST, (b"content-length", b"1")])[1] == 1
    assert refused(check_framing, "1.0", [HOST, HOST]) == (400, "invalid_host")
    assert refused(check_framing, "1.0", [(b"transfer-encoding", b"chunked")]) == (400, "invalid_framing")
    assert refused(check_framing, "1.1", []) == (400, "invalid_host")


# -- paths ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "endpoint"),
    [
        (b"/v1/chat/completions", "chat/completions"),
        (b"/chat/completions", "chat/completions"),
        (b"/v1/", ""),
        (b"/v1", ""),
        (b"/", ""),
        (b"/v1beta/x", "v1beta/x"),
        (b"/v1/files/a%2Fb", "files/a%2Fb"),
        (b"/v1/a;b=c/d", "a;b=c/d"),
        (b"/v1/a//b", "a//b"),
        (b"/v1/...", "..."),
        (b"/v1/.well-known", ".well-known"),
        (b"/v1/a.b/c..d", "a.b/c..d"),
        (b"/v1/%2e%2e%2e", "%2e%2e%2e"),
        (b"/v1/ft:gpt-4o:x::1", "ft:gpt-4o:x::1"),
        (b"/v1/%C3%A9", "%C3%A9"),
        (b"/%zz", "%zz"),
    ],
)
def test_paths_that_pass(path: bytes, endpoint: str) -> None:
    paths = Paths()
    assert paths.endpoint(path) == endpoint
    assert paths.endpoint(path) == endpoint  # remembered


@pytest.mark.parametrize(
    "path",
    [
        b"",
        b"*",
        b"v1/models",
        b"weir:80",
        b"//evil.test/x",
        b"/.",
        b"/..",
        b"/v1/./x",
        b"/v1/../x",
        b"/v1/x/..",
        b"/v1/%2e%2E/x",
        b"/v1/.%2e/x",
        b"/v1/%2e",
        b"/v1/..;/x",
        b"/v1/%2e;a=b",
        b"/v1/a\\b",
        b"/v1/a%5Cb",
        b"/v1/%00",
        b"/v1/a\x00",
        b"/v1/a b",
        b"/v1/\xc3\xa9",
        b"/v1/\x7f",
        b"/v1/a\tb",
    ],
)
def test_paths_that_do_not(path: bytes) -> None:
    paths = Paths()
    assert refused(paths.endpoint, path) == (400, "invalid_path")
    assert refused(paths.endpoint, path) == (400, "invalid_path")


_SEGMENTS = st.sampled_from(
    [
        b"v1",
        b"a",
        b"..",
        b".",
        b"%2e",
        b"%2E",
        b";x",
        b"",
        b"%2F",
        b"\\",
        b"%5c",
        b"%00",
        b"\xff",
        b"a.b",
        b" ",
    ]
)


@settings(max_examples=400, deadline=None)
@given(st.lists(st.lists(_SEGMENTS, max_size=3).map(b"".join), max_size=5))
def test_no_path_that_passes_leads_upwards(segments: list[bytes]) -> None:
    path = b"/" + b"/".join(segments)
    try:
        endpoint = Paths().endpoint(path)
    except ClientError:
        assert refused(Paths().endpoint, path) == (400, "invalid_path")
        return
    assert endpoint.encode() in path
    assert not path.startswith(b"//")
    for segment in path.split(b"/"):
        bare = segment.partition(b";")[0].lower().replace(b"%2e", b".")
        assert bare not in (b".", b"..")
    decoded = unquote_to_bytes(path)
    assert b"\0" not in decoded
    assert b"\\" not in decoded


def test_what_is_remembered_is_bounded_and_stays_right() -> None:
    paths = Paths()
    for n in range(5000):
        assert paths.endpoint(b"/v1/files/%d" % n) == f"files/{n}"
    assert paths.endpoint(b"/v1/files/0") == "files/0"
    long = b"/v1/" + b"x" * 5000
    assert paths.endpoint(long) == long[4:].decode()


def test_the_raw_path_or_else_the_decoded_one_encoded() -> None:
    assert raw_path({"raw_path": b"/a%2Fb", "path": "/a/b"}) == b"/a%2Fb"
    assert raw_path({"raw_path": None, "path": "/é"}) == "/é".encode()
    assert raw_path({"path": "/a"}) == b"/a"
