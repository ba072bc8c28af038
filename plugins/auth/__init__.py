"""Who is asking: checks client keys, and fills IDENTITY either way."""

from .plugin import Auth

__all__ = ["Auth"]
