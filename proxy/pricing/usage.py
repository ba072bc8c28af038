"""What an answer says it used: OpenAI's `usage`, in each of its spellings, as one `Usage`.

    chat, completions   prompt_tokens, completion_tokens, prompt_tokens_details, completion_tokens_details
    embeddings          prompt_tokens
    responses           input_tokens, output_tokens, input_tokens_details, output_tokens_details;
                        in streams inside `response`; hosted tools beside it, in `tool_usage`
    images              as responses; output without details is all image
    transcriptions      as responses, but input_token_details; or seconds; or the answer's own `duration`
    speech              as responses, in streams alone; output is all audio
    realtime            as responses, but input_token_details; within `response`, or beside a transcription
    batches             as responses, and at the tier of batches

Compatible upstreams add to these: DeepSeek `prompt_cache_hit_tokens`, Mistral `num_cached_tokens`, Moonshot
and Hugging Face `cached_tokens`, OpenRouter `cost`, xAI reasoning that is not in completion_tokens; and
nearly all of them null where a value should be.
"""

import re
from collections.abc import Mapping
from decimal import Decimal
from operator import itemgetter
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
        "audio/speech",
    )
)
"""Where an answer to a POST may have a usage, as `Request.endpoint` spells them."""
_READ: Final = ENDPOINTS | {"realtime", "batches"}

MOST_TOKENS: Final = 10**9
"""Of one kind in one answer. No model takes or gives a thousandth of it, and its cost still fits a ledger of
64-bit picodollars."""
MOST_DOLLARS: Final = 10**6
"""That an upstream may report for one answer; what is above is nonsense."""
LONGEST_NAME: Final = 256
"""Characters of a model or a tier; what is longer is none."""

_OVER: Final = ("response.completed", "response.incomplete", "response.failed", "response.done")
_RECORDED: Final = ("audio/transcriptions", "audio/translations")
_MADE: Final = {
    "images/generations": "image_output_tokens",
    "images/edits": "image_output_tokens",
    "audio/speech": "audio_output_tokens",
}
"""What the output is where nothing says so."""
_FEES: Final = {"web_search_call": "web_search", "file_search_call": "file_search"}
"""Tools that are paid for by the call, by what their calls are called in the output of a response."""
_SECONDS: Final = re.compile(r"[0-9]{1,7}(\.[0-9]{1,20})?", re.ASCII)
_TOTALS: Final = itemgetter(
    "prompt_tokens", "completion_tokens", "total_tokens", "prompt_tokens_details", "completion_tokens_details"
)
_INPUT: Final = itemgetter("cached_tokens", "audio_tokens")
_NOTHING: Final[Mapping[str, Any]] = {}


def read(endpoint: str, data: Any) -> Usage | None:
    """The usage in a whole JSON answer, or in one event of a stream; None if there is none in it.

    `data` is parsed JSON, whatever it may be: this never raises. In a stream the last one counts and nothing
    is summed: what is told on the way is what was used so far. Numbers are cut to what can be: none is
    below 0 or above `MOST_TOKENS`, and no part is larger than its whole; the usage is then `clamped`.
    """
    if endpoint == "chat/completions" and (usual := _usual(data)) is not None:
        return usual
    if endpoint not in _READ or not isinstance(data, dict):
        return None
    if "type" in data and data["type"] in _OVER:
        data = data.get("response")
        if not isinstance(data, dict):
            return None
    usage = data.get("usage")
    if not isinstance(usage, dict):
        return _recording(data) if endpoint in _RECORDED else None
    odd = False
    total_in, total_out = usage.get("prompt_tokens"), usage.get("completion_tokens")
    if type(total_in) is not int or not 0 <= total_in <= MOST_TOKENS:
        total_in, odd = _first(usage, "prompt_tokens", "input_tokens")
    if type(total_out) is not int or not 0 <= total_out <= MOST_TOKENS:
        total_out, odd_out = _first(usage, "completion_tokens", "output_tokens")
        odd = odd or odd_out
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
        cached, odd_cached = _first(ins, "cached_tokens")
        if cached is None:
            cached, odd_cached = _first(
                usage, "prompt_cache_hit_tokens", "num_cached_tokens", "cached_tokens"
            )
        cached = cached or 0
        odd = odd or odd_cached
    if cached > total_in:
        cached, odd = total_in, True
    parts: dict[str, Any] = {}
    reasoning = 0
    if ins.get("audio_tokens") or ins.get("cache_write_tokens") or ins.get("image_tokens"):
        parts, odd_in = _input_parts(ins, total_in, cached)
        odd = odd or odd_in
    if any(outs.values()):
        total_out = _with_reasoning(usage, outs, total_in, total_out)
        told = outs.get("reasoning_tokens")
        if (
            type(told) is int
            and 0 <= told <= total_out
            and not (outs.get("audio_tokens") or outs.get("image_tokens"))
        ):
            reasoning = told
        else:
            more, odd_out = _output_parts(outs, total_out)
            reasoning = more.pop("reasoning_tokens")
            parts |= more
            odd = odd or odd_out
    elif not outs and endpoint in _MADE:
        parts[_MADE[endpoint]] = total_out
    if seconds is not None or "tool_usage" in data or "svg_usage" in data or "output" in data:
        parts["other_units"] = _other_units(data, seconds)
    if "cost" in usage:
        parts["reported_cost"] = _reported(usage)
    if odd:
        parts["clamped"] = True
    # Twice `_name`, which takes twice as long to call as to do.
    model, tier = data.get("model"), data.get("service_tier")
    if not (isinstance(model, str) and 0 < len(model) <= LONGEST_NAME):
        model = None
    if not (isinstance(tier, str) and 0 < len(tier) <= LONGEST_NAME):
        tier = None
    if endpoint == "batches":
        tier = "batch"
    if parts:
        return Usage(
            total_in, total_out, cached, reasoning_tokens=reasoning, model=model, service_tier=tier, **parts
        )
    # Nearly all; by place, which takes three quarters of what it takes by name.
    return Usage(total_in, total_out, cached, 0, 0, 0, reasoning, 0, 0, "measured", model, tier)


def _usual(data: Any) -> Usage | None:
    """The short way for OpenAI's own chat of text, where each number is there and can be. It takes three
    quarters of what `read` takes. None: take the long way."""
    try:
        usage = data["usage"]
        total_in, total_out, total, ins, outs = _TOTALS(usage)
        cached, audio = _INPUT(ins)
        model, tier = data["model"], data.get("service_tier")
        if (
            len(usage) != 5  # so all else that `read` looks for is not there
            or len(ins) != 2
            or audio
            or not type(total_in) is type(total_out) is type(cached) is int
            or not 0 <= cached <= total_in <= MOST_TOKENS
            or not 0 <= total_out <= MOST_TOKENS
            or not (type(model) is str and 0 < len(model) <= LONGEST_NAME)
            or not (tier is None or (type(tier) is str and 0 < len(tier) <= LONGEST_NAME))
            or "type" in data
            or "output" in data
            or "tool_usage" in data
            or "svg_usage" in data
        ):
            return None
        reasoning = 0
        if any(outs.values()):
            reasoning = outs["reasoning_tokens"]
            if (
                type(reasoning) is not int
                or not 0 <= reasoning <= total_out
                or total != total_in + total_out
                or outs.get("audio_tokens")
                or outs.get("image_tokens")
            ):
                return None
    except (AttributeError, KeyError, TypeError):
        return None
    return Usage(total_in, total_out, cached, 0, 0, 0, reasoning, 0, 0, "measured", model, tier)


def _recording(data: Mapping[str, Any]) -> Usage | None:
    """Of a transcription without a usage: its verbose form says how long the recording is."""
    duration = data.get("duration")
    if isinstance(duration, str) and _SECONDS.fullmatch(duration):
        duration = float(duration)
    seconds = _number(duration)
    return (
        None if seconds is None else Usage(model=_name(data.get("model")), other_units={"seconds": seconds})
    )


def _with_reasoning(
    usage: Mapping[str, Any], details: Mapping[str, Any], total_in: int, total_out: int
) -> int:
    """The output with the reasoning that xAI leaves out of it, which shows in the total."""
    if usage.get("total_tokens") == total_in + total_out:
        return total_out  # as nearly all do
    reasoning, _ = _first(details, "reasoning_tokens")
    if reasoning and usage.get("total_tokens") == total_in + total_out + reasoning:
        return min(total_out + reasoning, MOST_TOKENS)
    return total_out


def _input_parts(details: Mapping[str, Any], total: int, cached: int) -> tuple[dict[str, int], bool]:
    take = _Parts()
    kinds = _details(details, "cached_tokens_details")
    written = take(details, "cache_write_tokens", total - cached)
    audio = take(details, "audio_tokens", total)
    image = take(details, "image_tokens", total - audio)
    cached_audio = take(kinds, "audio_tokens", min(audio, cached))
    parts = {
        "cache_write_tokens": written,
        "audio_input_tokens": audio,
        "image_input_tokens": image,
        "cached_audio_tokens": cached_audio,
        "cached_image_tokens": take(kinds, "image_tokens", min(image, cached - cached_audio)),
        "cache_write_12h_tokens": take(
            _details(details, "cache_write_tokens_details"), "ttl_12h_tokens", written
        ),
    }
    return parts, take.odd


def _output_parts(details: Mapping[str, Any], total: int) -> tuple[dict[str, int], bool]:
    take = _Parts()
    audio = take(details, "audio_tokens", total)
    parts = {
        "reasoning_tokens": take(details, "reasoning_tokens", total),
        "audio_output_tokens": audio,
        "image_output_tokens": take(details, "image_tokens", total - audio),
    }
    return parts, take.odd


class _Parts:
    """Takes parts of a whole, and remembers whether one did not fit."""

    __slots__ = ("odd",)

    def __init__(self) -> None:
        self.odd = False

    def __call__(self, fields: Mapping[str, Any], name: str, most: int) -> int:
        count, odd = _first(fields, name)
        if count is None:
            return 0
        self.odd = self.odd or odd or count > most
        return min(count, most)


def _other_units(data: Mapping[str, Any], seconds: Decimal | None) -> dict[str, Decimal]:
    """What is billed besides `usage`. Tokens of another model are here too: without a rate of their own the
    answer has no price, which is better than one that leaves them out."""
    units = {} if seconds is None else {"seconds": seconds}
    tools = _NOTHING
    if isinstance(output := data.get("output"), list):
        units |= _calls(data, output)
    if "tool_usage" in data:
        tools = _details(data, "tool_usage")
        searches, _ = _first(_details(tools, "web_search"), "num_requests")
        if searches is not None:  # the upstream's own count of them
            units.pop("web_search", None)
            units.pop("web_search_preview", None)
        if searches:
            units["web_search"] = Decimal(searches)
    for name, part in (("image_gen_tokens", tools.get("image_gen")), ("svg_tokens", data.get("svg_usage"))):
        if isinstance(part, dict):
            tokens = sum(_first(part, side)[0] or 0 for side in ("input_tokens", "output_tokens"))
            if tokens:
                units[name] = Decimal(tokens)
    return units


def _calls(data: Mapping[str, Any], output: list[Any]) -> dict[str, Decimal]:
    """Calls of hosted tools among the output of a response. Of a web search only searching is paid for."""
    units: dict[str, Decimal] = {}
    for item in output:
        kind = item.get("type") if isinstance(item, dict) else None
        if isinstance(kind, str) and kind in _FEES:
            action = item.get("action")
            if kind == "web_search_call":
                if isinstance(action, dict) and action.get("type", "search") != "search":
                    continue
                kind = "web_search_preview" if _preview(data.get("tools")) else "web_search"
            else:
                kind = _FEES[kind]
            units[kind] = units.get(kind, Decimal(0)) + 1
    return units


def _preview(tools: Any) -> bool:
    """Whether the web search of this response is the one of old, which has prices of its own."""
    kinds = [tool.get("type") for tool in tools if isinstance(tool, dict)] if isinstance(tools, list) else []
    return any(isinstance(kind, str) and kind.startswith("web_search_preview") for kind in kinds)


def _reported(usage: Mapping[str, Any]) -> Decimal | None:
    """OpenRouter's: what it charged and, where it used a key of yours, what that key was charged."""
    cost = _number(usage.get("cost"))
    if cost is not None and usage.get("is_byok") is True:
        theirs = _number(_details(usage, "cost_details").get("upstream_inference_cost"))
        cost = None if theirs is None else cost + theirs
    return None if cost is None or cost > MOST_DOLLARS else cost


def _first(fields: Mapping[str, Any], *names: str) -> tuple[int | None, bool]:
    """The first of these that is a number, and whether it had to be cut."""
    for name in names:
        value = fields.get(name)
        if type(value) is int:
            count = 0 if value < 0 else value if value < MOST_TOKENS else MOST_TOKENS
            return count, count != value
        if type(value) is float and value == value:  # not NaN; how some upstreams write 12, and parsers 2^70
            count = int(min(max(value, 0.0), float(MOST_TOKENS)))
            return count, count != value
    return None, False


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
