"""The client for upstreams behind an HTTP or SOCKS proxy, or with HTTP/2: httpx2's own transport, httpcore2.

Its pool, proxies and protocols are used as they are, beneath `httpx2.AsyncHTTPTransport`, which cannot be
given a network backend. What is added here is what a reverse proxy needs and they lack, from the wire up:
- `stream`: a connection takes in no more than is asked for.
- `wire`, with `frames` and `head`: it is known what came, so that a request is replayed only while nothing
  did; a TLS connection that is cut is no clean end; a graceful GOAWAY lets running streams end.
- `link`: a connection frees its socket and its place in the pool whenever connecting fails or is cancelled,
  and is never handed on with bytes that nobody asked for. An HTTP/2 stream that is given up is reset.
- `attempt`: a body that is large or streamed goes out beside the reading of the answer (HTTP/1.1), so that
  early answers are seen.
- `answer`: what comes back, no faster than it is read, and with turns for others in between.
- `failures`: what each way to fail is called.
"""

from proxy.core.upstream.httpx2.client import CLOSE_LIMIT, Httpx2Upstream
from proxy.core.upstream.httpx2.failures import PROXY_FAILED
from proxy.core.upstream.httpx2.head import MAX_HEAD, MAX_HEADERS, MAX_INTERIM
from proxy.core.upstream.httpx2.link import MAX_STREAMS

__all__ = [
    "CLOSE_LIMIT",
    "MAX_HEAD",
    "MAX_HEADERS",
    "MAX_INTERIM",
    "MAX_STREAMS",
    "PROXY_FAILED",
    "Httpx2Upstream",
]
