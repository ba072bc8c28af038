import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plugins.ledger.told import NAMES, csv_lines, moment, row

from .making import NOON, a_row


def test_a_row_is_told_in_words_and_dollars() -> None:
    told = row(a_row(other_units='{"seconds":"1.5"}'))
    assert tuple(told) == NAMES
    assert told["started_at"] == "2026-11-03T12:00:00.000000Z"
    assert (told["cost_usd"], told["estimate_usd"]) == ("0.0035", None)
    assert told["hops"] == {"upstream": 1400000}
    assert told["other_units"] == {"seconds": "1.5"}
    assert not [name for name in told if name.endswith("_pico")]


def test_moments_have_all_their_microseconds() -> None:
    assert moment(NOON + 1) == "2026-11-03T12:00:00.000001Z"


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@x", "\tx", "\rx"])
def test_what_a_spreadsheet_would_run_is_text(text: str) -> None:
    ((cell,),) = csv.reader(io.StringIO(csv_lines([[text]]).decode(), newline=""))
    assert cell == "'" + text


@given(
    st.lists(st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\0")), min_size=2, max_size=3))
)
def test_csv_is_read_as_it_was_written(lines: list[list[str]]) -> None:
    read = list(csv.reader(io.StringIO(csv_lines(lines).decode(), newline="")))
    assert [[cell.removeprefix("'") for cell in line] for line in read] == [
        [cell.removeprefix("'") for cell in line] for line in lines
    ]


def test_what_is_not_text_is_told_plainly() -> None:
    assert csv_lines([[None, True, False, 7, {"a": 1}]]) == b',true,false,7,"{""a"":1}"\r\n'
