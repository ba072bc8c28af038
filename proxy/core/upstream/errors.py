"""What can go wrong with an upstream: each failure with its status, code and one line that helps."""

import ssl
from collections.abc import Callable
from socket import gaierror

from proxy.api.errors import UpstreamError

Failure = Callable[[], UpstreamError]


def _failure(status: int, code: str, message: str) -> Failure:
    return lambda: UpstreamError(status, code, message)


connect_timeout = _failure(
    504, "upstream_connect_timeout", "The upstream did not accept a connection in time (timeouts.connect)."
)
header_timeout = _failure(
    504, "upstream_header_timeout", "The upstream did not begin to answer in time (timeouts.first_byte)."
)
idle_timeout = _failure(
    504, "upstream_idle_timeout", "The upstream sent nothing for too long (timeouts.idle)."
)
write_timeout = _failure(
    504, "upstream_write_timeout", "The upstream stopped reading the request (timeouts.idle)."
)
max_duration = _failure(504, "max_duration", "The request took longer than allowed (timeouts.total).")
busy = _failure(
    503, "upstream_busy", "All connections to the upstream are in use (pool.max, pool.waiting); try again."
)
closed = _failure(502, "upstream_closed", "The upstream closed the connection without an answer.")
reset = _failure(502, "upstream_reset", "The upstream broke the connection.")
truncated = _failure(502, "upstream_reset", "The upstream closed the connection before its answer ended.")
bad_framing = _failure(502, "upstream_bad_framing", "The upstream's answer has no valid framing.")
bad_response = _failure(502, "upstream_bad_response", "The upstream's answer is not valid HTTP.")
bad_status = _failure(502, "upstream_bad_status", "The upstream answered with a status that does not exist.")
bad_encoding = _failure(
    502, "upstream_bad_encoding", "The upstream sent a compressed answer where a plugin must change it."
)
headers_too_large = _failure(
    502, "upstream_headers_too_large", "The upstream's answer has too many or too large headers."
)
too_large_to_change = _failure(
    502, "upstream_answer_too_large", "The upstream's answer is too large for a plugin that must change it."
)

ask_timeout = _failure(
    504, "ask_timeout", "The upstream did not answer a plugin's question in the time that the plugin gave."
)
ask_too_late = _failure(503, "ask_too_late", "The request has ended, and with it a plugin's question.")
ask_limit = _failure(503, "ask_limit", "Plugins have asked the upstream too often for this request.")
ask_answer_too_large = _failure(
    502, "ask_answer_too_large", "The upstream's answer to a plugin's question is too large."
)


def unavailable(retry_after: float) -> UpstreamError:
    """Connecting has failed again and again; `retry_after` is in seconds."""
    message = "The upstream could not be reached, and is tried again in a moment (upstreams[].breaker)."
    return UpstreamError(503, "upstream_unavailable", message, retry_after=retry_after)


def connecting(error: OSError) -> UpstreamError:
    """The failure to reach an upstream, told apart by what the system said."""
    if isinstance(error, ssl.SSLError):  # a certificate's text stays in the log
        return UpstreamError(
            502, "upstream_tls_failed", "The upstream's TLS handshake or certificate was not accepted."
        )
    if isinstance(error, gaierror):
        return UpstreamError(502, "upstream_dns_failed", "The upstream's host name could not be resolved.")
    return UpstreamError(
        502,
        "upstream_connect_failed",
        "The upstream could not be reached. Is it running, and is its base_url right?",
    )
