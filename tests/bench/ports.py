"""Ports of loopback for what is started in tests."""

import socket
from contextlib import ExitStack, suppress

from tests.faults.process import free_ports


def listens(port: int) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0


def row(count: int) -> int:
    """The first of so many free ones in a row."""
    for _ in range(100):
        (first,) = free_ports(1)
        with ExitStack() as held, suppress(OSError):
            for port in range(first, first + count):
                held.enter_context(socket.socket()).bind(("127.0.0.1", port))
            return first
    raise AssertionError(f"no {count} free ports in a row")
