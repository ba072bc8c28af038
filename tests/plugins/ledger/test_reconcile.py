import datetime as dt
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from plugins.ledger.reconcile import ExportError, Line, _read, differences
from plugins.ledger.table import insert
from proxy.api.database import Database

from .making import NOON, a_payload

START = int(dt.datetime(2026, 11, 3, tzinfo=dt.UTC).timestamp())
END = START + 86400
MODEL = "gpt-4o-2024-08-06"


def usage(**result: Any) -> bytes:
    """An answer of the usage API."""
    results = [{"object": "organization.usage.completions.result", "model": MODEL, **result}]
    bucket = {"object": "bucket", "start_time": START, "end_time": END, "results": results}
    return orjson.dumps({"object": "page", "data": [bucket], "has_more": False})


@pytest.fixture
def filled(database: Database) -> Database:
    with database.begin() as connection:
        insert(
            connection,
            [
                a_payload("a", cached_tokens=10),
                a_payload("b"),
                a_payload(
                    "refused", usage_provenance="none", model_served=None, input_tokens=0, output_tokens=0
                ),
                a_payload("tomorrow", started_at=NOON + 86_400_000_000),
            ],
        )
    return database


def compared(database: Database, export: bytes) -> tuple[list[Line], int]:
    with database.read() as connection:
        return differences(connection, export)


def test_what_is_the_same_is_no_difference(filled: Database) -> None:
    export = usage(input_tokens=2000, output_tokens=200, input_cached_tokens=10, num_model_requests=2)
    assert compared(filled, export) == ([], 4)


def test_what_differs_is_told_with_both_figures(filled: Database) -> None:
    export = usage(input_tokens=2500, output_tokens=200, num_model_requests=3)
    found, _ = compared(filled, export)
    assert found == [
        Line(START, END, MODEL, "input_tokens", 2500, 2000),
        Line(START, END, MODEL, "requests", 3, 2),
    ]
    assert found[0].told(found[0].theirs) == "2,500"


def test_models_that_one_side_alone_has_are_differences(filled: Database) -> None:
    found, _ = compared(filled, usage(model="o3", input_tokens=7))
    assert [(line.model, line.theirs, line.ours) for line in found] == [(MODEL, 0, 2000), ("o3", 7, 0)]


def test_costs_are_compared_in_all(filled: Database) -> None:
    bucket = {
        "start_time": START,
        "end_time": END,
        "results": [{"object": "organization.costs.result", "amount": {"value": 0.0105, "currency": "usd"}}],
    }
    assert compared(filled, orjson.dumps([{"data": [bucket]}]))[0] == []  # with the one that was refused
    bucket["results"][0]["amount"]["value"] = 0.02  # type: ignore[index]
    (line,), _ = compared(filled, orjson.dumps([{"data": [bucket]}]))
    assert (line.model, line.told(line.theirs), line.told(line.ours)) == (None, "$0.02", "$0.0105")


def test_csv_is_read_too_with_or_without_a_mark(filled: Database) -> None:
    text = (
        "start_time,end_time,start_time_iso,end_time_iso,num_model_requests,model,input_tokens,output_tokens,"
        f"input_cached_tokens\r\n{START},{END},x,y,1,{MODEL},1500,150,10\r\n{START},{END},x,y,1,{MODEL},500,50,\r\n"
    )
    for mark in ("", "\ufeff"):
        assert compared(filled, (mark + text).encode()) == ([], 4)


@pytest.mark.parametrize(
    ("export", "says"),
    [
        (b"", "no usage in this file"),
        (b"{}", "no usage export"),
        (b"a,b\n1,2\n", "no usage export"),
        (b"{not json", "no usage export"),
        (b"\xff\xfe", "no usage export"),
        (b'{"data": []}', "no usage in this file"),
        (b"start_time,end_time,model,input_tokens\nx,y,z,1\n", "no usage export"),
        (b"start_time,end_time\n" + b"1" * 200_000 + b",2\n", "no usage export"),
        (
            b'{"data": [{"start_time": 1, "end_time": 2, "results": [{"amount": {"value": "Infinity"}}]}]}',
            "no usage",
        ),
    ],
)
def test_what_is_no_export_is_told(filled: Database, export: bytes, says: str) -> None:
    with pytest.raises(ExportError, match=says):
        compared(filled, export)


@given(st.one_of(st.binary(max_size=80), st.text(max_size=80).map(str.encode)))
def test_strangers_files_are_read_or_refused(export: bytes) -> None:
    try:
        _read(export)
    except ExportError:
        pass
