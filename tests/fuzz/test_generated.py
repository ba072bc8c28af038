"""Inputs made by hypothesis: bytes of any kind, kept inputs that were damaged, values of the right shape."""

import os
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from . import TARGETS
from .conftest import load
from .corpus import kept, words

EXAMPLES = 3000 if os.environ.get("WEIR_SOAK") else 60

NUMBERS = st.one_of(
    st.integers(-2, 300), st.sampled_from([2**31, 2**53, 2**63 - 1, 10**18]), st.floats(allow_nan=False)
)
SCALARS = st.one_of(st.none(), st.booleans(), NUMBERS, st.text(max_size=20))


def trees(name: str) -> st.SearchStrategy[Any]:
    """JSON whose keys and texts are often those that the target knows."""
    known = [word.decode().strip(":") for word in words(name)]
    text = st.one_of(st.sampled_from(known), st.text(max_size=12))
    return st.recursive(
        st.one_of(SCALARS, text),
        lambda inner: st.one_of(st.lists(inner, max_size=5), st.dictionaries(text, inner, max_size=6)),
        max_leaves=25,
    )


@st.composite
def damaged(draw: st.DrawFn, name: str) -> bytes:
    """A kept input with pieces of itself, or of another, in the wrong place."""
    inputs = [path.read_bytes() for path in kept(name)]
    data = bytearray(draw(st.sampled_from(inputs)))
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(data)))
        end = min(len(data), start + draw(st.integers(0, 12)))
        other = draw(st.sampled_from(inputs))
        at = draw(st.integers(0, len(other)))
        data[start:end] = draw(st.one_of(st.binary(max_size=6), st.just(other[at : at + 12])))
    return bytes(data)


def lines(name: str) -> st.SearchStrategy[bytes]:
    """Words that the target knows, with what separates words in headers, in YAML and in events."""
    known = st.sampled_from(list(words(name)))
    between = st.sampled_from(
        [b" ", b": ", b"\n", b"\r", b"\r\n", b"\n\n", b", ", b"\n  - ", b"\n  ", b"{", b"}"]
    )
    return st.lists(st.one_of(known, between, st.binary(max_size=3)), max_size=30).map(b"".join)


def json_after(name: str, first: int) -> st.SearchStrategy[bytes]:
    """A tree, after so many bytes of choice."""
    body = trees(name).map(lambda value: orjson.dumps(value, option=orjson.OPT_NON_STR_KEYS))
    return st.builds(bytes.__add__, st.binary(min_size=first, max_size=first), body)


def members(name: str, first: int) -> st.SearchStrategy[bytes]:
    """A kept JSON object of which members have other values."""
    objects = []
    for path in kept(name):
        try:
            objects.append((path.read_bytes()[:first], orjson.loads(path.read_bytes()[first:])))
        except orjson.JSONDecodeError:
            continue
    objects = [(head, value) for head, value in objects if isinstance(value, dict)]

    @st.composite
    def changed(draw: st.DrawFn) -> bytes:
        head, value = draw(st.sampled_from(objects))
        changes = draw(st.dictionaries(st.sampled_from(sorted(value)), trees(name), min_size=1, max_size=3))
        return bytes(head) + orjson.dumps({**value, **changes})

    return changed()


SHAPES: dict[str, int] = {"metering": 1, "precost": 2, "usage": 1, "configuration": 0, "prices": 0}
"""Targets that read JSON, or YAML of which it is a part, and the bytes before it."""


def inputs(name: str) -> st.SearchStrategy[bytes]:
    """Of all kinds."""
    kinds: list[st.SearchStrategy[bytes]] = [st.binary(max_size=200), damaged(name), lines(name)]
    if name in SHAPES:
        kinds.append(json_after(name, SHAPES[name]))
    if name in ("metering", "precost", "usage"):
        kinds.append(members(name, SHAPES[name]))
    return st.one_of(kinds)


@pytest.mark.parametrize("name", TARGETS)
def test_a_generated_input_breaks_nothing(name: str) -> None:
    target = load(name)

    @settings(max_examples=EXAMPLES)
    @given(inputs(name))
    def tried(data: bytes) -> None:
        target(data)

    tried()
