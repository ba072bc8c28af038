"""When to stop connecting to an upstream that cannot be reached.

Only new connections are refused, and only by failures to connect: a refusal, a name without an address, a
failed TLS handshake, a proxy that does not get through, `timeouts.connect`. What an upstream answers never
counts, and a connection that is there is used. So a request that finds one pays nothing.
"""

from collections.abc import Callable
from typing import Final

from proxy.core.config import UpstreamSettings
from proxy.core.log import log
from proxy.core.upstream import errors

WAITED: Final = 0.5
"""The part of `timeouts.connect` after which a connection that is given up counts as failed, whoever gave up:
what has not come by then seldom comes. Who leaves sooner says nothing of the upstream."""


class Breaker:
    """Opens after `breaker.failures` in a row, for `breaker.open` at first.

    When that is over one connection is tried, and everybody else is still refused: if it fails it stays open
    twice as long as before, up to `breaker.most`; if it is made all may connect again.
    """

    __slots__ = (
        "_failures",
        "_now",
        "_open",
        "_probing",
        "_settings",
        "_until",
        "_wait",
        "name",
        "patience",
        "refused",
    )

    def __init__(self, settings: UpstreamSettings, now: Callable[[], float]) -> None:
        """`now` in seconds, of a clock that never jumps."""
        self.name = settings.name
        self.patience = WAITED * min(settings.timeouts.connect, settings.timeouts.total)
        """Seconds after which a connection that is given up counts as failed."""
        self.refused = 0
        """Connections that were not tried."""
        self._settings = settings.breaker
        self._now = now
        self._failures = 0
        self._open = False
        self._wait = 0.0
        self._until = 0.0
        self._probing = False

    @property
    def suspended(self) -> bool:
        """Whether it is open: connecting is of no use, but for a probe now and then."""
        return self._open

    def trial(self) -> "Trial":
        """Somebody wants to connect. Raises `UpstreamError` 503 while that is of no use."""
        if not self._open:
            return Trial(self, self._now, probe=False)
        left = self._until - self._now()
        if self._probing or left > 0:
            self.refused += 1
            raise errors.unavailable(left if left > 0 else self._settings.open)
        self._probing = True
        return Trial(self, self._now, probe=True)

    def reached(self) -> None:
        """A connection was made."""
        self._failures = 0
        self._probing = False
        if self._open:
            self._open = False
            log.warning("upstream is reached again", extra={"fields": {"upstream": self.name}})

    def failed(self, *, probe: bool) -> None:
        """A connection could not be made."""
        settings = self._settings
        if probe:
            self._probing = False
            self._wait = min(2 * self._wait, settings.most)
        elif self._open or settings.failures is None:
            return  # begun before it opened
        else:
            self._failures += 1
            if self._failures < settings.failures:
                return
            self._open = True
            self._wait = min(settings.open, settings.most)
            fields = {"upstream": self.name, "failures": self._failures}
            log.warning("upstream cannot be reached: connecting is suspended", extra={"fields": fields})
        self._until = self._now() + self._wait

    def untold(self, *, probe: bool) -> None:
        """Whoever connected gave up, and nobody knows how it would have ended."""
        if probe:
            self._probing = False  # the next one is the probe


class Trial:
    """One connection that is being made. Tell it how that ended, once."""

    __slots__ = ("_breaker", "_now", "_probe", "_since")

    def __init__(self, breaker: Breaker, now: Callable[[], float], *, probe: bool) -> None:
        self._breaker = breaker
        self._now = now
        self._probe = probe
        self._since = now()

    def reached(self) -> None:
        """It is there."""
        self._breaker.reached()

    def failed(self) -> None:
        """It could not be made."""
        self._breaker.failed(probe=self._probe)

    def given_up(self) -> None:
        """It was cancelled, by `timeouts.connect` or by a client that left."""
        if self._now() - self._since >= self._breaker.patience:
            self._breaker.failed(probe=self._probe)
        else:
            self._breaker.untold(probe=self._probe)
