"""When to stop asking a Redis that does not answer."""

from typing import Final

FAILURES: Final = 3
"""Calls in a row that fail until no request asks any more."""


class Breaker:
    """Opens after a few failures in a row, so that requests no longer wait for what will not come.

    While it is open only a probe asks, off the path of requests; its first answer closes it.
    """

    __slots__ = ("_failures", "open", "reason")

    def __init__(self) -> None:
        self._failures = 0
        self.open = False
        self.reason: BaseException | None = None
        """Why the last call failed; None once one was answered."""

    def failed(self, reason: BaseException) -> bool:
        """A call was not answered. True if that opens it."""
        self.reason = reason
        self._failures += 1
        if self.open or self._failures < FAILURES:
            return False
        self.open = True
        return True

    def answered(self) -> bool:
        """A call was answered. True if that closes it."""
        self._failures = 0
        self.reason = None
        if not self.open:
            return False
        self.open = False
        return True
