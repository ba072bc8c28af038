"""What went into an answer, as far as it can be known without the upstream's word."""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from proxy.api import ESTIMATE, Estimate, Exchange
from proxy.pricing import tokens
from proxy.pricing.endpoints import operation
from proxy.pricing.prompt import ENDPOINTS, Prompt, quick, read
from proxy.pricing.values import Model
from proxy.pricing.vocabulary import VocabularyError

from .bill import UNKNOWN, Input
from .counting import Counting

PATIENCE: Final = 2.0
"""Seconds that the end of an exchange waits for the exact count of its input: a vocabulary takes half of one
to load."""
INLINE: Final = 16 * 1024
"""UTF-8 bytes of text that are counted on the event loop, as `precost` does."""
STRAY: Final = 16
MARGIN: Final = 20
"""A count may be off by `STRAY` tokens, or by one part in so many if that is more."""
SEARCHED: Final = 1024 * 1024
"""Bytes of a body in which pictures are looked for; a larger one has some."""

_MEDIA: Final = (b'"image_url"', b'"input_image"', b'"input_audio"', b'"input_file"', b'"file"')
_OWN: Final = ("function", "custom")
_ELSEWHERE: Final = ("previous_response_id", "conversation", "prompt")


async def given(
    ex: Exchange, body: dict[str, Any], raw: bytes, known: Model | None, counting: Counting
) -> tuple[Input, int | None]:
    """The input of this request, and the most output that it allows, None if nobody knows.

    `body` is the request's JSON, empty if it has none, and `raw` its bytes.
    """
    endpoint, _ = operation(ex.request.endpoint)
    estimate = ex.get(ESTIMATE)
    if estimate is None:
        estimate = await _estimate(endpoint, body, raw, known, counting)
        if estimate is None:
            return UNKNOWN, None
    most_output = 0 if endpoint == "embeddings" else estimate.max_output_tokens
    counted = estimate.input_tokens
    bound = estimate.input_bound
    if counted is None:
        try:
            counted = await asyncio.wait_for(estimate.exact(), PATIENCE)
        except TimeoutError:
            counted = bound
        if counted >= bound > STRAY:
            return _with_window(Input(bound, 0, bound, True), endpoint, body, known), most_output
    margin = max(STRAY, counted // MARGIN)
    least = 0 if _has_media(raw) else max(0, counted - margin)
    return _with_window(Input(counted, least, counted + margin), endpoint, body, known), most_output


def _with_window(found: Input, endpoint: str, body: dict[str, Any], known: Model | None) -> Input:
    """What only the upstream knows makes the most what the model can take; its own tools, anything."""
    if uses_tools(body):
        return found._replace(most=None)
    if endpoint == "responses" and any(body.get(name) is not None for name in _ELSEWHERE):
        window = None if known is None else known.context_window
        return found._replace(most=None if window is None else max(window, found.most or 0))
    return found


def uses_tools(body: dict[str, Any]) -> bool:
    """Whether the upstream may run tools of its own, with costs of their own."""
    if body.get("web_search_options") is not None:
        return True
    offered = body.get("tools")
    return isinstance(offered, list) and any(
        isinstance(tool, dict) and tool.get("type", "function") not in _OWN for tool in offered
    )


def _has_media(raw: bytes) -> bool:
    return len(raw) > SEARCHED or any(raw.find(name) >= 0 for name in _MEDIA)


async def _estimate(
    endpoint: str, body: dict[str, Any], raw: bytes, known: Model | None, counting: Counting
) -> Estimate | None:
    """What `precost` would have said, were it in the chain."""
    if endpoint not in ENDPOINTS or not body:
        return None
    if quick(raw, body):
        prompt = read(endpoint, body, known)
    else:
        reading = counting.begin(partial(read, endpoint, body, known))
        if reading is None:
            return None
        await asyncio.wait((reading,), timeout=PATIENCE)
        if not reading.done() or reading.cancelled() or reading.exception() is not None:
            return None
        prompt = reading.result()
    if prompt is None:
        return None
    output = prompt.max_output_tokens
    if output is None and known is not None:
        output = known.max_output_tokens
    counted = prompt.count() if prompt.size <= INLINE and tokens.loaded(prompt.encoding) else None

    async def count() -> int:
        counted = counting.begin(_counted(prompt))
        return prompt.bound if counted is None else await asyncio.shield(counted)

    return Estimate(
        prompt.bound,
        "upper_bound" if counted is None else "tiktoken",
        counted,
        None if output is None else output * prompt.choices,
        count=count,
    )


def _counted(prompt: Prompt) -> Callable[[], int]:
    def count() -> int:
        try:
            tokens.preload(prompt.encoding)
            return prompt.count()
        except VocabularyError:
            return prompt.bound

    return count
