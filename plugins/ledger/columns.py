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

OWN_FIRST: Final = ("id", "started_at", "estimate_pico", "trace_id", "client_request_id")
OWN_THEN: Final = (
    *("finished_at", "input_tokens", "cached_tokens", "output_tokens", "reasoning_tokens", *COSTS),
    *("ttfb_us", "duration_us", "hops_ns", "upstream_request_id"),
)
OWN: Final = (*OWN_FIRST, *OWN_THEN)
"""What each request has for itself; the first of it is known when it has come, the rest when it has ended."""
WHO: Final = ("key_id", "user", "team", "end_user", "address")
"""Who asked: what all requests of one caller have in common."""
COMMON_FIRST: Final = ("endpoint", "method", "path", "model_requested")
COMMON_THEN: Final = (
    *("model_served", "upstream", "attempts", "status", "end_reason", "end_code", "stream"),
    *("cache_write_tokens", "audio_input_tokens", "image_input_tokens"),
    *("audio_output_tokens", "image_output_tokens", "other_units"),
    *("usage_provenance", "price_version", "service_tier", "cache"),
)
COMMON: Final = (*COMMON_FIRST, *COMMON_THEN)
"""What many requests have in common, whoever asked."""
KEPT: Final = (*OWN, *WHO, *COMMON)
"""All of them, in the order in which the journal has a row's values."""
COLUMNS: Final = (
    *("id", "started_at", "finished_at", *WHO, *COMMON_FIRST),
    *("model_served", "upstream", "attempts", "status", "end_reason", "end_code", "stream"),
    *(*TOKENS, "other_units", "usage_provenance", *COSTS, "estimate_pico"),
    *("price_version", "service_tier", "ttfb_us", "duration_us", "hops_ns"),
    *("trace_id", "client_request_id", "upstream_request_id", "cache"),
)
"""All of them, in the order in which the table has them, and answers tell them."""
