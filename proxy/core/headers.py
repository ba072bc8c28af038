"""Which header fields pass, and which do not: pure functions over raw pairs with lower-case names.

Hop-by-hop fields (RFC 9110, 7.6.1) and those that `Connection` names end here on both legs. Framing is never
passed on: each leg gets its own. `x-weir-*` is ours: a client cannot plant one upstream, nor an upstream
towards the client; plugins see what a client says in one. Everything else stays, with order and duplicates.
"""

import ipaddress
from collections.abc import Sequence

from proxy.api.headers import Headers, Names
from proxy.api.response import DECLARING

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


LOWERED = Names()
"""`LOWERED[name]`: a field's name as it came, in lower case. Apart from the names that plugins ask for, which
nobody far away is to crowd out."""


def named_by(connection: bytes) -> frozenset[bytes]:
    """The fields that a `Connection` value makes hop-by-hop."""
    lowered = connection.lower()
    if lowered in _NOT_NAMED:
        return _EMPTY
    return frozenset(token.strip() for token in lowered.split(b",")) - _NOT_NAMED


_PASSING: set[bytes] = set()
"""Names that were met and just go back: the same few come again and again. Bounded."""


def towards_upstream(pairs: Pairs) -> Pairs:
    """The client's fields that go on. `Host`, `Content-Length` and `Expect` are set or acted on by us.

    What `Connection` names and what is `OURS` is taken away by `without`, at the last moment: a client that
    names `Authorization` still has to show it to us, and `x-weir-dry-run` is for a plugin to read.
    """
    return [pair for pair in pairs if pair[0] not in _NOT_UPSTREAM]


def towards_client(pairs: Pairs) -> Pairs:
    """The upstream's fields that go back."""
    return passed_on(pairs)[0]


def passed_on(pairs: Pairs) -> tuple[Pairs, Pairs]:
    """The same, and of what goes back what is `DECLARING`: both by one look at each field."""
    declaring: Pairs = []
    dropped = False
    for pair in pairs:
        name = pair[0]
        if name in _PASSING:
            continue
        if name in DECLARING:
            declaring.append(pair)
        elif name in HOP_BY_HOP or name.startswith(OURS):
            dropped = True
        elif len(_PASSING) < 4096 and len(name) <= 64:
            _PASSING.add(name)
    if not dropped:
        return pairs.copy(), declaring
    kept = [pair for pair in pairs if not (pair[0] in HOP_BY_HOP or pair[0].startswith(OURS))]
    for name, value in pairs:
        if name == b"connection":
            kept = without(kept, named_by(value))
    return kept, [pair for pair in kept if pair[0] in DECLARING]


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
        hop = hop.partition("%")[0]  # a zone is of the host that wrote it, and may be any text
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
