from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from plugins.ledger.backlog import Backlog
from plugins.ledger.journal import Journal
from plugins.ledger.record import CLOSED, OPEN, identity
from plugins.ledger.segment import SIZE

from .making import a_begun, a_payload


class Stand:
    """A backlog whose journal is real, and a database that is a list."""

    def __init__(self, folder: Path) -> None:
        self.journal = Journal(folder, 100 * SIZE)
        self.journal.prepare()
        self.backlog = Backlog(self.journal)
        self.stored: list[str] = []

    def end(self, *ids: str) -> None:
        for id_ in ids:
            assert self.journal.append(CLOSED, a_payload(id_))

    def step(self, most: int) -> int:
        """What the writer does once; how many rows that were."""
        rows, place = self.backlog.read(most, self.backlog.end)
        self.backlog.was_read(place)
        self.stored += [identity(row).decode() for row in rows]
        return len(rows)

    def all(self, most: int = 100) -> list[str]:
        """Everything until there is nothing more."""
        while not self.backlog.is_done:
            self.step(most)
        return self.stored


@pytest.fixture
def stand(tmp_path: Path) -> Stand:
    return Stand(tmp_path / "journal")


def names(count: int, since: int = 0) -> list[str]:
    return [f"r{n}" for n in range(since, since + count)]


def test_rows_come_in_their_order_and_again_until_they_were_read(stand: Stand) -> None:
    stand.end("a", "b", "c")
    for _ in range(2):
        rows, place = stand.backlog.read(2, stand.backlog.end)
        assert [identity(row).decode() for row in rows] == ["a", "b"]
        assert not stand.backlog.is_done
    stand.backlog.was_read(place)
    assert not stand.backlog.is_done
    assert stand.all() == ["c"]


def test_what_has_only_begun_is_no_row(stand: Stand) -> None:
    assert stand.journal.append(OPEN, a_begun("open"))
    assert not stand.backlog.is_done
    assert stand.step(9) == 0
    assert stand.backlog.is_done
    stand.end(*names(3))
    assert stand.journal.append(OPEN, a_begun("open"))
    stand.end(*names(3, 3))
    assert stand.all(most=4) == names(6)


def test_who_has_begun_and_not_ended_is_known_however_often_it_is_read(stand: Stand) -> None:
    for id_ in "abc":
        assert stand.journal.append(OPEN, a_begun(id_))
    stand.end("b")
    for _ in range(2):
        _, place = stand.backlog.read(9, stand.backlog.end)
        assert stand.backlog.running == {b"a": a_begun("a"), b"c": a_begun("c")}
    stand.backlog.was_read(place)
    stand.end("a", "c")
    assert stand.all() == ["a", "c"]
    assert stand.backlog.running == {}


def test_what_comes_after_the_end_is_for_the_next_time(stand: Stand) -> None:
    stand.end("a")
    end = stand.backlog.end
    stand.end("b")
    assert stand.journal._advance()
    stand.end("c")
    rows, place = stand.backlog.read(9, end)
    assert ([identity(row).decode() for row in rows], place) == (["a"], end)
    stand.backlog.was_read(place)
    assert stand.all() == ["b", "c"]


def test_it_goes_on_from_one_segment_into_the_next(stand: Stand) -> None:
    stand.end(*names(4))
    assert stand.journal._advance()
    stand.end("x")
    stand.journal.prepare()
    assert stand.journal._advance()
    stand.end("y")
    assert stand.backlog.needs is None
    stand.step(1)
    assert stand.backlog.needs is stand.journal.segments[0]
    assert stand.all(most=1) == [*names(4), "x", "y"]
    assert stand.backlog.needs is stand.journal.segments[-1]


STEPS = st.lists(st.one_of(st.integers(1, 9), st.integers(-9, -1), st.just(0)), max_size=40)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(STEPS)
def test_whatever_comes_between_no_row_is_lost_and_none_comes_twice(tmp_path: Path, steps: list[int]) -> None:
    """More than 0: so many rows end. Less: the writer takes up to so many. 0: the journal goes on."""
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
