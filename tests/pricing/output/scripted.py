"""Upstreams that know what they have written: each token is an event, as far as it is text already."""

import codecs
from collections.abc import Iterator
from typing import Any

import orjson

from proxy.pricing import tokens

ENCODING = "o200k_base"


def pieces(text: str, encoding: str = ENCODING) -> list[str]:
    """The text token by token; a token that ends within a character shows with the one that completes it."""
    tokens.preload(encoding)
    encoder: Any = tokens._encoders[encoding]
    decode = encoder.__self__.decode_single_token_bytes
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    return [decoder.decode(decode(token)) for token in encoder(text)]


def event(data: Any, name: str | None = None) -> bytes:
    head = b"" if name is None else b"event: %s\n" % name.encode()
    return head + b"data: " + orjson.dumps(data) + b"\n\n"


def chunk(delta: dict[str, Any], index: int = 0, **more: Any) -> bytes:
    choice = {"index": index, "delta": delta, "logprobs": None, "finish_reason": None, **more}
    return event(
        {
            "id": "chatcmpl-C7zQ4kTgWb2s5f1uUVqJ0xYdRnLpA",
            "object": "chat.completion.chunk",
            "created": 1757000000,
            "model": "gpt-4o-2024-08-06",
            "service_tier": "default",
            "choices": [choice],
            "usage": None,
        }
    )


def chat(text: str, *, index: int = 0, field: str = "content") -> Iterator[tuple[bytes, int]]:
    """Events, and the tokens that were written when each had been."""
    yield chunk({"role": "assistant", "content": ""}, index), 0
    for number, piece in enumerate(pieces(text), 1):
        yield chunk({field: piece}, index), number
    yield chunk({}, index, finish_reason="stop"), len(pieces(text))


def completion(text: str) -> Iterator[tuple[bytes, int]]:
    for number, piece in enumerate(pieces(text), 1):
        choice = {"index": 0, "text": piece, "logprobs": None, "finish_reason": None}
        yield event({"object": "text_completion", "model": "gpt-4o", "choices": [choice]}), number


def response(text: str) -> Iterator[tuple[bytes, int]]:
    created: dict[str, Any] = {
        "id": "resp_1",
        "object": "response",
        "model": "gpt-4o",
        "output": [],
        "usage": None,
    }
    yield event({"type": "response.created", "response": created}, "response.created"), 0
    item = {"id": "msg_1", "type": "message", "content": [], "role": "assistant"}
    added = {"type": "response.output_item.added", "output_index": 0, "item": item}
    yield event(added, "response.output_item.added"), 0
    place = {"item_id": "msg_1", "output_index": 0, "content_index": 0}
    number = 0
    for number, piece in enumerate(pieces(text), 1):
        delta = {"type": "response.output_text.delta", "sequence_number": number, **place, "delta": piece}
        yield event({**delta, "logprobs": [], "obfuscation": "x"}, "response.output_text.delta"), number
    done = {"type": "response.output_text.done", **place, "text": text}
    yield event(done, "response.output_text.done"), number


def transcription(text: str) -> Iterator[tuple[bytes, int]]:
    for number, piece in enumerate(pieces(text), 1):
        yield event({"type": "transcript.text.delta", "delta": piece}), number


STREAMS = {
    "chat/completions": chat,
    "completions": completion,
    "responses": response,
    "audio/transcriptions": transcription,
}
"""By endpoint."""
