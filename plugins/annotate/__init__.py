"""What an answer cost, told to the client and to the plugins before: fills USAGE and COST."""

from .plugin import Annotate

__all__ = ["Annotate"]
