"""Which header fields pass, and which do not: pure functions over raw pairs with lower-case names.

Hop-by-hop fields (RFC 9110, 7.6.1) and those that `Connection` names end here on both legs. Framing is never
passed on: each leg gets its own. `x-weir-*` is ours: a client cannot plant one upstream, nor an upstream
towards the client; plugins see what a client says in one. Everything else stays, with order and duplicates.
"""

import ipaddress
from collections.abc import Sequence

from proxy.api.headers import Headers

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Pairs = list[tuple[bytes, bytes]]

HOP_BY_HOP = frozenset(
    (
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    )
)
OURS = b"x-weir-"
"""What the names of Weir's own fields begin with."""
_CREDENTIALS = frozenset((b"authorization", b"api-key", b"x-api-key"))
_NOT_UPSTREAM = HOP_BY_HOP | {b"host", b"content-length", b"expect"}
_EMPTY: frozenset[bytes] = frozenset()
# Tokens of Connection that are no field names, and fields that are not the sender's to take away.
_NOT_NAMED = frozenset((b"close", b"keep-alive", b"te", b"content-length", b"host", b""))


class _Lowered(dict[bytes, bytes]):
    """Field names in lower case. The same few come again and again: one look-up is cheaper than a new name,
    and looking that one up next is cheaper too. Bounded."""

    def __missing__(self, name: bytes) -> bytes:
        lowered = name.lower()
        if len(self) < 4096 and len(name) <= 64:
            self[name] = lowered
        return lowered


LOWERED = _Lowered()
"""`LOWERED[name]`: a field's name as it came, in lower case."""


def named_by(connection: bytes) -> frozenset[bytes]:
    """The fields that a `Connection` value makes hop-by-hop."""
    lowered = connection.lower()
    if lowered in _NOT_NAMED:
        return _EMPTY
    return frozenset(token.strip() for token in lowered.split(b",")) - _NOT_NAMED


class _Passing(dict[bytes, bool]):
    """Which fields pass one leg, by name: names repeat, so one look-up is all it takes. Bounded."""

    def __init__(self, dropped: frozenset[bytes], prefix: bytes | None = None) -> None:
        super().__init__()
        self._dropped = dropped
        self._prefix = prefix

    def __missing__(self, name: bytes) -> bool:
        passes = name not in self._dropped and (self._prefix is None or not name.startswith(self._prefix))
        if len(self) < 4096 and len(name) <= 64:
            self[name] = passes
        return passes


_TO_UPSTREAM = _Passing(_NOT_UPSTREAM)
_TO_CLIENT = _Passing(HOP_BY_HOP, OURS)


def towards_upstream(pairs: Pairs) -> Pairs:
    """The client's fields that go on. `Host`, `Content-Length` and `Expect` are set or acted on by us.

    What `Connection` names and what is `OURS` is taken away by `without`, at the last moment: a client that
    names `Authorization` still has to show it to us, and `x-weir-dry-run` is for a plugin to read.
    """
    return [pair for pair in pairs if _TO_UPSTREAM[pair[0]]]


def towards_client(pairs: Pairs) -> Pairs:
    """The upstream's fields that go back."""
    kept = [pair for pair in pairs if _TO_CLIENT[pair[0]]]
    if len(kept) != len(pairs):
        for name, value in pairs:
            if name == b"connection":
                kept = without(kept, named_by(value))
    return kept


def without(pairs: Pairs, names: frozenset[bytes]) -> Pairs:
    """The fields but for those."""
    return [pair for pair in pairs if pair[0] not in names] if names else pairs


def with_credential(pairs: Pairs, value: bytes) -> Pairs:
    """The fields with the upstream's key in place of whatever credential the client sent."""
    kept = [pair for pair in pairs if pair[0] not in _CREDENTIALS]
    kept.append((b"authorization", value))
    return kept


def client_address(peer: str, headers: Headers, trusted: Sequence[Network]) -> str:
    """The client's address: the peer's, or, while the peer is trusted, the nearest untrusted hop that
    `x-forwarded-for` names (read from the right, since everything left of it is hearsay)."""
    peer = _plain(peer)
    if not trusted or not _is_trusted(peer, trusted):
        return peer
    chain = [hop.strip() for value in headers.getall(b"x-forwarded-for") for hop in value.split(",")]
    for hop in reversed(chain):
        try:
            ipaddress.ip_address(hop)
        except ValueError:
            return peer
        hop = _plain(hop)
        if not _is_trusted(hop, trusted):
            return hop
        peer = hop
    return peer


def _plain(address: str) -> str:
    """An IPv4 address that came through an IPv6 socket (`::ffff:10.0.0.1`) as what it is."""
    return address[7:] if address[:7].lower() == "::ffff:" and "." in address else address


def _is_trusted(address: str, trusted: Sequence[Network]) -> bool:
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return False
    return any(parsed in network for network in trusted)
