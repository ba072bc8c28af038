"""POST /v1/audio/speech, /v1/audio/transcriptions and /v1/audio/translations."""

import io
import math
import struct
import wave
from collections.abc import Iterator
from typing import Any

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from . import tokens
from .call import json_response, read_json
from .errors import invalid
from .faults import pace
from .form import Form, read_form
from .stream import Stream, sse
from .text import pieces

_RATE = 24_000
_CHUNK = 4096
_BYTES_PER_SECOND = 32_000  # what we take an upload for: 16 kHz, 16 bits


async def speech(request: Request) -> Response:
    """Half a second of a tone whose pitch depends on the request; WAV, whatever the format asked for."""
    call = await read_json(request)
    model = call.model()
    call.need("input", str)
    sound = _wav(220 + int(call.digest[:4], 16) % 440)
    chunks = (sound[at : at + _CHUNK] for at in range(0, len(sound), _CHUNK))
    return Stream(chunks, "audio/wav", pace=pace(model))


def _wav(pitch: int) -> bytes:
    samples = (round(8000 * math.sin(2 * math.pi * pitch * at / _RATE)) for at in range(_RATE // 2))
    out = io.BytesIO()
    with wave.open(out, "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(_RATE)
        sound.writeframes(struct.pack(f"<{_RATE // 2}h", *samples))
    return out.getvalue()


async def transcriptions(request: Request) -> Response:
    return _written(await read_form(request), "transcribe", "transcription")


async def translations(request: Request) -> Response:
    return _written(await read_form(request), "translate", "translation")


def _written(form: Form, task: str, result: str) -> Response:
    model = form.model()
    upload = form.file()
    text = f"This is the demo's {result} of {upload.name}, a file of {upload.size} bytes."
    seconds = max(1.0, round(upload.size / _BYTES_PER_SECOND, 2))
    if (
        form.get("stream", str, "") == "true" and model != "whisper-1"
    ):  # which does not stream at OpenAI either
        return Stream(_events(text, _usage(model, text, seconds)), pace=pace(model))
    match form.get("response_format", str, "json"):
        case "json":
            return json_response({"text": text, "usage": _usage(model, text, seconds)})
        case "text":
            return PlainTextResponse(f"{text}\n")
        case "verbose_json":
            return json_response(_verbose(task, text, seconds))
        case _:
            raise invalid("response_format", "'json', 'text' or 'verbose_json'")


def _usage(model: str, text: str, seconds: float) -> dict[str, Any]:
    """whisper-1 is paid for by the second, its successors by the token."""
    if model == "whisper-1":
        return {"type": "duration", "seconds": math.ceil(seconds)}
    heard, written = math.ceil(10 * seconds), tokens.count(text)
    return {
        "type": "tokens",
        "input_tokens": heard,
        "input_token_details": {"text_tokens": 0, "audio_tokens": heard},
        "output_tokens": written,
        "total_tokens": heard + written,
    }


def _verbose(task: str, text: str, seconds: float) -> dict[str, Any]:
    segment = {
        "id": 0,
        "seek": 0,
        "start": 0.0,
        "end": seconds,
        "text": text,
        "tokens": [],
        "temperature": 0.0,
        "avg_logprob": -0.1,
        "compression_ratio": 1.0,
        "no_speech_prob": 0.0,
    }
    usage = _usage("whisper-1", text, seconds)
    about = {"task": task, "language": "english", "duration": seconds, "text": text}
    return {**about, "segments": [segment], "usage": usage}


def _events(text: str, usage: dict[str, Any]) -> Iterator[bytes]:
    for piece in pieces(text):
        yield sse({"type": "transcript.text.delta", "delta": piece})
    yield sse({"type": "transcript.text.done", "text": text, "usage": usage})
