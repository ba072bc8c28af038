import pytest

from proxy.api.errors import ClientError
from proxy.api.headers import Headers
from proxy.api.request import Request


class Body:
    length: int | None = None

    """A body that counts how often it is read."""

    def __init__(self, body: bytes) -> None:
        self.body = body
        self.reads = 0

    async def read(self) -> bytes:
        self.reads += 1
        return self.body

    async def peek(self, count: int) -> bytes:
        return self.body[:count]

    def replace(self, body: bytes) -> None:
        self.body = body


def request(body: bytes, *headers: tuple[str, str]) -> tuple[Request, Body]:
    source = Body(body)
    made = Request(
        "POST",
        b"/v1/chat%2Fcompletions\xe9",
        b"a=%31",
        Headers.of(headers),
        source,
        peer="10.0.0.1",
        address="192.0.2.7",
    )
    made.endpoint = "chat/completions"
    return made, source


async def test_it_tells_what_the_client_asked_for() -> None:
    made, source = request(b"raw")
    assert (made.method, made.path, made.query) == ("POST", "/v1/chat%2Fcompletions\xe9", "a=%31")
    assert (made.endpoint, made.peer, made.address) == ("chat/completions", "10.0.0.1", "192.0.2.7")
    assert source.reads == 0
    assert await made.read() == b"raw"


async def test_json_is_parsed_once_for_all() -> None:
    made, source = request(b'{"a": [1]}')
    first = await made.json()
    assert first == {"a": [1]}
    assert await made.json() is first
    assert source.reads == 1


async def test_a_body_of_null_is_parsed_once_too() -> None:
    made, source = request(b"null")
    assert await made.json() is None
    assert await made.json() is None
    assert source.reads == 1


@pytest.mark.parametrize("body", [b"", b"{", b'{"a":}', b"\xff", b'{"prompt": "very secret'])
async def test_what_is_no_json_is_the_clients_fault_and_is_not_quoted(body: bytes) -> None:
    made, _ = request(body)
    with pytest.raises(ClientError) as caught:
        await made.json()
    assert (caught.value.status, caught.value.code) == (400, "invalid_json")
    assert "secret" not in caught.value.message
    assert "\n" not in caught.value.message


async def test_a_compressed_body_is_not_parsed() -> None:
    made, source = request(b"\x1f\x8b", ("Content-Encoding", "gzip"))
    with pytest.raises(ClientError) as caught:
        await made.json()
    assert (caught.value.status, caught.value.code) == (415, "unsupported_encoding")
    assert source.reads == 0
    assert await made.read() == b"\x1f\x8b"


async def test_identity_is_no_encoding() -> None:
    made, _ = request(b"1", ("content-encoding", "Identity"))
    assert await made.json() == 1


async def test_a_new_body_is_parsed_anew() -> None:
    made, source = request(b'{"a":1}')
    await made.json()
    made.set_body(b'{"a":2}')
    assert source.body == b'{"a":2}'
    assert await made.json() == {"a": 2}


async def test_the_first_bytes_are_the_bodys() -> None:
    made, source = request(b"abcdef")
    assert await made.peek(3) == b"abc"
    assert made.length is None
    source.length = 6
    assert made.length == 6


@pytest.mark.fault("D3")
async def test_a_member_that_stands_twice_is_refused_where_it_is_metered() -> None:
    """Also in a body that is looked at in a thread."""
    for filler in ("x", "x" * 300_000):
        made, _ = request(b'{"model":"a","y":"%b","mod\\u0065l":"b"}' % filler.encode())
        for _ in range(2):
            with pytest.raises(ClientError) as caught:
                await made.json()
            assert (caught.value.status, caught.value.code) == (400, "duplicate_key")
        made, _ = request(b'{"x":1,"x":"%b"}' % filler.encode())
        assert await made.json() == {"x": filler}


@pytest.mark.fault("D11")
async def test_no_content_coding_hides_behind_another() -> None:
    made, _ = request(b"1", ("content-encoding", "identity"), ("content-encoding", "br"))
    with pytest.raises(ClientError) as caught:
        await made.json()
    assert (caught.value.status, caught.value.code) == (415, "unsupported_encoding")


@pytest.mark.fault("D4")
async def test_no_charset_hides_behind_another_content_type() -> None:
    for both in (
        ("application/json", "text/json; charset=utf-7"),
        ("a/b; charset=utf-16", "application/json"),
    ):
        made, _ = request(b"1", *(("content-type", one) for one in both))
        with pytest.raises(ClientError) as caught:
            await made.json()
        assert (caught.value.status, caught.value.code) == (415, "unsupported_encoding")


@pytest.mark.fault("D4")
@pytest.mark.parametrize(
    ("content_type", "passes"),
    [
        ("application/json", True),
        ("application/json; charset=utf-8", True),
        ('Application/JSON;Charset="UTF8"', True),
        ("application/json; charset=ISO-8859-1", True),
        ("text/plain", True),
        ("application/json; charset=utf-7", False),
        ("application/json; charset = 'UTF-16LE'", False),
        ("application/json; charset=utf-8; charset=utf-7", False),
        ("application/json; charset=", False),
        ("application/json; charset=cp037", False),
    ],
)
async def test_a_charset_in_which_the_body_would_say_something_else_is_refused(
    content_type: str, passes: bool
) -> None:
    """`+ACI-` is a quotation mark in UTF-7, so that one text has different members for two readers."""
    made, _ = request(b'{"x":"+ACI-"}', ("content-type", content_type))
    if passes:
        assert await made.json() == {"x": "+ACI-"}
    else:
        with pytest.raises(ClientError) as caught:
            await made.json()
        assert (caught.value.status, caught.value.code) == (415, "unsupported_encoding")
