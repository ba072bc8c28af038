"""HTTP/2 frames, as far as they are looked at before h2 sees them (RFC 9113, 4.1 and 6.8)."""

from collections.abc import Callable

import h2.errors
import h2.exceptions

MOST = 64
"""Whole frames that h2 is given at once. It needs some tens of microseconds for each, however small."""
_HEADER = 9
_LIMIT = 16384
_GOAWAY = 7
_REFUSED = h2.errors.ErrorCodes.REFUSED_STREAM


class Frames:
    """Cuts what comes into whole frames, and takes graceful GOAWAYs out.

    httpcore2 takes GOAWAY for the end of all streams; those the upstream has begun it will still answer. In
    place of one there is `refuse(last)`: frames that tell the streams above `last` that they were not begun.
    """

    def __init__(self, refuse: Callable[[int], bytes]) -> None:
        self._refuse = refuse
        self._held = b""
        self.more = False
        """Whether there may be whole frames here that `take` has not given yet."""
        self.leaving = False
        """Whether the upstream has said that it takes no more streams."""

    def take(self, data: bytes = b"") -> bytes:
        """The next whole frames, at most `MOST`, after `data` has come; b"" if none is whole."""
        data = self._held + data
        out: list[bytes] = []
        at = 0
        while len(data) - at >= _HEADER and len(out) < MOST:
            length = int.from_bytes(data[at : at + 3], "big")
            end = at + _HEADER + length
            if length > _LIMIT:
                raise h2.exceptions.FrameTooLargeError("h2 would wait for all of it")
            if end > len(data):
                break
            frame = data[at:end]
            at = end
            if frame[3] == _GOAWAY and length >= 8 and not any(frame[13:17]):
                self.leaving = True
                out.append(self._refuse(int.from_bytes(frame[9:13], "big") & 0x7FFFFFFF))
            else:
                out.append(frame)
        self._held = data[at:]
        self.more = len(out) == MOST
        return b"".join(out)


def refused(stream_id: int) -> bytes:
    """RST_STREAM with REFUSED_STREAM: this stream was not begun, and may be sent again."""
    return b"\0\0\4\3\0" + stream_id.to_bytes(4, "big") + _REFUSED.to_bytes(4, "big")
