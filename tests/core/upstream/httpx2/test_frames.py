"""Frames come out whole, in order, few at once, however they were cut."""

from itertools import pairwise

import h2.exceptions
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.upstream.httpx2.frames import MOST, Frames, refused


def frame(kind: int, payload: bytes, stream_id: int = 1) -> bytes:
    return len(payload).to_bytes(3, "big") + bytes([kind, 0]) + stream_id.to_bytes(4, "big") + payload


def goaway(last: int, code: int = 0, debug: bytes = b"") -> bytes:
    return frame(7, last.to_bytes(4, "big") + code.to_bytes(4, "big") + debug, 0)


def none(last: int) -> bytes:
    return b""


def lasts(last: int) -> bytes:
    return b"<%d>" % last


@given(
    st.lists(st.tuples(st.sampled_from([0, 1, 3, 4, 6, 8, 9]), st.binary(max_size=40)), max_size=150),
    st.lists(st.integers(0, 3000), max_size=8),
)
def test_whole_frames_come_in_order_however_cut(parts: list[tuple[int, bytes]], cuts: list[int]) -> None:
    whole = [frame(kind, payload) for kind, payload in parts]
    data = b"".join(whole)
    marks = [0, *sorted(cut for cut in cuts if cut < len(data)), len(data)]
    frames = Frames(none)
    got = []
    for begin, end in pairwise(marks):
        given = [frames.take(data[begin:end])]
        while frames.more:
            given.append(frames.take())
        assert all(len(each) <= sum(sorted(map(len, whole))[-MOST:]) for each in given)
        got += given
        assert b"".join(got) == b"".join(whole)[: len(b"".join(got))]
        assert len(data[:end]) - len(b"".join(got)) < max(map(len, whole), default=1)
    assert b"".join(got) == data


def test_no_more_than_so_many_come_at_once() -> None:
    frames = Frames(none)
    assert frames.take(frame(0, b"x") * (MOST + 1)) == frame(0, b"x") * MOST
    assert frames.more
    assert frames.take() == frame(0, b"x")
    assert not frames.more


def test_a_graceful_goaway_is_taken_out_and_told() -> None:
    frames = Frames(lasts)
    data = frame(0, b"a") + goaway(5, debug=b"bye") + frame(0, b"b")
    assert frames.take(data) == frame(0, b"a") + b"<5>" + frame(0, b"b")
    assert frames.leaving


def test_its_reserved_bit_is_none_of_its_number() -> None:
    assert Frames(lasts).take(goaway(1 << 31 | 3)) == b"<3>"


@pytest.mark.parametrize("data", [goaway(5, code=11), frame(7, b"short", 0)])
def test_any_other_goaway_is_h2s(data: bytes) -> None:
    frames = Frames(lasts)
    assert frames.take(data) == data
    assert not frames.leaving


def test_a_frame_beyond_the_bound_is_not_awaited() -> None:
    assert Frames(none).take(b"\0\x40\0" + bytes(6)) == b""  # 16384, which is allowed
    with pytest.raises(h2.exceptions.FrameTooLargeError):
        Frames(none).take(b"\0\x40\1" + bytes(6))


def test_a_refused_stream_is_reset() -> None:
    assert refused(7) == frame(3, (7).to_bytes(4, "big"), 7)
