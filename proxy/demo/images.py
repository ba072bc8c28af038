"""POST /v1/images/generations."""

import base64
import hashlib
import struct
import zlib
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from . import tokens
from .call import CREATED, json_response, read_json
from .stream import Stream, sse

_SIDE = 64
_COST = {"low": 272, "medium": 1056, "high": 4160}  # output tokens of one 1024x1024 image


async def create(request: Request) -> Response:
    """The picture is 64 by 64, whatever the size asked for and named in the answer."""
    call = await read_json(request)
    model = call.model(default="gpt-image-1")
    prompt = call.need("prompt", str)
    size, quality = call.get("size", str, "auto"), call.get("quality", str, "auto")
    look: dict[str, Any] = {
        "background": "opaque",
        "output_format": "png",
        "quality": "medium" if quality == "auto" else quality,
        "size": "1024x1024" if size == "auto" else size,
    }
    count = call.number("n", 1, low=1, high=10)
    pictures = [base64.b64encode(_png(f"{prompt}\0{index}")).decode() for index in range(count)]
    usage = _usage(tokens.count(prompt), count * _COST.get(look["quality"], _COST["medium"]))
    if call.get("stream", bool, False):
        kind = "image_generation.completed"
        event = {"type": kind, "b64_json": pictures[0], "created_at": CREATED, "usage": usage, **look}
        return Stream([sse(event, event=kind)])
    data = [{"b64_json": picture} for picture in pictures]
    # Only the gpt-image family is paid for by the token.
    spent = {} if model.startswith("dall-e") else {"usage": usage}
    return json_response({"created": CREATED, "data": data, **look, **spent})


def _usage(prompt: int, output: int) -> dict[str, Any]:
    return {
        "input_tokens": prompt,
        "input_tokens_details": {"text_tokens": prompt, "image_tokens": 0},
        "output_tokens": output,
        "output_tokens_details": {"text_tokens": 0, "image_tokens": output},
        "total_tokens": prompt + output,
    }


def _png(seed: str) -> bytes:
    """A gradient between two colours that are a function of the seed."""
    colours = hashlib.sha256(seed.encode()).digest()
    near, far = colours[:3], colours[3:6]
    rows = bytearray()
    for y in range(_SIDE):
        rows.append(0)  # each row says how it is filtered: not at all
        for x in range(_SIDE):
            share = (x + y) / (2 * _SIDE - 2)
            rows += bytes(round(a + (b - a) * share) for a, b in zip(near, far, strict=True))
    header = struct.pack(">IIBBBBB", _SIDE, _SIDE, 8, 2, 0, 0, 0)  # 8 bits a channel, RGB
    return (
        b"\x89PNG\r\n\x1a\n"
        + _block(b"IHDR", header)
        + _block(b"IDAT", zlib.compress(rows))
        + _block(b"IEND", b"")
    )


def _block(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
