"""How an upstream is known to be itself: one answer for both clients."""

import ssl

from proxy.core.config import UpstreamSettings


def context(settings: UpstreamSettings) -> ssl.SSLContext:
    """Verified against the system's authorities or `tls.ca`, with a client certificate if one is set.

    Raises `OSError` where a certificate cannot be read.
    """
    tls = settings.tls
    made = ssl.create_default_context(cafile=str(tls.ca) if tls.ca else None)
    if tls.cert is not None:
        made.load_cert_chain(str(tls.cert), str(tls.key) if tls.key else None)
    if not tls.verify:
        made.check_hostname = False
        made.verify_mode = ssl.CERT_NONE
    return made
