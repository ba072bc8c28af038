"""Against the letter of the W3C's text, and against OpenTelemetry's own reader."""

import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry import trace
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from opentelemetry.trace.span import TraceState

from plugins.tracing.traceparent import (
    STATE_LIMIT,
    Pairs,
    Parent,
    continued,
    parse,
    read,
    read_state,
    render,
    restarted,
)

TRACE, SPAN = 0x4BF92F3577B34DA6A3CE929D0E0E4736, 0x00F067AA0BA902B7
GOOD = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
ids = st.integers(1, 2**128 - 1), st.integers(1, 2**64 - 1), st.integers(0, 255)


@given(*ids)
def test_what_is_written_is_read(trace_id: int, span_id: int, flags: int) -> None:
    value = render(trace_id, span_id, flags)
    assert len(value) == 55
    assert parse(value) == Parent(trace_id, span_id, flags)


@pytest.mark.parametrize(
    "value",
    [
        GOOD,
        b" \t" + GOOD + b" ",
        GOOD[:-2] + b"ff",
        b"cc" + GOOD[2:],
        b"cc" + GOOD[2:] + b"-what-the-future-will-be-like",
        b"cc" + GOOD[2:] + b"-",
    ],
)
def test_these_are_read(value: bytes) -> None:
    parent = parse(value)
    assert parent is not None
    assert parent[:2] == (TRACE, SPAN)


@pytest.mark.parametrize(
    "value",
    [
        b"",
        GOOD.upper(),
        GOOD[:-1],
        GOOD + b"0",
        GOOD + b"-",
        GOOD + b"-more",
        b"ff" + GOOD[2:],
        b"cc" + GOOD[2:] + b".more",
        b"0" + GOOD,
        GOOD.replace(b"4bf9", b"4bg9"),
        GOOD.replace(b"-", b"_"),
        b"00-" + b"0" * 32 + b"-00f067aa0ba902b7-01",
        b"00-4bf92f3577b34da6a3ce929d0e0e4736-" + b"0" * 16 + b"-01",
        GOOD + b"\n",
        GOOD.replace(b"0f067", "\u0660f067".encode()),
    ],
)
def test_these_are_not(value: bytes) -> None:
    assert parse(value) is None


_near = st.one_of(
    st.binary(max_size=80),
    st.tuples(st.integers(0, 60), st.binary(max_size=3), st.integers(0, 3)).map(
        lambda cut: GOOD[: cut[0]] + cut[1] + GOOD[cut[0] + cut[2] :]
    ),
)


@given(_near)
def test_it_agrees_with_opentelemetry(value: bytes) -> None:
    carrier = {"traceparent": value.decode("latin-1")}
    context = TraceContextTextMapPropagator().extract(carrier)
    theirs = trace.get_current_span(context).get_span_context()
    ours = parse(value)
    if value.endswith(b"\n"):
        assert ours is None  # `$` lets a line end by; no server does
    elif ours is None:
        assert not theirs.is_valid
    else:
        assert ours == Parent(theirs.trace_id, theirs.span_id, theirs.trace_flags)


def test_it_is_found_among_headers_if_there_is_one() -> None:
    assert read([(b"a", b"b"), (b"traceparent", GOOD)]) == Parent(TRACE, SPAN, 1)
    assert read([(b"a", b"b")]) is None
    assert read([(b"traceparent", GOOD), (b"traceparent", GOOD)]) is None


# -- tracestate ------------------------------------------------------------------------------------

_member = st.sampled_from(
    ["a=1", "t@v=x y", " b=2\t", "", "c", "=", "A=1", "d=\x7f", "e==", "f=" + "v" * 257]
)
_states = st.lists(st.lists(_member, max_size=5).map(",".join), max_size=3)


@given(_states)
def test_the_state_agrees_with_opentelemetry(values: list[str]) -> None:
    headers = [(b"tracestate", value.encode("latin-1")) for value in values]
    assert read_state(headers) == list(TraceState.from_header(values).items())


@given(st.lists(st.text(st.characters(max_codepoint=255), max_size=40), max_size=3))
def test_no_state_makes_opentelemetry_log(values: list[str]) -> None:
    said: list[logging.LogRecord] = []
    handler = logging.Handler()
    handler.emit = said.append  # type: ignore[method-assign, assignment]
    logger = logging.getLogger("opentelemetry")
    logger.addHandler(handler)
    try:
        TraceState(read_state([(b"tracestate", value.encode("latin-1")) for value in values]))
    finally:
        logger.removeHandler(handler)
    assert said == []


def test_the_state_has_bounds() -> None:
    many = ",".join(f"k{n}=v" for n in range(32)).encode()
    assert len(read_state([(b"tracestate", many)])) == 32
    assert read_state([(b"tracestate", many), (b"tracestate", b"k32=v")]) == []
    assert read_state([(b"tracestate", b"a=1,a=2")]) == []
    padded = b"a=1" + b"," * (STATE_LIMIT - 3)
    assert read_state([(b"tracestate", padded)]) == [("a", "1")]
    assert read_state([(b"tracestate", padded + b",")]) == []


# -- edits -----------------------------------------------------------------------------------------

_headers = st.lists(
    st.tuples(st.sampled_from([b"a", b"traceparent", b"tracestate", b"baggage"]), st.binary(max_size=4))
)


@given(_headers)
def test_to_continue_changes_one_value_in_its_place(headers: Pairs) -> None:
    before = list(headers)
    after = continued(headers, GOOD)
    assert headers == before
    assert [name for name, _ in after] == [name for name, _ in before]
    for old, new in zip(before, after, strict=True):
        assert new == ((b"traceparent", GOOD) if old[0] == b"traceparent" else old)


@given(_headers)
def test_to_restart_leaves_one_traceparent_and_no_state(headers: Pairs) -> None:
    after = restarted(headers, GOOD)
    assert after[-1] == (b"traceparent", GOOD)
    assert after[:-1] == [pair for pair in headers if pair[0] in (b"a", b"baggage")]
