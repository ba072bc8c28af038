"""Any JSON as an answer: a usage whose parts fit, with a cost that is none or not below 0."""

from typing import Final

import orjson

from proxy.pricing.table import default
from proxy.pricing.usage import ENDPOINTS, MOST_TOKENS, read
from proxy.pricing.values import Usage

NAMES: Final = (*sorted(ENDPOINTS), "realtime", "batches", "files")


def target(data: bytes) -> None:
    """The first byte says which endpoint, the rest is the answer."""
    endpoint = NAMES[(data[:1] or b"\0")[0] % len(NAMES)]
    try:
        answer = orjson.loads(data[1:])
    except orjson.JSONDecodeError:
        return
    usage = read(endpoint, answer)
    if usage is not None:
        sound(usage)
        for model in (usage.model, "gpt-4o", "dall-e-3", "whisper-1", "gpt-image-1", None):
            cost = default().cost(usage, model)
            if cost.amount is not None:
                assert cost.amount.is_finite()
                assert cost.amount >= 0
                assert cost.low is None or 0 <= cost.low <= cost.amount
                assert cost.high is None or cost.high >= cost.amount


def sound(usage: Usage) -> None:
    """No part is larger than its whole."""
    whole_in, whole_out = usage.input_tokens, usage.output_tokens
    assert 0 <= whole_in <= MOST_TOKENS
    assert 0 <= whole_out <= MOST_TOKENS
    for part in (usage.cached_tokens, usage.cache_write_tokens):
        assert 0 <= part <= whole_in
    assert 0 <= usage.audio_input_tokens + usage.image_input_tokens <= whole_in
    assert usage.audio_input_tokens >= 0
    assert usage.image_input_tokens >= 0
    for part in (usage.reasoning_tokens, usage.audio_output_tokens, usage.image_output_tokens):
        assert 0 <= part <= whole_out
    assert 0 <= usage.cached_audio_tokens <= usage.cached_tokens
    assert 0 <= usage.cached_image_tokens <= usage.cached_tokens
    assert 0 <= usage.cache_write_12h_tokens <= usage.cache_write_tokens
    assert all(count.is_finite() and count >= 0 for count in usage.other_units.values())
    assert usage.reported_cost is None or usage.reported_cost >= 0
