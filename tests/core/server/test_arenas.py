"""Arenas stay once they are there, so each test looks at a process of its own."""

import os
import subprocess
import sys

import pytest

THREADS = """
import ctypes, threading
from proxy.core.server.arenas import limit
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
limit()
together = threading.Barrier(8)
def allocate():
    together.wait()
    libc.malloc(ctypes.c_size_t(100_000))
    together.wait()
threads = [threading.Thread(target=allocate) for _ in range(8)]
for thread in threads: thread.start()
for thread in threads: thread.join()
libc.malloc_stats()
"""


def arenas(**environment: str) -> int:
    """How many eight threads have that all allocate."""
    env = {name: value for name, value in os.environ.items() if name != "MALLOC_ARENA_MAX"} | environment
    done = subprocess.run(
        [sys.executable, "-c", THREADS], capture_output=True, text=True, check=True, env=env
    )
    return sum(line.startswith("Arena ") for line in done.stderr.splitlines())


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's")
def test_threads_share_two_arenas_unless_somebody_has_tuned_malloc() -> None:
    if arenas(MALLOC_ARENA_MAX="9") < 3:
        pytest.skip("this C library has no arenas")
    assert arenas() <= 2
    assert arenas(GLIBC_TUNABLES="glibc.malloc.arena_max=9") > 2
