"""What is read past the parser is what the parser reads: both are asked about heads near the edge."""

from typing import Any

import httptools
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from proxy.core.headers import Pairs
from proxy.core.shape import DIGITS, MOST, Shape, Shapes, plain

HEAD = [b"HTTP/1.1 200 OK", b"Content-Type: text/plain", b"X-Id: 7", b"Content-Length: 3", b"x-last: yes"]


def message(lines: list[bytes], body: bytes = b"abc") -> bytes:
    return b"\r\n".join([*lines, b"", body])


class Parsed:
    """What httptools makes of an answer."""

    def __init__(self, piece: bytes) -> None:
        self.headers: Pairs = []
        self.body = b""
        self.messages = 0
        self.ends = 0
        self.keeps = False
        self._parser: Any = httptools.HttpResponseParser(self)
        self._parser.set_dangerous_leniencies(lenient_chunked_length=True)
        try:
            self._parser.feed_data(piece)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self.messages = -1
        self.status: int = self._parser.get_status_code()

    def on_message_begin(self) -> None:
        self.messages += 1

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name.lower(), value))

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        self.ends += 1
        self.keeps = self._parser.should_keep_alive()

    @property
    def whole(self) -> bool:
        """Whether it is one answer, all here, after which the connection may be used again."""
        return self.messages == 1 and self.ends == 1 and self.keeps


def learned(*pieces: bytes) -> Shapes:
    shapes = Shapes()
    for piece in pieces:
        parsed = Parsed(piece)
        if parsed.whole:
            shapes.learn(piece, parsed.headers, len(parsed.body), parsed.status)
    return shapes


def test_a_head_that_comes_again_is_read() -> None:
    first = message(HEAD)
    parsed = Parsed(first)
    read = learned(first).read(message(HEAD, b"xyz"))
    assert read == (200, parsed.headers, b"xyz")


def test_the_length_may_differ_if_it_is_the_bodys() -> None:
    shapes = learned(message(HEAD))
    longer = [*HEAD[:3], b"Content-Length: 12", HEAD[4]]
    read = shapes.read(message(longer, b"abcdefghijkl"))
    assert read is not None
    assert read[1][2] == (b"content-length", b"12")
    assert read[2] == b"abcdefghijkl"
    empty = shapes.read(message([*HEAD[:3], b"Content-Length: 0", HEAD[4]], b""))
    assert empty is not None
    assert empty[2] == b""
    for body in (b"", b"abcdefghijk", b"abcdefghijklm", b"abcdefghijkl\r\n"):
        assert shapes.read(message(longer, body)) is None
    for length in (b"012", b"+12", b"12 ", b" 12", b"1_2", b"", b"12, 12", b"0x0c"):
        odd = [*HEAD[:3], b"Content-Length: " + length, HEAD[4]]
        assert shapes.read(message(odd, b"abcdefghijkl")) is None


def test_a_value_that_differed_once_may_differ() -> None:
    def piece(said: bytes) -> bytes:
        return message([HEAD[0], HEAD[1], b"X-Id: " + said, *HEAD[3:]])

    shapes = learned(piece(b"7"))
    assert shapes.read(piece(b"8")) is None
    shapes = learned(piece(b"7"), piece(b"8"))
    for said in (b"7", b"8", b"9: a, b", b"x" * 500):
        read = shapes.read(piece(said))
        assert read is not None
        assert read[1] == Parsed(piece(said)).headers
    for said in (
        b"",
        b" 7",
        b"7 ",
        b"7\t",
        b"\t7",
        b"7\n",
        b"7\0",
        b"\x7f",
        b"\xc3\xa9",
        b"7\nx: y",
        b"\x80",
    ):
        assert shapes.read(piece(said)) is None


@pytest.mark.parametrize(
    "changed",
    [
        [b"HTTP/1.1 201 OK", *HEAD[1:]],
        [HEAD[0], b"content-type: text/plain", *HEAD[2:]],
        [HEAD[0], HEAD[2], HEAD[1], *HEAD[3:]],
        [*HEAD, b"x-more: 1"],
        HEAD[:-1],
        [*HEAD[:3], b"Content-Length: 3", b"Content-Length: 3", HEAD[4]],
        [*HEAD, b"Transfer-Encoding: chunked"],
        [*HEAD, b"Connection: close"],
    ],
)
def test_any_other_byte_is_for_the_parser(changed: list[bytes]) -> None:
    assert learned(message(HEAD)).read(message(changed)) is None


@pytest.mark.parametrize(
    "lines",
    [
        [*HEAD[:3], b"x-last: yes"],  # until the connection ends
        [*HEAD[:3], b"Transfer-Encoding: chunked"],
        [*HEAD, b"Upgrade: h2c"],
        [*HEAD, b"x-no-blank:1"],
        [*HEAD, b"x-two-blanks:  1"],
        [*HEAD, b"x-empty:"],
        [*HEAD, b"x-long: " + b"x" * 4096],
        [*HEAD[:3], b"Content-Length: 03"],
        [*HEAD[:3], b"Content-Length: 3", b"Content-Length: 3"],
    ],
)
def test_only_a_head_that_is_written_plainly_is_learnt(lines: list[bytes]) -> None:
    headers = [
        (name.lower(), value.strip()) for name, _, value in (line.partition(b":") for line in lines[1:])
    ]
    assert plain(message(lines), headers, 3) is None
    assert plain(message(HEAD), Parsed(message(HEAD)).headers, 3) == HEAD
    assert plain(message(HEAD) + b"\r\n", Parsed(message(HEAD)).headers, 3) is None


def test_a_field_that_frames_does_not_come_to_differ() -> None:
    kept, closing = b"Connection: keep-alive", b"Connection: close"
    shapes = learned(message([*HEAD, kept]))
    headers = [*Parsed(message(HEAD)).headers, (b"connection", b"close")]
    shapes.learn(message([*HEAD, closing]), headers, 3, 200)
    assert shapes.read(message([*HEAD, kept])) is not None
    assert shapes.read(message([*HEAD, b"Connection: upgrade"])) is None


def test_kinds_are_kept_side_by_side_and_the_oldest_goes() -> None:
    kinds = [message([b"HTTP/1.1 200 OK", b"x-%d: 1" % kind, b"content-length: 3"]) for kind in range(6)]
    shapes = learned(*kinds[:4])
    assert all(shapes.read(kind) for kind in kinds[:4])
    parsed = Parsed(kinds[4])
    shapes.learn(kinds[4], parsed.headers, 3, 200)
    assert [shapes.read(kind) is not None for kind in kinds] == [False, True, True, True, True, False]


def test_heads_that_never_come_again_are_learnt_no_more() -> None:
    shapes = learned(*(message([HEAD[0], b"x-%d: 1" % kind, HEAD[3]]) for kind in range(40)))
    piece = message(HEAD)
    shapes.learn(piece, Parsed(piece).headers, 3, 200)
    assert shapes.read(piece) is None
    known = message([HEAD[0], b"x-31: 1", HEAD[3]])
    assert shapes.read(known) is not None  # which earns another
    shapes.learn(piece, Parsed(piece).headers, 3, 200)
    assert shapes.read(piece) is not None


def test_what_it_gives_is_the_readers_own() -> None:
    piece = message(HEAD)
    shapes = learned(piece)
    read = shapes.read(piece)
    assert read is not None
    read[1].clear()
    again = shapes.read(piece)
    assert again is not None
    assert again[1] == Parsed(piece).headers


NAMES = st.sampled_from(
    b"x-a,X-B,date,Set-Cookie,connection,Upgrade,content-length,Content-Length,Transfer-Encoding,keep-alive,"
    b"trailer,proxy-connection,x\x80,x y,".split(b",")
)
VALUES = st.sampled_from(
    b"1,2,3,03,close,keep-alive,Keep-Alive,upgrade,chunked,a b,a  b,, ,a , a,a\t,\xc3\xa9,"
    b"a\x00,a\r,a\n,a\x7f,a\r\n b,a\tb".split(b",")
)
BETWEEN = st.sampled_from([b": "] * 12 + [b":", b":  ", b" : ", b":\t"])
LINES = st.tuples(NAMES, BETWEEN, VALUES).map(b"".join)
STATUS = st.sampled_from(
    [b"HTTP/1.1 200 OK"] * 8 + [b"HTTP/1.0 200 OK", b"HTTP/1.1 404 \xff", b"HTTP/1.1 204 x", b"HTTP/1.1 200"]
)
ENDS = st.sampled_from([b"\r\n"] * 40 + [b"\n", b"\r", b"\r\n\r\n"])
BODIES = st.sampled_from(
    [b"abc"] * 8 + [b"", b"a", b"abcd", b"abc\r\n", b"abcHTTP/1.1 200 OK\r\n", b"abc\r\n\r\n"]
)


PLAIN = [b"HTTP/1.1 200 OK", b"Date: 1", b"x-a: a", b"content-length: 3", b"Connection: keep-alive"]


@st.composite
def near(draw: Any) -> list[bytes]:
    """Messages of which each is one before with a line or two changed, most of them only in what they say."""
    lines = PLAIN[: draw(st.integers(3, 5))]
    if len(lines) == 3:
        lines.append(draw(LINES))
    out = []
    for _ in range(draw(st.integers(3, 8))):
        changed = lines.copy()
        for _ in range(draw(st.integers(0, 2))):
            at = draw(st.integers(0, len(changed) - 1))
            how = draw(st.sampled_from("vvvvvvls"))
            if how == "s":
                changed[0] = draw(STATUS)
            elif how == "l":
                changed.insert(at + 1, draw(LINES))
            elif at:
                changed[at] = changed[at].partition(b": ")[0] + b": " + draw(VALUES)
        out.append(draw(ENDS).join([*changed[:-1], changed[-1] + b"\r\n\r\n"]) + draw(BODIES))
        if draw(st.booleans()):
            lines = changed
    return out


@settings(max_examples=600, deadline=None)
@given(near())
@example(
    [message(HEAD), message([*HEAD[:2], b"X-Id: 8", *HEAD[3:]]), message([*HEAD[:2], b"X-Id: 9", *HEAD[3:]])]
)
def test_whatever_is_read_the_parser_reads_too(pieces: list[bytes]) -> None:
    shapes = Shapes()
    for piece in pieces:
        read = shapes.read(piece)
        parsed = Parsed(piece)
        if read is not None:
            assert parsed.whole
            assert read == (parsed.status, parsed.headers, parsed.body)
        elif parsed.whole:
            shapes.learn(piece, parsed.headers, len(parsed.body), parsed.status)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.binary(max_size=12), min_size=3, max_size=3), st.integers(0, 12))
def test_any_bytes_in_a_value_are_read_as_the_parser_does(values: list[bytes], size: int) -> None:
    def piece(value: bytes) -> bytes:
        length = b"content-length: %d" % size
        return message([b"HTTP/1.1 200 OK", b"x-a: " + value, length], b"b" * size)

    shapes = learned(piece(b"1"), piece(b"2"))
    for value in values:
        read = shapes.read(piece(value))
        parsed = Parsed(piece(value))
        if read is not None:
            assert parsed.whole
            assert read == (200, parsed.headers, parsed.body)
        else:
            assert not (parsed.whole and value.isalnum())


def test_lengths_are_written_with_no_more_digits_than_said() -> None:
    piece = message([b"HTTP/1.1 200 OK", b"content-length: %d" % MOST], b"b" * MOST)
    shape = Shape([b"HTTP/1.1 200 OK", b"content-length: 1"], [(b"content-length", b"1")], 200)
    read = shape.read(piece)
    assert read is not None
    assert len(read[0][0][1]) == DIGITS
