"""The `tracing` plugin, and that nothing is paid for it while it is off."""

import os

from proxy.api import Plugin

from .environment import read


class Tracing(Plugin):
    """Traces every exchange to an OTLP collector, if the standard OTEL_* variables say so.

    They are read when the plugin is made. If they ask for tracing, what is made is a `Recorder`, which has
    the hooks; else it is this class, which has none: no hook runs, no header changes, and OpenTelemetry is
    never imported. First in the chain, so that its span covers the others.

    `propagate_upstream` sends trace context to the upstream even where the client sent none.
    """

    on_error = "skip"
    name = "tracing"

    def __new__(cls, propagate_upstream: bool = False) -> "Tracing":
        """Raises `ValueError` for OTEL_* variables that ask for what is not built in."""
        if cls is Tracing and read(os.environ) is not None:
            from .recorder import Recorder  # the one way to OpenTelemetry

            cls = Recorder
        return super().__new__(cls)

    def __init__(self, propagate_upstream: bool = False) -> None:
        if not isinstance(propagate_upstream, bool):
            raise ValueError("propagate_upstream is true or false")
        self.propagate_upstream = propagate_upstream
