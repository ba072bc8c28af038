"""A short soak passes, and planted leaks make one fail, each told by its name."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LEAKS = {
    "Memory": "memory",
    "Descriptors": "descriptors",
    "InFlight": "in flight",
    "Leases": "leases",
    "Rows": "ledger",
}
"""Those of `planted.py`, and what a soak calls them."""
PLANTED = [[leak] for leak in LEAKS] if os.environ.get("WEIR_SOAK") else [list(LEAKS)]
"""One at a time takes two minutes."""
pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


def soak(*arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "tests.soak", "--seed", "1", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.mark.fault("F17")
def test_a_short_soak_passes_and_tells_its_figures() -> None:
    done = soak("--minutes", "0.2")
    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
    told = done.stdout.splitlines()
    assert told[0] == "soaking for 0.2 minutes with --seed 1"
    assert len([row for row in told if row[:6].strip().isdigit() and row[6] == "s"]) >= 6
    assert told[-1].split()[1] == "requests;"
    for figure in ("memory", "descriptors", "in flight", "leases", "ledger"):
        assert f"\n  {figure} " in done.stdout


@pytest.mark.fault("F17")
@pytest.mark.parametrize("leaks", PLANTED, ids=" and ".join)
def test_planted_leaks_are_told_by_their_names_and_no_other_is(leaks: list[str]) -> None:
    plant = [word for leak in leaks for word in ("--plant", leak)]
    done = soak("--minutes", "0.1", "--every", "1", "--patience", "2", *plant)
    assert done.returncode == 1, done.stdout
    told = {line.removeprefix("FAILED ").partition(":")[0] for line in done.stderr.splitlines()}
    told.discard("stop")  # it waits for what is in flight
    assert told == {LEAKS[leak] for leak in leaks}, done.stdout + done.stderr
