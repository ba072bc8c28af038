from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plugins.validate.checks import (
    ARRAY,
    BOOLEAN,
    DECIMAL,
    INTEGER,
    INTEGERS,
    LOOKED_AT,
    OBJECT,
    OBJECTS,
    STRING,
    STRINGS,
    TOKENS,
    Field,
    Kind,
    check,
)
from proxy.api import ClientError

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)


def outcome(values: Any, fields: Any) -> ClientError | None:
    """What these values are refused with, if they are."""
    try:
        check(values, fields)
    except ClientError as error:
        return error
    return None


def refused(value: Any, field: Field) -> ClientError:
    with pytest.raises(ClientError) as caught:
        check({"x": value}, {"x": field})
    error = caught.value
    assert (error.status, error.type, error.param) == (400, "invalid_request_error", "x")
    return error


@pytest.mark.parametrize(
    ("kind", "good", "bad"),
    [
        (STRING, ["", "a"], [1, True, [], {}]),
        (BOOLEAN, [True, False], [0, 1, "true", []]),
        (INTEGER, [0, -1, 2**64 - 1, 1.0, 2.0**64], [0.5, True, "1", []]),
        (DECIMAL, [0, 1, 0.5, -1.0], [True, "0.5", []]),
        (OBJECT, [{}, {"a": 1}], [[], "a", 1]),
        (ARRAY, [[], [1, "a"]], [{}, "a", 1]),
        (STRINGS, [[], ["a", ""]], ["a", ["a", 1], [None], {}]),
        (INTEGERS, [[], [1, 2.0]], [1, ["a"], [0.5], [True]]),
        (OBJECTS, [[], [{}]], [{}, [[]], [{}, 1]]),
        (TOKENS, [[], [[1, 2], []]], [[1], [["a"]], [[1], "a"], [[True]]]),
    ],
    ids=lambda value: value.name if isinstance(value, Kind) else "",
)
def test_kinds(kind: Kind, good: list[Any], bad: list[Any]) -> None:
    for value in good:
        check({"x": value}, {"x": Field((kind,))})
    for value in bad:
        assert refused(value, Field((kind,))).code == "invalid_type"


@pytest.mark.parametrize(
    ("value", "kinds", "message"),
    [
        ("a", (OBJECTS,), "expected an array of objects, but got a string instead."),
        (None, (OBJECTS,), "expected an array of objects, but got null instead."),
        ("a", (DECIMAL,), "expected a decimal, but got a string instead."),
        (
            1,
            (STRING, STRINGS),
            "expected one of a string or an array of strings, but got an integer instead.",
        ),
        (
            {},
            (STRING, STRINGS, TOKENS),
            "expected one of a string, an array of strings or an array of integer arrays, but got an object "
            "instead.",
        ),
        (0.5, (INTEGER,), "expected an integer, but got a decimal number instead."),
        (2.0, (STRING,), "expected a string, but got an integer instead."),
        (True, (STRING,), "expected a string, but got a boolean instead."),
        ([1], (STRING,), "expected a string, but got an array instead."),
    ],
)
def test_a_wrong_type_is_told_as_the_api_tells_it(value: Any, kinds: tuple[Kind, ...], message: str) -> None:
    error = refused(value, Field(kinds, required=True))
    assert (error.code, error.message) == ("invalid_type", f"Invalid type for 'x': {message}")


@pytest.mark.parametrize(
    ("value", "field", "code", "message"),
    [
        (
            0,
            Field((INTEGER,), low=1),
            "integer_below_min_value",
            "Invalid 'x': integer below minimum value. Expected a value >= 1, but got 0 instead.",
        ),
        (
            11,
            Field((INTEGER,), high=10),
            "integer_above_max_value",
            "Invalid 'x': integer above maximum value. Expected a value <= 10, but got 11 instead.",
        ),
        (
            -0.5,
            Field((DECIMAL,), low=0),
            "decimal_below_min_value",
            "Invalid 'x': decimal below minimum value. Expected a value >= 0, but got -0.5 instead.",
        ),
        (
            3,
            Field((DECIMAL,), low=0, high=2),
            "decimal_above_max_value",
            "Invalid 'x': decimal above maximum value. Expected a value <= 2, but got 3 instead.",
        ),
        (
            "",
            Field((STRING, ARRAY), empty=False),
            "empty_string",
            "Invalid 'x': empty string. Expected a string with minimum length 1, but got an empty string "
            "instead.",
        ),
        (
            [],
            Field((STRING, ARRAY), empty=False),
            "empty_array",
            "Invalid 'x': empty array. Expected an array with minimum length 1, but got an empty array "
            "instead.",
        ),
        (
            ["a"] * 3,
            Field((STRINGS,), longest=2),
            "array_above_max_length",
            "Invalid 'x': array too long. Expected an array with maximum length 2, but got an array with "
            "length 3 instead.",
        ),
    ],
)
def test_what_is_out_of_bounds(value: Any, field: Field, code: str, message: str) -> None:
    error = refused(value, field)
    assert (error.code, error.message) == (code, message)


@pytest.mark.parametrize(
    ("value", "field"),
    [
        (1, Field((INTEGER,), low=1)),
        (10, Field((INTEGER,), high=10)),
        (0, Field((DECIMAL,), low=0)),
        (2.0, Field((DECIMAL,), high=2)),
        ("", Field((STRING,))),
        ([], Field((ARRAY,))),
        ([1] * 3, Field((INTEGERS,), longest=2)),
        ([[1]] * 2, Field((TOKENS,), longest=2)),
        (None, Field((STRING,), empty=False)),
    ],
)
def test_what_is_just_within(value: Any, field: Field) -> None:
    check({"x": value}, {"x": field})


def test_what_is_missing_is_named_with_its_path() -> None:
    fields = {"a": Field((OBJECTS,), items={"b": Field((STRING,), required=True)})}
    check({}, fields)
    with pytest.raises(ClientError) as caught:
        check({"a": [{"b": ""}, {"c": 1}]}, fields)
    error = caught.value
    assert (error.code, error.param) == ("missing_required_parameter", "a[1].b")
    assert error.message == "Missing required parameter: 'a[1].b'."
    with pytest.raises(ClientError) as caught:
        check({"a": [{"b": 1}]}, fields)
    assert caught.value.message == "Invalid type for 'a[0].b': expected a string, but got an integer instead."


def test_unknown_fields_may_be_anything() -> None:
    check({"y": object()}, {"x": Field((STRING,))})


@given(
    JSON,
    st.lists(
        st.sampled_from(
            [STRING, BOOLEAN, INTEGER, DECIMAL, OBJECT, ARRAY, STRINGS, INTEGERS, OBJECTS, TOKENS]
        ),
        min_size=1,
        max_size=3,
    ),
    st.booleans(),
    st.booleans(),
)
def test_nothing_else_is_raised(value: Any, kinds: list[Kind], required: bool, empty: bool) -> None:
    inner = {"role": Field((STRING,), required=True)}
    items = inner if kinds == [OBJECTS] else None
    field = Field(tuple(kinds), required=required, low=0, high=5, empty=empty, longest=2, items=items)
    if (error := outcome({"x": value}, {"x": field})) is not None:
        assert error.status == 400
        assert error.param is not None
        assert error.body()


def test_a_long_array_is_not_looked_at_to_its_end() -> None:
    field = Field((OBJECTS,), items={"role": Field((STRING,), required=True)})
    messages: list[Any] = [{"role": "user"}] * LOOKED_AT
    check({"x": [*messages, 7, {}]}, {"x": field})
    assert refused([*messages[1:], 7], field).code == "invalid_type"
    with pytest.raises(ClientError) as caught:
        check({"x": [*messages[1:], {}]}, {"x": field})
    assert caught.value.param == f"x[{LOOKED_AT - 1}].role"
