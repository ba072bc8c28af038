"""Coverage guides random bytes for a moment; `make fuzz` does it for longer."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path

import pytest

from . import TARGETS
from .corpus import kept

ROOT = Path(__file__).parents[2]
SECONDS = 120 if os.environ.get("WEIR_SOAK") else 1
pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(300 + 10 * SECONDS),
    pytest.mark.skipif(find_spec("atheris") is None, reason="atheris has no wheel for this machine"),
]


def fuzz(folder: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "tests.fuzz", "--folder", str(folder), *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> "dict[str, subprocess.CompletedProcess[str]]":
    """What came of each target; two at a time, since most of it is waiting for imports."""

    def one(name: str) -> "subprocess.CompletedProcess[str]":
        arguments = ("--target", name, "--seconds", str(SECONDS), "--seed", "1")
        return fuzz(tmp_path_factory.mktemp(name), *arguments)

    with ThreadPoolExecutor(2) as threads:
        return dict(zip(TARGETS, threads.map(one, TARGETS), strict=True))


@pytest.mark.parametrize("name", TARGETS)
def test_nothing_is_found_in_a_moment(name: str, done: "dict[str, subprocess.CompletedProcess[str]]") -> None:
    assert done[name].returncode == 0, done[name].stderr
    assert int(done[name].stdout.split()[1]) > len(kept(name))


def test_what_is_found_is_told_with_how_to_see_it_again(tmp_path: Path) -> None:
    done = fuzz(tmp_path, "--target", "planted", "--seconds", "60")
    assert done.returncode == 1, done.stdout
    (told,) = [line for line in done.stderr.splitlines() if line.startswith("BROKEN planted: ")]
    *_, path = told.split()
    again = fuzz(tmp_path, "--target", "planted", "--replay", path)
    assert again.returncode == 1
    assert "AssertionError" in again.stderr
