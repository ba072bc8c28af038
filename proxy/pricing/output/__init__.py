"""What a model has written so far, counted from the events that went by: for answers that tell no usage."""

from proxy.pricing.output.streamed import Output, Streamed

__all__ = ["Output", "Streamed"]
