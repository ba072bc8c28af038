"""An authority of our own, and what it issued."""

import ssl
from pathlib import Path

import trustme


class Certificates:
    """For an upstream: `context` to serve with, and `trusted`, the settings of one who trusts it."""

    def __init__(self, folder: Path, *names: str) -> None:
        self.authority = trustme.CA()
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.authority.issue_cert(*(names or ("127.0.0.1", "localhost"))).configure_cert(self.context)
        self.ca = folder / "ca.pem"
        self.authority.cert_pem.write_to_path(self.ca)
        self.trusted = {"ca": str(self.ca)}
        self.asked_for: list[str | None] = []
        """The server name of each handshake."""
        self.context.sni_callback = self._asked

    def _asked(self, _: object, name: str | None, __: object) -> None:
        self.asked_for.append(name)
