import pytest
from hypothesis import given
from hypothesis import strategies as st

from plugins.ledger.record import CLOSED, HEAD, OPEN, record, records, sorted_out

PAYLOADS = st.lists(st.tuples(st.sampled_from([OPEN, CLOSED]), st.binary(max_size=60)), max_size=6)


@given(PAYLOADS, st.integers(0, 40))
def test_what_was_written_is_read_and_zeros_end_it(payloads: list[tuple[bytes, bytes]], zeros: int) -> None:
    data = b"".join(record(kind, payload) for kind, payload in payloads) + bytes(zeros)
    assert [(kind, payload) for kind, payload, _ in records(data)] == payloads


@given(PAYLOADS, st.integers(1, 7))
def test_those_that_have_begun_and_ended_are_read_some_at_a_time(
    payloads: list[tuple[bytes, bytes]], most: int
) -> None:
    data = b"".join(record(kind, payload) for kind, payload in payloads)
    found: list[bytes] = []
    open_: list[bytes] = []
    while data:
        begun, some, length = sorted_out(data, most)
        assert 0 < length <= len(data)
        assert len(some) == most or length == len(data)
        open_ += begun
        found += some
        data = data[length:]
    assert found == [payload for kind, payload in payloads if kind == CLOSED]
    # Those behind the last that was wanted are for the next time.
    assert open_ == [payload for kind, payload in payloads if kind == OPEN]


@pytest.mark.fault("F2")
@given(PAYLOADS.filter(bool), st.data())
def test_a_torn_tail_loses_its_own_record_alone(
    payloads: list[tuple[bytes, bytes]], data: st.DataObject
) -> None:
    whole = [record(kind, payload) for kind, payload in payloads]
    cut = data.draw(st.integers(0, len(whole[-1]) - 1))
    torn = b"".join(whole[:-1]) + whole[-1][:cut] + bytes(20)
    assert [(kind, payload) for kind, payload, _ in records(torn)] == payloads[:-1] or cut == 0


@given(PAYLOADS.filter(bool), st.data())
def test_a_byte_that_changed_ends_the_reading_there(
    payloads: list[tuple[bytes, bytes]], data: st.DataObject
) -> None:
    whole = b"".join(record(kind, payload) for kind, payload in payloads)
    at = data.draw(st.integers(0, len(whole) - 1))
    changed = bytearray(whole)
    changed[at] ^= data.draw(st.integers(1, 255))
    found = [(kind, payload) for kind, payload, _ in records(bytes(changed))]
    assert found == payloads[: len(found)]
    assert len(found) < len(payloads)


@given(st.binary(max_size=200))
def test_rubbish_is_no_record_and_no_crash(data: bytes) -> None:
    for _, _, end in records(data):
        assert end <= len(data)


def test_each_record_says_where_it_ends() -> None:
    one, two = record(OPEN, b"a"), record(CLOSED, b"bcd")
    ends = [end for _, _, end in records(one + two)]
    assert ends == [len(one), len(one + two)]
    assert [payload for _, payload, _ in records(one + two, len(one))] == [b"bcd"]
    assert len(one) == HEAD + 2
