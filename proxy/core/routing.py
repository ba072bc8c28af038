"""Between the chain and `core/upstream`: which upstream a request goes to, and one record per attempt.

Upstream keys live here and nowhere else: a key is added to the attempt it belongs to, and only that.
"""

from time import monotonic_ns
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from proxy.api.errors import ClientError, WeirError
from proxy.api.exchange import Exchange, new_attempt
from proxy.core.config import UpstreamSettings
from proxy.core.deadlines import Deadlines
from proxy.core.flight import Flight
from proxy.core.headers import Pairs, with_credential
from proxy.core.upstream import Answer, Outgoing, Upstream
from proxy.core.upstream.breaker import Breaker
from proxy.core.upstream.http1 import Http1Upstream

if TYPE_CHECKING:
    from proxy.core.upstream.httpx2 import Httpx2Upstream

_STATUSES = {status: str(status) for status in range(100, 600)}


def connect(settings: UpstreamSettings, deadlines: Deadlines) -> "Http1Upstream | Httpx2Upstream":
    """The client that a configured upstream needs."""
    lean = settings.proxy is None and not settings.http2
    if settings.client == "http1" or (settings.client == "auto" and lean):
        return Http1Upstream(settings, deadlines)
    from proxy.core.upstream.httpx2 import Httpx2Upstream  # only who needs it pays for it

    return Httpx2Upstream(settings)


class Route:
    """One upstream with what every request to it needs: base path, credential, timeouts, last known state."""

    def __init__(
        self, settings: UpstreamSettings, upstream: Upstream, breaker: Breaker | None = None
    ) -> None:
        """`breaker` is the upstream's own; a scripted one has none."""
        self.settings = settings
        self.upstream = upstream
        self.breaker = breaker
        self.name = settings.name
        self._base = urlsplit(settings.base_url).path.rstrip("/").encode()
        key = settings.api_key
        self._credential = None if key is None else b"Bearer " + key.get_secret_value().encode()
        self.last_outcome: str | None = None
        """The status or error code of the last attempt; None before the first."""

    async def attempt(self, ex: Exchange, flight: Flight, request: Outgoing) -> Answer:
        """One try at this upstream, recorded. `request.target` is the path below the base path."""
        target = self._base + request.target
        if target[:2] == b"//":
            # `/v1//x` where base_url has no path: a server may read `//x` as another server's name.
            raise ClientError(400, "invalid_path", "The path is not one that Weir forwards.")
        request.target = target if target[:1] == b"/" else b"/" + target
        if self._credential is not None:
            request.headers = with_credential(request.headers, self._credential)
        ex.upstream = self.name
        start = monotonic_ns()
        try:
            answer = await self.upstream.open(request, flight)
        except BaseException as error:
            outcome = "cancelled"
            cause = error if isinstance(error, WeirError) else flight.cause
            if cause is not None:
                outcome = cause.code
                if cause is error or cause.source == "upstream":
                    self.last_outcome = outcome
            self._record(ex, request, start, outcome)
            raise
        status = self.last_outcome = _STATUSES.get(answer.status) or str(answer.status)
        self._record(ex, request, start, status)
        return answer

    def asking(self, target: bytes, headers: Pairs, body: bytes) -> Outgoing:
        """A POST as it goes to this upstream without being an attempt; `target` and key as above."""
        if self._credential is not None:
            headers = with_credential(headers, self._credential)
        return Outgoing(b"POST", self._base + target, headers, body)

    def _record(self, ex: Exchange, request: Outgoing, start: int, outcome: str) -> None:
        now = monotonic_ns()
        ex.attempts.append(new_attempt((self.name, start, now, outcome, request.resent)))
        ex.timeline._marks.append(("upstream", "upstream", start, now))
