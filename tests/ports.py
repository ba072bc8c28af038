"""Ports of loopback for what is started in tests."""

import random
import socket
from collections import deque
from contextlib import suppress
from typing import Final

_CLAIMS: Final = 256
_claimed: Final[deque[socket.socket]] = deque()
"""A UDP socket on the number of each port that was given out, so that no other suite on the machine gives it
out too before its server listens. The last ones: servers of earlier tests are gone."""


def free_ports(n: int, *, above: int = 0) -> list[int]:
    """Ports that nobody holds, below those that the kernel gives to outgoing connections.

    They are this process's from now on. With `above`, the ports that much above them are free as well.
    """
    ports: list[int] = []
    while len(ports) < n:
        ports += _claim(random.randrange(15_000, 32_000 - above), above)
    return ports


def row(count: int) -> int:
    """The first of so many free ones in a row."""
    while True:
        first = random.randrange(15_000, 32_000 - count)
        if all(_claim(port) for port in range(first, first + count)):
            return first


def listens(port: int) -> bool:
    """Whether somebody takes connections there."""
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0


def _claim(port: int, above: int = 0) -> list[int]:
    claim = socket.socket(type=socket.SOCK_DGRAM)
    with suppress(OSError), socket.socket() as one, socket.socket() as other:
        one.bind(("127.0.0.1", port))
        if above:
            other.bind(("127.0.0.1", port + above))
        claim.bind(("127.0.0.1", port))
        _claimed.append(claim)
        if len(_claimed) > _CLAIMS:
            _claimed.popleft().close()
        return [port]
    claim.close()
    return []
