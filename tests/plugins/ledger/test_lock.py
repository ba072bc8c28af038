import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

from plugins.ledger.lock import FolderLock


def test_one_holds_it_at_a_time(tmp_path: Path) -> None:
    lock = FolderLock.take(tmp_path)
    assert lock is not None
    assert FolderLock.take(tmp_path) is None
    lock.release()
    again = FolderLock.take(tmp_path)
    assert again is not None
    again.release()


def test_it_ends_with_its_process_however_that_ends(tmp_path: Path) -> None:
    program = (
        "import sys, time; from pathlib import Path; from plugins.ledger.lock import FolderLock\n"
        "lock = FolderLock.take(Path(sys.argv[1])); print(lock is not None, flush=True); time.sleep(60)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE, env=os.environ
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"True\n"
    assert FolderLock.take(tmp_path) is None
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    lock = FolderLock.take(tmp_path)
    assert lock is not None
    lock.release()


def test_there_is_none_of_a_folder_that_is_gone(tmp_path: Path) -> None:
    assert FolderLock.take(tmp_path / "gone") is None


def test_the_lock_of_a_removed_folder_is_nobodys(tmp_path: Path) -> None:
    folder = tmp_path / "journal"
    folder.mkdir()
    lock = FolderLock.take(folder)
    assert lock is not None
    shutil.rmtree(folder)
    lock.release()
    folder.mkdir()
    again = FolderLock.take(folder)
    assert again is not None
    again.release()
