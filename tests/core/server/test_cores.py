"""A bound on core dumps cannot be raised again, so each test looks at a process of its own."""

import subprocess
import sys

import pytest

resource = pytest.importorskip("resource")

CRASHES = """
import os, resource
from proxy.core.server.cores import forbid
{before}
forbid()
forbid()
print(resource.getrlimit(resource.RLIMIT_CORE), flush=True)
print(os.popen("ulimit -Hc").read().strip(), flush=True)
os.abort()
"""


def crashed(before: str = "") -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-c", CRASHES.format(before=before)], capture_output=True, text=True, check=False
    )


@pytest.mark.fault("G6")
def test_a_crash_leaves_no_memory_behind_nor_does_that_of_a_child() -> None:
    if resource.getrlimit(resource.RLIMIT_CORE)[1] == 0:
        assert crashed().stdout.splitlines()[0] == "(0, 0)"
        return
    ended = crashed(
        "resource.setrlimit(resource.RLIMIT_CORE, (resource.getrlimit(resource.RLIMIT_CORE)[1],) * 2)"
    )
    assert ended.stdout.splitlines() == ["(1, 1)", "0"]  # the shell counts in blocks
    assert ended.returncode < 0
    assert not ended.stderr


def test_where_none_are_allowed_it_stays_so() -> None:
    ended = crashed("resource.setrlimit(resource.RLIMIT_CORE, (0, 0))")
    assert ended.stdout.splitlines() == ["(0, 0)", "0"]
