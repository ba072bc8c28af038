import errno
from pathlib import Path
from typing import Any

import pytest

from plugins.ledger import journal as module
from plugins.ledger.journal import OPEN_LOG, Journal
from plugins.ledger.record import CLOSED, OPEN, record, records
from plugins.ledger.segment import SIZE, Segment

PIECE = record(CLOSED, b"x" * (SIZE // 3))


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
        assert journal.append(PIECE)
    assert called == []
    assert journal.append(PIECE)
    assert (len(journal.segments), called) == (2, [True])
    assert journal.size == 2 * SIZE
    journal.prepare()
    assert journal.size == 3 * SIZE


def test_without_a_next_segment_records_are_refused_until_there_is_one(journal: Journal) -> None:
    assert all(journal.append(PIECE) for _ in range(4))
    assert not journal.append(PIECE)
    assert journal.failures == 1
    assert journal.append(record(OPEN, b"small"))  # which still fits
    journal.prepare()
    assert journal.append(PIECE)
    assert journal.usable


@pytest.mark.fault("F5")
def test_it_takes_no_more_of_the_disk_than_it_may(journal: Journal) -> None:
    for size in (2, 3, 4):
        journal.prepare()
        assert journal.size == size * SIZE
        assert all(journal.append(PIECE) for _ in range(2 if size > 2 else 3))
    with pytest.raises(OSError, match="limit"):
        journal.prepare()
    journal.drop_first()
    journal.prepare()
    assert journal.append(PIECE)


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
        assert not journal.append(PIECE)
        assert not journal.usable
    journal.prepare()
    assert journal.append(PIECE)
    journal.close(done=True)


def test_a_write_that_fails_is_a_refusal_and_the_next_one_is_whole(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(self: Segment, data: bytes) -> bool:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(Segment, "write", broken)
        assert not journal.append(record(OPEN, b"lost"))
    assert journal.append(record(OPEN, b"kept"))
    segment = journal.segments[0]
    assert [payload for _, payload, _ in records(segment.read(0, segment.at))] == [b"kept"]


def test_a_record_that_fits_into_no_segment_is_refused(journal: Journal) -> None:
    assert not journal.append(b"x" * (SIZE + 1))
    journal.prepare()
    assert journal.append(record(OPEN, b"kept"))
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
        now[0] += int(data) * 1_000_000
        return True

    monkeypatch.setattr(module, "monotonic_ns", clock)
    with monkeypatch.context() as patch:
        patch.setattr(Segment, "write", slow)
        assert journal.append(b"10")
        assert journal.append(b"11")  # slow, and no more
        assert journal.append(b"251")  # it is there, and it took long
    assert journal.slow_writes == 2
    assert not journal.append(b"passed by")
    assert journal.append(b"waited for", patient=True)
    now[0] += module.PASSED_BY
    assert journal.append(b"tried again")


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
        journal.append(PIECE)
        journal.close(done=done)
        assert bool(list((tmp_path / str(done)).iterdir())) is not done


def test_two_journals_have_two_folders(tmp_path: Path) -> None:
    one, two = Journal(tmp_path, SIZE), Journal(tmp_path, SIZE)
    one.prepare()
    two.prepare()
    assert len(list(tmp_path.iterdir())) == 2
    one.close(done=True)
    two.close(done=True)
