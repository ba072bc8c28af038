"""One durable row for every request: who, which model, how much, and how it ended."""

from .plugin import Ledger

__all__ = ["Ledger"]
