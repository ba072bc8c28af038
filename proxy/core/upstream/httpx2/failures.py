"""What went wrong, told from what httpcore2, h11 and h2 say of it.

What goes wrong while connecting through a proxy is the proxy's fault until the upstream's TLS begins. Of what
a proxy or an upstream has said nothing passes but a status.
"""

import ssl

import h2.events
import h2.exceptions
import httpcore2

from proxy.api.errors import ClientError, UpstreamError, WeirError
from proxy.core.upstream import errors
from proxy.core.upstream.httpx2.wire import Wire

PROXY_FAILED = "upstream_proxy_failed"
"""The code of all that a configured proxy did wrong."""
_H11_LIMIT = httpcore2.AsyncHTTP11Connection.MAX_INCOMPLETE_EVENT_SIZE


def of_proxy(error: Exception) -> UpstreamError:
    """One line about a proxy: what it answered, or httpcore2's own words for SOCKS."""
    if isinstance(error, httpcore2.ProxyError):
        said = str(error)
        status = said[:3]
        if status.isdigit():
            if status == "407":
                return _proxy("The proxy wants other credentials than `proxy` has (it answered 407).")
            return _proxy(f"The proxy did not connect to the upstream (it answered {status}).")
        return _proxy(f"The SOCKS proxy did not connect to the upstream: {said.rstrip('.')}.")
    if isinstance(error, httpcore2.ConnectError):
        if error.args and isinstance(error.args[0], ssl.SSLError):
            return _proxy("The proxy's TLS handshake or certificate was not accepted.")
        return _proxy("The proxy could not be reached. Is it running, and is `proxy` right?")
    return _proxy("The proxy broke off, or is not of the kind that `proxy` says.")


def _proxy(what: str) -> UpstreamError:
    return UpstreamError(502, PROXY_FAILED, what)


def of_connecting(error: Exception) -> UpstreamError:
    """No connection to the upstream itself."""
    said = error.args[0] if error.args else None
    return errors.connecting(said if isinstance(said, OSError) else OSError())


def of_http1(error: Exception, wire: Wire) -> WeirError:
    """A request that got no answer."""
    if isinstance(error, httpcore2.LocalProtocolError):
        return ClientError(400, "invalid_request", "The request has fields that HTTP does not allow.")
    if isinstance(error, httpcore2.NetworkError):
        return errors.reset()
    if wire.ended:
        return errors.closed()
    if wire.head is not None and len(wire.head) > _H11_LIMIT:
        return errors.headers_too_large()
    text = str(error)  # h11 tells them apart in its messages alone
    if "Content-Length" in text or "Transfer-Encoding" in text:
        return errors.bad_framing()
    if "status_code" in text:
        return errors.bad_status()
    return errors.bad_response()


def of_http2(error: Exception, wire: Wire) -> WeirError:
    """A request that got no answer."""
    said = error.args[0] if error.args else None
    if isinstance(said, h2.exceptions.DenialOfServiceError):
        return errors.headers_too_large()
    if isinstance(said, h2.exceptions.StreamClosedError | h2.events.StreamReset):
        return errors.reset()
    if wire.ended or isinstance(said, h2.events.ConnectionTerminated):
        return errors.closed()
    if isinstance(error, httpcore2.NetworkError):
        return errors.reset()
    return errors.bad_response()


def of_break(error: Exception, wire: Wire, *, http2: bool) -> WeirError:
    """An answer that did not end."""
    if isinstance(error, httpcore2.RemoteProtocolError) and not http2 and not wire.ended:
        return errors.bad_framing()
    if isinstance(error, h2.exceptions.ProtocolError):
        return errors.bad_framing()
    return errors.truncated() if wire.ended else errors.reset()
