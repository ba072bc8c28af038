"""What a request may cost, before it is sent: fills ESTIMATE, and answers dry runs."""

from .plugin import PreCost

__all__ = ["PreCost"]
