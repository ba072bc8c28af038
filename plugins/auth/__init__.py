"""Who is asking: checks client keys, and fills IDENTITY either way."""

from plugins.auth.plugin import Auth

__all__ = ["Auth"]
