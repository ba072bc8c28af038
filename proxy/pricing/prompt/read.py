"""Endpoint and body → prompt."""

from collections.abc import Callable, Collection, Mapping
from typing import Any

from proxy.pricing.prompt.chat import chat
from proxy.pricing.prompt.completions import completions
from proxy.pricing.prompt.embeddings import embeddings
from proxy.pricing.prompt.form import Form
from proxy.pricing.prompt.images import edits, images
from proxy.pricing.prompt.prompt import Prompt
from proxy.pricing.prompt.responses import responses
from proxy.pricing.prompt.speech import speech
from proxy.pricing.prompt.transcription import transcription
from proxy.pricing.values import Model

_READERS: Mapping[str, Callable[[dict[str, Any], Model | None], Prompt]] = {
    "chat/completions": chat,
    "responses": responses,
    "responses/compact": responses,
    "completions": completions,
    "embeddings": embeddings,
    "images/generations": images,
    "images/edits": images,
    "audio/speech": speech,
}
_FORMS: Mapping[str, Callable[[Form, Model | None], Prompt]] = {
    "images/edits": edits,
    "audio/transcriptions": transcription,
    "audio/translations": transcription,
}
FORMS = frozenset(_FORMS)
"""Endpoints that take forms with files in them, some of them JSON too."""
ENDPOINTS = frozenset(_READERS) - FORMS
"""Endpoints whose prompt is counted, spelled as `Request.endpoint`. They take JSON alone."""
_QUICK = 256 * 1024
_FEW = 4096
_AT_A_GLANCE = 32
_SEPARATORS = (b"{", b"[", b",")


def read(endpoint: str, body: Any, known: Model | None = None) -> Prompt | None:
    """The prompt in the parsed JSON body of a POST, or None where none is counted.

    `known` is the model that the price table takes the body's `model` for, which may be an alias.
    Any JSON will do, as deep and as odd as it may be: what has a wrong type counts as what it can be, or not
    at all. Takes up to 0.2 s for a MB, for which a thread is the place unless the body is `quick`.
    """
    reader = _READERS.get(endpoint)
    return None if reader is None or not isinstance(body, dict) else reader(body, known)


def read_upload(endpoint: str, form: Form, known: Model | None = None) -> Prompt | None:
    """The prompt in a form, as far as it was read; None where none is counted. Takes no time."""
    reader = _FORMS.get(endpoint)
    return None if reader is None else reader(form, known)


def quick(raw: bytes, body: Any) -> bool:
    """Whether `read` takes less than 5 ms with this body, and its counting little more than its text needs.

    What takes time is the number of values in it. They are few in a chat of some long texts, which is seen at
    a glance; else their commas and brackets are looked for in its bytes.
    """
    size = len(raw)
    if size <= _FEW:
        return True
    if size > _QUICK:
        return False
    if _few(body):
        return True
    left = _FEW
    for separator in _SEPARATORS:
        # `replace` finds them by memchr, in a quarter of the time that `count` takes, and stops in time.
        left -= size - len(raw.replace(separator, b"", left + 1))
        if left < 0:
            return False
    return True


def _few(body: Any) -> bool:
    """Whether there are `_AT_A_GLANCE` values in it at most."""
    left = _AT_A_GLANCE
    waiting = [body]
    for each in waiting:
        if isinstance(each, dict):
            inner: Collection[Any] = each.values()
        elif isinstance(each, list):
            inner = each
        else:
            continue
        left -= len(inner)
        if left < 0:
            return False
        waiting += inner
    return True
