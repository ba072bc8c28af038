"""Limits that client keys carry: decided in one step with those of the configuration."""

from collections.abc import Sequence
from typing import Any, Final

import orjson

from .grammar import read_of_key
from .limit import Limit
from .scope import Scopes

KNOWN: Final = 1024
"""Different sets of limits that are kept ready; when there are more, all are read anew."""
_ENDPOINTS: Final = 64


class KeyLimits:
    """The scopes of a configuration's limits together with a key's own, by what the key carries."""

    def __init__(self, configured: Sequence[Limit]) -> None:
        self._configured = configured
        self._scopes: dict[bytes, Scopes] = {}

    def scopes(self, entries: Sequence[Any]) -> Scopes:
        """Raises `ValueError` for limits that cannot be read."""
        known = orjson.dumps(entries, default=str)
        scopes = self._scopes.get(known)
        if scopes is None:
            scopes = Scopes((*self._configured, *read_of_key(entries)), _ENDPOINTS)
            if len(self._scopes) >= KNOWN:
                self._scopes.clear()
            self._scopes[known] = scopes
        return scopes
