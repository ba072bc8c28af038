import logging
import os
import shutil
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from plugins.ledger import writer as module
from plugins.ledger.journal import OPEN_LOG, Journal
from plugins.ledger.keeper import Keeper
from plugins.ledger.record import CLOSED, OPEN, record, records
from plugins.ledger.replay import BATCH
from plugins.ledger.segment import SIZE
from plugins.ledger.writer import Writer

from .making import Memory, a_begun, a_first, a_payload, column, until
from .test_replay import left


class Stand:
    """A writer between a journal and a database that is a dict."""

    def __init__(self, folder: Path, limit: int = 100 * SIZE) -> None:
        self.folder = folder
        self.sink = Memory()
        self.journal = Journal(folder, limit)
        self.journal.prepare()
        self.writer = Writer(self.journal, folder, self.sink)

        self.keeper = Keeper()
        self.keeper.journal, self.keeper._writer = self.journal, self.writer

    def begin(self, *ids: str) -> None:
        for id_ in ids:
            assert self.keeper.begin(a_first(id_), patient=False)

    def end(self, *ids: str) -> None:
        for id_ in ids:
            assert self.keeper.end(a_payload(id_), patient=False)

    def flush(self) -> bool:
        return self.writer.flush().result(10)

    def kept(self) -> set[str]:
        """Journals on the disk."""
        return {path.name for path in self.folder.iterdir()}


@pytest.fixture
def stand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stand]:
    monkeypatch.setattr("plugins.ledger.journal.STUCK", 60_000_000_000)
    stand = Stand(tmp_path / "journal")
    yield stand
    stand.sink.fails = None
    stand.sink.refuses = set()
    if stand.writer._thread.is_alive():
        assert stand.writer.stop(10)


def test_rows_of_the_journal_come_into_the_database(stand: Stand) -> None:
    stand.writer.start()
    stand.begin("a", "b")
    stand.end("a")
    assert stand.flush()
    assert set(stand.sink.rows) == {"a"}
    assert (stand.writer.written, stand.writer.lost, stand.writer.lag) == (1, 0, 0.0)
    stand.end("b")
    until(lambda: set(stand.sink.rows) == {"a", "b"})  # by itself


def test_what_is_done_leaves_nothing_on_the_disk(stand: Stand) -> None:
    stand.writer.start()
    stand.begin("a")
    stand.end("a")
    assert stand.writer.stop(10)
    assert set(stand.sink.rows) == {"a"}
    assert stand.kept() == set()


def test_a_request_without_its_end_stays_for_the_next_start(stand: Stand) -> None:
    stand.writer.start()
    stand.begin("a")
    assert stand.writer.stop(10)
    assert stand.sink.rows == {}
    again = Stand(stand.folder)
    again.writer.start()
    assert again.flush()
    assert set(again.sink.rows) == {"a"}
    assert again.writer.stop(10)
    assert again.kept() == set()


def test_a_database_that_is_down_gets_its_rows_later_and_once(
    stand: Stand, caplog: pytest.LogCaptureFixture
) -> None:
    stand.sink.fails = ConnectionError("host and user are nobody's business")
    stand.writer.start()
    stand.end("a")
    assert not stand.flush()
    stand.end("b")
    assert not stand.flush()
    assert stand.writer.down == "ConnectionError"
    assert stand.writer.lag > 0
    said = [line for line in caplog.records if line.levelno == logging.ERROR]
    assert len(said) == 1  # not one a try
    assert "nobody's business" not in str(said[0].__dict__)
    stand.sink.fails = None
    assert stand.flush()
    assert set(stand.sink.rows) == {"a", "b"}
    assert stand.writer.down is None


def test_a_database_that_is_down_at_the_stop_leaves_the_journal(stand: Stand) -> None:
    stand.sink.fails = ConnectionError()
    stand.writer.start()
    stand.end("a")
    assert stand.writer.stop(10)
    assert len(stand.kept()) == 1
    again = Stand(stand.folder)
    again.writer.start()
    until(lambda: set(again.sink.rows) == {"a"})
    again.writer.stop(10)


def test_while_the_database_is_down_the_next_segments_are_made_all_the_same(stand: Stand) -> None:
    stand.sink.fails = ConnectionError()
    stand.writer.start()
    piece = b'"x","' + b"x" * (SIZE // 3) + b'"'
    for _ in range(5):
        until(lambda: stand.journal.append(OPEN, piece))
    until(lambda: stand.journal.size == 4 * SIZE)


def test_segments_go_when_their_rows_are_written_and_open_requests_are_kept_beside(stand: Stand) -> None:
    stand.writer.start()
    stand.begin("a", "b")
    large = a_begun("c") + b',"' + b"x" * (SIZE // 2) + b'"'
    for id_ in ("c", "d", "e"):
        until(lambda id_=id_: stand.journal.append(OPEN, large.replace(b'"c"', b'"%b"' % id_.encode())))
        stand.end(id_)
        assert stand.flush()
    stand.end("b")
    assert stand.flush()
    assert len(stand.journal.segments) == 1
    assert stand.journal.folder is not None
    log = (stand.journal.folder / OPEN_LOG).read_bytes()
    assert b'"a"' in b"".join(payload for _, payload, _ in records(log))
    # Killed now, of all of them "a" alone has not ended.
    copy = stand.folder.parent / "copy" / "1-aa"
    shutil.copytree(stand.journal.folder, copy)
    other = Stand(copy.parent)
    other.writer.start()
    until(lambda: "a" in other.sink.rows)
    other.writer.stop(10)
    ends = {id_: column(row, "end_reason") for id_, row in other.sink.rows.items()}
    assert ends == {"a": "crashed", "b": "complete", "e": "complete"}
    stand.end("a")


def test_rows_that_the_journal_did_not_take_come_through_memory(stand: Stand) -> None:
    stand.begin("a")
    stand.journal._pass_by_until = 2**63  # the disk is stuck
    stand.end("a")
    assert stand.writer.waiting == 1
    stand.writer.start()
    assert stand.flush()
    assert set(stand.sink.rows) == {"a"}
    assert stand.writer.waiting == 0
    assert stand.writer.backlog is not None
    assert stand.writer.backlog.running == {}  # its open record was ended by it
    assert stand.writer.stop(10)
    assert stand.kept() == set()


@pytest.mark.fault("F5")
def test_memory_has_a_bound_and_what_is_above_it_is_counted(
    stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SPILL", 3)
    taken = [stand.writer.spill(a_payload(f"{n}")) for n in range(5)]
    assert taken == [True, True, True, False, False]
    assert stand.writer.lost == 2
    stand.writer.start()
    assert stand.flush()
    assert set(stand.sink.rows) == {"0", "1", "2"}
    assert stand.writer.spill(a_payload("3"))


def test_a_row_that_the_database_does_not_take_does_not_stop_the_others(stand: Stand) -> None:
    stand.sink.refuses = {"b"}
    stand.writer.start()
    stand.end("a", "b", "c")
    assert stand.flush()
    assert set(stand.sink.rows) == {"a", "c"}
    assert stand.writer.lost == 1


def test_batches_are_no_larger_than_one_transaction_should_be(stand: Stand) -> None:
    stand.end(*(f"{n}" for n in range(BATCH * 2 + 5)))
    stand.writer.start()
    assert stand.flush()
    assert stand.sink.batches == [BATCH, BATCH, 5]


def test_what_fails_in_the_middle_goes_on_from_there(stand: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    stand.end(*(f"{n}" for n in range(BATCH + 5)))
    real = stand.sink.write

    def once(rows: Sequence[bytes]) -> None:
        if stand.sink.batches:
            stand.sink.write = real  # type: ignore[method-assign]
            raise ConnectionError
        real(rows)

    monkeypatch.setattr(stand.sink, "write", once)
    stand.writer.start()
    until(lambda: stand.writer.down is not None)
    assert stand.flush()
    assert stand.sink.batches == [BATCH, 5]
    assert stand.writer.written == BATCH + 5


def test_journals_of_dead_processes_are_taken_over(stand: Stand) -> None:
    left(stand.folder, record(CLOSED, a_payload("old")))
    stand.writer.start()
    assert stand.flush()
    assert set(stand.sink.rows) == {"old"}
    assert len(stand.kept()) == 1


def test_a_journal_that_cannot_be_read_does_not_stop_our_own(
    stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> int:
        raise PermissionError("not yours")

    monkeypatch.setattr(module, "adopt", broken)
    stand.writer.start()
    stand.end("a")
    assert stand.flush()
    assert set(stand.sink.rows) == {"a"}


def test_a_journal_that_cannot_grow_says_so_once_and_recovers(
    stand: Stand, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "posix_fallocate", full)
        stand.sink.fails = ConnectionError()  # else what it has would be written, and the space used again
        stand.writer.start()
        piece = b'"x","' + b"x" * (SIZE // 2) + b'"'
        assert stand.journal.append(OPEN, piece)
        assert stand.journal.append(OPEN, piece)  # into the segment that was there
        assert not stand.flush()
        assert not stand.flush()
        assert stand.writer.full == "No space left on device"
        assert not stand.journal.append(OPEN, piece)
        assert len([line for line in caplog.records if "cannot grow" in line.message]) == 1
    stand.sink.fails = None
    assert stand.flush()
    assert stand.writer.full is None
    assert stand.journal.append(OPEN, piece)


def test_on_a_full_disk_the_journal_goes_on_as_long_as_the_database_takes_rows(
    stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    stand.writer.start()
    piece = b'"x","' + b"x" * (SIZE // 2) + b'"'
    assert stand.journal.append(OPEN, piece)
    for _ in range(6):
        until(lambda: stand.journal.append(OPEN, piece))
        assert stand.flush()


def test_without_a_journal_rows_come_through_memory_alone() -> None:
    sink = Memory()
    writer = Writer(None, None, sink)
    writer.start()
    assert writer.spill(a_payload("a"))
    assert writer.stop(10)
    assert set(sink.rows) == {"a"}


def test_who_waits_at_the_stop_is_told(stand: Stand) -> None:
    stand.sink.fails = ConnectionError()
    stand.writer.start()
    stand.end("a")
    waits = [stand.writer.flush() for _ in range(3)]
    assert stand.writer.stop(10)
    assert [one.result(1) for one in waits] == [False] * 3


def test_rows_do_not_wait_for_a_house_that_takes_long(stand: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "HOUSE_EVERY", 0.01)
    begun, release = threading.Event(), threading.Event()

    def slow() -> None:
        begun.set()
        release.wait(10)

    monkeypatch.setattr(stand.sink, "keep_house", slow)
    stand.writer.start()
    assert begun.wait(10)
    stand.end("a")
    assert stand.flush()
    assert set(stand.sink.rows) == {"a"}
    release.set()


def test_what_goes_wrong_in_the_house_is_said_once_and_lets_no_journal_grow(
    stand: Stand, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "HOUSE_EVERY", 0.01)
    tried = 0

    def fails() -> None:
        nonlocal tried
        tried += 1
        raise RuntimeError("integer overflow")

    monkeypatch.setattr(stand.sink, "keep_house", fails)
    stand.end("a")
    assert stand.journal._advance()
    stand.end("b")
    stand.writer.start()
    until(lambda: set(stand.sink.rows) == {"a", "b"} and len(stand.journal.segments) == 1)
    until(lambda: tried > 3)
    assert stand.writer.down is None
    assert len([line for line in caplog.records if "not rolled up" in line.message]) == 1


@pytest.mark.fault("F4")
def test_an_outage_is_made_up_for_out_of_the_journal(stand: Stand) -> None:
    stand.sink.fails = ConnectionError()
    stand.writer.start()
    before = [f"before-{n}" for n in range(30)]
    stand.begin("open")
    stand.end(*before)
    until(lambda: stand.journal._advance())
    stand.end("in the next segment")
    assert not stand.flush()
    assert len(stand.journal.segments) == 2
    stand.sink.fails = None
    assert stand.flush()
    assert list(stand.sink.rows) == [*before, "in the next segment"]
    until(lambda: len(stand.journal.segments) == 1)
    stand.end("open", "after")
    assert stand.flush()
    assert list(stand.sink.rows)[-2:] == ["open", "after"]
    assert stand.writer.written == 33
    assert stand.writer.stop(10)
    assert stand.kept() == set()
