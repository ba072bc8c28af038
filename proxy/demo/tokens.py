"""Counting tokens by one simple rule: four bytes of UTF-8 are a token, and nothing is less than one."""

from typing import Any

_BYTES = 4


def count(text: str) -> int:
    return max(1, -(-len(text.encode()) // _BYTES))


def cut(text: str, limit: int) -> str:
    """The longest start of `text` with `count(...) <= limit`; exactly `limit` when something was cut off."""
    return text.encode()[: limit * _BYTES].decode(errors="ignore")


def usage(prompt: int, completion: int) -> dict[str, Any]:
    """As chat and legacy completions spell it."""
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": 0,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }


def response_usage(prompt: int, completion: int) -> dict[str, Any]:
    """As the responses API spells it."""
    return {
        "input_tokens": prompt,
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": completion,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": prompt + completion,
    }
