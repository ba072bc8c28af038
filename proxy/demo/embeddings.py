"""POST /v1/embeddings."""

import base64
import hashlib
import math
import struct
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from .call import json_response, read_json
from .errors import invalid
from .inputs import inputs

_WIDTHS = {"text-embedding-3-large": 3072}
_WIDTH = 1536


async def create(request: Request) -> Response:
    call = await read_json(request)
    model = call.model()
    asked = inputs(call, "input")
    width = call.number("dimensions", _WIDTHS.get(model, _WIDTH), low=1, high=4096)
    encoding = call.get("encoding_format", str, "float")
    if encoding not in ("float", "base64"):
        raise invalid("encoding_format", "'float' or 'base64'")
    data: list[dict[str, Any]] = []
    for index, each in enumerate(asked):
        packed = _vector(f"{model}\0{each.text}", width)
        value = (
            base64.b64encode(packed).decode() if encoding == "base64" else struct.unpack(f"<{width}f", packed)
        )
        data.append({"object": "embedding", "index": index, "embedding": value})
    spent = sum(each.tokens for each in asked)
    usage = {"prompt_tokens": spent, "total_tokens": spent}
    return json_response({"object": "list", "data": data, "model": model, "usage": usage})


def _vector(seed: str, width: int) -> bytes:
    """A unit vector made of the seed, as little-endian 32-bit floats; both encodings give just these."""
    numbers = struct.unpack(f"<{width}h", hashlib.shake_256(seed.encode()).digest(2 * width))
    length = math.hypot(*numbers) or 1.0
    return struct.pack(f"<{width}f", *(number / length for number in numbers))
