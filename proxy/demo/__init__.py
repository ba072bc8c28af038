"""The built-in demo upstream: a deterministic, in-memory fake of the OpenAI API.

It imports nothing from the rest of Weir, so that what the tests compare Weir with is not Weir.
"""

from .app import create_app

__all__ = ["create_app"]
