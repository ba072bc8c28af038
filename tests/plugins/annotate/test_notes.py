from decimal import Decimal

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from plugins.annotate import notes
from proxy.api import Cost, Event, Usage

USAGE = Usage(1234, 56)
EXACT = Cost(Decimal("0.00000005"), provenance="measured")


def test_an_amount_is_a_plain_decimal() -> None:
    assert notes.headers(USAGE, EXACT) == [
        (b"x-weir-input-tokens", b"1234"),
        (b"x-weir-output-tokens", b"56"),
        (b"x-weir-cost-usd", b"0.00000005"),
    ]
    assert notes.comment(USAGE, EXACT) == (
        b': weir {"cost_usd":"0.00000005","input_tokens":1234,"output_tokens":56}'
    )


@pytest.mark.parametrize(
    ("amount", "text"), [("1E+2", b"100"), ("0", b"0"), ("0E-7", b"0.0000000"), ("12.5", b"12.5")]
)
def test_amounts_are_never_in_scientific_notation(amount: str, text: bytes) -> None:
    cost = Cost(Decimal(amount), provenance="measured")
    assert dict(notes.headers(USAGE, cost))[b"x-weir-cost-usd"] == text
    assert b'"cost_usd":"' + text + b'"' in notes.comment(USAGE, cost)


@given(st.integers(0, 10**15), st.integers(-30, 6))
def test_an_amount_is_told_to_its_last_digit(digits: int, exponent: int) -> None:
    amount = Decimal(digits).scaleb(exponent)
    told = dict(notes.headers(USAGE, Cost(amount, provenance="measured")))[b"x-weir-cost-usd"]
    assert told == format(amount, "f").encode()


def test_what_has_no_price_says_so_and_has_no_amount() -> None:
    for cost in (Cost(None), Cost(None, provenance="measured")):
        pairs = dict(notes.headers(USAGE, cost))
        assert pairs[b"x-weir-cost"] == b"unpriced"
        assert b"x-weir-cost-usd" not in pairs
        told = orjson.loads(notes.comment(USAGE, cost).removeprefix(b": weir "))
        assert told == {"cost_usd": None, "unpriced": True, "input_tokens": 1234, "output_tokens": 56}


@pytest.mark.parametrize("provenance", ["estimated", "bounded"])
def test_what_was_not_measured_says_so(provenance: str) -> None:
    cost = Cost(Decimal("0.5"), provenance=provenance)  # type: ignore[arg-type]
    assert dict(notes.headers(USAGE, cost))[b"x-weir-cost"] == b"estimated"
    told = orjson.loads(notes.comment(USAGE, cost).removeprefix(b": weir "))
    assert told == {"cost_usd": "0.5", "estimated": True, "input_tokens": 1234, "output_tokens": 56}


@pytest.mark.parametrize(
    ("raw", "glued", "expected"),
    [
        (b"data: [DONE]\n\n", False, b": x\n\ndata: [DONE]\n\n"),
        (b"data: [DONE]\n\n", True, b": x\ndata: [DONE]\n\n"),
        (b"data: [DONE]\r\n\r\n", False, b": x\r\n\r\ndata: [DONE]\r\n\r\n"),
        (b"data: [DONE]\r\r", True, b": x\rdata: [DONE]\r\r"),
        (b"\n\ndata: [DONE]\n\n", False, b"\n\n: x\n\ndata: [DONE]\n\n"),
        (b"\n\ndata: [DONE]\n\n", True, b"\n\n: x\ndata: [DONE]\n\n"),
        (b"id: 1\ndata: [DONE]\n\n", True, b": x\nid: 1\ndata: [DONE]\n\n"),
    ],
)
def test_where_the_comment_goes(raw: bytes, glued: bool, expected: bytes) -> None:
    events = notes.before(Event(raw), b": x", glued=glued)
    assert b"".join(event.raw for event in events) == expected
    assert events[-1].data == b"[DONE]"
    assert len(events) == 1 if glued else 2


def test_after_the_last_event() -> None:
    assert notes.after(b": x", b"\r\n", glued=False).raw == b": x\r\n\r\n"
    assert notes.after(b": x", b"\n", glued=True).raw == b": x\n"


@pytest.mark.parametrize(
    ("raw", "end"), [(b"a\n\n", b"\n"), (b"a\r\n\r\n", b"\r\n"), (b"a\r\r", b"\r"), (b"a\n\r\n", b"\r\n")]
)
def test_line_ends(raw: bytes, end: bytes) -> None:
    assert notes.line_end(raw) == end


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (b'{"usage":{"a":1}}', b'{"usage":{"cost":0.00000005,"a":1}}'),
        (b' {"x":1e2 , "usage" : { } }\n', b' {"x":1e2 , "usage" : { "cost":0.00000005} }\n'),
        (b'{"usage":1,"usage":{"a":1}}', b'{"usage":1,"usage":{"cost":0.00000005,"a":1}}'),
        (
            b'{"type":"response.completed","response":{"usage":{"a":1},"n":18446744073709551616}}',
            b'{"type":"response.completed","response":{"usage":{"cost":0.00000005,"a":1},'
            b'"n":18446744073709551616}}',
        ),
        (b'{"usage":{"cost":1}}', None),
        (b'{"usage":null}', None),
        (b'{"response":{"usage":null}}', None),
        (b'{"response":7}', None),
        (b"[]", None),
        (b'{"usage":{"a":"' + b"x" * notes.INSIDE + b'"}}', None),
    ],
)
def test_inside_the_usage(body: bytes, told: bytes | None) -> None:
    assert notes.inside(body, orjson.loads(body), EXACT) == told


def test_inside_the_usage_there_is_null_without_a_price_and_nothing_that_was_not_measured() -> None:
    body = b'{"usage":{"a":1}}'
    unpriced = Cost(None, provenance="measured")
    assert notes.inside(body, orjson.loads(body), unpriced) == b'{"usage":{"cost":null,"a":1}}'
    assert notes.inside(body, orjson.loads(body), Cost(Decimal(1), provenance="estimated")) is None
