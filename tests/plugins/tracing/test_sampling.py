"""The same decisions as OpenTelemetry's own samplers."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.sdk.trace.sampling import Decision, ParentBased, TraceIdRatioBased
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, set_span_in_context

from plugins.tracing.sampling import Sampling

ratios = st.one_of(st.sampled_from([0.0, 1.0, 0.5, 1e-9]), st.floats(0, 1))
trace_ids = st.one_of(
    st.integers(1, 2**128 - 1), st.sampled_from([1, 2**63 - 1, 2**63, 2**64 - 1, 2**64, 2**128 - 1])
)


@given(ratios, st.booleans(), trace_ids, st.sampled_from([None, True, False]))
def test_it_decides_as_opentelemetry_does(
    ratio: float, parent_based: bool, trace_id: int, parent: bool | None
) -> None:
    context = None
    if parent is not None:
        caller = SpanContext(trace_id, 1, is_remote=True, trace_flags=TraceFlags(int(parent)))
        context = set_span_in_context(NonRecordingSpan(caller))
    share = TraceIdRatioBased(ratio)
    theirs = (ParentBased(share) if parent_based else share).should_sample(context, trace_id, "")
    ours = Sampling(ratio, parent_based=parent_based).samples(trace_id, parent)
    assert ours is (theirs.decision is Decision.RECORD_AND_SAMPLE)


@given(trace_ids, st.sampled_from([None, True, False]))
def test_all_and_none_are_exact(trace_id: int, parent: bool | None) -> None:
    assert Sampling(1.0, parent_based=False).samples(trace_id, parent)
    assert not Sampling(0.0, parent_based=False).samples(trace_id, parent)


@given(st.floats(0, 0.999_999), st.booleans())
def test_the_highest_trace_id_is_traced_only_if_all_are(ratio: float, parent_based: bool) -> None:
    # What is current in exchanges that are not traced has it.
    assert not Sampling(ratio, parent_based=parent_based).samples(2**128 - 1, False)


@pytest.mark.parametrize("ratio", [-0.1, 1.1, float("nan"), float("inf")])
def test_a_ratio_is_from_0_to_1(ratio: float) -> None:
    with pytest.raises(ValueError, match="from 0 to 1"):
        Sampling(ratio, parent_based=True)
