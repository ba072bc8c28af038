"""`python -m tests.fuzz`: let coverage guide random bytes through the targets, one after the other.

What it finds worth keeping grows `build/fuzz`, and with --keep the corpus of the repository. Exits with 1
when an input was found that breaks a target, and says how to look at it.
"""

import argparse
import importlib
import os
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

from . import TARGETS
from .corpus import GROWN, KEPT, dictionary, keep


def main() -> int:
    """The exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--seconds", type=int, default=60, help="for each target (60)")
    parser.add_argument("--target", action="append", metavar="TARGET", help="this one, or several (all)")
    parser.add_argument("--keep", action="store_true", help="add what is new to tests/fuzz/corpus")
    parser.add_argument(
        "--replay", type=Path, metavar="FILE", help="give the target this input, and no other"
    )
    parser.add_argument("--seed", type=int, default=0, help="of libFuzzer (0: any)")
    parser.add_argument("--folder", type=Path, default=GROWN, help="where to keep what it finds (build/fuzz)")
    given = parser.parse_args()
    targets: list[str] = given.target or list(TARGETS)
    if given.replay is not None:
        for name in targets:
            importlib.import_module(f"tests.fuzz.{name}").target(given.replay.read_bytes())
        return 0
    if find_spec("atheris") is None:
        print("atheris is not installed here: it has wheels for Linux on x86-64 alone", file=sys.stderr)
        return 2
    return max(_fuzz(name, given) for name in targets)


def _fuzz(name: str, given: argparse.Namespace) -> int:
    folder: Path = given.folder
    grown = folder / name
    grown.mkdir(parents=True, exist_ok=True)
    words = folder / f"{name}.dict"
    words.write_bytes(dictionary(name))
    before = set(folder.glob(f"{name}-*"))
    done = _guided(
        name,
        *(f"-max_total_time={given.seconds}", "-timeout=20", "-rss_limit_mb=2048", f"-seed={given.seed}"),
        *("-max_len=4096", "-print_final_stats=1", f"-artifact_prefix={folder}/{name}-"),
        *([f"-dict={words}"] if words.stat().st_size else []),
        *(str(corpus) for corpus in (grown, KEPT / name) if corpus.exists()),
    )
    runs = next((line.split()[-1] for line in done.stderr.splitlines() if "number_of_executed" in line), "?")
    print(f"{name:<14} {runs:>9} inputs, {len(list(grown.iterdir()))} worth keeping here", flush=True)
    if done.returncode:
        print(done.stderr[-6000:], file=sys.stderr)
        for path in sorted(set(folder.glob(f"{name}-*")) - before):
            print(f"BROKEN {name}: python -m tests.fuzz --target {name} --replay {path}", file=sys.stderr)
        return 1
    if given.keep:
        print(f"{name:<14} {keep(name, grown):>9} kept", flush=True)
    return 0


def _guided(name: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """libFuzzer leaves without cleaning up: the folder that targets write to goes with it."""
    command = [sys.executable, "-m", "tests.fuzz.guided", name, *arguments]
    with tempfile.TemporaryDirectory(prefix="weir-fuzz-") as folder:
        env = {**os.environ, "TMPDIR": folder}
        return subprocess.run(command, capture_output=True, text=True, errors="replace", env=env, check=False)


if __name__ == "__main__":
    sys.exit(main())
