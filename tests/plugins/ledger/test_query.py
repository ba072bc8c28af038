import datetime as dt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plugins.ledger.query import BUCKETS, FILTERS, Query, QueryError, moment, read

NOW = dt.datetime(2026, 11, 23, 12, 0, tzinfo=dt.UTC)


def micro(text: str) -> int:
    return int(dt.datetime.fromisoformat(text).timestamp()) * 1_000_000


def test_without_parameters_it_is_the_last_thirty_days() -> None:
    assert read([], NOW) == Query(micro("2026-10-24T12:00:00+00:00"), micro("2026-11-23T12:00:00+00:00") + 1)


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("2026-11-01", "2026-11-01T00:00:00+00:00"),
        ("2026-11-01T06:30", "2026-11-01T06:30:00+00:00"),
        ("2026-11-01T06:30Z", "2026-11-01T06:30:00+00:00"),
        ("2026-11-01T06:30+02:00", "2026-11-01T04:30:00+00:00"),
        ("7d", "2026-11-16T12:00:00+00:00"),
        ("24h", "2026-11-22T12:00:00+00:00"),
        ("90m", "2026-11-23T10:30:00+00:00"),
        ("2w", "2026-11-09T12:00:00+00:00"),
    ],
)
def test_moments(text: str, at: str) -> None:
    assert moment("since", text, NOW) == micro(at)


def test_groups_filters_and_a_limit() -> None:
    query = read(
        [
            ("by", "model,day"),
            ("by", "team"),
            ("team", "red"),
            ("team", "blue"),
            ("status", "200"),
            ("limit", "5"),
        ],
        NOW,
    )
    assert (query.by, query.bucket, query.limit) == (("model", "team"), "day", 5)
    assert query.where == (("team", ("red", "blue")), ("status", (200,)))


@pytest.mark.parametrize(
    ("pairs", "says"),
    [
        ([("colour", "red")], "'colour' is nothing to ask by; there are since, until, by"),
        ([("since", "yesterday")], "neither a moment"),
        ([("since", "1d"), ("until", "2d")], "until lies before since"),
        ([("by", "colour")], "by: 'colour' is none of key, user"),
        ([("by", "day,hour")], "one of hour, day and month"),
        ([("status", "ok")], "status: a number"),
        ([("limit", "0")], "limit: a number from 1"),
        ([("limit", "10001")], "limit: a number from 1"),
        ([("team", "x")] * 101, "more than 100 values"),
        ([("format", "csv")], "nothing to ask by"),
    ],
)
def test_what_cannot_be_asked_is_told(pairs: list[tuple[str, str]], says: str) -> None:
    with pytest.raises(QueryError, match=says):
        read(pairs, NOW)


NAMES = st.one_of(st.sampled_from(["since", "until", "by", "limit", *FILTERS]), st.text(max_size=5))
VALUES = st.one_of(st.sampled_from(["1d", "2026-01-01", "7", *FILTERS, *BUCKETS]), st.text(max_size=12))


@given(st.lists(st.tuples(NAMES, VALUES), max_size=6))
def test_strangers_get_a_query_or_one_line(pairs: list[tuple[str, str]]) -> None:
    try:
        query = read(pairs, NOW)
    except QueryError as error:
        said = str(error)
    else:
        said = ""
        assert 0 <= query.since <= query.until
        assert all("\0" not in str(values) for _, values in query.where)
    assert "\n" not in said
    assert len(said) < 800


def test_a_restricted_query_is_never_wider() -> None:
    query = read([("key", "another's")], NOW).restricted("key_id", "mine")
    assert query.where == (("key_id", ("another's",)), ("key_id", ("mine",)))
