"""What can go wrong, by whose fault it is, and how a client hears of it.

    WeirError            status, type, code, message: one OpenAI-shaped error
    ├── ClientError      the request is at fault (4xx)
    │   └── ClientGone   nobody is left to answer; never sent
    ├── UpstreamError    the upstream failed (502, 503, 504)
    ├── InternalError    Weir failed (500)
    │   └── PluginError  a plugin raised
    └── ShuttingDown     the process stops (503)

Raise one of these from a hook, or hand one to `Exchange.abort`, and the client gets it: before the first
byte as an answer of that status, after it as an error event and an abort.
"""

import math
from typing import Literal

import orjson

Source = Literal["client", "upstream", "internal"]

_TYPES = {
    403: "permission_error",
    429: "rate_limit_error",
    500: "internal_error",
    502: "upstream_error",
    503: "service_unavailable",
    504: "upstream_timeout",
}
LONGEST_WAIT = 31 * 86400.0
"""Seconds of the longest `retry_after` that is told."""
_RETRYABLE = frozenset((408, 409, 429, 502, 503, 504))


def error_type(status: int) -> str:
    """The OpenAI error type that goes with a status when none is named."""
    return _TYPES.get(status, "invalid_request_error" if status < 500 else "api_error")


class WeirError(Exception):
    """An error with all that its OpenAI-shaped answer needs.

    `code` is stable and machine-readable; `message` is for people and must hold no credential, prompt or
    completion. `retry_after` is in seconds; without it the client is told not to try again, unless the
    status is one that is worth another try (408, 409, 429, 502, 503, 504), which then gets one second.
    """

    source: Source = "internal"

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        type: str | None = None,  # OpenAI's name for it
        param: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.type = type or error_type(status)
        self.param = param
        if retry_after is None and status in _RETRYABLE:
            retry_after = 1.0
        if retry_after is not None:
            # A wait that is no number of seconds must not break the answer that tells of it.
            retry_after = 1.0 if math.isnan(retry_after) else max(0.0, min(retry_after, LONGEST_WAIT))
        self.retry_after = retry_after

    def body(self) -> bytes:
        """The JSON body: OpenAI's `error` object, and `message` and `retryAfter` (seconds) beside it."""
        flat: dict[str, object] = {"error": self._error(), "message": self.message}
        if self.retry_after is not None:
            flat["retryAfter"] = max(1, math.ceil(self.retry_after))
        return orjson.dumps(flat)

    def event(self) -> bytes:
        """The server-sent event that ends a stream which had begun."""
        return b"data: " + orjson.dumps({"error": self._error()}) + b"\n\n"

    def headers(self) -> list[tuple[bytes, bytes]]:
        """`content-type`, and `retry-after` with `retry-after-ms`, or `x-should-retry: false`."""
        pairs = [(b"content-type", b"application/json")]
        if self.retry_after is None:
            pairs.append((b"x-should-retry", b"false"))
        else:
            pairs.append((b"retry-after", b"%d" % max(1, math.ceil(self.retry_after))))
            pairs.append((b"retry-after-ms", b"%d" % max(1, math.ceil(self.retry_after * 1000))))
        return pairs

    def _error(self) -> dict[str, object]:
        return {"message": self.message, "type": self.type, "param": self.param, "code": self.code}


class ClientError(WeirError):
    """The request cannot be served as it is."""

    source = "client"


class ClientGone(ClientError):
    """The client left; there is nobody to answer. 499 appears in logs alone."""

    def __init__(self, code: str = "client_closed") -> None:
        super().__init__(499, code, "The client closed the connection.")


class UpstreamError(WeirError):
    """The upstream could not be reached, broke, or did not speak HTTP."""

    source = "upstream"


class InternalError(WeirError):
    """Weir failed."""

    source = "internal"

    def __init__(
        self, code: str = "internal_error", message: str = "Weir failed to handle this request."
    ) -> None:
        super().__init__(500, code, message)


class PluginError(InternalError):
    """A plugin raised. The client learns the plugin's name; what it raised is in the log alone."""

    def __init__(self, plugin: str, hook: str) -> None:
        super().__init__("plugin_error", f"The plugin {plugin!r} failed.")
        self.plugin = plugin
        self.hook = hook


class ShuttingDown(WeirError):
    """The process stops and the time for running requests is over."""

    def __init__(self) -> None:
        super().__init__(503, "server_shutdown", "Weir is shutting down.", type="service_unavailable")
