"""How an upstream is known to be itself: one answer for both clients."""

import ssl

from proxy.core.config import UpstreamSettings


def context(settings: UpstreamSettings) -> ssl.SSLContext:
    """Verified against the system's authorities or `tls.ca`, with a client certificate if one is set.

    Raises `OSError` where a certificate cannot be read.
    """
    tls = settings.tls
    made = authorities(str(tls.ca) if tls.ca else None)
    if tls.cert is not None:
        made.load_cert_chain(str(tls.cert), str(tls.key) if tls.key else None)
    if not tls.verify:
        made.check_hostname = False
        made.verify_mode = ssl.CERT_NONE
    return made


def authorities(ca: str | None = None) -> ssl.SSLContext:
    """Verifies against the system's authorities, or those of a file, and tells a cut from a close."""
    made = ssl.create_default_context(cafile=ca)
    # Python up to 3.11.3 takes a connection that somebody cut off for one that was closed (gh-95494), and so
    # the beginning of an answer for all of it.
    made.options &= ~ssl.OP_IGNORE_UNEXPECTED_EOF
    return made
