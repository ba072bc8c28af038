"""Where the time went: spans of every exchange over OTLP, when the OTEL_* variables ask for them."""

from .plugin import Tracing

__all__ = ["Tracing"]
