import errno
import os
from pathlib import Path
from typing import Any

import pytest

from plugins.ledger import journal as module
from plugins.ledger.journal import OPEN_LOG, Journal
from plugins.ledger.record import CLOSED, HEAD, OPEN, records
from plugins.ledger.segment import SIZE, Segment

PIECE = b"x" * (SIZE // 3)


@pytest.fixture
def journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(module, "STUCK", 60_000_000_000)  # these records are large, and machines busy
    journal = Journal(tmp_path / "journal", 4 * SIZE)
    journal.prepare()
    yield journal
    journal.close(done=True)


def test_records_go_into_the_first_segment_and_then_the_next(journal: Journal) -> None:
    called: list[bool] = []
    journal.needed = lambda: called.append(True)
    for _ in range(2):
        assert journal.append(CLOSED, PIECE)
    assert called == []
    assert journal.append(CLOSED, PIECE)
    assert (len(journal.segments), called) == (2, [True])
    assert journal.size == 2 * SIZE
    journal.prepare()
    assert journal.size == 3 * SIZE


def test_without_a_next_segment_records_are_refused_until_there_is_one(journal: Journal) -> None:
    assert all(journal.append(CLOSED, PIECE) for _ in range(4))
    assert not journal.append(CLOSED, PIECE)
    assert journal.failures == 1
    assert journal.append(OPEN, b"small")  # which still fits
    journal.prepare()
    assert journal.append(CLOSED, PIECE)
    assert journal.usable


@pytest.mark.fault("F5")
def test_it_takes_no_more_of_the_disk_than_it_may(journal: Journal) -> None:
    for size in (2, 3, 4):
        journal.prepare()
        assert journal.size == size * SIZE
        assert all(journal.append(CLOSED, PIECE) for _ in range(2 if size > 2 else 3))
    with pytest.raises(OSError, match="limit"):
        journal.prepare()
    journal.drop_first()
    journal.prepare()
    assert journal.append(CLOSED, PIECE)


def test_a_segment_that_is_needed_no_more_is_the_next_one_and_the_rest_go(journal: Journal) -> None:
    for _ in range(3):
        assert all(journal.append(CLOSED, PIECE) for _ in range(2))
        journal.prepare()
    first, second, _ = journal.segments
    journal.drop_first()
    journal.drop_first()
    assert journal.folder is not None
    assert journal.size == 3 * SIZE  # the last, the one that is ready, and what is to be used again
    assert len([*journal.folder.glob("*.log")]) == 3
    assert journal.append(CLOSED, b"last")
    assert journal.append(CLOSED, PIECE)
    journal.prepare()
    assert journal.size == 3 * SIZE
    assert all(journal.append(CLOSED, PIECE) for _ in range(2))
    assert journal.segments[-1] is first
    assert second.path not in journal.folder.iterdir()
    numbers = [int(segment.path.stem) for segment in journal.segments]
    assert numbers == sorted(numbers)
    found = [payload for _, payload, _ in records(journal.segments[-1].path.read_bytes())]
    assert found == [PIECE]


def test_one_that_cannot_be_used_again_goes(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    assert all(journal.append(CLOSED, PIECE) for _ in range(3))
    assert journal.folder is not None
    first = journal.segments[0]

    def cannot(*_: object) -> int:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", cannot)
        journal.drop_first()
    assert not first.path.exists()
    assert journal.size == SIZE
    journal.prepare()
    assert all(journal.append(CLOSED, PIECE) for _ in range(3))


def test_a_full_disk_is_an_error_to_the_writer_and_a_refusal_to_the_loop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: Path) -> Segment:
        raise OSError(errno.ENOSPC, "No space left on device")

    journal = Journal(tmp_path, SIZE)
    with monkeypatch.context() as patch:
        patch.setattr(module, "Segment", full)
        with pytest.raises(OSError, match="No space"):
            journal.prepare()
        assert not journal.append(CLOSED, PIECE)
        assert not journal.usable
    journal.prepare()
    assert journal.append(CLOSED, PIECE)
    journal.close(done=True)


def test_a_write_that_fails_is_a_refusal_and_the_next_one_is_whole(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(self: Segment, data: bytes) -> bool:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(Segment, "write", broken)
        assert not journal.append(OPEN, b"lost")
    assert journal.append(OPEN, b"kept")
    segment = journal.segments[0]
    assert [payload for _, payload, _ in records(segment.read(0, segment.at))] == [b"kept"]


def test_a_record_that_fits_into_no_segment_is_refused(journal: Journal) -> None:
    assert not journal.append(CLOSED, b"x" * (SIZE + 1))
    journal.prepare()
    assert journal.append(OPEN, b"kept")
    segment = journal.segments[-1]
    assert [payload for _, payload, _ in records(segment.read(0, segment.at))] == [b"kept"]


def test_after_a_write_was_stuck_the_journal_is_passed_by_for_a_while(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "STUCK", 250_000_000)
    now = [0]

    def clock() -> int:
        return now[0]

    def slow(self: Segment, data: bytes) -> bool:
        now[0] += int(data[HEAD + 1 :]) * 1_000_000
        return True

    monkeypatch.setattr(module, "monotonic_ns", clock)
    with monkeypatch.context() as patch:
        patch.setattr(Segment, "write", slow)
        assert journal.append(CLOSED, b"10")
        assert journal.append(CLOSED, b"11")  # slow, and no more
        assert journal.append(CLOSED, b"251")  # it is there, and it took long
    assert journal.slow_writes == 2
    assert not journal.append(CLOSED, b"passed by")
    assert journal.append(CLOSED, b"waited for", patient=True)
    now[0] += module.PASSED_BY
    assert journal.append(CLOSED, b"tried again")


def test_open_records_are_kept_beside_in_one_step(journal: Journal) -> None:
    assert journal.folder is not None
    path = journal.folder / OPEN_LOG
    journal.keep_open([b"a", b"b"])
    assert [(kind, payload) for kind, payload, _ in records(path.read_bytes())] == [
        (OPEN, b"a"),
        (OPEN, b"b"),
    ]
    journal.keep_open([])
    assert not path.exists()


def test_what_is_done_leaves_nothing_and_what_is_not_leaves_all(tmp_path: Path) -> None:
    for done in (True, False):
        journal = Journal(tmp_path / str(done), 4 * SIZE)
        journal.prepare()
        journal.append(CLOSED, PIECE)
        journal.close(done=done)
        assert bool(list((tmp_path / str(done)).iterdir())) is not done


def test_two_journals_have_two_folders(tmp_path: Path) -> None:
    one, two = Journal(tmp_path, SIZE), Journal(tmp_path, SIZE)
    one.prepare()
    two.prepare()
    assert len(list(tmp_path.iterdir())) == 2
    one.close(done=True)
    two.close(done=True)
