"""The four shapes of a `prompt` or an `input`: a text, texts, tokens, or lists of tokens."""

from typing import NamedTuple

from . import tokens
from .call import Call
from .errors import invalid, missing

_MOST = 2048


class Input(NamedTuple):
    text: str
    tokens: int


def inputs(call: Call, name: str) -> list[Input]:
    """At least one and at most 2048 of them, each with something in it."""
    value = call.fields.get(name)
    if value is None:
        raise missing(name)
    single = isinstance(value, str) or (isinstance(value, list) and bool(value) and isinstance(value[0], int))
    many = [value] if single else value
    if not isinstance(many, list) or not 0 < len(many) <= _MOST:
        raise invalid(name, f"a string or an array of 1 to {_MOST} items")
    return [_input(each, name) for each in many]


def _input(value: object, name: str) -> Input:
    if isinstance(value, str):
        return Input(value, tokens.count(value))
    if isinstance(value, list) and value and all(isinstance(token, int) for token in value):
        return Input(" ".join(map(str, value)), len(value))
    raise invalid(name, "strings or arrays of tokens")
