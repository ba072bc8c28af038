"""The columns of a row, by name; whoever does not speak to a database needs no more of the table."""

from typing import Final

TEXT: Final = 512
"""Characters of a text that are kept: names and paths are strangers' words."""

INPUT: Final = (
    "input_tokens",
    "cached_tokens",
    "cache_write_tokens",
    "audio_input_tokens",
    "image_input_tokens",
)
OUTPUT: Final = ("output_tokens", "reasoning_tokens", "audio_output_tokens", "image_output_tokens")
TOKENS: Final = (*INPUT, *OUTPUT)
COSTS: Final = ("cost_pico", "cost_low_pico", "cost_high_pico")

FIRST: Final = (
    *("id", "started_at", "key_id", "user", "team", "end_user", "address"),
    *("endpoint", "method", "path", "model_requested", "estimate_pico", "trace_id", "client_request_id"),
)
"""What is known when a request has come."""
THEN: Final = (
    *("finished_at", "model_served", "upstream", "attempts", "status", "end_reason", "end_code", "stream"),
    *TOKENS,
    *("other_units", "usage_provenance"),
    *COSTS,
    *("price_version", "service_tier", "ttfb_us", "duration_us", "hops_ns", "upstream_request_id", "cache"),
)
"""What is known when it has ended."""
COLUMNS: Final = (*FIRST, *THEN)
"""All of them, in the order in which rows have their values."""
