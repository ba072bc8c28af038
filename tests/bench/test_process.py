import os
import signal
import socket
import sys
import time
from pathlib import Path

import pytest

from bench.process import BenchError, Process, busy, claim, cpu_model, listens, processes, until

SPIN = "import time\nt = time.process_time()\nwhile time.process_time() - t < 0.3: pass\n"
PARENT = f"""
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", {SPIN + "time.sleep(60)"!r}])
print(child.pid, flush=True)
time.sleep(60)
"""


def gone(pid: int) -> bool:
    return not Path("/proc", str(pid), "stat").exists()


def started(source: str, folder: Path) -> Process:
    return Process("python", [sys.executable, "-c", source], folder)


def test_a_child_counts_and_ends_with_its_parent(tmp_path: Path) -> None:
    process = started(PARENT, tmp_path)
    try:
        assert until(lambda: process.last_line.isdigit(), 10)
        child = int(process.last_line)
        assert processes(process.pid).keys() == {process.pid, child}
        assert until(lambda: processes(process.pid)[child].total >= 0.2, 10)
        assert process.cpu().total >= 0.2
        assert process.memory() > 2_000_000
        assert process.ended is None
    finally:
        process.stop()
    assert until(lambda: gone(child), 10)
    assert process.ended == -signal.SIGTERM
    assert (process.cpu().total, process.memory()) == (0, 0)


def test_a_child_that_ended_still_counts(tmp_path: Path) -> None:
    source = f"import subprocess, sys, time\nsubprocess.run([sys.executable, '-c', {SPIN!r}])\ntime.sleep(60)"
    process = started(source, tmp_path)
    try:
        assert until(lambda: process.cpu().total >= 0.3 and len(processes(process.pid)) == 1, 15)
    finally:
        process.stop()


def test_what_does_not_end_is_killed(tmp_path: Path) -> None:
    deaf = "import signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
    process = started(f"{deaf}print(1, flush=True)\ntime.sleep(60)", tmp_path)
    assert until(lambda: process.last_line == "1", 10)
    process.stop(0.1)
    assert process.ended == -signal.SIGKILL


def test_it_ends_with_whoever_started_it(tmp_path: Path) -> None:
    source = f"""
import os, sys
from pathlib import Path
from bench.process import Process
Process("sleep", ["sleep", "60"], Path({str(tmp_path / "inner")!r}))
print(os.getpid(), flush=True)
"""
    (tmp_path / "inner").mkdir()
    env = {"PYTHONPATH": str(Path(__file__).parents[2])}
    process = Process("python", [sys.executable, "-c", source], tmp_path, env=env)
    assert until(lambda: process.ended is not None, 10)
    assert process.ended == 0
    left = [pid for pid in map(int, filter(str.isdigit, os.listdir("/proc"))) if _asleep(pid, tmp_path)]
    assert until(lambda: all(map(gone, left)), 10)


def _asleep(pid: int, folder: Path) -> bool:
    try:
        return os.readlink(f"/proc/{pid}/cwd").startswith(str(folder))
    except OSError:
        return False


def test_it_runs_where_it_should(tmp_path: Path) -> None:
    core = min(os.sched_getaffinity(0))
    source = "import os\nprint(os.sched_getaffinity(0), os.getcwd(), os.environ['WORD'])"
    process = Process("python", [sys.executable, "-c", source], tmp_path, env={"WORD": "here"}, cpus={core})
    assert until(lambda: process.ended == 0, 10)
    assert process.last_line == f"{{{core}}} {tmp_path} here"


def test_what_it_said_last_is_the_last_line_with_something_in_it(tmp_path: Path) -> None:
    process = started("print('first\\nlast\\n\\n')", tmp_path)
    assert until(lambda: process.ended == 0, 10)
    assert process.last_line == "last"
    silent = started("", tmp_path)
    assert until(lambda: silent.ended == 0, 10)
    assert silent.last_line == "it said nothing"


def test_the_machine_is_busy_while_we_are() -> None:
    before, start = busy(), time.process_time()
    while time.process_time() - start < 0.2:
        pass
    assert busy() - before >= 0.15


def test_the_processor_has_a_name() -> None:
    assert cpu_model().strip()


@pytest.mark.parametrize("pid", [2**22 + 1])
def test_no_process_is_no_tree(pid: int) -> None:
    assert processes(pid) == {}


def test_a_port_is_free_or_somebody_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        assert listens(port)
        with pytest.raises(BenchError, match=f"port {port}, for x, is taken; choose .* with --port"):
            claim(port, "x")
    assert not listens(port)
    claim(port, "x")
