"""The counting of streams without a usage: bounds that enclose the count, wherever the stream was cut."""

from typing import Final

from proxy.core.sse import Splitter
from proxy.pricing.output.streamed import BATCH, SMALL, Output, Streamed

NAMES: Final = ("chat/completions", "completions", "responses", "audio/speech", "audio/transcriptions")


def target(data: bytes) -> None:
    """The first byte says which endpoint and how many choices, the second where the rest is cut."""
    first, cut = (*data[:2], 0, 0)[:2]
    endpoint, choices = NAMES[first % len(NAMES)], 1 + first // 64
    splitter = Splitter()
    events = [each.raw for each in (*splitter.feed(data[2:]), *splitter.flush())]
    _sound(_count(endpoint, events, choices, known=bool(first & 32)))
    part = _count(endpoint, events[: len(events) * cut // 255], choices, known=True)
    _sound(part)


def _count(endpoint: str, events: list[bytes], choices: int, *, known: bool) -> Output:
    streamed = Streamed(endpoint, "o200k_base", known=known)
    for event in events:
        streamed.batch.append(event)
        if (len(streamed.batch) >= BATCH or len(event) > SMALL) and streamed.made_room(event):
            streamed.fold(streamed.take())
    guess = streamed.guess()
    assert guess.tokens >= 0
    first = streamed.output(choices)
    assert streamed.output(choices) == first, "asked twice, it says something else"
    return first


def _sound(output: Output) -> None:
    assert 0 <= output.least <= output.tokens
    assert output.most is None or output.most >= output.tokens
    assert 0 <= output.reasoning_tokens <= output.tokens
    assert 0 <= output.audio_tokens <= output.tokens
