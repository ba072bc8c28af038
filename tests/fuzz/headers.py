"""Header rules: what may not pass does not, and all else does, in its order."""

import ipaddress
from typing import Final

from proxy.api.headers import Headers
from proxy.core.headers import (
    HOP_BY_HOP,
    LOWERED,
    OURS,
    Network,
    Pairs,
    client_address,
    named_by,
    towards_client,
    towards_upstream,
    with_credential,
    without,
)

TRUSTED: Final[list[Network]] = [ipaddress.ip_network("10.0.0.0/8"), ipaddress.ip_network("fd00::/8")]


def target(data: bytes) -> None:
    """Header lines."""
    pairs: Pairs = []
    for line in data.split(b"\n"):
        name, _, value = line.partition(b":")
        assert LOWERED[name] == name.lower()
        pairs.append((LOWERED[name], value.strip(b" \t")))
    before = list(pairs)
    up = towards_upstream(pairs)
    gone = HOP_BY_HOP | {b"host", b"content-length", b"expect"}
    assert up == [pair for pair in before if pair[0] not in gone]
    named = frozenset[bytes]().union(*(named_by(value) for name, value in pairs if name == b"connection"))
    assert not named & {b"close", b"keep-alive", b"content-length", b"host", b""}
    assert without(up, named) == [pair for pair in up if pair[0] not in named]
    keyed = with_credential(up, b"Bearer ours")
    credentials = [pair for pair in keyed if pair[0] in (b"authorization", b"api-key", b"x-api-key")]
    assert credentials == [(b"authorization", b"Bearer ours")]
    assert [pair for pair in up if pair not in keyed] == [
        pair for pair in up if pair[0] in (b"authorization", b"api-key", b"x-api-key") and pair not in keyed
    ]
    down = towards_client(pairs)
    assert down == [
        pair
        for pair in before
        if pair[0] not in HOP_BY_HOP and not pair[0].startswith(OURS) and pair[0] not in named
    ]
    assert pairs == before, "what came was changed"
    headers = Headers(list(pairs))
    for peer in ("10.1.2.3", "192.0.2.1", "::ffff:10.0.0.1", "a unix socket"):
        address = client_address(peer, headers, TRUSTED)
        if address not in (peer, peer.removeprefix("::ffff:")):
            ipaddress.ip_address(address)
            assert peer not in ("192.0.2.1", "a unix socket"), "hearsay of a stranger"
