import errno
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from plugins.ledger.segment import SIZE, Segment


def test_what_is_written_is_there_and_the_space_is_taken(tmp_path: Path) -> None:
    segment = Segment(tmp_path / "1.log")
    assert segment.write(b"abc")
    assert segment.write(b"def")
    assert (segment.at, segment.read(0, 6), segment.read(2, 4)) == (6, b"abcdef", b"cd")
    assert (tmp_path / "1.log").stat().st_size == SIZE
    assert (tmp_path / "1.log").stat().st_blocks * 512 >= SIZE
    assert (tmp_path / "1.log").stat().st_mode & 0o777 == 0o600
    segment.remove()
    assert not (tmp_path / "1.log").exists()


def test_a_file_that_was_made_shorter_is_no_file_without_rows(tmp_path: Path) -> None:
    segment = Segment(tmp_path / "1.log")
    assert segment.write(b"abcdef")
    os.truncate(tmp_path / "1.log", 3)
    with pytest.raises(OSError, match="shorter than it was"):
        segment.read(0, 6)
    segment.remove()


@pytest.mark.parametrize("promised", [True, False])
def test_one_that_begins_anew_has_nothing_of_what_it_had(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, promised: bool
) -> None:
    if not promised:
        monkeypatch.delattr(os, "posix_fallocate")
    segment = Segment(tmp_path / "1.log")
    for _ in range(3):
        assert segment.write(b"x" * (SIZE // 3))
    segment.empty(tmp_path / "2.log")
    assert [path.name for path in tmp_path.iterdir()] == ["2.log"]
    assert (segment.at, (tmp_path / "2.log").read_bytes()) == (0, bytes(SIZE))
    assert segment.write(b"abc")
    assert (tmp_path / "2.log").read_bytes()[:5] == b"abc\0\0"
    segment.remove()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.fault("F2")
def test_what_is_written_survives_a_killed_process(tmp_path: Path) -> None:
    program = (
        "import os, signal, sys; from pathlib import Path; from plugins.ledger.segment import Segment\n"
        "segment = Segment(Path(sys.argv[1])); segment.write(b'kept'); os.kill(os.getpid(), signal.SIGKILL)"
    )
    path = tmp_path / "1.log"
    assert subprocess.run([sys.executable, "-c", program, str(path)], env=os.environ).returncode == -9
    assert path.read_bytes()[:5] == b"kept\0"


def test_its_pages_are_there_before_they_are_written_to(tmp_path: Path) -> None:
    segment = Segment(tmp_path / "1.log")
    assert segment.write(b"x")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(SIZE // 65536 - 1):
        assert segment.write(b"x" * 65536)
    faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
    segment.remove()
    assert faults < SIZE // 4096 // 4


def test_a_kernel_that_makes_no_pages_ahead_makes_them_when_they_are_needed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("plugins.ledger.segment._POPULATE_WRITE", 9999)  # EINVAL, as before Linux 5.14
    segment = Segment(tmp_path / "1.log")
    assert segment.write(b"abc")
    assert segment.read(0, 3) == b"abc"
    segment.remove()


def test_a_file_that_is_there_is_not_written_over(tmp_path: Path) -> None:
    (tmp_path / "1.log").write_bytes(b"kept")
    with pytest.raises(FileExistsError):
        Segment(tmp_path / "1.log")
    assert (tmp_path / "1.log").read_bytes() == b"kept"


def test_where_there_is_no_space_there_is_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(OSError, match="No space"):
        Segment(tmp_path / "1.log")
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def unpromising(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system that takes no space ahead."""

    def cannot(*_: object) -> None:
        raise OSError(errno.EOPNOTSUPP, "Operation not supported")

    monkeypatch.setattr(os, "posix_fallocate", cannot)


@pytest.mark.usefixtures("unpromising")
def test_without_a_promise_of_space_it_writes_by_system_calls(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    segment = Segment(tmp_path / "1.log")
    assert segment.write(b"abc")
    assert segment.read(0, 3) == b"abc"

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", full)
        with pytest.raises(OSError, match="No space"):
            segment.write(b"lost")
    assert segment.at == 3
    segment.close()


@pytest.mark.usefixtures("unpromising")
def test_what_was_written_in_part_is_written_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    segment = Segment(tmp_path / "1.log")
    real = os.pwrite
    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", lambda fd, data, at: real(fd, data[:2], at))
        assert not segment.write(b"wxyz")
    assert segment.write(b"abc")
    assert segment.read(0, 4) == b"abc\0"
    segment.close()


def test_where_the_system_has_no_call_for_it_it_is_written_to_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(os, "posix_fallocate")  # macOS
    segment = Segment(tmp_path / "1.log")
    assert segment.write(b"abc")
    assert segment.read(0, 3) == b"abc"
    assert (tmp_path / "1.log").stat().st_size == SIZE
    segment.remove()
