"""How much anybody may use: requests, tokens, money and requests in flight, per whom and over how long."""

from .plugin import Limiter

__all__ = ["Limiter"]
