"""Weir: a transparent, streaming reverse proxy for OpenAI-shaped APIs."""

__version__ = "0.1.0"
