"""What an answer says it used: OpenAI's `usage`, in each of its spellings, as one `Usage`.

    chat, completions   prompt_tokens, completion_tokens, prompt_tokens_details, completion_tokens_details
    embeddings          prompt_tokens
    responses           input_tokens, output_tokens, input_tokens_details, output_tokens_details;
                        in streams inside `response`; hosted tools beside it, in `tool_usage`
    images              as responses; output without details is all image
    transcriptions      as responses, but input_token_details; or seconds

Compatible upstreams add to these: DeepSeek `prompt_cache_hit_tokens`, Mistral `num_cached_tokens`, Moonshot
and Hugging Face `cached_tokens`, OpenRouter `cost`; and nearly all of them null where a value should be.
"""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Final

from .values import Usage

ENDPOINTS: Final = frozenset(
    (
        "chat/completions",
        "completions",
        "responses",
        "responses/compact",
        "embeddings",
        "images/generations",
        "images/edits",
        "audio/transcriptions",
        "audio/translations",
    )
)
"""Where an answer to a POST may have a usage, as `Request.endpoint` spells them."""

MOST_TOKENS: Final = 10**9
"""Of one kind in one answer. No model takes or gives a thousandth of it, and its cost still fits a ledger of
64-bit picodollars."""
MOST_DOLLARS: Final = 10**6
"""That an upstream may report for one answer; what is above is nonsense."""
LONGEST_NAME: Final = 256
"""Characters of a model or a tier; what is longer is none."""

_OVER: Final = ("response.completed", "response.incomplete", "response.failed")
_NOTHING: Final[Mapping[str, Any]] = {}


def read(endpoint: str, data: Any) -> Usage | None:
    """The usage in a whole JSON answer, or in one event of a stream; None if there is none in it.

    `data` is parsed JSON, whatever it may be: this never raises. In a stream the last one counts and nothing
    is summed: what is told on the way is what was used so far. Numbers are cut to what can be: none is
    below 0 or above `MOST_TOKENS`, and no part is larger than its whole.
    """
    if endpoint not in ENDPOINTS or not isinstance(data, dict):
        return None
    if data.get("type") in _OVER:
        data = data.get("response")
        if not isinstance(data, dict):
            return None
    usage = data.get("usage")
    if not isinstance(usage, dict):
        return None
    total_in, total_out = usage.get("prompt_tokens"), usage.get("completion_tokens")
    if type(total_in) is not int or not 0 <= total_in <= MOST_TOKENS:
        total_in = _first(usage, "prompt_tokens", "input_tokens")
    if type(total_out) is not int or not 0 <= total_out <= MOST_TOKENS:
        total_out = _first(usage, "completion_tokens", "output_tokens")
    seconds = _number(usage["seconds"]) if "seconds" in usage else None
    if total_in is None and total_out is None and seconds is None:
        return None  # another provider's own shape, or nothing at all: no usage is not a usage of 0
    if "cache_read_input_tokens" in usage and "prompt_tokens" not in usage:
        return None  # Anthropic's own shape, whose input leaves out what the cache had
    total_in, total_out = total_in or 0, total_out or 0

    ins = usage.get("prompt_tokens_details")
    if not isinstance(ins, dict):
        ins = _details(usage, "input_tokens_details", "input_token_details")
    outs = usage.get("completion_tokens_details")
    if not isinstance(outs, dict):
        outs = _details(usage, "output_tokens_details", "output_token_details")
    cached = ins.get("cached_tokens")
    if type(cached) is not int or cached < 0:
        cached = _first(ins, "cached_tokens")
        if cached is None:
            cached = _first(usage, "prompt_cache_hit_tokens", "num_cached_tokens", "cached_tokens")
    cached = min(cached, total_in) if cached else 0
    parts: dict[str, Any] = {}
    if any(ins.values()):
        parts = _input_parts(ins, total_in, cached)
    if any(outs.values()):
        parts |= _output_parts(outs, total_out)
    elif not outs and endpoint.startswith("images/"):
        parts["image_output_tokens"] = total_out
    if seconds is not None or "tool_usage" in data or "svg_usage" in data:
        parts["other_units"] = _other_units(data, seconds)
    if "cost" in usage:
        parts["reported_cost"] = _reported(usage)
    return Usage(
        total_in,
        total_out,
        cached,
        model=_name(data.get("model")),
        service_tier=_name(data.get("service_tier")),
        **parts,
    )


def _input_parts(details: Mapping[str, Any], total: int, cached: int) -> dict[str, int]:
    written = _part(details, "cache_write_tokens", total - cached)
    audio = _part(details, "audio_tokens", total)
    image = _part(details, "image_tokens", total - audio)
    kinds = _details(details, "cached_tokens_details")
    cached_audio = _part(kinds, "audio_tokens", min(audio, cached))
    return {
        "cache_write_tokens": written,
        "audio_input_tokens": audio,
        "image_input_tokens": image,
        "cached_audio_tokens": cached_audio,
        "cached_image_tokens": _part(kinds, "image_tokens", min(image, cached - cached_audio)),
        "cache_write_12h_tokens": _part(
            _details(details, "cache_write_tokens_details"), "ttl_12h_tokens", written
        ),
    }


def _output_parts(details: Mapping[str, Any], total: int) -> dict[str, int]:
    audio = _part(details, "audio_tokens", total)
    return {
        "reasoning_tokens": _part(details, "reasoning_tokens", total),
        "audio_output_tokens": audio,
        "image_output_tokens": _part(details, "image_tokens", total - audio),
    }


def _other_units(data: Mapping[str, Any], seconds: Decimal | None) -> dict[str, Decimal]:
    """What is billed besides `usage`. Tokens of another model are here too: without a rate of their own the
    answer has no price, which is better than one that leaves them out."""
    units = {} if seconds is None else {"seconds": seconds}
    tools = _NOTHING
    if "tool_usage" in data:
        tools = _details(data, "tool_usage")
        searches = _first(_details(tools, "web_search"), "num_requests")
        if searches:
            units["web_search"] = Decimal(searches)
    for name, part in (("image_gen_tokens", tools.get("image_gen")), ("svg_tokens", data.get("svg_usage"))):
        if isinstance(part, dict):
            tokens = (_first(part, "input_tokens") or 0) + (_first(part, "output_tokens") or 0)
            if tokens:
                units[name] = Decimal(tokens)
    return units


def _reported(usage: Mapping[str, Any]) -> Decimal | None:
    """OpenRouter's: what it charged and, where it used a key of yours, what that key was charged."""
    cost = _number(usage.get("cost"))
    if cost is not None and usage.get("is_byok") is True:
        theirs = _number(_details(usage, "cost_details").get("upstream_inference_cost"))
        cost = None if theirs is None else cost + theirs
    return None if cost is None or cost > MOST_DOLLARS else cost


def _first(fields: Mapping[str, Any], *names: str) -> int | None:
    """The first of these that is a number."""
    for name in names:
        value = fields.get(name)
        if type(value) is int:
            return 0 if value < 0 else value if value < MOST_TOKENS else MOST_TOKENS
        if type(value) is float and value == value:  # not NaN; how some upstreams write 12, and parsers 2^70
            return int(min(max(value, 0.0), float(MOST_TOKENS)))
    return None


def _part(fields: Mapping[str, Any], name: str, most: int) -> int:
    return min(_first(fields, name) or 0, most)


def _number(value: Any) -> Decimal | None:
    """A number that is not negative, as it is written, up to `MOST_TOKENS` of anything; else None."""
    if type(value) not in (int, float) or not 0 <= value <= MOST_TOKENS:
        return None
    return Decimal(repr(value))


def _details(fields: Mapping[str, Any], *names: str) -> Mapping[str, Any]:
    """The first of these that is an object; an empty one if there is none."""
    for name in names:
        value = fields.get(name)
        if isinstance(value, dict):
            return value
    return _NOTHING


def _name(value: Any) -> str | None:
    return value if isinstance(value, str) and 0 < len(value) <= LONGEST_NAME else None
