"""Time in the hands of a test, and coroutines that have nothing to wait for."""

from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

NOON = 1_788_264_000_000_000
"""2026-09-01 12:00 UTC in µs."""


class Clock:
    """Both clocks of a store, in µs; as functions they give nanoseconds, as the real ones do."""

    def __init__(self, monotonic: int = 5_000_000, wall: int = NOON) -> None:
        self.us = monotonic
        self.wall_us = wall

    def monotonic(self) -> int:
        return self.us * 1000

    def wall(self) -> int:
        return self.wall_us * 1000

    def pass_by(self, us: int) -> None:
        self.us += us
        self.wall_us += us


def at_once(coroutine: Coroutine[Any, Any, T]) -> T:
    """The result of a coroutine that never suspends; an error if it does."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        result: T = stop.value
        return result
    coroutine.close()
    raise AssertionError("it waited")
