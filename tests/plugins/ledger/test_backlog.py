from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from plugins.ledger import backlog as module
from plugins.ledger.backlog import Backlog
from plugins.ledger.journal import Journal
from plugins.ledger.record import CLOSED, OPEN, record
from plugins.ledger.segment import SIZE

from .making import a_first, a_payload, a_row


class Stand:
    """A backlog whose journal is real, and a database that is a list."""

    def __init__(self, folder: Path) -> None:
        self.journal = Journal(folder, 100 * SIZE)
        self.journal.prepare()
        self.backlog = Backlog(self.journal)
        self.stored: list[str] = []

    def end(self, *ids: str) -> None:
        for id_ in ids:
            data = record(CLOSED, a_payload(id_))
            assert self.journal.append(data)
            self.backlog.add(a_row(id_), len(data))

    def step(self, most: int) -> int:
        """What the writer does once; how many rows that were."""
        found = self.backlog.read(most)
        if found is None:
            rows = self.backlog.take(most)
            self.backlog.taken(len(rows))
        else:
            rows, place = found
            self.backlog.was_read(place)
        self.stored += [row[0] for row in rows]
        return len(rows)

    def all(self, most: int = 100) -> list[str]:
        """Everything until there is nothing more."""
        while self.step(most) or not self.backlog.is_done:
            pass
        return self.stored


@pytest.fixture
def stand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stand:
    monkeypatch.setattr(module, "HELD", 3)
    return Stand(tmp_path / "journal")


def names(count: int, since: int = 0) -> list[str]:
    return [f"r{n}" for n in range(since, since + count)]


def test_rows_come_out_in_their_order_and_stay_until_they_are_taken(stand: Stand) -> None:
    stand.end("a", "b", "c")
    assert [row[0] for row in stand.backlog.take(2)] == ["a", "b"]
    assert [row[0] for row in stand.backlog.take(9)] == ["a", "b", "c"]
    assert not stand.backlog.is_done
    stand.backlog.taken(3)
    assert stand.backlog.is_done
    assert stand.backlog.take(9) == []


def test_what_is_too_many_to_hold_is_read_out_of_the_journal(stand: Stand) -> None:
    stand.end(*names(3))
    assert stand.journal.append(record(OPEN, a_first("open")))
    stand.end(*names(20, 3))
    assert len(stand.backlog) == 3 + 1
    assert stand.all(most=4) == names(23)
    assert stand.backlog.is_done


def test_when_it_has_caught_up_rows_are_held_again(stand: Stand) -> None:
    stand.end(*names(5))
    assert stand.all() == names(5)
    stand.end("x", "y")
    assert not stand.backlog.is_done
    assert stand.all() == [*names(5), "x", "y"]
    assert len(stand.backlog) == 0
    stand.end("z")
    assert [row[0] for row in stand.backlog.take(9)] == ["z"]


def test_a_stretch_goes_on_from_one_segment_into_the_next(stand: Stand) -> None:
    stand.end(*names(4))
    assert stand.journal._advance()
    stand.end("x")
    stand.journal.prepare()
    assert stand.journal._advance()
    stand.end("y")
    first = stand.journal.segments[0]
    while stand.backlog.needs is None:
        stand.step(1)
    assert stand.backlog.needs is first
    assert stand.all(most=1) == [*names(4), "x", "y"]
    assert stand.backlog.needs is stand.journal.segments[-1]


def test_rows_that_failed_are_read_again(stand: Stand) -> None:
    stand.end(*names(6))
    stand.step(3)
    first, again = stand.backlog.read(2), stand.backlog.read(2)
    assert first is not None
    assert again is not None
    assert [row[0] for row in first[0]] == [row[0] for row in again[0]] == ["r3", "r4"]
    assert stand.all() == names(6)


STEPS = st.lists(st.one_of(st.integers(1, 9), st.integers(-9, -1), st.just(0)), max_size=40)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(STEPS)
def test_whatever_comes_between_no_row_is_lost_and_none_comes_twice(tmp_path: Path, steps: list[int]) -> None:
    """More than 0: so many rows end. Less: the writer takes up to so many. 0: the journal goes on."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "HELD", 3)
        stand = Stand(tmp_path / f"{id(steps)}")
        ended = 0
        for step in steps:
            if step > 0:
                stand.end(*names(step, ended))
                ended += step
            elif step < 0:
                stand.step(-step)
            elif stand.journal.size < 20 * SIZE:
                stand.journal.prepare()
                assert stand.journal._advance()
                stand.journal.prepare()
        assert stand.all(most=2) == names(ended)
        stand.journal.close(done=True)


def test_an_empty_one_is_done(tmp_path: Path) -> None:
    journal: Any = Journal(tmp_path, SIZE)
    assert Backlog(journal).is_done
    assert Backlog(journal).needs is None
