import os
from pathlib import Path
from typing import Any

import pytest

from plugins.ledger.journal import Journal
from plugins.ledger.lock import FolderLock
from plugins.ledger.record import CLOSED, OPEN, identity, record
from plugins.ledger.replay import ASIDE, BATCH, adopt
from plugins.ledger.segment import SIZE

from .making import Memory, a_begun, a_payload, column


def left(folder: Path, *data: bytes, kept_open: tuple[bytes, ...] = ()) -> Path:
    """A journal with these segments, whose process is dead."""
    journal = Journal(folder, 100 * SIZE)
    for at, piece in enumerate(data):
        journal.prepare()
        if at:
            journal._advance()
            journal.prepare()
        assert journal.segments[-1].write(piece)
    journal.prepare()
    journal.keep_open([*kept_open])
    found = journal.folder
    assert found is not None
    journal.close(done=False)
    return found


def test_rows_of_the_dead_are_written_and_their_journal_is_removed(tmp_path: Path) -> None:
    left(
        tmp_path, record(OPEN, a_begun("a")) + record(CLOSED, a_payload("a")), record(CLOSED, a_payload("b"))
    )
    sink = Memory()
    assert adopt(tmp_path, sink.write) == 2
    assert sorted(sink.rows) == ["a", "b"]
    assert column(sink.rows["a"], "end_reason") == "complete"
    assert list(tmp_path.iterdir()) == []


def test_a_request_that_never_ended_has_crashed_and_has_bounds(tmp_path: Path) -> None:
    left(tmp_path, record(OPEN, a_begun("a", estimate_pico=700)) + record(OPEN, a_begun("b")))
    sink = Memory()
    adopt(tmp_path, sink.write)
    a, b = sink.rows["a"], sink.rows["b"]
    said = [column(a, name) for name in ("end_reason", "cost_pico", "cost_low_pico", "cost_high_pico")]
    assert said == ["crashed", None, 0, 700]
    assert column(a, "usage_provenance") == "bounded"
    assert column(a, "user") == "alice"
    assert column(a, "input_tokens") is None
    assert (column(b, "cost_high_pico"), column(b, "usage_provenance")) == (None, "none")


def test_a_close_in_a_later_segment_ends_what_an_earlier_one_opened(tmp_path: Path) -> None:
    left(
        tmp_path,
        record(OPEN, a_begun("b")),
        record(CLOSED, a_payload("b")) + record(CLOSED, a_payload("a")),
        kept_open=(a_begun("a"), a_begun("c")),
    )
    sink = Memory()
    adopt(tmp_path, sink.write)
    ends = {id_: column(row, "end_reason") for id_, row in sink.rows.items()}
    assert ends == {"a": "complete", "b": "complete", "c": "crashed"}


@pytest.mark.fault("F2")
@pytest.mark.parametrize("kept", [0, 3, 40, -1])
def test_a_torn_tail_loses_itself_alone(tmp_path: Path, kept: int) -> None:
    last = record(CLOSED, a_payload("b"))
    left(tmp_path, record(OPEN, a_begun("b")) + record(CLOSED, a_payload("a")) + last[:kept])
    sink = Memory()
    adopt(tmp_path, sink.write)
    assert {id_: column(row, "end_reason") for id_, row in sink.rows.items()} == {
        "a": "complete",
        "b": "crashed",
    }


def test_the_journal_of_the_living_is_left_alone(tmp_path: Path) -> None:
    journal = Journal(tmp_path, SIZE)
    journal.prepare()
    journal.append(CLOSED, a_payload("a"))
    sink = Memory()
    assert adopt(tmp_path, sink.write) == 0
    assert sink.rows == {}
    journal.close(done=False)
    assert adopt(tmp_path, sink.write) == 1


def test_a_database_that_is_down_leaves_the_journal_for_later(tmp_path: Path) -> None:
    folder = left(tmp_path, record(CLOSED, a_payload("a")))
    sink = Memory()
    sink.fails = ConnectionError()
    with pytest.raises(ConnectionError):
        adopt(tmp_path, sink.write)
    assert folder.exists()
    sink.fails = None
    assert adopt(tmp_path, sink.write) == 1
    assert not folder.exists()


def test_many_rows_come_in_batches(tmp_path: Path) -> None:
    rows = b"".join(record(CLOSED, a_payload(f"{n}")) for n in range(BATCH + 7))
    left(tmp_path, rows + b"".join(record(OPEN, a_begun(f"open{n}")) for n in range(BATCH)))
    sink = Memory()
    assert adopt(tmp_path, sink.write) == 2 * BATCH + 7
    assert sink.batches == [BATCH, BATCH, 7]


def test_folders_that_were_never_finished_are_removed_when_they_are_old(tmp_path: Path) -> None:
    old, young = tmp_path / ".1-aa", tmp_path / ".2-bb"
    for folder in (old, young):
        folder.mkdir()
    os.utime(old, (0, 0))
    assert adopt(tmp_path, Memory().write) == 0
    assert [path.name for path in tmp_path.iterdir()] == [".2-bb"]


def test_no_folder_is_no_journal(tmp_path: Path) -> None:
    assert adopt(tmp_path / "none", Memory().write) == 0


def test_the_folder_is_ours_until_all_but_the_lock_is_gone(tmp_path: Path, monkeypatch: Any) -> None:
    left(tmp_path, record(CLOSED, a_payload("a")))
    real = os.unlink
    seen: list[tuple[str, bool]] = []

    def unlink(path: Path) -> None:
        another = FolderLock.take(path.parent)
        seen.append((path.name, another is None))
        real(path)

    monkeypatch.setattr(os, "unlink", unlink)
    adopt(tmp_path, Memory().write)
    assert all(ours for _, ours in seen)
    assert seen[-1][0] == "lock"


def test_both_kinds_of_records_begin_with_the_id() -> None:
    assert identity(a_begun("abc")) == identity(a_payload("abc")) == b"abc"


def test_one_that_cannot_be_read_keeps_no_other_waiting(tmp_path: Path) -> None:
    (tmp_path / "0-odd").write_text("no folder")
    left(tmp_path, record(CLOSED, a_payload("a")))
    sink = Memory()
    with pytest.raises(NotADirectoryError):
        adopt(tmp_path, sink.write)
    assert set(sink.rows) == {"a"}
    assert [path.name for path in tmp_path.iterdir()] == ["0-odd"]


@pytest.mark.parametrize(
    "odd",
    [
        record(CLOSED, b"[]"),
        record(OPEN, b"[]"),
        record(CLOSED, b"not JSON"),
        record(CLOSED, a_begun("c")),  # too few columns
        record(OPEN, a_payload("c")),  # too many
        record(CLOSED, b"\n" + a_payload("c")),
        record(CLOSED, a_payload("c").replace(b"\n", b",")),
        record(CLOSED, b"7," + a_payload("c").partition(b",")[2]),  # an id that is none
    ],
)
def test_records_of_another_version_are_set_aside_and_keep_no_row_waiting(
    odd: bytes, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    journal = left(tmp_path, record(CLOSED, a_payload("a")) + odd + record(CLOSED, a_payload("b")))
    sink = Memory()
    assert adopt(tmp_path, sink.write) == 2
    assert sorted(sink.rows) == ["a", "b"]
    assert [path.name for path in tmp_path.iterdir()] == [journal.name + ASIDE]
    assert [record.message for record in caplog.records if record.levelname == "ERROR"] == [
        "a journal has records of another version of Weir; it is set aside"
    ]
    caplog.clear()
    assert adopt(tmp_path, sink.write) == 0
    assert caplog.records == []
