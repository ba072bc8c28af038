"""Model names that misbehave on purpose, so that clients and proxies can be tried against trouble.

missing-*      404 model_not_found
rate-limited   429 that asks for a retry after 20 ms
flaky          500 on the first call with a given `user`, then fine
slow           30 ms before each chunk of a stream
"""

from .errors import ApiError
from .store import Store

_LIMITED = {
    "retry-after-ms": "20",
    "x-ratelimit-limit-requests": "60",
    "x-ratelimit-limit-tokens": "40000",
    "x-ratelimit-remaining-requests": "0",
    "x-ratelimit-remaining-tokens": "39000",
    "x-ratelimit-reset-requests": "20ms",
    "x-ratelimit-reset-tokens": "20ms",
}


class Faults:
    """The one place where an answer depends on what came before; each app has its own."""

    def __init__(self) -> None:
        self._failed: Store[bool] = Store(limit=1 << 20)

    def check(self, model: str, user: str) -> None:
        """Raise the error that `model` stands for, if any."""
        must_exist(model)
        if model == "rate-limited":
            message = "Rate limit reached for rate-limited on requests per min (RPM): Limit 60, Used 60."
            raise ApiError(429, message, kind="requests", code="rate_limit_exceeded", headers=_LIMITED)
        if model == "flaky" and not self._failed.get(user):
            self._failed.put(user, True, weight=len(user) + 100)
            message = "The server had an error while processing your request. Sorry about that!"
            raise ApiError(500, message, kind="server_error")


def must_exist(model: str) -> None:
    if model.startswith("missing-"):
        message = f"The model `{model}` does not exist or you do not have access to it."
        raise ApiError(404, message, code="model_not_found")


def pace(model: str) -> float:
    """Seconds to wait before each chunk of a stream."""
    return 0.03 if model == "slow" else 0.0
