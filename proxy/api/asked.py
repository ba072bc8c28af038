"""What an upstream said to a plugin that asked it something of its own: see `Exchange.ask`."""

from typing import Any, NamedTuple

import orjson

from proxy.api.headers import Headers


class Asked(NamedTuple):
    """An answer to a plugin, whole, of whatever status.

    `headers` are those that an answer passes on; a body that the upstream compressed although it was asked
    not to is as it came, and `content-encoding` says so.
    """

    status: int
    headers: Headers
    body: bytes

    def json(self) -> Any:
        """The body as JSON. Raises `ValueError` if it is none."""
        return orjson.loads(self.body)
