import subprocess
import sys
import time

from bench.unhurried import SLOWER, Loop

from .conftest import ROOT


def test_timers_wait_as_much_longer() -> None:
    loop = Loop()
    try:
        handle = loop.call_later(0.001, loop.stop)
        start = time.monotonic()
        assert handle.when() - loop.time() > 0.9 * SLOWER * 0.001
        loop.run_forever()
        assert time.monotonic() - start >= 0.09
    finally:
        loop.close()


def test_a_module_runs_as_it_would_by_itself() -> None:
    command = [sys.executable, "-m", "bench.unhurried", "proxy", "--help"]
    said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert said.returncode == 0
    assert "serve" in said.stdout
