"""What a field must be, and what OpenAI's own API says when it is not.

A check that fails raises `ClientError` with the field's path in `param`. Nothing else is raised, whatever
JSON holds, and nothing takes longer than it takes to look at `LOOKED_AT` values of each array.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

from proxy.api import ClientError

LOOKED_AT = 2000
"""Values at the beginning of an array that are looked at; those behind are for the upstream to judge."""


@dataclass(frozen=True, slots=True)
class Kind:
    """A type of JSON value, with the name that messages give it."""

    name: str
    fits: Callable[[Any], bool]


def _is_integer(value: Any) -> bool:
    # 1.0 is an integer to most servers, and so is 2^64, which the parser gives as a float.
    return type(value) is int or (type(value) is float and value.is_integer())


def array_of(kind: Kind, plural: str) -> Kind:
    """An array that holds values of one kind; it may be empty."""

    def fits(value: Any) -> bool:
        return type(value) is list and all(map(kind.fits, islice(value, LOOKED_AT)))

    return Kind(f"an array of {plural}", fits)


STRING = Kind("a string", lambda value: type(value) is str)
BOOLEAN = Kind("a boolean", lambda value: type(value) is bool)
INTEGER = Kind("an integer", _is_integer)
DECIMAL = Kind("a decimal", lambda value: type(value) in (int, float))
OBJECT = Kind("an object", lambda value: type(value) is dict)
ARRAY = Kind("an array", lambda value: type(value) is list)
STRINGS = array_of(STRING, "strings")
INTEGERS = array_of(INTEGER, "integers")
OBJECTS = array_of(OBJECT, "objects")
# The inner arrays are looked at by their first value alone, since there may be many long ones.
TOKENS = array_of(
    Kind("", lambda value: type(value) is list and (not value or _is_integer(value[0]))), "integer arrays"
)


@dataclass(frozen=True, slots=True)
class Field:
    """What one field may be. `low` and `high` bound a number; None is "unbounded".

    An optional field may be null. One that is not `empty` is neither an empty string nor an empty array;
    `longest` is the most items of an array that stands for so many inputs; `items` are the fields of each
    object of an array.
    """

    kinds: tuple[Kind, ...]
    required: bool = False
    low: int | None = None
    high: int | None = None
    empty: bool = True
    longest: int | None = None
    items: "Mapping[str, Field] | None" = None


Path = tuple[str | int, ...]


def check(values: Mapping[str, Any], fields: Mapping[str, Field], within: Path = ()) -> None:
    """Check an object's known fields, and that no required one is missing; unknown ones may be anything.

    Raises `ClientError` for the first that will not do, in the order of `fields`. `within` is where the
    object stands, such as `("messages", 0)`.
    """
    for name, field in fields.items():
        if name not in values:
            if field.required:
                raise _missing((*within, name))
            continue
        value = values[name]
        if value is None and not field.required:
            continue
        for kind in field.kinds:
            if kind.fits(value):
                break
        else:
            raise _wrong_type(value, field.kinds, (*within, name))
        of = type(value)
        if of is list:
            _check_array(value, field, (*within, name))
        elif of is str:
            if not value and not field.empty:
                expected = "a string with minimum length 1, but got an empty string"
                raise _invalid("empty_string", (*within, name), "empty string", expected)
        elif of is int or of is float:
            _check_bounds(value, field, (*within, name))


def _check_array(value: list[Any], field: Field, path: Path) -> None:
    if not value and not field.empty:
        expected = "an array with minimum length 1, but got an empty array"
        raise _invalid("empty_array", path, "empty array", expected)
    # An array of tokens is one input, however long it is.
    if field.longest is not None and len(value) > field.longest and not _is_integer(value[0]):
        expected = f"an array with maximum length {field.longest}, but got an array with length {len(value)}"
        raise _invalid("array_above_max_length", path, "array too long", expected)
    if field.items is not None:
        for index, item in enumerate(islice(value, LOOKED_AT)):
            check(item, field.items, (*path, index))


def _check_bounds(value: float, field: Field, path: Path) -> None:
    if field.low is not None and value < field.low:
        expected = f"a value >= {field.low}, but got {value}"
        if field.kinds == (INTEGER,):
            raise _invalid("integer_below_min_value", path, "integer below minimum value", expected)
        raise _invalid("decimal_below_min_value", path, "decimal below minimum value", expected)
    if field.high is not None and value > field.high:
        expected = f"a value <= {field.high}, but got {value}"
        if field.kinds == (INTEGER,):
            raise _invalid("integer_above_max_value", path, "integer above maximum value", expected)
        raise _invalid("decimal_above_max_value", path, "decimal above maximum value", expected)


def _missing(path: Path) -> ClientError:
    at = _written(path)
    return ClientError(400, "missing_required_parameter", f"Missing required parameter: '{at}'.", param=at)


def _wrong_type(value: Any, kinds: tuple[Kind, ...], path: Path) -> ClientError:
    at = _written(path)
    names = [kind.name for kind in kinds]
    expected = names[0] if len(names) == 1 else f"one of {', '.join(names[:-1])} or {names[-1]}"
    message = f"Invalid type for '{at}': expected {expected}, but got {_named(value)} instead."
    return ClientError(400, "invalid_type", message, param=at)


def _invalid(code: str, path: Path, problem: str, expected: str) -> ClientError:
    at = _written(path)
    return ClientError(400, code, f"Invalid '{at}': {problem}. Expected {expected} instead.", param=at)


def _written(path: Path) -> str:
    """`messages[0].role`."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)[1:]


_NAMES = {str: "a string", bool: "a boolean", int: "an integer", list: "an array", dict: "an object"}


def _named(value: Any) -> str:
    if value is None:
        return "null"
    if type(value) is float:
        return "an integer" if value.is_integer() else "a decimal number"
    return _NAMES[type(value)]
