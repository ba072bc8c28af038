"""The decision at the head: whether to trace a request, before anything is spent on it."""

import math

_LOW_64 = (1 << 64) - 1


class Sampling:
    """OpenTelemetry's standard samplers, as arithmetic: a share of all trace ids, and who has the last word.

    With `parent_based` the caller's decision counts where there is one. The share is decided by the trace
    id's lower 64 bits, so that every service with the same ratio decides the same for a trace.
    """

    __slots__ = ("_bound", "parent_based", "ratio")

    def __init__(self, ratio: float, *, parent_based: bool) -> None:
        if math.isnan(ratio) or not 0.0 <= ratio <= 1.0:
            raise ValueError("a ratio is from 0 to 1")
        self.ratio = ratio
        self.parent_based = parent_based
        self._bound = round(ratio * (_LOW_64 + 1))

    def samples(self, trace_id: int, parent: bool | None) -> bool:
        """Whether to trace. `parent` is what the caller decided, None without a caller."""
        if parent is not None and self.parent_based:
            return parent
        return trace_id & _LOW_64 < self._bound
