import ipaddress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.api.headers import Headers
from proxy.api.response import DECLARING, Response
from proxy.core.headers import (
    HOP_BY_HOP,
    Network,
    client_address,
    named_by,
    passed_on,
    towards_client,
    towards_upstream,
    with_credential,
    without,
)


@pytest.mark.parametrize(
    ("value", "named"),
    [
        (b"close", set()),
        (b"Keep-Alive", set()),
        (b"", set()),
        (b"X-Secret", {b"x-secret"}),
        (b"close, X-Secret , te", {b"x-secret"}),
        (b"upgrade", {b"upgrade"}),
        (b"Authorization", {b"authorization"}),
        (b"content-length, host, Content-Length", set()),
        (b" , ,a,, b", {b"a", b"b"}),
    ],
)
def test_what_connection_names(value: bytes, named: set[bytes]) -> None:
    assert named_by(value) == named


def test_towards_the_upstream() -> None:
    pairs = [
        (b"host", b"weir"),
        (b"accept", b"a"),
        (b"connection", b"x-one"),
        (b"x-one", b"1"),
        (b"content-length", b"3"),
        (b"expect", b"100-continue"),
        (b"te", b"trailers"),
        (b"transfer-encoding", b"chunked"),
        (b"proxy-authorization", b"p"),
        (b"x-weir-request-id", b"planted"),
        (b"x-weird", b"stays"),
        (b"accept", b"b"),
        (b"authorization", b"Bearer k"),
        (b"x_underscore", b"stays"),
    ]
    assert towards_upstream(pairs) == [
        (b"accept", b"a"),
        (b"x-one", b"1"),  # until the last moment: `without` takes it
        (b"x-weir-request-id", b"planted"),  # so too
        (b"x-weird", b"stays"),
        (b"accept", b"b"),
        (b"authorization", b"Bearer k"),
        (b"x_underscore", b"stays"),
    ]


def test_towards_the_client() -> None:
    pairs = [
        (b"date", b"d"),
        (b"set-cookie", b"1"),
        (b"connection", b"close, X-One"),
        (b"connection", b"x-two"),
        (b"x-one", b"1"),
        (b"x-two", b"2"),
        (b"keep-alive", b"timeout=5"),
        (b"transfer-encoding", b"chunked"),
        (b"trailer", b"x"),
        (b"x-weir-cost", b"planted"),
        (b"content-length", b"3"),
        (b"set-cookie", b"2"),
    ]
    assert towards_client(pairs) == [
        (b"date", b"d"),
        (b"set-cookie", b"1"),
        (b"content-length", b"3"),
        (b"set-cookie", b"2"),
    ]


def test_connection_cannot_take_away_the_length() -> None:
    pairs = [(b"connection", b"content-length"), (b"content-length", b"3")]
    assert towards_client(pairs) == [(b"content-length", b"3")]


def test_without() -> None:
    pairs = [(b"a", b"1"), (b"b", b"2"), (b"a", b"3")]
    assert without(pairs, frozenset((b"a",))) == [(b"b", b"2")]
    assert without(pairs, frozenset()) == pairs


def test_the_upstreams_key_takes_the_place_of_every_credential() -> None:
    pairs = [
        (b"authorization", b"Bearer client"),
        (b"x", b"1"),
        (b"api-key", b"client"),
        (b"x-api-key", b"client"),
        (b"authorization", b"Basic again"),
    ]
    assert with_credential(pairs, b"Bearer ours") == [(b"x", b"1"), (b"authorization", b"Bearer ours")]
    assert len(pairs) == 5  # the client's own list is left alone


_NAMES = st.sampled_from(
    [
        b"accept",
        b"connection",
        b"host",
        b"x-weir-a",
        b"x-a",
        b"x-b",
        b"te",
        b"upgrade",
        b"content-length",
        b"content-type",
        b"content-encoding",
        b"x-request-id",
        b"expect",
    ]
)
_VALUES = st.sampled_from([b"x-a", b"close", b"1", b"content-type", b"text/event-stream", b" GZIP"])
_PAIRS = st.lists(st.tuples(_NAMES, _VALUES), max_size=10)


@settings(max_examples=200, deadline=None)
@given(_PAIRS)
def test_what_stays_stays_in_order(pairs: list[tuple[bytes, bytes]]) -> None:
    for kept, ends in (
        (towards_upstream(pairs), HOP_BY_HOP),
        (towards_client(pairs), HOP_BY_HOP | {b"x-weir-a"}),
    ):
        rest = iter(pairs)
        assert all(pair in rest for pair in kept)
        assert not {name for name, _ in kept} & ends
        assert kept.count((b"accept", b"1")) == pairs.count((b"accept", b"1"))
    passed, declaring = passed_on(pairs)
    assert passed == towards_client(pairs)
    assert passed is not pairs
    assert declaring == [pair for pair in passed if pair[0] in DECLARING]
    told, looked = Response(), Response()
    told.begin(200, Headers(passed), declaring)
    looked.begin(200, Headers(passed))
    for said in ("is_stream", "is_json", "encoding", "request_id", "headers", "status"):
        assert getattr(told, said) == getattr(looked, said)


def test_what_connection_takes_away_declares_nothing() -> None:
    kind = (b"content-type", b"text/event-stream")
    assert passed_on([kind, (b"connection", b"close")]) == ([kind], [kind])
    assert passed_on([kind, (b"connection", b"content-type")]) == ([], [])


# -- whose address it is -------------------------------------------------------------------------------


def networks(*texts: str) -> list[Network]:
    return [ipaddress.ip_network(text) for text in texts]


def address(peer: str, *forwarded: str, trusted: tuple[str, ...] = ("10.0.0.0/8",)) -> str:
    return client_address(
        peer, Headers.of([("x-forwarded-for", value) for value in forwarded]), networks(*trusted)
    )


def test_nobody_is_believed_unless_told_so() -> None:
    assert address("10.0.0.1", "192.0.2.7", trusted=()) == "10.0.0.1"
    assert address("192.0.2.1", "192.0.2.7") == "192.0.2.1"


@pytest.mark.parametrize(
    ("forwarded", "found"),
    [
        (["192.0.2.7"], "192.0.2.7"),
        (["6.6.6.6, 192.0.2.7"], "192.0.2.7"),  # what is left of it is hearsay
        (["6.6.6.6", "192.0.2.7"], "192.0.2.7"),
        (["192.0.2.7, 10.0.0.3 ,10.0.0.2"], "192.0.2.7"),
        (["10.0.0.3, 10.0.0.2"], "10.0.0.3"),
        (["2001:db8::1"], "2001:db8::1"),
        (["6.6.6.6, ::ffff:10.0.0.3%zone, fd00::1%zone"], "fd00::1"),
        (["192.0.2.7, ::ffff:10.0.0.3%zone"], "192.0.2.7"),
        (["rubbish"], "10.0.0.1"),
        (["6.6.6.6, rubbish, 10.0.0.2"], "10.0.0.2"),
        ([""], "10.0.0.1"),
        ([], "10.0.0.1"),
    ],
)
def test_behind_a_trusted_proxy_the_nearest_stranger_counts(forwarded: list[str], found: str) -> None:
    assert address("10.0.0.1", *forwarded) == found


def test_a_peer_without_an_address_is_not_trusted() -> None:
    assert address("", "192.0.2.7", trusted=("0.0.0.0/0",)) == ""
    assert address("unix", "192.0.2.7", trusted=("0.0.0.0/0",)) == "unix"


def test_a_trusted_proxy_is_known_by_its_address_inside_ipv6() -> None:
    """A socket that listens on `::` sees an IPv4 peer as ::ffff:a.b.c.d."""
    assert address("::ffff:10.0.0.1", "192.0.2.7") == "192.0.2.7"
