"""The fields of three endpoints, by OpenAI's API reference.

Types and bounds only, never lists of values: a size, a quality or a model that OpenAI does not know may be
another upstream's. Fields that are not here may be anything.
"""

from collections.abc import Mapping
from typing import Final

from .checks import (
    ARRAY,
    BOOLEAN,
    DECIMAL,
    INTEGER,
    INTEGERS,
    OBJECT,
    OBJECTS,
    STRING,
    STRINGS,
    TOKENS,
    Field,
)

_TEXT = Field((STRING,))
_FLAG = Field((BOOLEAN,))
_WHOLE = Field((INTEGER,))
_NUMBER = Field((DECIMAL,))
_THING = Field((OBJECT,))
_MODEL = Field((STRING,), required=True, empty=False)

CHAT: Final = {
    "model": _MODEL,
    "messages": Field(
        (OBJECTS,), required=True, empty=False, items={"role": Field((STRING,), required=True)}
    ),
    "frequency_penalty": _NUMBER,
    "function_call": Field((STRING, OBJECT)),
    "functions": Field((OBJECTS,)),
    "logit_bias": Field((OBJECT, ARRAY)),
    "logprobs": _FLAG,
    "max_completion_tokens": _WHOLE,
    "max_tokens": _WHOLE,
    "metadata": _THING,
    "modalities": Field((STRINGS,)),
    "n": Field((INTEGER,), low=1),
    "parallel_tool_calls": _FLAG,
    "presence_penalty": _NUMBER,
    "reasoning_effort": _TEXT,
    "response_format": _THING,
    "seed": _WHOLE,
    "service_tier": _TEXT,
    "stop": Field((STRING, STRINGS)),
    "store": _FLAG,
    "stream": _FLAG,
    "stream_options": _THING,
    "temperature": Field((DECIMAL,), low=0, high=2),
    "tool_choice": Field((STRING, OBJECT)),
    "tools": Field((OBJECTS,)),
    "top_logprobs": _WHOLE,
    "top_p": Field((DECIMAL,), low=0, high=1),
    "user": _TEXT,
}
EMBEDDINGS: Final = {
    "model": _MODEL,
    "input": Field((STRING, STRINGS, INTEGERS, TOKENS), required=True, empty=False, longest=2048),
    "dimensions": Field((INTEGER,), low=1),
    "encoding_format": _TEXT,
    "user": _TEXT,
}
IMAGES: Final = {
    "prompt": Field((STRING,), required=True, empty=False),
    "model": _TEXT,
    "background": _TEXT,
    "moderation": _TEXT,
    "n": Field((INTEGER,), low=1, high=10),
    "output_compression": _WHOLE,
    "output_format": _TEXT,
    "partial_images": _WHOLE,
    "quality": _TEXT,
    "response_format": _TEXT,
    "size": _TEXT,
    "stream": _FLAG,
    "style": _TEXT,
    "user": _TEXT,
}

ENDPOINTS: Final[Mapping[str, Mapping[str, Field]]] = {
    "chat/completions": CHAT,
    "embeddings": EMBEDDINGS,
    "images/generations": IMAGES,
}
