"""Limits that several Weirs share, in Redis."""

from .store import RedisStore

__all__ = ["RedisStore"]
