"""The page of faults says what tests show: no row without a test, no mark without a row, and up to date."""

import pytest

from scripts.update_faults import PAGE, Misplaced, Shown, marks, page, shown

from .rows import INVARIANTS, LETTERS, ROWS, Row

MARKED = shown()


@pytest.mark.parametrize("row", [*ROWS, *INVARIANTS])
def test_every_row_is_shown_by_a_test(row: str) -> None:
    assert MARKED.get(row), f"no test has the mark pytest.mark.fault({row!r})"


def test_every_mark_names_a_row() -> None:
    assert {row: tests for row, tests in MARKED.items() if row not in ROWS and row not in INVARIANTS} == {}


def test_the_page_is_up_to_date() -> None:
    assert PAGE.read_text() == page(ROWS, MARKED), "run python -m scripts.update_faults"


def test_rows_are_in_order_and_say_something() -> None:
    numbers = [(id[0], int(id[1:])) for id in ROWS]
    assert numbers == sorted(numbers)
    assert {id[0] for id in ROWS} == set(LETTERS)
    for id, row in ROWS.items():
        assert row.client or row.kept, id
        for text in row:
            assert text == text.strip(), (id, text)
            assert "|" not in text, id
            assert not text or text[-1] in ".", (id, text)


PLANTED = """
import pytest

pytestmark = [pytest.mark.slow, pytest.mark.fault("B1")]

@pytest.mark.fault("A1", "A2")
async def test_two() -> None: ...

@pytest.mark.parametrize("x", [pytest.param(1, marks=pytest.mark.fault("A3")), 2])
def test_a_parameter(x: int) -> None: ...

@pytest.mark.fault("C1")
class TestMany:
    def test_one(self) -> None: ...

def helper() -> None: ...
"""


def test_marks_are_found_wherever_pytest_finds_them() -> None:
    assert sorted(marks(PLANTED, "test_x.py")) == [
        ("A1", "test_two"),
        ("A2", "test_two"),
        ("A3", "test_a_parameter"),
        ("B1", "test_a_parameter"),
        ("B1", "test_one"),
        ("B1", "test_two"),
        ("C1", "test_one"),
    ]


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("import pytest\n@pytest.mark.fault('A1')\ndef helper() -> None: ...", "x.py:2: put this mark on a"),
        ("import pytest\nMARK = pytest.mark.fault('A1')", "x.py:2: put this mark on a test"),
        ("import pytest\n@pytest.mark.fault()\ndef test_x() -> None: ...", "x.py:2: put this mark on a test"),
        ("import pytest\n@pytest.mark.fault(A)\ndef test_x() -> None: ...", "x.py:2: write the row as text"),
    ],
)
def test_a_mark_that_pytest_would_not_see_is_told(source: str, said: str) -> None:
    with pytest.raises(Misplaced, match=said):
        list(marks(source, "x.py"))


def test_the_page_has_a_row_its_tests_and_what_differs() -> None:
    rows = {"A1": Row("It falls.", "502.", "", "It might get up.")}
    text = page(rows, {"A1": [Shown("tests/x/test_x.py", "test_it_falls"), Shown("tests/y.py", "test_b")]})
    assert "| A1 | It falls. | 502. | | [it falls](../tests/x/test_x.py); [b](../tests/y.py) |\n" in text
    assert "- **A1.** It might get up.\n" in text
